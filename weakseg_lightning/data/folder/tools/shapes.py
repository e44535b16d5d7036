"""Shapes of annotation tools, which all have one form: a label, a kind, points or a mask, and the size of their image.

The readers say where a tool's files have these, and what its kinds are called; what they mean is said here.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from skimage.draw import polygon2mask

from weakseg_lightning.data.folder.annotations import Annotation, AnnotationKind, Bitmap, Problem, Reading

Points = NDArray[np.float64]
Size = tuple[int, int]


class ShapeError(ValueError):
    """A shape that is not read; the message goes on where the shape's name ends, and says what to do."""


def explaining(
    read: Callable[[], Iterable[Reading]], tool: str, problem: Callable[[str], Problem]
) -> Iterator[Reading]:
    """Read a shape, or say what is wrong with it."""
    try:
        yield from read()
    except ShapeError as error:
        yield problem(str(error))
    except Exception as error:  # of a foreign file anything may be missing or of another type
        cause = str(error) if isinstance(error, ValueError) else repr(error)
        yield problem(f"is not as {tool} writes it ({cause}): draw it again or remove it")


def entry_names(names: Sequence[str]) -> Iterator[str]:
    """Make the names of the parts of a file that are about one image each different."""
    counts = Counter(names)
    for number, name in enumerate(names, start=1):
        yield name if counts[name] == 1 else f"{name} (number {number})"


def stated_size(width: object, height: object) -> Size | None:
    """Width and height as a file states them; None where these are no positive whole numbers."""
    sides = [side for side in map(_whole_number, (width, height)) if side is not None]
    return (sides[0], sides[1]) if len(sides) == 2 else None


def _whole_number(value: object) -> int | None:
    try:
        number = float(str(value))
    except ValueError:
        return None
    return int(number) if math.isfinite(number) and number >= 1 and number == int(number) else None


def from_points(kind: AnnotationKind, points: Points, annotation: Callable[..., Annotation]) -> Iterator[Annotation]:
    """Make annotations of points: a click of each, a stroke, or a polygon without corners that repeat the one before.

    Args:
        kind: ``click``, ``stroke`` or ``region``.
        points: x, y in pixels ``(n, 2)``.
        annotation: makes an annotation, given its kind and its points.
    """
    if kind == "click":
        yield from (annotation(kind, points=point[None]) for point in points)
    else:
        yield annotation(kind, points=_distinct_corners(points) if kind == "region" else points)


# ---- geometry -----------------------------------------------------------------------------------------------


def as_points(given: Any) -> Points:
    """Read the points of a file that anything may have written: x, y ``(n, 2)``, numbers or text.

    Raises:
        ValueError: if they are something else.
    """
    try:
        points: Points = np.array(given, dtype=np.float64)
    except (TypeError, ValueError):
        points = np.zeros(0)
    if points.ndim == 3 and points.shape[1] == 1:  # as OpenCV has contours
        points = points[:, 0]
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError("it has no points of x and y")
    return points


def turn(points: ArrayLike, degrees: float, about: ArrayLike) -> Points:
    """Turn points clockwise, as seen on a screen.

    Args:
        points: x, y ``(n, 2)``.
        degrees: the angle.
        about: x, y of the point that stays.

    Example:
        >>> turn([[3, 1]], 90, about=[1, 1]).round(6).tolist()
        [[1.0, 3.0]]
    """
    angle = np.deg2rad(degrees)
    rows = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    center = np.asarray(about, dtype=np.float64)
    turned: Points = center + (np.asarray(points, dtype=np.float64) - center) @ rows
    return turned


def enclosing_box(points: ArrayLike, size: Size | None = None) -> Points:
    """Put an upright box around points: its upper left and its lower right corner ``(2, 2)``.

    Args:
        points: x, y in pixels ``(n, 2)``.
        size: width and height of the image that the box is cut to: the corners of a turned box may lie outside.
    """
    corners = np.asarray(points, dtype=np.float64)
    box: Points = np.stack([corners.min(axis=0), corners.max(axis=0)])
    return box if size is None else np.clip(box, 0, size)


def upright_box(box: Points, degrees: float, about: ArrayLike | None = None, size: Size | None = None) -> Points:
    """Put an upright box around one that was turned.

    Args:
        box: its corners before it was turned, ``(2, 2)``.
        degrees: by which it was turned clockwise.
        about: x, y of the point that stays; its middle by default.
        size: as for :func:`enclosing_box`.
    """
    if not degrees:
        return box
    (left, top), (right, bottom) = box
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    return enclosing_box(turn(corners, degrees, corners.mean(axis=0) if about is None else about), size)


def _distinct_corners(points: Points) -> Points:
    distinct: Points = points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
    return distinct


def cut_polygon(points: Points, size: Size) -> Bitmap:
    """Draw a polygon that may reach outside its image: the pixels whose centers lie in it.

    Args:
        points: its corners: x, y in pixels ``(n, 2)``; those that repeat the one before count once.
        size: width and height of the image.

    Raises:
        ValueError: if it is none.
    """
    points = _distinct_corners(points)
    if len(points) < 3 or not np.isfinite(points).all():
        raise ValueError(f"it has {len(points)} corners, expected 3 at least, all of them numbers")
    return Bitmap(0, 0, partial(_fill, points, size))


def _fill(points: Points, size: Size) -> NDArray[np.bool_]:
    return covering(polygon2mask(size[::-1], points[:, ::-1] - 0.5))


def ellipse(center: ArrayLike, radii: ArrayLike, degrees: float = 0, size: Size | None = None) -> Bitmap:
    """Draw an ellipse: the pixels whose centers lie in it.

    Args:
        center: x, y in pixels; the upper left pixel spans 0 to 1.
        radii: those along x and y, before it is turned.
        degrees: by which it is turned clockwise.
        size: width and height of the image that it is cut to: ellipses may reach outside.

    Raises:
        ValueError: if it covers nothing.
    """
    middle, axes = np.asarray(center, dtype=np.float64), np.asarray(radii, dtype=np.float64)
    if not (np.isfinite([*middle, *axes, degrees]).all() and (axes > 0).all()):
        raise ValueError(f"its radii {axes.tolist()} are not positive, or it has coordinates that are no numbers")
    reach = np.hypot(*turn(np.diag(axes), degrees, about=(0, 0)))  # of the box around it
    box = enclosing_box([middle - reach, middle + reach], size)
    (left, top), (right, bottom) = np.floor(box[0]).astype(int).tolist(), np.ceil(box[1]).astype(int).tolist()
    return Bitmap(left, top, partial(_inside, middle, axes, degrees, (left, top, right, bottom)))


def _inside(center: Points, radii: Points, degrees: float, box: Sequence[int]) -> NDArray[np.bool_]:
    left, top, right, bottom = box
    rows, columns = np.mgrid[top:bottom, left:right] + 0.5
    straight = turn(np.stack([columns, rows], axis=-1), -degrees, center) - center
    return covering(np.square(straight / radii).sum(axis=-1) <= 1)


def covering(pixels: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pass on the pixels of a region, unless there are none: what covers nothing says nothing.

    Raises:
        ValueError: if there are none.
    """
    if not pixels.any():
        raise ValueError("it covers no pixel")
    return pixels
