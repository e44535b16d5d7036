"""Shapes that Label Studio draws on images, as annotations."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weakseg_lightning.data.folder.annotations import Annotation, Bitmap
from weakseg_lightning.data.folder.tools.label_studio_brush import decode_bitmask, read_brush
from weakseg_lightning.data.folder.tools.shapes import (
    Points,
    Size,
    as_points,
    ellipse,
    enclosing_box,
    from_points,
    upright_box,
)

SHAPES = ("rectangle", "polygon", "ellipse", "keypoint", "brush", "magicwand", "bitmask", "vector")
"""Types of results that have a shape; those that end in ``labels`` have a label with it."""

_BY_KEY = {
    "rle": "brush",
    "imageDataURL": "bitmask",
    "vertices": "vector",
    "shape": "vector",
    "points": "polygon",
    "radiusX": "ellipse",
    "height": "rectangle",
    "x": "keypoint",
}
_GEOMETRY = (*_BY_KEY, "y", "width", "radiusY", "rotation", "closed", "format", "touches", "holes")
_CURVE = np.linspace(0, 1, 17)[1:, None]
"""Places of a curve of a vector that are looked at, from its start to its end."""


def geometry_of(value: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a result's value that is a shape; empty if there is none."""
    shape = {key: value[key] for key in _GEOMETRY if value.get(key) is not None}
    return shape if any(key in shape for key in _BY_KEY) else {}


def shape_of(shape: Mapping[str, Any]) -> str:
    """The type of a shape, where no result says it."""
    return next(kind for key, kind in _BY_KEY.items() if key in shape)


def read_shape(
    kind: str, shape: Mapping[str, Any], size: Size, annotation: Callable[..., Annotation]
) -> Iterator[Annotation]:
    """Make annotations of a shape: key points are clicks, rectangles boxes, open vectors strokes, all else is a region.

    Args:
        kind: one of ``SHAPES``.
        shape: what the file says; coordinates are percentages of the image.
        size: width and height of the image.
        annotation: makes an annotation of this image, given its kind and its points or its bitmap.

    Raises:
        KeyError, TypeError, ValueError: if it is damaged.
    """
    unit = np.array(size) / 100
    if kind == "keypoint":
        yield from from_points("click", _point(shape) * unit, annotation)
    elif kind == "rectangle":
        yield annotation("box", points=_box(shape, size))
    elif kind == "polygon":
        _require(shape.get("closed") is not False, "it was not closed")
        _require(not shape.get("holes"), "it has holes, which are not read")
        yield from from_points("region", _points(shape["points"]) * unit, annotation)
    elif kind == "ellipse":
        center, radii = (_points([[shape[x], shape[y]]])[0] * unit for x, y in (("x", "y"), ("radiusX", "radiusY")))
        yield annotation("region", bitmap=ellipse(center, radii, float(shape.get("rotation") or 0), size))
    elif kind == "vector":
        yield from _read_vector(shape, unit, annotation)
    else:
        yield annotation("region", bitmap=Bitmap(0, 0, _decoder(kind, shape, size)))


def _require(holds: bool, fault: str) -> None:
    if not holds:
        raise ValueError(fault)


def _points(given: object) -> Points:
    points = as_points(given)
    _require(bool(np.isfinite(points).all()), "it has coordinates that are no numbers")
    return points


def _decoder(kind: str, shape: Mapping[str, Any], size: Size) -> Callable[[], NDArray[np.bool_]]:
    if kind == "bitmask":
        return partial(decode_bitmask, str(shape["imageDataURL"]), size)
    _require(shape.get("format", "rle") == "rle", f"its format {shape.get('format')!r} is not read")
    _require("rle" in shape and not shape.get("touches"), "it holds strokes that were not saved as a mask")
    return partial(read_brush, shape["rle"], size)


def _box(shape: Mapping[str, Any], size: Size) -> Points:
    """Corners of a rectangle; of a turned one, about its upper left corner, those of the upright box around it."""
    first, sides = _points([[shape["x"], shape["y"]], [shape["width"], shape["height"]]])
    corners = np.stack([first, first + sides]) * (np.array(size) / 100)
    return upright_box(enclosing_box(corners), float(shape.get("rotation") or 0), corners[0], size)


# ---- vectors ----------------------------------------------------------------------------------------------------


def _read_vector(shape: Mapping[str, Any], unit: Points, annotation: Callable[..., Annotation]) -> Iterator[Annotation]:
    """A polygon or a polyline, some of whose sides may be curves; open ones may have branches."""
    vertices = [_vertex(vertex) for vertex in shape.get("vertices") or shape["shape"]]
    sides = _sides(vertices)
    chain = all(end == start for (_, end), (start, _) in pairwise(sides))
    if shape.get("closed"):
        _require(chain and len(vertices) > 2, "it is closed, but is no ring of three points at least")
        sides.append((sides[-1][1], sides[0][0]))
    points = [np.concatenate([_point(vertices[start]), _side(vertices[start], vertices[end])]) for start, end in sides]
    if shape.get("closed"):
        yield from from_points("region", np.concatenate(points) * unit, annotation)
    elif chain:
        yield annotation("stroke", points=np.concatenate(points or [_point(vertices[0])]) * unit)
    else:
        yield from (annotation("stroke", points=branch * unit) for branch in points)


def _vertex(vertex: Any) -> Mapping[str, Any]:
    return vertex if isinstance(vertex, dict) else {"x": vertex[0], "y": vertex[1]}


def _sides(vertices: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    """Indices of the two ends of each side: a vertex names the one before it, or follows it in the list."""
    if not any(vertex.get("prevPointId") for vertex in vertices):
        return [(index - 1, index) for index in range(1, len(vertices))]
    indices = {vertex.get("id"): index for index, vertex in enumerate(vertices)}
    ends = [(vertex["prevPointId"], index) for index, vertex in enumerate(vertices) if vertex.get("prevPointId")]
    return _in_order([(indices[before], index) for before, index in ends])


def _in_order(sides: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sides one after the other, as long as each end has one to go on with."""
    following = dict(sides)
    beginnings = set(following) - {end for _, end in sides}
    start = min(beginnings or following)
    ordered: list[tuple[int, int]] = []
    while start in following:
        ordered.append((start, following.pop(start)))
        start = ordered[-1][1]
    return ordered if len(ordered) == len(sides) else list(sides)


def _side(start: Mapping[str, Any], end: Mapping[str, Any]) -> Points:
    """Points of a side without its first: a Bezier curve, or its end."""
    leaving = start.get("controlPoint2") if start.get("isBezier") else None
    arriving = end.get("controlPoint1") if end.get("isBezier") else None
    first, last = _point(start), _point(end)
    if not leaving and not arriving:
        return last
    # Of a corner and a curve the corner pulls by three tenths of the side.
    second = _point(leaving) if leaving else first + 0.3 * (last - first)
    third = _point(arriving) if arriving else last - 0.3 * (last - first)
    t = _CURVE
    curve: Points = (1 - t) ** 3 * first + 3 * (1 - t) ** 2 * t * second + 3 * (1 - t) * t**2 * third + t**3 * last
    return curve


def _point(vertex: Mapping[str, Any]) -> Points:
    return _points([[vertex["x"], vertex["y"]]])
