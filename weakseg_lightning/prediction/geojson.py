"""Label maps that lie on a map as polygons in GeoJSON."""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from weakseg_lightning.data import BadSampleError
from weakseg_lightning.data.maps.places import Floats, Place, open_raster
from weakseg_lightning.prediction.polygons import trace_regions
from weakseg_lightning.prediction.tiling import Span

_AT_ONCE = 512  # regions whose coordinates are transformed together, as each call costs as much as many points
_STEP = 32  # longest piece of an edge in pixels: straight lines of a map are curves in degrees
_DECIMALS = 8  # of degrees, a millimeter


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
    Regions that cross the antimeridian are not cut there. Memory grows with the number of corners of all regions.

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
    while some := list(islice(regions, _AT_ONCE)):
        for (k, rings), degrees in zip(
            some, _in_degrees([rings for _, rings in some], place, source.name), strict=True
        ):
            pixels = abs(_area(rings[0])) - sum(abs(_area(hole)) for hole in rings[1:])
            coordinates = [_turned(ring, clockwise=number > 0).tolist() for number, ring in enumerate(degrees)]
            yield {
                "type": "Feature",
                "properties": {"class": class_names[k], "index": k, "pixels": round(pixels)},
                "geometry": {"type": "Polygon", "coordinates": coordinates},
            }


def _in_degrees(regions: Sequence[list[Floats]], place: Place, name: str) -> Iterator[list[Floats]]:
    """The rings of several regions in longitude and latitude, with points between distant corners."""
    from rasterio.warp import transform

    points, lengths = _divided([ring for rings in regions for ring in rings])
    try:
        found = np.stack(transform(place.crs, "EPSG:4326", *place.locate(*points.T)), axis=1)
    except Exception as error:  # rasterio raises whatever GDAL and PROJ do, by no common name
        raise BadSampleError(f"{name} is not converted to longitude and latitude ({error}): see to its CRS") from error
    if not np.isfinite(found).all():
        raise BadSampleError(f"{name} has places without longitude and latitude: see to its CRS and its transform")
    parts = iter(np.split(found.round(_DECIMALS), np.cumsum(lengths)[:-1]))
    for rings in regions:
        yield list(islice(parts, len(rings)))


def _divided(rings: Sequence[Floats]) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Points of rings whose edges, along rows or columns, are cut into pieces of at most ``_STEP`` pixels.

    Returns:
        The points of all rings ``(n, 2)``, and how many each ring has.
    """
    points, ends = np.concatenate(rings), np.cumsum([len(ring) for ring in rings])
    edges = np.roll(points, -1, axis=0) - points
    edges[ends - 1] = 0  # the next point is of another ring
    pieces = np.ceil(np.abs(edges).max(1) / _STEP).astype(np.int64).clip(1)
    edge = np.repeat(np.arange(len(points)), pieces)
    before = np.cumsum(pieces) - pieces
    fractions = (np.arange(len(edge)) - before[edge]) / pieces[edge]
    return points[edge] + fractions[:, None] * edges[edge], np.diff((before + pieces)[ends - 1], prepend=0)


def _area(ring: Floats) -> float:
    """Signed area of a closed ring; positive where y follows x counterclockwise."""
    x, y = (ring - ring[0]).T  # degrees of small regions differ in their last digits alone
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2)


def _turned(ring: Floats, clockwise: bool) -> Floats:
    return ring[::-1] if (_area(ring) < 0) != clockwise else ring
