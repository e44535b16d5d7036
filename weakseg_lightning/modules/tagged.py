"""Scores of the methods that learn from tags alone, besides those of all: false positives, and tags."""

from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from weakseg_lightning.metrics import TagScores
from weakseg_lightning.modules.core.base import Batch, WeakSegModule
from weakseg_lightning.modules.core.optimization import Optimizer
from weakseg_lightning.networks import Network

ADAM = Optimizer("adamw", 1e-4, 0.9, 0.0, 1.0, "constant")
"""The optimizer of the report."""


class TaggedModule(WeakSegModule):
    """A module whose evaluation also looks at images of which the tags alone are known.

    Args:
        network: the network to build.
        num_classes: classes K, background included; taken from the data.
        base: those of :class:`WeakSegModule`.
    """

    def __init__(self, network: Network, num_classes: int, **base: Any) -> None:
        super().__init__(network, num_classes, pce_optimizer=None, pce_fraction=0.0, **base)
        for stage in ("val", "test"):
            self._metrics(stage).tags = TagScores(num_classes)

    def predict_tags(self, batch: Batch) -> Tensor | None:
        """Say which classes the images show, bool ``(B, K - 1)``; None where the method does not."""
        return None

    @override
    def _evaluate(self, batch: Batch, stage: str) -> Tensor:
        labels = super()._evaluate(batch, stage)
        self._tag_scores(stage).update(labels, batch["tags"], batch["valid"], self.predict_tags(batch))
        return labels

    @override
    def _log_scores(self, stage: str) -> None:
        """Log ``val_false_area_<class>`` and ``val_tag_accuracy`` besides."""
        scores = self._tag_scores(stage)
        names, found = self.names_or_numbers, scores.compute()
        logged = {
            f"false_area_{name}": area for name, area in zip(names[1:], found["false_area"].reshape(-1), strict=True)
        }
        logged["tag_accuracy"] = found["tag_accuracy"]
        seen = {f"{stage}_{name}": value.float() for name, value in logged.items() if not torch.isnan(value)}
        self.log_dict(seen, sync_dist=True, reduce_fx="max")
        super()._log_scores(stage)

    def _tag_scores(self, stage: str) -> TagScores:
        scores = self._metrics(stage).tags
        assert isinstance(scores, TagScores)
        return scores
