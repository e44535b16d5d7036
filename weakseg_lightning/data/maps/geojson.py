"""Annotations in GeoJSON: points, lines and polygons with their classes, in the coordinates of the file."""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from weakseg_lightning.data.maps.brushes import Brush, read_brush
from weakseg_lightning.data.maps.places import Floats
from weakseg_lightning.data.samples import BadSampleError
from weakseg_lightning.data.text import read_text
from weakseg_lightning.errors import UserError

__all__ = ["WGS84", "Drawn", "Features", "Kind", "read_geojson"]

Kind = Literal["Point", "LineString", "Polygon"]

WGS84 = "EPSG:4326"
_KINDS = get_args(Kind)
_COLLECTION = "GeometryCollection"
_FEWEST: dict[str, int] = {"Point": 1, "LineString": 2, "Polygon": 3}
_HALF_TURN, _TURN = 180, 360


@dataclass(frozen=True)
class Drawn:
    """A shape of a file.

    Attributes:
        kind: its kind.
        parts: coordinates x, y, ``(n, 2)`` each: one part, of a polygon the outer ring, then holes.
        label: its property ``class``, as text.
        brush: its property ``brush``; None where it has none.
        where: the feature in words, for messages.
    """

    kind: Kind
    parts: list[Floats]
    label: str
    brush: Brush | None
    where: str


@dataclass(frozen=True)
class Features:
    """The shapes of a file.

    Attributes:
        crs: the coordinate system, as rasterio takes it.
        drawn: the shapes, in the order of the file.
    """

    crs: str
    drawn: list[Drawn]


def read_geojson(path: Path, kinds: Collection[str] = _KINDS) -> Features:
    """Read a file of GeoJSON.

    Collections and Multi-geometries are taken apart; heights, ids and other members are left out.

    Args:
        path: a FeatureCollection or a Feature, in WGS 84 (RFC 7946), or in the system that a member ``crs`` of the
            older specification names.
        kinds: the kinds of shapes that it may hold.

    Raises:
        BadSampleError: if it cannot be read, holds no shape, or one that cannot be placed, has no class, or is of
            another kind.

    References:
        Butler et al., The GeoJSON Format, RFC 7946, 2016; The GeoJSON Format Specification, 2008.
    """
    content = _parsed(path)
    crs = _crs(path, content)
    drawn = [shape for number, one in enumerate(_features(path, content), 1) for shape in _shapes(path, one, number)]
    if not drawn:
        raise BadSampleError(f"{path} holds no shape: draw some, or remove the file")
    if wrong := [shape for shape in drawn if shape.kind not in kinds]:
        taken = f"{path.parent.name}/ takes {' and '.join(kinds)}s alone"
        raise BadSampleError(f"{path}: {wrong[0].where} is a {wrong[0].kind}, {taken}: draw its outline, or remove it")
    if crs == WGS84:
        for shape in drawn:
            _require_degrees(path, shape)
    return Features(crs, drawn)


def _parsed(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_text(path))
    except UserError as error:
        raise BadSampleError(str(error)) from error
    except (OSError, ValueError, RecursionError) as error:  # ValueError: no JSON, or an integer of thousands of digits
        raise BadSampleError(f"{path} is no GeoJSON that can be read ({error}): export it again") from error
    if not isinstance(content, dict) or content.get("type") not in ("FeatureCollection", "Feature"):
        found = content.get("type") if isinstance(content, dict) else type(content).__name__
        raise BadSampleError(f"{path} holds {found!r}, expected a FeatureCollection: export features with a `class`")
    return content


def _crs(path: Path, content: dict[str, Any]) -> str:
    """The coordinate system of a file, as rasterio takes it."""
    if "crs" not in content:
        return WGS84
    from rasterio import Env
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    member = content["crs"]
    properties = member.get("properties") if isinstance(member, dict) else None
    name = properties.get("name") if isinstance(properties, dict) else None
    if not isinstance(name, str):
        raise BadSampleError(
            f"{path} has a member `crs` that names no coordinate system: export it in WGS 84 (RFC 7946), without `crs`"
        )
    try:
        with Env():  # else GDAL prints the error, too
            crs = CRS.from_user_input(name)
    except CRSError as error:
        raise BadSampleError(f"{path} has the unknown `crs` {name!r}: export it in WGS 84 (RFC 7946)") from error
    # CRS84 is WGS 84 with longitudes first, as all coordinates of GeoJSON are.
    return WGS84 if name.endswith("CRS84") or crs.to_epsg() == 4326 else str(crs.to_wkt())


def _features(path: Path, content: dict[str, Any]) -> list[Any]:
    found = [content] if content["type"] == "Feature" else content.get("features")
    if not isinstance(found, list):
        raise BadSampleError(f"{path} is a FeatureCollection without `features`: export it again")
    return found


def _shapes(path: Path, feature: Any, number: int) -> Iterator[Drawn]:
    where = f"feature {number}"
    if not isinstance(feature, dict) or "geometry" not in feature:
        raise BadSampleError(f"{path}: {where} is no Feature with a `geometry`: draw it again, or remove it")
    if (geometry := feature["geometry"]) is None:  # which is allowed, and draws nothing
        return
    properties = feature.get("properties") or {}
    label = properties.get("class") if isinstance(properties, dict) else None
    if isinstance(label, float) and label.is_integer():  # as programs write columns of numbers
        label = int(label)
    if not isinstance(label, str | int) or isinstance(label, bool):
        raise BadSampleError(f"{path}: {where} has no property `class`: give it the name of a class, or its index")
    brush = None if (given := properties.get("brush")) is None else read_brush(given, f"{path}: {where}")
    for kind, coordinates in _simple(path, geometry, where):
        if coordinates != []:  # an empty list is allowed, too
            yield Drawn(kind, _parts(path, kind, coordinates, where), str(label), brush, where)


def _simple(path: Path, geometry: Any, where: str) -> Iterator[tuple[Kind, Any]]:
    """The points, lines and polygons of a geometry with their coordinates."""
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    if kind == _COLLECTION and isinstance(geometry.get("geometries"), list):
        for inner in geometry["geometries"]:
            yield from _simple(path, inner, where)
        return
    name = str(kind)
    coordinates = geometry.get("coordinates") if isinstance(geometry, dict) else None
    if name.removeprefix("Multi") not in _KINDS or not isinstance(coordinates, list):
        raise BadSampleError(f"{path}: {where} is no geometry that is read ({kind!r}): draw points, lines or polygons")
    for known in _KINDS:
        if name == known:
            yield known, coordinates
        elif name == f"Multi{known}":
            yield from ((known, one) for one in coordinates)


def _parts(path: Path, kind: Kind, coordinates: Any, where: str) -> list[Floats]:
    try:
        rings = coordinates if kind == "Polygon" else [[coordinates] if kind == "Point" else coordinates]
        parts = [np.array([position[:2] for position in ring], dtype=np.float64) for ring in rings]
        well = all(part.ndim == 2 and part.shape[1] == 2 and np.isfinite(part).all() for part in parts) and bool(parts)
    except (TypeError, ValueError, KeyError, OverflowError):
        well = False
    if not well or any(len(np.unique(part, axis=0)) < min(_FEWEST[kind], 2) for part in parts):
        raise BadSampleError(f"{path}: {where} has coordinates that make no {kind}: draw it again, or remove it")
    return parts


def _require_degrees(path: Path, shape: Drawn) -> None:
    """Raise where coordinates cannot be degrees, or an edge goes around the Earth."""
    for part in shape.parts:
        longitudes, latitudes = np.abs(part).max(0)
        if longitudes > _TURN or latitudes > _HALF_TURN / 2:
            x, y = part[np.abs(part).max(1).argmax()]
            raise BadSampleError(
                f"{path}: {shape.where} lies at {x:g}, {y:g}, which is no longitude and latitude: export it in WGS 84, "
                "or name its coordinate system in a member `crs`"
            )
        edges = np.abs(np.diff(part[:, 0]))
        if shape.kind != "Point" and len(edges) and edges.max() > _HALF_TURN:
            raise BadSampleError(
                f"{path}: {shape.where} crosses the antimeridian in one piece: cut it there, as RFC 7946 (3.1.9) has it"
            )
