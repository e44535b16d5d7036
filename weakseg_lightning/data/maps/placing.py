"""Shapes of GeoJSON on a raster: from their coordinates to its columns and rows."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from weakseg_lightning.data.folder.classes import Classes
from weakseg_lightning.data.maps.brushes import Brush, meters_of_pixels
from weakseg_lightning.data.maps.geojson import WGS84, Drawn, Features, Kind, read_geojson
from weakseg_lightning.data.maps.places import Floats, Place, Window
from weakseg_lightning.data.maps.shapes import Shape, crosses_itself
from weakseg_lightning.data.samples import BadSampleError

__all__ = ["read_shapes"]

_STEP = 32  # longest piece of an edge in pixels: straight lines in one system are curves in another
_MOST_PIECES = 4096  # of an edge, which may leave the raster far behind
_TURN = {WGS84: 360.0, "EPSG:3857": 2 * np.pi * 6378137.0}
"""Once around the Earth, in systems whose x goes on counting at the antimeridian."""


def read_shapes(
    path: Path,
    classes: Classes,
    place: Place,
    size: tuple[int, int],
    brush: Brush,
    kinds: Collection[str] = get_args(Kind),
) -> tuple[list[Shape], list[str]]:
    """Read shapes of GeoJSON, and place them on a raster.

    Args:
        path: the file, see :func:`read_geojson`.
        classes: of the data.
        place: of the raster.
        size: its width and height in pixels.
        brush: of points and lines that say no width of their own.
        kinds: the kinds of shapes that the file may hold.

    Returns:
        The shapes in the order of the file; and notes: those that lie outside, and polygons that cross themselves.

    Raises:
        BadSampleError: if the raster lies nowhere, a class is unknown, or all shapes lie outside.
    """
    if (fault := place.unwarped) is not None:
        raise BadSampleError(f"{path} has no place on its image, which {fault}")
    if place.crs is None or place.transform.is_identity:
        lacking = "coordinate system" if place.crs is None else "place on a map"
        raise BadSampleError(
            f"{path} has no place on its image, which has no {lacking}: add it, as by gdal_edit.py -a_srs and -a_ullr, "
            "or give the labels as a raster of its grid"
        )
    features = read_geojson(path, kinds)
    labels = [_label(path, one, classes) for one in features.drawn]
    parts = [[_placed(path, part, one, features.crs, place, size) for part in one.parts] for one in features.drawn]
    brushes = [one.brush or brush for one in features.drawn]
    metrics = _metrics(brushes, [each[0] for each in parts], place, size)
    found = zip(features.drawn, parts, labels, metrics, strict=True)
    shapes = [Shape(one.kind, placed, label, metric, one.where) for one, placed, label, metric in found]
    whole = Window(0, 0, *size)
    inside = [shape.touches(whole) for shape in shapes]
    if not any(inside):
        raise BadSampleError(_all_outside(path, features, place, size))
    away = [f"{one.where} ({one.label})" for one, here in zip(features.drawn, inside, strict=True) if not here]
    notes = [f"{path}: {len(away)} of {len(shapes)} shapes lie outside of the image, as {away[0]}"] if away else []
    notes += [
        f"{path}: {one.where} ({one.label}) crosses itself: what it goes around twice is not inside, draw it again if "
        "that is not meant"
        for one in features.drawn
        if one.kind == "Polygon" and any(map(crosses_itself, one.parts))
    ]
    return [shape for shape, here in zip(shapes, inside, strict=True) if here], notes


def _label(path: Path, drawn: Drawn, classes: Classes) -> int:
    # Where classes are called by numbers, a number is no index.
    find = classes.find_name if classes.have_numerals else classes.find
    if (label := find(drawn.label)) is None:
        known = ", ".join(classes.names)
        raise BadSampleError(f"{path}: {drawn.where} has the class {drawn.label!r}, which is none of {known}: "
                             "correct it, or list it under `ignore` in classes.yaml")  # fmt: skip
    return label


def _placed(path: Path, points: Floats, drawn: Drawn, crs: str, place: Place, size: tuple[int, int]) -> Floats:
    """Columns and rows of the points of a part, with more of them between those that lie far apart."""
    found = _in_pixels(path, points, drawn, crs, place, size)
    if len(points) == 1 or crs == WGS84 == _name(place.crs):
        return found
    lengths = np.abs(np.diff(found, axis=0)).max(1)
    pieces = np.ceil(lengths / _STEP).clip(1, _MOST_PIECES).astype(int)
    if pieces.max(initial=1) == 1:
        return found
    starts, edges = np.repeat(points[:-1], pieces, axis=0), np.repeat(np.diff(points, axis=0), pieces, axis=0)
    along = np.concatenate([np.arange(count) / count for count in pieces])
    finer = np.concatenate([starts + along[:, None] * edges, points[-1:]])
    return _in_pixels(path, finer, drawn, crs, place, size)


def _in_pixels(path: Path, points: Floats, drawn: Drawn, crs: str, place: Place, size: tuple[int, int]) -> Floats:
    from rasterio.warp import transform

    name = _name(place.crs)
    try:
        x, y = points.T if name == crs else np.array(transform(crs, place.crs, *points.T))
    except Exception as error:  # rasterio raises whatever GDAL and PROJ do, by no common name
        raise BadSampleError(f"{path}: {drawn.where} is not converted to the image's coordinates ({error})") from error
    if (turn := _TURN.get(name)) is not None:
        middle = place.locate(np.array(size[0] / 2), np.array(size[1] / 2))[0]
        x = x + turn * np.round((middle - x.mean()) / turn)
    found = np.stack(place.find(x, y), axis=1)
    if not np.isfinite(found).all():
        raise BadSampleError(
            f"{path}: {drawn.where} has places that the image's coordinate system {name} does not reach: see to the "
            "coordinates, or to the system"
        )
    return found


def _name(crs: Any) -> str:
    return str(crs.to_string())


def _metrics(brushes: Sequence[Brush], points: Sequence[Floats], place: Place, size: tuple[int, int]) -> list[Floats]:
    """The metric of each shape, see :class:`Shape`."""
    middles = np.array([part.mean(0).clip(0, size) for part in points])
    measured = any(brush.unit == "m" for brush in brushes)
    meters = meters_of_pixels(place, middles) if measured else np.tile(np.eye(2), (len(points), 1, 1))
    ground = [step if brush.unit == "m" else np.eye(2) for brush, step in zip(brushes, meters, strict=True)]
    return [2 / brush.width * step for brush, step in zip(brushes, ground, strict=True)]


def _all_outside(path: Path, features: Features, place: Place, size: tuple[int, int]) -> str:
    first = features.drawn[0].parts[0][0]
    corners = place.locate(np.array([0.0, size[0]]), np.array([0.0, size[1]]))
    (left, right), (top, bottom) = (sorted(axis) for axis in corners)
    return (
        f"{path}: all {len(features.drawn)} shapes lie outside of the image, the first at {first[0]:.8g}, "
        f"{first[1]:.8g} in {'WGS 84' if features.crs == WGS84 else 'its coordinate system'}; the image spans "
        f"{left:.8g} to {right:.8g} and {top:.8g} to {bottom:.8g} in {_name(place.crs)}: see to the coordinate systems "
        "and to the order of longitude and latitude"
    )
