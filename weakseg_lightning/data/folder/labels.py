"""Labels of the images of a folder: masks, seeds, boxes, drawn from whatever annotations there are."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.draw import polygon
from torch import Tensor

from weakseg_lightning.data.folder.annotations import LabeledAnnotation
from weakseg_lightning.data.folder.contents import FolderContents
from weakseg_lightning.data.folder.label_maps import Size, to_labels
from weakseg_lightning.data.images.nodata import Flags
from weakseg_lightning.data.samples import CaseSlice
from weakseg_lightning.data.scribbles.strokes import Stroke, draw_strokes
from weakseg_lightning.data.weak_labels import Supervision, boxes_from_mask, draw_clicks, seeds_from_boxes
from weakseg_lightning.energies.potts import VOID

__all__ = [
    "DrawnLabels",
    "accepted_of",
    "boxes_of",
    "cuts_into",
    "leaves_pixels",
    "read_drawn",
    "read_mask",
    "read_seeds",
    "scribbles_of",
]

Labels = NDArray[np.uint8]


def read_mask(contents: FolderContents, name: str, size: Size) -> Labels | None:
    """Read the mask of an image, from its PNG or its regions; None if it has neither.

    What no region covers is background; later regions cover earlier ones. Void regions and boxes are drawn over a PNG.

    Raises:
        BadSampleError: if it cannot be used.
    """
    if (path := contents.masks.get(name)) is not None:
        stored = contents.read_stored(name, path)
        return _without_void(to_labels(path, stored, contents.classes, scribbles=False, size=size), contents, name)
    if not contents.has_mask(name):
        return None
    return _regions(contents, name, size)


def read_seeds(contents: FolderContents, name: str, size: Size, supervision: Supervision | None) -> Labels | None:
    """Draw the labelled pixels that an image has under a kind of supervision; None if that gives none.

    What is void has no label.

    Raises:
        BadSampleError: if they cannot be used.
    """
    if supervision == "full":
        return read_mask(contents, name, size)
    if supervision == "scribble":
        drawn = read_drawn(contents, name, size)
        accepted = accepted_of(contents, name, size)
        return drawn if accepted is None else _without_void(_stacked(size, accepted, drawn), contents, name)
    if supervision == "box":
        return _without_void(_box_seeds(contents, name, size), contents, name)
    return _without_void(_clicks(contents, name, size), contents, name) if supervision == "point" else None


def read_drawn(contents: FolderContents, name: str, size: Size) -> Labels:
    """Draw what people have drawn on an image, scribbles, lines and clicks, without what was accepted.

    Raises:
        BadSampleError: if it cannot be used.
    """
    # Coordinates of annotations count from the corner of the first pixel, those of strokes from its center.
    lines = [(one.annotation.points - 0.5, one.label) for one in contents.about(name, "stroke")]
    strokes = [Stroke(points, label) for points, label in lines if label is not None]
    layers = (scribbles_of(contents, name, size), draw_strokes(strokes, size[1], size[0]))
    return _without_void(_stacked(size, *layers, _clicks(contents, name, size)), contents, name)


def boxes_of(contents: FolderContents, name: str, mask: Tensor | None) -> Tensor:
    """Boxes that were drawn, and those around what of the mask, or of the regions, lies in none of them: ``(n, 5)``."""
    drawn = [one for one in contents.about(name, "box") if one.label != VOID]
    boxes = [[*known.annotation.points[:2].flatten().tolist(), float(known.label or 0)] for known in drawn]
    if mask is None and contents.has(name, "region"):
        mask = torch.from_numpy(_regions(contents, name, contents.size_of(name)))
    if mask is not None:
        parts = boxes_from_mask(mask).tolist()
        boxes += _outside(mask.numpy(), parts, boxes) if boxes else parts
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 5)


def scribbles_of(contents: FolderContents, name: str, size: Size) -> Labels | None:
    """Read the file of the scribbles; None if there is none.

    Raises:
        BadSampleError: if it cannot be used.
    """
    return _partial_map(contents.scribbles.get(name), contents, name, size)


def accepted_of(contents: FolderContents, name: str, size: Size) -> Labels | None:
    """Read the file of the accepted labels; None if there is none.

    Raises:
        BadSampleError: if it cannot be used.
    """
    return _partial_map(contents.accepted.get(name), contents, name, size)


class DrawnLabels:
    """Finds scribbles, lines, clicks and accepted labels of image files that are those of a folder.

    Args:
        contents: the folder.
    """

    def __init__(self, contents: FolderContents) -> None:
        self._contents = contents
        self._names: dict[Path, list[str]] = {}
        for name, path in contents.images.items():
            self._names.setdefault(path.resolve(), []).append(name)

    @property
    def lacks_spacing(self) -> bool:
        """See :attr:`FolderContents.lacks_spacing`."""
        return self._contents.lacks_spacing

    def case(self, path: Path) -> CaseSlice | None:
        """The case that an image is a slice of; None where it is none, or is a volume itself."""
        names = self._names.get(path.resolve(), [])
        return self._contents.cases.get(names[0]) if len(names) == 1 and self._contents.volumes is None else None

    def seeds(self, path: Path, index: int = 0) -> Tensor | None:
        """Read what is drawn on an image, or on a slice of a volume.

        Args:
            path: the file of the image.
            index: the number of the slice, from 0 along the slice axis.

        Returns:
            uint8 ``(H, W)``, 255 where nothing is drawn; None if the image is none of the folder, or has no labels.

        Raises:
            BadSampleError: if they cannot be read.
        """
        names = self._names.get(path.resolve(), [])
        volumes = self._contents.volumes is not None
        found = [name for name in names if not volumes or self._contents.slices[name].number == index]
        if not found or not self._contents.can_train(found[0], "scribble"):
            return None
        drawn = read_seeds(self._contents, found[0], self._contents.size_of(found[0]), "scribble")
        return None if drawn is None else torch.from_numpy(drawn)


def _partial_map(path: Path | None, contents: FolderContents, name: str, size: Size) -> Labels | None:
    if path is None:
        return None
    return to_labels(path, contents.read_stored(name, path), contents.classes, scribbles=True, size=size)


def leaves_pixels(contents: FolderContents, name: str, valid: Flags | None, size: Size) -> bool:
    """Tell if the regions and boxes of an image leave more than a thousandth of its pixels with data."""
    covered = np.zeros(size[::-1], dtype=np.uint8)
    for known in contents.about(name, "region", "box"):
        _paint(covered, replace(known, label=1))
    left = covered == 0 if valid is None else valid & (covered == 0)
    return int(np.count_nonzero(left)) > (covered.size if valid is None else np.count_nonzero(valid)) / 1000


def cuts_into(contents: FolderContents, name: str, size: Size) -> bool:
    """Tell if a region of the first class takes pixels away from a region of another, as the hole of it."""
    labels = np.zeros(size[::-1], dtype=np.uint8)
    for known in contents.about(name, "region"):
        if known.label == 0:
            before = labels.copy()
            _paint(labels, known)
            if (labels != before).any():
                return True
        else:
            _paint(labels, known)
    return False


def _regions(contents: FolderContents, name: str, size: Size) -> Labels:
    """The regions of an image, and what is void, on background."""
    labels = np.zeros(size[::-1], dtype=np.uint8)
    for known in contents.about(name):
        if known.kind == "region" or known.label == VOID:
            _paint(labels, known)
    return labels


def _outside(labels: Labels, parts: list[list[float]], boxes: list[list[float]]) -> list[list[float]]:
    """Of the parts of a label map, those of which less than half of the pixels lie in boxes of their class."""
    found = []
    for label in dict.fromkeys(part[4] for part in parts):
        boxed = np.zeros(labels.shape, dtype=bool)
        for box in (box for box in boxes if box[4] == label):
            boxed[_window(box)] = True
        for part in (part for part in parts if part[4] == label):
            pixels = labels[_window(part)] == label
            if 2 * np.count_nonzero(pixels & boxed[_window(part)]) < np.count_nonzero(pixels):
                found.append(part)
    return found


def _window(box: list[float]) -> tuple[slice, slice]:
    left, top, right, bottom, _ = box
    return slice(max(math.floor(top), 0), math.ceil(bottom)), slice(max(math.floor(left), 0), math.ceil(right))


def _box_seeds(contents: FolderContents, name: str, size: Size) -> Labels:
    labels = read_mask(contents, name, size)
    mask = None if labels is None else torch.from_numpy(labels)
    seeds: Labels = seeds_from_boxes(boxes_of(contents, name, mask), size[1], size[0], mask=mask).numpy()
    drawn = read_drawn(contents, name, size)
    seeds[(seeds == 0) & (drawn != 0) & (drawn != VOID)] = VOID  # what is drawn may leave its box
    return seeds


def _clicks(contents: FolderContents, name: str, size: Size) -> Labels:
    pressed = [(one.annotation.points[0].tolist(), one.label) for one in contents.about(name, "click")]
    return draw_clicks([(x, y, label) for (x, y), label in pressed if label is not None], size[1], size[0])


def _stacked(size: Size, *layers: Labels | None) -> Labels:
    """Labels of several layers, of which the later ones cover the earlier ones."""
    labels = np.full(size[::-1], VOID, dtype=np.uint8)
    for layer in layers:
        if layer is not None:
            labels[layer != VOID] = layer[layer != VOID]
    return labels


def _without_void(labels: Labels, contents: FolderContents, name: str) -> Labels:
    """Take the labels away where an annotation says void."""
    for known in contents.about(name):
        if known.label == VOID:
            _paint(labels, known)
    return labels


def _paint(labels: Labels, known: LabeledAnnotation) -> None:
    """Draw a region, a box or a stroke into a label map."""
    assert known.label is not None
    annotation = known.annotation
    if annotation.kind == "stroke":
        covered = draw_strokes([Stroke(annotation.points - 0.5, 0)], *labels.shape) == 0
        labels[covered] = known.label
    elif annotation.kind == "box":
        (left, top), (right, bottom) = annotation.points[:2].round().astype(int).clip(0).tolist()
        labels[top:bottom, left:right] = known.label
    elif annotation.bitmap is None:
        x, y = annotation.points.T - 0.5
        rows, columns = polygon(y, x, labels.shape)
        labels[rows, columns] = known.label
    else:
        pixels = annotation.bitmap.read()
        top, left = annotation.bitmap.top, annotation.bitmap.left
        part = labels[top : top + pixels.shape[0], left : left + pixels.shape[1]]
        part[pixels[: part.shape[0], : part.shape[1]]] = known.label
