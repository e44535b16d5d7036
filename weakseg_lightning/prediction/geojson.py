"""Label maps that lie on a map as polygons in GeoJSON."""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from skimage.measure import points_in_poly

from weakseg_lightning.data import BadSampleError
from weakseg_lightning.data.maps.places import Floats, Place, open_raster
from weakseg_lightning.prediction.polygons import trace_regions
from weakseg_lightning.prediction.tiling import Span

_AT_ONCE = 512  # regions whose coordinates are transformed together, as each call costs as much as many points
_STEP = 32  # longest piece of an edge in pixels: straight lines of a map are curves in degrees
_DECIMALS = 8  # of degrees, a millimeter
_TURN, _HALF, _POLE = 360.0, 180.0, 90.0
_CORNERS = np.array([(180, -90), (180, 90), (0, 90), (-180, 90), (-180, -90), (0, -90)], dtype=np.float64)
"""Of the map from -180 to 180 degrees, counterclockwise; with the middles of its poles, so that no edge goes around."""


def require_crs(path: Path, place: Place | None) -> None:
    """Raise ``BadSampleError`` for an image whose polygons have no longitude and latitude."""
    if place is not None and place.unwarped is not None:
        raise BadSampleError(f"{path} {place.unwarped}, as GeoJSON has longitude and latitude, or leave out GeoJSON")
    if place is None or place.crs is None:
        raise BadSampleError(f"{path} has no coordinate system, without which there is no GeoJSON: add it, or leave it")


def write_geojson(path: Path, labels: Path, class_names: Sequence[str]) -> None:
    """Write the regions of a label map: a polygon for each part of a class that is connected by edges of pixels.

    Background and void (255) are no regions. Coordinates are longitude and latitude in degrees of WGS 84, outer rings
    run counterclockwise, holes clockwise. Properties are the name of the class, its index and the number of pixels.
    Regions that cross the antimeridian are cut there, into the parts of a MultiPolygon, and those around a pole end at
    it. Memory grows with the number of corners of all regions.

    Args:
        path: file to write.
        labels: a label map with a coordinate system, see :class:`~weakseg_lightning.prediction.maps.GeoTiff`.
        class_names: names of the classes, background first.

    Raises:
        BadSampleError: if places of it have no longitude and latitude.

    References:
        Butler et al., The GeoJSON Format, RFC 7946, 2016.
    """
    with open_raster(labels) as source, path.open("w", encoding="utf-8") as stream:
        stream.write('{"type": "FeatureCollection", "features": [')
        separator = "\n"
        for feature in _features(source, class_names):
            stream.write(separator + json.dumps(feature, ensure_ascii=False))
            separator = ",\n"
        stream.write("\n]}\n")


def _features(source: Any, class_names: Sequence[str]) -> Iterator[dict[str, Any]]:
    regions, place = trace_regions(source), Place.of(source, Span(0, source.height), Span(0, source.width))
    steps = np.minimum(_STEP, np.array([source.width, source.height]) / 4)  # a quarter of the Earth at most
    while some := list(islice(regions, _AT_ONCE)):
        for (k, rings), degrees in zip(
            some, _in_degrees([rings for _, rings in some], place, source.name, steps), strict=True
        ):
            pixels = abs(_area(rings[0])) - sum(abs(_area(hole)) for hole in rings[1:])
            parts = [[ring.tolist() for ring in part] for part in _cut_at_antimeridian(degrees)]
            one = len(parts) == 1
            yield {
                "type": "Feature",
                "properties": {"class": class_names[k], "index": k, "pixels": round(pixels)},
                "geometry": {
                    "type": "Polygon" if one else "MultiPolygon",
                    "coordinates": parts[0] if one else parts,
                },
            }


def _in_degrees(regions: Sequence[list[Floats]], place: Place, name: str, steps: Floats) -> Iterator[list[Floats]]:
    """The rings of several regions in longitude and latitude, with points between distant corners."""
    from rasterio.warp import transform

    points, lengths = _divided([ring for rings in regions for ring in rings], steps)
    try:
        found = np.stack(transform(place.crs, "EPSG:4326", *place.locate(*points.T)), axis=1)
    except Exception as error:  # rasterio raises whatever GDAL and PROJ do, by no common name
        raise BadSampleError(f"{name} is not converted to longitude and latitude ({error}): see to its CRS") from error
    if not np.isfinite(found).all():
        raise BadSampleError(f"{name} has places without longitude and latitude: see to its CRS and its transform")
    parts = iter(np.split(found.round(_DECIMALS), np.cumsum(lengths)[:-1]))
    for rings in regions:
        yield list(islice(parts, len(rings)))


def _divided(rings: Sequence[Floats], steps: Floats) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Points of rings whose edges, along rows or columns, are cut into pieces.

    Args:
        rings: closed rings ``(n, 2)`` of (column, row).
        steps: how many columns and rows a piece has at most.

    Returns:
        The points of all rings ``(n, 2)``, and how many each ring has.
    """
    points, ends = np.concatenate(rings), np.cumsum([len(ring) for ring in rings])
    edges = np.roll(points, -1, axis=0) - points
    edges[ends - 1] = 0  # the next point is of another ring
    pieces = np.ceil((np.abs(edges) / steps).max(1)).astype(np.int64).clip(1)
    edge = np.repeat(np.arange(len(points)), pieces)
    before = np.cumsum(pieces) - pieces
    fractions = (np.arange(len(edge)) - before[edge]) / pieces[edge]
    return points[edge] + fractions[:, None] * edges[edge], np.diff((before + pieces)[ends - 1], prepend=0)


def _area(ring: Floats) -> float:
    """Signed area of a closed ring; positive where y follows x counterclockwise."""
    x, y = (ring - ring[0]).T  # degrees of small regions differ in their last digits alone
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2)


# ---- the antimeridian ----------------------------------------------------------------------------------------------


def _cut_at_antimeridian(rings: Sequence[Floats]) -> list[list[Floats]]:
    """Cut a region at the antimeridian.

    Args:
        rings: closed rings ``(n, 2)`` of longitude and latitude, the outer one first. Longitudes may jump by whole
            turns, or go on counting; two points of an edge lie less than half a turn apart.

    Returns:
        The rings of each part, within -180 to 180 degrees: the outer one first, counterclockwise, holes clockwise. A
        region around a pole reaches it along the antimeridian.

    References:
        Butler et al., The GeoJSON Format, RFC 7946, 2016, 3.1.9.
    """
    low, high = float(rings[0][:, 0].min()), float(rings[0][:, 0].max())
    if low >= -_HALF and high <= _HALF and high - low <= _HALF:  # without a jump, and so are its holes
        return [[_turned(ring, ring, clockwise=number > 0) for number, ring in enumerate(rings)]]
    whole: list[Floats] = []
    chains: list[Floats] = []
    for number, ring in enumerate(rings):
        line = _unrolled(ring)
        cut = _cut(_turned(line, _closed(line), clockwise=number > 0))
        (whole if len(cut) == 1 and _is_closed(cut[0]) else chains).extend(cut)
    if not chains:
        return [whole]
    outlines = [ring for ring in _joined(chains) if _area(ring) > 0]  # others have been drawn together to a line
    parts = [[ring] for ring in outlines]
    for hole in whole:  # corners of it may lie on the outline, but not most of them
        parts[int(np.argmax([points_in_poly(hole, outline).mean() for outline in outlines]))].append(hole)
    return parts


def _turned(line: Floats, ring: Floats, clockwise: bool) -> Floats:
    """A line in the direction in which a closed ring, itself or one that it is part of, runs as it should."""
    return line[::-1] if (_area(ring) < 0) != clockwise else line


def _closed(line: Floats) -> Floats:
    """A continuous ring; one that goes around the Earth is closed over its pole."""
    if _is_closed(line):
        return line
    at_pole = np.array([line[-1], line[0]])
    at_pole[:, 1] = np.copysign(_POLE, line[:, 1].mean())
    return np.concatenate([line, at_pole, line[:1]])


def _is_closed(ring: Floats) -> bool:
    return bool((ring[0] == ring[-1]).all())


def _unrolled(ring: Floats) -> Floats:
    """A ring whose longitudes go on counting; if it goes around the Earth, its last point is a turn from the first."""
    turns = np.cumsum(np.round(np.diff(ring[:, 0], prepend=ring[0, 0]) / _TURN))
    return ring - np.outer(turns, [_TURN, 0])


def _cut(ring: Floats) -> list[Floats]:
    """The chains that a ring falls into, each from where it enters the map to where it leaves it; or the whole ring."""
    maps = np.floor((ring[:, 0] + _HALF) / _TURN)
    home = (ring - np.outer(maps * _TURN, [1, 0])).round(_DECIMALS)
    left = np.flatnonzero(np.diff(maps))
    if not len(left):
        return [home]
    lines = _TURN * np.maximum(maps[left], maps[left + 1]) - _HALF
    fractions = (lines - ring[left, 0]) / (ring[left + 1, 0] - ring[left, 0])
    latitudes = (ring[left, 1] + fractions * (ring[left + 1, 1] - ring[left, 1])).round(_DECIMALS)
    sides = _HALF * (maps[left + 1] - maps[left])
    inside = np.split(np.roll(home[:-1], -left[0] - 1, axis=0), left[1:] - left[0])
    ends = np.stack([sides, latitudes], axis=1)
    return [
        np.concatenate([[ends[number] * (-1, 1)], points, [ends[(number + 1) % len(ends)]]])
        for number, points in enumerate(inside)
    ]


def _joined(chains: Sequence[Floats]) -> list[Floats]:
    """Closed rings of chains, which are joined along the border of the map; the region lies to their left."""
    begins, ends = (_along_border(np.stack([chain[index] for chain in chains])) for index in (0, -1))
    # Along the border, a chain that leaves the map and one that enters it take turns.
    entering, leaving = np.argsort(begins, kind="stable"), np.argsort(ends, kind="stable")
    first = int(np.searchsorted(begins[entering], ends[leaving[0]]))
    following = dict(zip(leaving.tolist(), np.roll(entering, -first).tolist(), strict=True))
    rings = []
    while following:
        at = start = next(iter(following))
        pieces = []
        while at in following:
            to = following.pop(at)
            pieces += [chains[at], _corners(float(ends[at]), float(begins[to]))]
            at = to
        rings.append(np.concatenate([*pieces, chains[start][:1]]))
    return rings


def _along_border(points: Floats) -> Floats:
    """Where points lie on the way around the map that :data:`_CORNERS` are at 0, 1, ... of."""
    fractions = (points[:, 1] + _POLE) / (2 * _POLE)
    along: Floats = np.where(points[:, 0] > 0, fractions, 4 - fractions)
    return along


def _corners(start: float, stop: float) -> Floats:
    """The corners of the map between two points of its border, counterclockwise."""
    numbers = np.arange(np.floor(start) + 1, np.ceil(stop + len(_CORNERS) * (stop < start)))
    corners: Floats = _CORNERS[numbers.astype(int) % len(_CORNERS)]
    return corners
