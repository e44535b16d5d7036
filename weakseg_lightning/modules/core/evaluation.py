"""Evaluation and prediction: whole images, labelled by a network, counted against their masks."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torchmetrics import Metric
from typing_extensions import override

from weakseg_lightning.errors import UserError
from weakseg_lightning.hyperparameters import describe
from weakseg_lightning.metrics import CaseScore, CaseScores, MeanGridEnergy, SegmentationScores, mean_over_cases
from weakseg_lightning.metrics.cases import metrics_of_monai
from weakseg_lightning.modules.core.guides import colors_of
from weakseg_lightning.solvers import Refinement

__all__ = ["EvaluatedModule"]

Batch = dict[str, Any]


class EvaluatedModule(LightningModule):
    """A module whose ``forward`` scores every pixel: it is validated and tested, and predicts labels.

    The protocol is that of PASCAL VOC: intersection over union from one confusion matrix over the whole data set, on
    whole images at their original size. Where the data name cases, these are scored, too, each in 3-D over its slices.

    Args:
        num_classes: classes K, background included.
        largest_component: score the largest connected component of each class of a case alone.
    """

    case_scores: Sequence[CaseScore] = ()
    """Scores of the cases of the last validation or test, by name; empty where the data name none."""

    refinement: Refinement | None = None
    """Refines every prediction in validation, test and prediction; set it at any time, checkpoints do not hold it."""

    class_names: Sequence[str] | None = None
    """Names of the classes, background first: those of the data, or of the checkpoint; None until they are known."""

    def __init__(self, num_classes: int, largest_component: bool = False) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.largest_component = largest_component
        self.scores = nn.ModuleDict({stage: _Scores(num_classes, largest_component) for stage in ("val", "test")})

    @property
    def names_or_numbers(self) -> Sequence[str]:
        """Names of the classes; numbers where no names are known."""
        return self.class_names or [str(label) for label in range(self.num_classes)]

    def require_case_scores(self, stage: str) -> None:
        """Raise now, not at the end of the first validation, if cases cannot be scored."""
        cases = getattr(getattr(self.trainer, "datamodule", None), "has_cases", False)
        if cases and (stage in ("validate", "test") or (stage == "fit" and self.trainer.limit_val_batches)):
            metrics_of_monai()

    def tell_refinement(self) -> None:
        """Log how labels are refined, if they are."""
        if self.refinement is not None:
            rank_zero_info(f"Evaluation and prediction: labels are refined by {_in_words(self.refinement)}")

    @override
    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Count one batch of whole images."""
        self._evaluate(batch, "val")

    @override
    def test_step(self, batch: Batch, batch_idx: int) -> Batch:
        """Count one batch of whole images; callbacks get ``{"labels": uint8 (B, H, W)}``."""
        return {"labels": self._evaluate(batch, "test").to(torch.uint8)}

    @override
    def on_validation_epoch_start(self) -> None:
        """Forget what a validation that was broken off has counted."""
        self._metrics("val").reset()

    @override
    def on_test_epoch_start(self) -> None:
        """Forget what a test that was broken off has counted."""
        self._metrics("test").reset()

    @override
    def on_validation_epoch_end(self) -> None:
        """Log ``val_miou``, ``val_pixel_accuracy``, ``val_grid_energy`` and ``val_iou_<class>``.

        Of cases, besides, ``val_dice_<class>``, ``val_hd95_<class>``, ``val_dice_mean`` and ``val_hd95_mean``.
        """
        self._log_scores("val")

    @override
    def on_test_epoch_end(self) -> None:
        """Log ``test_miou`` and the others."""
        self._log_scores("test")

    @override
    def predict_step(self, batch: Batch, batch_idx: int) -> Batch:
        """Label whole images: ``{"id": list of B, "labels": uint8 (B, H, W)}``."""
        return {"id": batch["id"], "labels": self._predict(batch).to(torch.uint8)}

    def _predict(self, batch: Batch) -> Tensor:
        """Label a batch, refined if there is a refinement, ``(B, H, W)``."""
        logits: Tensor = self(batch["image"])
        if self.refinement is None:
            return logits.max(1).indices  # the same as `argmax`, in a tenth of the time on a CPU
        finite = logits.isfinite().flatten(1).all(1).tolist()
        if broken := [name for name, good in zip(batch["id"], finite, strict=True) if not good]:
            problem = f"the scores of the network for {', '.join(broken[:4])} are not finite and cannot be refined"
            raise UserError(f"{problem}: use another checkpoint, or check these images")
        return self.refinement.refine(logits, colors_of(batch), batch.get("valid")).argmax(1)

    def _evaluate(self, batch: Batch, stage: str) -> Tensor:
        labels = self._predict(batch)
        metrics = self._metrics(stage)
        metrics.segmentation.update(labels, batch["mask"])
        metrics.grid_energy.update(labels, colors_of(batch), batch["valid"])
        metrics.cases.update(labels, batch["mask"], batch.get("id", ()), batch.get("case"))
        return labels

    def _metrics(self, stage: str) -> "_Scores":
        metrics = self.scores[stage]
        assert isinstance(metrics, _Scores)
        return metrics

    def _log_scores(self, stage: str) -> None:
        metrics = self._metrics(stage)
        scores = metrics.segmentation.compute()
        names = self.names_or_numbers
        found = {f"iou_{name}": iou for name, iou in zip(names, scores["iou"], strict=True) if not iou.isnan()}
        energy = metrics.grid_energy.compute()
        self.case_scores = metrics.cases.compute()
        of_cases = mean_over_cases(self.case_scores, names[1:])
        logged = {"pixel_accuracy": scores["pixel_accuracy"], "grid_energy": energy, **found}
        # The metrics are already summed over the ranks: the maximum of equal values keeps the last digit.
        self.log(f"{stage}_miou", scores["miou"].float(), prog_bar=True, sync_dist=True, reduce_fx="max")
        renamed = {f"{stage}_{name}": value.float() for name, value in logged.items()}
        renamed |= {f"{stage}_{name}": value for name, value in of_cases.items()}
        self.log_dict(renamed, sync_dist=True, reduce_fx="max")
        metrics.reset()


def _in_words(refinement: Refinement) -> str:
    """Short name and arguments, such as `MeanField(iterations=10)`."""
    described = describe(refinement)
    arguments = ", ".join(f"{name}={value}" for name, value in described["init_args"].items())
    return f"{type(refinement).__name__}({arguments})"


class _Scores(nn.Module):
    """The metrics of one stage of evaluation."""

    def __init__(self, num_classes: int, largest_component: bool) -> None:
        super().__init__()
        self.segmentation = SegmentationScores(num_classes)
        self.grid_energy = MeanGridEnergy()
        self.cases = CaseScores(num_classes, largest_component)

    def reset(self) -> None:
        """Begin to count anew."""
        for metric in self.children():
            assert isinstance(metric, Metric)
            metric.reset()
