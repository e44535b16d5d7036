"""Intersection over union and pixel accuracy of a whole data set."""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import multiclass_confusion_matrix
from typing_extensions import override

from weakseg_lightning.metrics.checks import check_arguments, check_maps, check_range, real_type


def confusion_matrix(labels: Tensor, target: Tensor, num_classes: int, ignore_index: int = 255) -> Tensor:
    """Count the pixels of each pair (true class, predicted class).

    Args:
        labels: predicted classes, integers of any shape; free to hold anything where the target is ignored.
        target: true classes in 0..K-1, or ``ignore_index``; same shape.
        num_classes: classes K, background included.
        ignore_index: target value of the pixels that are left out.

    Returns:
        int64 ``(K, K)``: row = true class, column = predicted class.

    Raises:
        TypeError: if a map is not of integers.
        ValueError: if the shapes differ, or a counted pixel has a class outside 0..K-1.

    Example:
        >>> confusion_matrix(torch.tensor([0, 1, 1, 0]), torch.tensor([0, 1, 0, 255]), num_classes=2)
        tensor([[1, 1],
                [0, 1]])
    """
    check_maps(labels, target)
    counted = target != ignore_index
    labels, target = labels[counted].long(), target[counted].long()  # long: uint8 would overflow in K * target + label
    check_range("target", target, num_classes, f" or `ignore_index` = {ignore_index}")
    check_range("labels", labels, num_classes)
    return multiclass_confusion_matrix(labels, target, num_classes, validate_args=False)


def segmentation_scores(confusion: Tensor) -> dict[str, Tensor]:
    r"""Compute the scores of PASCAL VOC from a confusion matrix.

    ``IoU_k = C_kk / (sum_j C_kj + sum_j C_jk - C_kk)``; the mean is over the classes that occur in the ground truth.
    Pixels predicted as a class that never occurs count as errors of their true class.

    Args:
        confusion: counts ``(K, K)``, row = true class, column = predicted class.

    Returns:
        float64 in 0..1: ``miou`` and ``pixel_accuracy`` (scalars, nan if nothing was counted), ``iou`` ``(K,)``, nan
        for classes without ground truth.

    Example:
        >>> scores = segmentation_scores(torch.tensor([[2, 1, 0], [0, 1, 0], [0, 0, 0]]))
        >>> {name: [round(v, 3) for v in value.flatten().tolist()] for name, value in scores.items()}
        {'miou': [0.583], 'pixel_accuracy': [0.75], 'iou': [0.667, 0.5, nan]}

    References:
        Everingham et al., "The PASCAL Visual Object Classes Challenge: A Retrospective", IJCV 2015.
    """
    counts = confusion.to(real_type(confusion.device))
    hit, truth = counts.diagonal(), counts.sum(1)
    iou = (hit / (truth + counts.sum(0) - hit)).where(truth > 0, torch.nan)
    return {"miou": iou.nanmean(), "pixel_accuracy": hit.sum() / counts.sum(), "iou": iou}


class SegmentationScores(Metric):
    """Mean intersection over union and pixel accuracy of a whole data set, see :func:`segmentation_scores`.

    Args:
        num_classes: classes K, background included.
        ignore_index: target value of the pixels that are left out.

    Example:
        >>> metric = SegmentationScores(num_classes=3)
        >>> metric.update(torch.tensor([[[0, 1, 1]]]), torch.tensor([[[0, 0, 1]]]))
        >>> metric.update(torch.tensor([[[0, 2]]]), torch.tensor([[[0, 255]]]))
        >>> scores = metric.compute()
        >>> round(scores["miou"].item(), 3), scores["pixel_accuracy"].item(), scores["iou"].isnan().tolist()
        (0.583, 0.75, [False, False, True])
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True
    confusion: Tensor

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        super().__init__()
        check_arguments(num_classes, ignore_index)
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.add_state("confusion", torch.zeros(num_classes, num_classes, dtype=torch.long), dist_reduce_fx="sum")

    @override
    def update(self, labels: Tensor, target: Tensor) -> None:
        """Count a batch: predicted and true classes ``(B, H, W)``."""
        self.confusion += confusion_matrix(labels, target, self.num_classes, self.ignore_index)

    @override
    def compute(self) -> dict[str, Tensor]:
        """Return ``{"miou", "pixel_accuracy", "iou": (K,)}``, summed over all batches and ranks first."""
        return segmentation_scores(self.confusion)
