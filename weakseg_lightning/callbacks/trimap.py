"""Scores of a test against the width of the trimap."""

import warnings
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from typing_extensions import override

from weakseg_lightning.callbacks.drawing import run_folder
from weakseg_lightning.files import replacing
from weakseg_lightning.metrics import TrimapScores
from weakseg_lightning.visualization.trimap import trimap_figure, write_trimap


class TrimapCurve(Callback):
    """Scores a test near void and near class boundaries, for every width of the trimap.

    ``trimap.csv`` (width, definition, miou, pixel_accuracy) and ``trimap.png`` go to the run's folder; the mIoU at
    ``LOGGED_WIDTH`` is logged as ``test_trimap_<definition>_miou_<width>``. What a test has no trimap for (data
    without void) is left out. The module's ``test_step`` returns ``{"labels": (B, H, W)}``, as those of this package
    do.

    Args:
        definition: what trimaps surround, void pixels or changes of class, see
            :func:`weakseg_lightning.metrics.trimap_distance`.
        max_width: largest width in pixels, 1 to 254.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> trainer = Trainer(callbacks=[TrimapCurve(max_width=20)], logger=False, enable_checkpointing=False)
    """

    LOGGED_WIDTH = 5

    def __init__(self, definition: Literal["void", "boundary", "both"] = "both", max_width: int = 40) -> None:
        self.definition = definition
        self.max_width = max_width
        self._metrics = self._make_metrics(num_classes=2)  # checks both arguments

    @override
    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin at zero.

        Raises:
            ValueError: if neither the module nor the data know the number of classes.
        """
        owners: tuple[Any, ...] = (pl_module, getattr(trainer, "datamodule", None))
        num_classes = next((owner.num_classes for owner in owners if hasattr(owner, "num_classes")), None)
        if num_classes is None:
            raise ValueError("TrimapCurve found no `num_classes`: give the module or its data module this attribute")
        self._metrics = [metric.to(pl_module.device) for metric in self._make_metrics(num_classes)]

    @override
    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count a batch."""
        if not isinstance(outputs, dict) or "labels" not in outputs:
            if batch_idx == 0:
                advice = 'return {"labels": predicted classes (B, H, W)} from it'
                warnings.warn(f"no trimap scores, as `test_step` returned no labels; {advice}", stacklevel=2)
            return
        for metric in self._metrics:
            metric.update(outputs["labels"], batch["mask"], batch.get("valid"))

    @override
    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Sum over the ranks, log and write."""
        folder = run_folder(trainer)
        curves: dict[str, Tensor] = {}
        for metric in self._metrics:
            with warnings.catch_warnings():  # a rank may have had no image
                warnings.filterwarnings("ignore", "The ``compute`` method of metric")
                scores = metric.compute()
            if not all(curve.isnan().all() for curve in scores.values()):
                curves |= scores
                self._log(pl_module, metric, scores)
        if curves and trainer.is_global_zero and not getattr(trainer, "fast_dev_run", False):
            _keep_curves(curves, folder)

    def _log(self, pl_module: LightningModule, metric: TrimapScores, scores: dict[str, Tensor]) -> None:
        width, name = min(self.LOGGED_WIDTH, self.max_width), f"trimap_{metric.definition}_miou"
        value = scores[name].reshape(-1)[width - 1].float()
        pl_module.log(f"test_{name}_{width}", value, sync_dist=True, reduce_fx="max")  # equal on all ranks

    def _make_metrics(self, num_classes: int) -> list[TrimapScores]:
        definitions: tuple[Any, ...] = ("void", "boundary") if self.definition == "both" else (self.definition,)
        return [TrimapScores(num_classes, definition, self.max_width) for definition in definitions]


def _keep_curves(curves: dict[str, Tensor], folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / "trimap.csv") as path:
            write_trimap(path, curves)
        with replacing(folder / "trimap.png") as path:
            trimap_figure({"": curves}).savefig(path, format="png", dpi=120)
    except OSError as error:  # the other scores of the test are still to be logged
        warnings.warn(f"{error}; the test goes on without its trimap curves", stacklevel=2)
    else:
        rank_zero_info(f"Scores near void and boundaries are in {folder / 'trimap.csv'}")
