"""Metrics of label maps: data-set intersection over union, pixel accuracy, energy of the grid Potts model.

The functions are stateless; the classes sum their counts over batches and, under several ranks, over processes.
"""

from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import multiclass_confusion_matrix
from typing_extensions import override

from weakseg_lightning.energies import GridPotts, count_edges, potts_energy


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
    _check_maps(labels, target)
    counted = target != ignore_index
    labels, target = labels[counted].long(), target[counted].long()  # long: uint8 would overflow in K * target + label
    _check_range("target", target, num_classes, f" or `ignore_index` = {ignore_index}")
    _check_range("labels", labels, num_classes)
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
    counts = confusion.to(_real(confusion.device))
    hit, truth = counts.diagonal(), counts.sum(1)
    iou = (hit / (truth + counts.sum(0) - hit)).where(truth > 0, torch.nan)
    return {"miou": iou.nanmean(), "pixel_accuracy": hit.sum() / counts.sum(), "iou": iou}


def grid_energy(labels: Tensor, image: Tensor, potts: GridPotts, valid: Tensor | None = None) -> Tensor:
    """Compute the pairwise energy of label maps per edge of the grid.

    ``(sum over edges pq of w_pq [x_p != x_q]) / (number of edges)``; edges that touch padding are left out of both.

    Args:
        labels: classes ``(B, H, W)``.
        image: RGB in 0..1, ``(B, 3, H, W)``.
        potts: weights and neighbourhood.
        valid: bool ``(B, H, W)``, False on padding; by default every pixel is valid.

    Returns:
        ``(B,)``, in the unit of ``potts.weight``; 0 for an image without edges.

    Raises:
        ValueError: if the shapes do not fit together.

    Example:
        >>> labels, image = torch.tensor([[[0, 1]]]), torch.full((1, 3, 1, 2), 0.5)
        >>> grid_energy(labels, image, GridPotts(weight=80.0)).tolist()
        [80.0]
    """
    _check_image(labels, image, valid)
    if valid is None:
        valid = torch.ones_like(labels, dtype=torch.bool)
    cut = potts_energy(labels, potts.edge_weights(image.float(), valid))
    return cut / count_edges(valid, potts.connectivity).to(cut.device).clamp(min=1)


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
        if num_classes < 2:
            raise ValueError(f"`num_classes` must be at least 2 (background included), got {num_classes}")
        if 0 <= ignore_index < num_classes:
            raise ValueError(f"`ignore_index` must not be one of the {num_classes} classes, got {ignore_index}")
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


class MeanGridEnergy(Metric):
    """Mean over images of the grid Potts energy per edge, see :func:`grid_energy`.

    Args:
        potts: weights and neighbourhood.

    Example:
        >>> metric = MeanGridEnergy(GridPotts(weight=80.0))
        >>> metric.update(torch.tensor([[[0, 1]]]), torch.full((1, 3, 1, 2), 0.5))
        >>> metric.update(torch.tensor([[[1, 1]]]), torch.full((1, 3, 1, 2), 0.5))
        >>> metric.compute().item()
        40.0

    References:
        Marin et al., "Beyond Gradient Descent for Regularized Segmentation Losses", CVPR 2019, table 1.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False
    energy: Tensor
    images: Tensor

    def __init__(self, potts: GridPotts = GridPotts()) -> None:  # noqa: B008 - frozen
        super().__init__()
        self.potts = potts
        self.add_state("energy", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("images", torch.tensor(0), dist_reduce_fx="sum")

    @override
    def update(self, labels: Tensor, image: Tensor, valid: Tensor | None = None) -> None:
        """Add a batch: classes ``(B, H, W)``, RGB in 0..1 ``(B, 3, H, W)``, False on padding ``(B, H, W)``."""
        self.energy += grid_energy(labels, image, self.potts, valid).sum().to(self.energy)
        self.images += len(labels)

    @override
    def compute(self) -> Tensor:
        """Return the mean, a scalar in the unit of ``potts.weight``; nan if there was no image."""
        return self.energy / self.images

    @override
    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = ()) -> Self:
        """Follow the module to its device, but not to a lower precision: a sum over a data set needs its digits."""
        super()._apply(fn, ("energy", *exclude_state))
        device = fn(torch.empty(0)).device
        self.energy = self.energy.to(device, _real(device))
        self._defaults["energy"] = torch.zeros_like(self.energy)
        return self


def _real(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64  # Apple's GPUs have no float64


def _check_maps(labels: Tensor, target: Tensor) -> None:
    for name, tensor in (("labels", labels), ("target", target)):
        if tensor.is_floating_point() or tensor.is_complex():
            message = f"`{name}` must hold integer classes, got {tensor.dtype}"
            raise TypeError(f"{message}; take the class of logits or probabilities with `.argmax(1)`")
    if labels.shape != target.shape:
        raise ValueError(f"`labels` must have the shape of `target`, {tuple(target.shape)}, got {tuple(labels.shape)}")


def _check_range(name: str, values: Tensor, num_classes: int, other: str = "") -> None:
    if not values.numel():
        return
    low, high = torch.stack(torch.aminmax(values)).tolist()  # one pass, one transfer from the device
    if low < 0 or high >= num_classes:
        wrong = low if low < 0 else high
        message = f"`{name}` must be classes 0 to {num_classes - 1}{other}, got {wrong}"
        raise ValueError(f"{message}; check `num_classes` against the data set's masks")


def _check_image(labels: Tensor, image: Tensor, valid: Tensor | None) -> None:
    if labels.ndim != 3 or image.shape != (len(labels), 3, *labels.shape[1:]):
        got = f"{tuple(labels.shape)} and {tuple(image.shape)}"
        raise ValueError(f"`labels` must be (B, H, W) and `image` (B, 3, H, W) of the same size, got {got}")
    if valid is not None and valid.shape != labels.shape:
        raise ValueError(f"`valid` must have the shape of `labels`, {tuple(labels.shape)}, got {tuple(valid.shape)}")
