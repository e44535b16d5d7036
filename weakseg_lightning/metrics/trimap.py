"""Scores near the borders of segments (trimaps), for every width up to a largest one."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad
from torchmetrics import Metric
from typing_extensions import override

from weakseg_lightning.metrics.checks import check_arguments, check_maps, check_range, check_trimap
from weakseg_lightning.metrics.segmentation import segmentation_scores

Definition = Literal["void", "boundary"]


def trimap_distance(
    target: Tensor,
    definition: Definition = "void",
    max_width: int = 40,
    ignore_index: int = 255,
    valid: Tensor | None = None,
) -> Tensor:
    r"""Compute the distance of every pixel to the middle of its trimap.

    The distance is Chebyshev's, ``max(|dx|, |dy|)``: the trimap of width ``w`` is the middle, dilated by a square of
    side ``2 w + 1``. The middle is

    - ``void``: the pixels of ``ignore_index``, as in the script of DeepLab. They are at distance 0 and never scored, so
      that width 1 means the 8 neighbors of void.
    - ``boundary``: the pixels of which one of the 4 neighbors has another class. They are at distance 0 and belong to
      every trimap: across a straight border width ``w`` has ``w + 1`` pixels on either side.

    Void is no class and makes no boundary. It hides boundaries, however: in PASCAL VOC a void rim of some five pixels
    runs along nearly all of them. For ``boundary``, each void pixel therefore counts as of the class nearest to it
    (Chebyshev; the largest class number of those equally near), so that the boundary runs along the middle of the rim,
    and void inside one class, or between it and the image's edge, makes none. There, the trimaps of the first two or
    three widths lie within the rim and hold few scored pixels.

    Args:
        target: true classes ``(B, H, W)``.
        definition: what the middle is.
        max_width: largest distance to tell apart, 1 to 254.
        ignore_index: value of void pixels.
        valid: bool ``(B, H, W)``, False on padding, which is neither void nor a class; by default all are valid.

    Returns:
        uint8 ``(B, H, W)`` in pixels, ``max_width + 1`` for whatever is farther away.

    Raises:
        TypeError: if ``target`` is not of integers.
        ValueError: if an argument is out of range, or a shape is wrong.

    Example:
        >>> target = torch.tensor([[[0, 0, 0, 255, 1, 1]]])
        >>> trimap_distance(target, "void").tolist(), trimap_distance(target, "boundary", max_width=1).tolist()
        ([[[3, 2, 1, 0, 1, 2]]], [[[2, 1, 0, 0, 1, 2]]])

    References:
        Kohli et al., "Robust Higher Order Potentials for Enforcing Label Consistency", IJCV 2009.
        Chen et al., "Semantic Image Segmentation with Deep Convolutional Nets and Fully Connected CRFs", ICLR 2015.
        Marin and Boykov, "Robust Trust Region for Weakly Supervised Segmentation", ICCV 2021, figure 6.
    """
    check_trimap(definition, max_width)
    _check_target(target, valid)
    inside = torch.ones_like(target, dtype=torch.bool) if valid is None else valid
    void = target == ignore_index
    if definition == "void":
        return _distance(void & inside, max_width)
    classes = _fill(target, void)
    return _distance(_boundary(classes, inside & (classes > 0)), max_width)


def trimap_confusion(
    labels: Tensor,
    target: Tensor,
    num_classes: int,
    definition: Definition = "void",
    max_width: int = 40,
    ignore_index: int = 255,
    valid: Tensor | None = None,
) -> Tensor:
    """Count the pixels of each pair (true class, predicted class) in the trimaps of width 1 to ``max_width``.

    The pixels are gone through once: distance, then one count over (distance, true class, predicted class). An image
    without void (``void``), or of a single class (``boundary``), has no trimap and counts nothing.

    Args:
        labels: predicted classes ``(B, H, W)``; free to hold anything where the target is ignored.
        target: true classes in 0..K-1, or ``ignore_index``; same shape.
        num_classes: classes K, background included.
        definition: see :func:`trimap_distance`.
        max_width: largest width W in pixels, 1 to 254.
        ignore_index: target value of void pixels, which are left out.
        valid: bool ``(B, H, W)``, False on padding, which is left out; by default every pixel is valid.

    Returns:
        int64 ``(W, K, K)``: entry ``w - 1`` is the confusion matrix of width ``w`` (row = true class), which holds
        those of the smaller widths.

    Raises:
        TypeError: if a map is not of integers.
        ValueError: if a shape is wrong, an argument out of range, or a pixel's class outside 0..K-1.

    Example:
        >>> labels, target = torch.tensor([[[0, 1, 0, 1, 1]]]), torch.tensor([[[0, 0, 255, 1, 1]]])
        >>> trimap_confusion(labels, target, num_classes=2, max_width=2).tolist()
        [[[0, 1], [0, 1]], [[1, 1], [0, 2]]]
    """
    check_maps(labels, target)
    distance = trimap_distance(target, definition, max_width, ignore_index, valid)
    counted = (target != ignore_index) & (True if valid is None else valid)
    labels, target = (torch.where(counted, values, 0).long() for values in (labels, target))
    check_range("target", target, num_classes, f" or `ignore_index` = {ignore_index}")
    check_range("labels", labels, num_classes)
    # A boundary pixel, at distance 0, belongs to width 1; one more ring takes what is farther away or left out.
    ring = torch.where(counted, distance.clamp(min=1) - 1, max_width).long()
    cell = ((ring * num_classes + target) * num_classes + labels).flatten()
    counts = torch.bincount(cell, minlength=(max_width + 1) * num_classes**2)
    return counts.view(-1, num_classes, num_classes)[:max_width].cumsum(0)


class TrimapScores(Metric):
    """Mean intersection over union and pixel accuracy in the trimaps of a whole data set, for every width at once.

    Each width has one confusion matrix over the data set, see :func:`trimap_distance` for the two definitions of a
    trimap and :func:`weakseg_lightning.metrics.segmentation_scores` for the scores.

    Args:
        num_classes: classes K, background included.
        definition: ``"void"``, near void pixels, or ``"boundary"``, near a change of class.
        max_width: largest width W in pixels, 1 to 254.
        ignore_index: target value of void pixels, which are left out.

    Example:
        >>> metric = TrimapScores(num_classes=2, definition="boundary", max_width=3)
        >>> metric.update(torch.tensor([[[1, 0, 1, 1, 1, 1]]]), torch.tensor([[[0, 0, 0, 1, 1, 1]]]))
        >>> {name: [round(v, 3) for v in curve.tolist()] for name, curve in metric.compute().items()}
        {'trimap_boundary_miou': [0.583, 0.467, 0.467], 'trimap_boundary_pixel_accuracy': [0.75, 0.667, 0.667]}
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True
    confusion: Tensor

    def __init__(
        self, num_classes: int, definition: Definition = "void", max_width: int = 40, ignore_index: int = 255
    ) -> None:
        super().__init__()
        check_arguments(num_classes, ignore_index)
        check_trimap(definition, max_width)
        self.num_classes = num_classes
        self.definition = definition
        self.max_width = max_width
        self.ignore_index = ignore_index
        empty = torch.zeros(max_width, num_classes, num_classes, dtype=torch.long)
        self.add_state("confusion", empty, dist_reduce_fx="sum")

    @override
    def update(self, labels: Tensor, target: Tensor, valid: Tensor | None = None) -> None:
        """Count a batch: predicted and true classes, False on padding, all ``(B, H, W)``."""
        self.confusion += trimap_confusion(
            labels, target, self.num_classes, self.definition, self.max_width, self.ignore_index, valid
        )

    @override
    def compute(self) -> dict[str, Tensor]:
        """Return ``trimap_<definition>_miou`` and ``trimap_<definition>_pixel_accuracy``, summed over all ranks first.

        Both are ``(W,)`` (torchmetrics makes scalars of them if W is 1), in 0..1, entry ``w - 1`` for width ``w``; nan
        where nothing was counted.
        """
        scores = [segmentation_scores(confusion) for confusion in self.confusion]
        names = ("miou", "pixel_accuracy")
        return {f"trimap_{self.definition}_{name}": torch.stack([one[name] for one in scores]) for name in names}


def _fill(target: Tensor, void: Tensor) -> Tensor:
    """Give void the class nearest to it: k + 1 for class k, 0 in images of void alone."""
    classes = torch.where(void, 0, target.to(torch.int16) + 1)
    for _ in range(max(target.shape[1:])):
        unfilled = classes == 0
        if not unfilled.any():
            break
        classes = torch.where(unfilled, _dilate(classes), classes)
    return classes


def _boundary(classes: Tensor, known: Tensor) -> Tensor:
    """Mark the pixels of which a 4-neighbor has another class; both have to be known."""
    boundary = torch.zeros_like(known)
    for value, sure, marked in ((classes, known, boundary), (classes.mT, known.mT, boundary.mT)):
        cut = (value[:, 1:] != value[:, :-1]) & sure[:, 1:] & sure[:, :-1]
        marked[:, 1:] |= cut
        marked[:, :-1] |= cut
    return boundary


def _distance(marked: Tensor, farthest: int) -> Tensor:
    """Count the dilations until a pixel is reached.

    One way for all devices: on bytes it takes as long as SciPy's transform on the CPU, a thirtieth of max pooling.
    """
    reached = marked.to(torch.uint8)
    distance = 1 - reached
    for _ in range(farthest):
        reached = _dilate(reached)
        distance += 1 - reached
    return distance


def _dilate(values: Tensor) -> Tensor:
    """Maximum over the 3 x 3 pixels around each, rows first; nothing is smaller than the 0 outside."""
    padded = pad(values, (1, 1, 1, 1))
    rows = torch.maximum(torch.maximum(padded[:, :-2], padded[:, 2:]), padded[:, 1:-1])
    return torch.maximum(torch.maximum(rows[:, :, :-2], rows[:, :, 2:]), rows[:, :, 1:-1])


def _check_target(target: Tensor, valid: Tensor | None) -> None:
    check_maps(target, target)
    if target.ndim != 3:
        raise ValueError(f"`target` must be (B, H, W), got {tuple(target.shape)}; add a batch axis with `[None]`")
    if valid is not None and (valid.shape != target.shape or valid.dtype != torch.bool):
        got = f"{valid.dtype} {tuple(valid.shape)}"
        raise ValueError(f"`valid` must be bool in the shape of `target`, {tuple(target.shape)}, got {got}")
