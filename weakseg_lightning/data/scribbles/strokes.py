"""Scribbles: polylines from XML or label maps, their shortening, and their drawing as label maps."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from weakseg_lightning import checks
from weakseg_lightning.data.samples import BadSampleError
from weakseg_lightning.data.scribbles.centerlines import EIGHT, Flags, centre_line
from weakseg_lightning.energies.potts import VOID

__all__ = [
    "Stroke",
    "connected_parts",
    "draw_strokes",
    "read_scribble_xml",
    "read_stated_size",
    "recover_strokes",
    "shorten",
    "shorten_labels",
]

Points = NDArray[np.float64]
Labels = NDArray[np.uint8]


@dataclass(frozen=True)
class Stroke:
    """A polyline with its class.

    Attributes:
        points: vertices x, y in pixels, ``(n, 2)``, n at least 1; (0, 0) is the center of the upper left pixel.
        label: class index.
    """

    points: Points
    label: int


def read_scribble_xml(path: Path, class_names: Sequence[str], size: tuple[int, int] | None = None) -> list[Stroke]:
    """Read the polylines of one image in the format of ScribbleSup.

    Every element with a ``<tag>`` (the class name) and ``<point>`` children (``<X>``, ``<Y>``) is a polyline.

    Args:
        path: XML file.
        class_names: names of the classes, in the order of their indices.
        size: width and height of the image in pixels, to compare with those that the file may state.

    Returns:
        The polylines in the order in which they were drawn.

    Raises:
        BadSampleError: if the file is missing, is no such XML, belongs to an image of another size, or
            names an unknown class.
    """
    root = _parse(path)
    if (stated := _stated_size(root)) is not None and size is not None and stated != size:
        raise BadSampleError(
            f"{path} was drawn on an image of {stated[0]} x {stated[1]} pixels, its image has {size[0]} x {size[1]}: "
            "use the scribbles and the images of one data set"
        )
    index = {name: label for label, name in enumerate(class_names)}
    drawn = [
        element for element in root.iter() if element.find("tag") is not None and element.find("point") is not None
    ]
    return [_read_stroke(element, index, path) for element in drawn]


def read_stated_size(path: Path) -> tuple[int, int] | None:
    """Read the width and height of the image that an XML file of scribbles states; None if it states none.

    Raises:
        BadSampleError: if the file is missing or is no XML.
    """
    return _stated_size(_parse(path))


def _parse(path: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(path).getroot()
    except OSError as error:
        raise BadSampleError(f"{path} cannot be read ({error.strerror}): restore it from the archive") from error
    except ElementTree.ParseError as error:
        raise BadSampleError(f"{path} is not valid XML ({error}): restore it from the archive") from error


def _stated_size(root: ElementTree.Element) -> tuple[int, int] | None:
    width, height = (root.findtext(f"size/{side}", "").strip() for side in ("width", "height"))
    return (int(width), int(height)) if width.isdecimal() and height.isdecimal() else None


def _read_stroke(element: ElementTree.Element, index: Mapping[str, int], path: Path) -> Stroke:
    tag = (element.findtext("tag") or "").strip().lower()
    if tag not in index:
        raise BadSampleError(f"{path} has a scribble of the class {tag!r}, expected one of {', '.join(index)}")
    try:
        points = [(float(p.findtext("X", "")), float(p.findtext("Y", ""))) for p in element.findall("point")]
    except ValueError as error:
        raise BadSampleError(
            f"{path} has a <point> without numbers in <X> and <Y> ({error}): fix or remove it"
        ) from error
    return Stroke(np.array(points, dtype=np.float64), index[tag])


def shorten(points: Points, ratio: float) -> Points:
    """Keep the central part of a polyline, by arc length.

    Args:
        points: vertices x, y, ``(n, 2)``, n at least 1.
        ratio: fraction of the length that is kept, 0 to 1; 0 leaves the point in the middle.

    Returns:
        Vertices of the shorter polyline, ``(m, 2)``, m at least 1: never empty, and where the ratio is above 0 and the
        polyline has a length, a polyline of at least one segment.

    Raises:
        ValueError: if ``ratio`` is out of range.

    Example:
        >>> shorten(np.array([[0.0, 0.0], [8.0, 0.0]]), 0.5).tolist()
        [[2.0, 0.0], [6.0, 0.0]]
    """
    checks.between("ratio", ratio, 0, 1)
    steps = np.hypot(*np.diff(points, axis=0).T)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    start, end = along[-1] * (1 - ratio) / 2, along[-1] * (1 + ratio) / 2
    cuts = [start] if start == end else [start, end]
    ends = np.stack([np.interp(cuts, along, points[:, axis]) for axis in (0, 1)], axis=1)
    between = points[(along > start) & (along < end)]
    return np.concatenate([ends[:1], between, ends[1:]])


def draw_strokes(strokes: Sequence[Stroke], height: int, width: int) -> Labels:
    """Draw polylines 3 pixels wide; a single point becomes a square of 3 x 3.

    Args:
        strokes: polylines; where they cross, the later one wins. What lies outside the image moves to its border.
        height: height of the image in pixels.
        width: width of the image in pixels.

    Returns:
        uint8 ``(height, width)``: the class on the strokes, 255 elsewhere.

    Example:
        >>> int((draw_strokes([Stroke(np.array([[4.0, 4.0]]), 1)], 9, 9) == 1).sum())
        9
    """
    # One pixel of margin takes what the pen draws over the border.
    canvas = np.full((height + 2, width + 2), VOID, dtype=np.uint8)
    for stroke in strokes:
        x, y = _trace(np.clip(stroke.points, 0, (width - 1, height - 1))).T
        for down in range(3):
            for right in range(3):
                canvas[y + down, x + right] = stroke.label
    return np.ascontiguousarray(canvas[1:-1, 1:-1])


def _trace(points: Points) -> NDArray[np.int64]:
    """List the pixels under a polyline, one a row or column, whichever is crossed faster: ``(n, 2)`` of x, y."""
    corners = np.floor(points + 0.5)
    lengths = np.abs(np.diff(corners, axis=0)).max(axis=1)
    # Position along the polyline in pixels: vertices at `along`, one sample for each whole number.
    along = np.concatenate([[0.0], np.cumsum(lengths)])
    samples = np.arange(int(along[-1]) + 1)
    traced = np.stack([np.interp(samples, along, corners[:, axis]) for axis in (0, 1)], axis=1)
    return np.floor(traced + 0.5).astype(np.int64)


# ---- from label maps ----------------------------------------------------------------------------------------


def recover_strokes(labels: Labels) -> list[Stroke]:
    """Find the polylines of strokes that were drawn in a label map.

    Every connected part (8 neighbors) of a class is taken for one stroke, along its center line. Strokes of one class
    that touch are therefore one, and what a later stroke cuts in two is two.

    Args:
        labels: uint8 ``(H, W)``, 255 = unlabelled.

    Returns:
        The polylines by class.

    Example:
        >>> drawn = draw_strokes([Stroke(np.array([[3.0, 4.0], [20.0, 4.0]]), 7)], 9, 30)
        >>> [(stroke.label, len(stroke.points)) for stroke in recover_strokes(drawn)]
        [(7, 2)]
    """
    return [Stroke(centre_line(part) + corner, label) for label, part, corner in connected_parts(labels)]


def shorten_labels(labels: Labels, ratio: float) -> Labels:
    """Shorten the strokes of a label map, as :func:`shorten` does with polylines.

    What remains of a stroke is 3 pixels wide and lies on pixels that the stroke had: never on another one, and where
    it was thinner, it stays so. Every stroke keeps a pixel at least. What branches off, as where two strokes of a class
    cross, goes.

    Args:
        labels: uint8 ``(H, W)``, 255 = unlabelled.
        ratio: fraction of each stroke's length that is kept, about its middle; 0 leaves a click of at most 3 x 3
            pixels, 1 changes nothing.

    Returns:
        uint8 ``(H, W)``.

    Raises:
        ValueError: if ``ratio`` is out of range.

    Example:
        >>> drawn = draw_strokes([Stroke(np.array([[3.0, 4.0], [20.0, 4.0]]), 7)], 9, 30)
        >>> [int((shorten_labels(drawn, ratio) == 7).sum()) for ratio in (1, 0.5, 0)]
        [60, 36, 9]
    """
    checks.between("ratio", ratio, 0, 1)
    if ratio == 1:
        return labels.copy()
    shorter = np.full_like(labels, VOID)
    for label, part, (x, y) in connected_parts(labels):
        kept = shorten(centre_line(part), ratio)
        drawn = (draw_strokes([Stroke(kept, label)], *part.shape) == label) & part
        shorter[y : y + part.shape[0], x : x + part.shape[1]][drawn] = label
    return shorter


def connected_parts(labels: Labels) -> Iterator[tuple[int, Flags, tuple[int, int]]]:
    """Find the connected parts (8 neighbors) of each class.

    Args:
        labels: uint8 ``(H, W)``, 255 = none.

    Yields:
        By class: the class, the part's pixels in the smallest window around them, and x, y of the window's corner.
    """
    for label in np.unique(labels[labels != VOID]):
        numbers, _ = ndimage.label(labels == label, EIGHT)
        for number, (rows, columns) in enumerate(ndimage.find_objects(numbers), start=1):
            yield int(label), numbers[rows, columns] == number, (columns.start, rows.start)
