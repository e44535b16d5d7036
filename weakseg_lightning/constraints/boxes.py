"""The rule about bounding boxes."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch.nn.utils.rnn import pad_sequence
from typing_extensions import override

from weakseg_lightning.constraints.arguments import box_masks, check_bounds, check_slack
from weakseg_lightning.constraints.base import CompiledRule, ConstraintRule, Rows
from weakseg_lightning.constraints.linear import ImageFacts
from weakseg_lightning.errors import UserError


@dataclass(frozen=True)
class BoundingBoxes(ConstraintRule):
    """Each box is mostly of its class, and no foreground class occurs outside its boxes.

    A foreground class without a box is absent; the background may be anywhere. A box that is thinner than a cell of
    the network's map takes the cell of its center; boxes beside the map say nothing. Boxes of different classes that
    overlap may contradict each other where ``lower`` exceeds a half: keep the slack.

    Args:
        lower: least fraction of the pixels of a box that take its class, 0..1.
        slack: the most that a constraint may add to a logit; null = hard.

    Raises:
        ValueError: if an argument is out of range.

    References:
        Pathak et al., ICCV 2015, section 7.4.
    """

    lower: float = 0.75
    slack: float | None = 2.0

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_bounds(self.lower, None)
        check_slack(self.slack)

    @override
    def compile(self, facts: ImageFacts) -> CompiledRule:
        if facts.boxes is None:
            raise UserError(
                "BoundingBoxes needs bounding boxes, which the data does not give: choose `supervision: box`"
            )
        classes = len(facts.class_names)
        boxes = _padded(facts)
        masks = box_masks(boxes[..., :4], *facts.valid.shape[1:]) & facts.valid[:, None]
        kinds = one_hot(boxes[..., 4].nan_to_num(0).long(), classes).float()
        covered = _covered(kinds, masks)
        names = [f"{{class}} in box {number + 1} >= {self.lower:g}" for number in range(boxes.shape[1])]
        rows = Rows(kinds, self.lower, masks.flatten(2).any(2), names, self.slack, masks)
        return CompiledRule([rows], covered.flatten(2).any(2), covered, "{class} = 0 outside its boxes")


def labels_in_boxes(boxes: Sequence[Tensor], num_classes: int, height: int, width: int) -> Tensor:
    """The classes that each pixel may have: the background, and those of the boxes that it lies in.

    Args:
        boxes: of each image, ``x1, y1, x2, y2, class`` in pixels, float ``(n, 5)``.
        num_classes: K.
        height: height of the images in pixels.
        width: width of the images in pixels.

    Returns:
        bool ``(B, K, H, W)``.

    Example:
        >>> labels_in_boxes([torch.tensor([[1.0, 0.0, 3.0, 1.0, 1.0]])], 2, 1, 4)[0, 1]
        tensor([[False,  True,  True, False]])
    """
    padded = pad_sequence([found.float() for found in boxes], True, float("nan"))
    kinds = one_hot(padded[..., 4].nan_to_num(0).long(), num_classes).float()
    return _covered(kinds, box_masks(padded[..., :4], height, width))


def _covered(kinds: Tensor, masks: Tensor) -> Tensor:
    """Pixels in boxes of each class, and all of them for the background, bool ``(B, K, H, W)``."""
    covered = torch.einsum("brk,brhw->bkhw", kinds, masks.float()) > 0
    covered[:, 0] = True
    return covered


def _padded(facts: ImageFacts) -> Tensor:
    """The boxes of all images, float ``(B, R, 5)``, nan where an image has fewer than R."""
    boxes = list(facts.boxes or ())
    for name, found in zip(facts.ids, boxes, strict=True):
        if found.ndim != 2 or found.shape[1] != 5:
            raise UserError(
                f"`boxes` must be x1, y1, x2, y2, class, float (n, 5), got {tuple(found.shape)} for image {name}"
            )
        if found.device.type == "cpu" and bool(((found[:, 4] < 1) | (found[:, 4] >= len(facts.class_names))).any()):
            raise UserError(
                f"`boxes` must be of the classes 1..{len(facts.class_names) - 1}, got {found[:, 4].tolist()} for "
                f"image {name}"
            )
    device = facts.tags.device
    if not boxes:
        return torch.zeros((0, 0, 5), device=device)
    padded: Tensor = pad_sequence([found.to(device, torch.float32) for found in boxes], True, float("nan"))
    return padded
