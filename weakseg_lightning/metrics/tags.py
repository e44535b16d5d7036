"""Scores of images of which only the tags are known: false positives of absent classes, accuracy of the tags."""

import torch
from torch import Tensor
from typing_extensions import override

from weakseg_lightning.checks import at_least
from weakseg_lightning.metrics.precise import PreciseMetric


class TagScores(PreciseMetric):
    """Fraction of the pixels that are labeled with a class on the images without it, and accuracy of predicted tags.

    Args:
        num_classes: classes K, background included.

    Example:
        >>> metric = TagScores(num_classes=3)
        >>> labels, nothing = torch.tensor([[[0, 1, 0, 0]]]), torch.tensor([[True, False, False]])
        >>> metric.update(labels, nothing, labels >= 0, torch.tensor([[True, False]]))
        >>> {name: value.tolist() for name, value in metric.compute().items()}
        {'false_area': [0.25, 0.0], 'tag_accuracy': 0.5}
    """

    full_state_update = False
    is_differentiable = False
    precise = ("areas",)
    areas: Tensor
    images: Tensor
    right: Tensor
    judged: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        at_least("num_classes", num_classes, 2)
        self.num_classes = num_classes
        self.add_state("areas", torch.zeros(num_classes - 1, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros(num_classes - 1, dtype=torch.int64), dist_reduce_fx="sum")
        for name in ("right", "judged"):
            self.add_state(name, torch.tensor(0), dist_reduce_fx="sum")

    @override
    def update(self, labels: Tensor, tags: Tensor, valid: Tensor, predicted: Tensor | None = None) -> None:
        """Count a batch.

        Args:
            labels: predicted classes, integers ``(B, H, W)``.
            tags: the classes of each image, bool ``(B, K)``.
            valid: bool ``(B, H, W)``, False on padding.
            predicted: predicted tags of the foreground classes, bool ``(B, K - 1)``; None = none are predicted.
        """
        absent = ~tags[:, 1:]
        classes = torch.arange(1, self.num_classes, device=labels.device)
        hit = (labels[:, None] == classes[:, None, None]) & valid[:, None]
        area = hit.sum((2, 3)) / valid.sum((1, 2)).clamp(min=1)[:, None]
        self.areas += (area * absent).sum(0).to(self.areas)
        self.images += absent.sum(0)
        if predicted is not None:
            self.right += (predicted == tags[:, 1:]).sum()
            self.judged += predicted.numel()

    @override
    def compute(self) -> dict[str, Tensor]:
        """Give ``false_area`` ``(K - 1,)``, a scalar for K = 2, and ``tag_accuracy``; nan where none was counted."""
        return {"false_area": self.areas / self.images, "tag_accuracy": self.right / self.judged}
