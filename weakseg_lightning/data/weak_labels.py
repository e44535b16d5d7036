"""Weak annotations other than scribbles: clicks, boxes, and what is derived from masks."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from weakseg_lightning.data.scribbles.strokes import Stroke, draw_strokes
from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.errors import UserError

__all__ = ["Supervision", "boxes_from_mask", "draw_clicks", "read_clicks", "seeds_from_boxes"]

Supervision = Literal["full", "scribble", "point", "tags", "box"]

Click = tuple[float, float, int]
"""x, y in pixels (the upper left pixel spans 0 to 1), class."""


def read_clicks(paths: Sequence[Path]) -> dict[str, list[Click]]:
    """Read human clicks in the format of What's the Point: objects with ``cls``, ``x`` and ``y`` by image.

    Args:
        paths: JSON files; the clicks of an image are collected over all of them.

    Returns:
        Clicks by the name of the image.

    Raises:
        ValueError: if a file has another format.
    """
    clicks: dict[str, list[Click]] = {}
    for path in paths:
        for image, points in _read_json(path).items():
            try:
                found = [(float(point["x"]), float(point["y"]), int(point["cls"])) for point in points]
            except (KeyError, TypeError, ValueError) as error:
                raise UserError(f"{path}: the clicks of {image!r} need numbers `x`, `y`, `cls` ({error!r})") from error
            clicks.setdefault(image, []).extend(found)
    return clicks


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not valid JSON ({error}): restore it from its source") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, expected an object of clicks by image name")
    return content


def draw_clicks(clicks: Sequence[Click], height: int, width: int) -> NDArray[np.uint8]:
    """Draw clicks as squares of 3 x 3 pixels; those outside the image move to its border.

    Args:
        clicks: x, y, class; the later ones win.
        height: height of the image in pixels.
        width: width of the image in pixels.

    Returns:
        uint8 ``(height, width)``: the class at the clicks, 255 elsewhere.

    Example:
        >>> int((draw_clicks([(-3.0, 2.5, 7)], 9, 9) == 7).sum())  # at the border: 2 x 3
        6
    """
    return draw_strokes([Stroke(np.floor([[x, y]]), label) for x, y, label in clicks], height, width)


def boxes_from_mask(mask: Tensor) -> Tensor:
    """Put a box around every connected part (8 neighbors) of every class.

    Args:
        mask: uint8 ``(H, W)`` of classes, 0 = background, 255 = void.

    Returns:
        float32 ``(n, 5)``: x1, y1, x2, y2 and the class, by class; x2 and y2 are the outer edges of the last pixels.

    Example:
        >>> boxes_from_mask(torch.tensor([[0, 3, 3], [0, 3, 255]], dtype=torch.uint8)).tolist()
        [[1.0, 0.0, 3.0, 2.0, 3.0]]
    """
    labels = mask.numpy()
    boxes: list[tuple[int, ...]] = []
    for label in np.flatnonzero(np.bincount(labels.ravel(), minlength=256)[:VOID]):
        if label > 0:
            parts, _ = ndimage.label(labels == label, structure=np.ones((3, 3)))
            slices = ndimage.find_objects(parts)
            boxes += [(cols.start, rows.start, cols.stop, rows.stop, int(label)) for rows, cols in slices]
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 5)


def seeds_from_boxes(boxes: Tensor, height: int, width: int, *, mask: Tensor | None = None) -> Tensor:
    """Label as background what lies outside all boxes and is not void.

    Args:
        boxes: ``(n, 5)``: x1, y1, x2, y2, class, in pixels.
        height: height of the image in pixels.
        width: width of the image in pixels.
        mask: uint8 ``(height, width)``, of which nothing is read but where it is void, 255; None if nowhere.

    Returns:
        uint8 ``(height, width)``: 0 outside all boxes, 255 inside and where the mask is void.

    Example:
        >>> seeds_from_boxes(torch.tensor([[1.0, 0.0, 3.0, 1.0, 5.0]]), 2, 3).tolist()
        [[0, 255, 255], [0, 0, 0]]
    """
    seeds = torch.zeros(height, width, dtype=torch.uint8)
    for x1, y1, x2, y2, _ in boxes.tolist():
        seeds[int(np.floor(y1)) : int(np.ceil(y2)), int(np.floor(x1)) : int(np.ceil(x2))] = VOID
    return seeds if mask is None else seeds.where(mask != VOID, VOID)
