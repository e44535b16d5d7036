"""Rasters in which one pixel lies at a point whose coordinates are known without any library."""

from functools import reduce
from math import log, pi, radians, tan
from pathlib import Path

import numpy as np
import pytest

rasterio = pytest.importorskip("rasterio")
Affine = rasterio.Affine
PIXEL = (12, 33)
"""Row and column whose center lies at the point."""

RADIUS = 6378137.0
ARC = 0.9996 * 4984944.378  # of the meridian of WGS 84 from the equator to 45 degrees, in the scale of UTM
NORTH, SOUTH = (500000.0, ARC), (500000.0, 10_000_000 - ARC)
MERCATOR = (RADIUS * radians(15), RADIUS * log(tan(pi / 4 + radians(45) / 2)))


def chain(*transforms):
    """Transforms, of which the last is applied first; affine's own operator for it depends on its version."""
    return Affine(*reduce(np.matmul, [np.reshape(one, (3, 3)) for one in transforms]).flat[:6])


METERS = Affine.scale(10, -10)

# By name: coordinate system, x and y of the point, longitude and latitude, the transform but for its origin.
PLACES = {
    "utm north": ("EPSG:32633", NORTH, (15, 45), METERS),
    "utm south": ("EPSG:32733", SOUTH, (15, -45), METERS),
    "web mercator": ("EPSG:3857", MERCATOR, (15, 45), METERS),
    "degrees": ("EPSG:4326", (15, -45), (15, -45), Affine.scale(1e-4, -1e-4)),
    "west": ("EPSG:4326", (-70, 3), (-70, 3), Affine.scale(1e-4, -1e-4)),
    "rotated": ("EPSG:32633", NORTH, (15, 45), chain(Affine.rotation(30), METERS)),
    "south-up": ("EPSG:32733", SOUTH, (15, -45), Affine.scale(10, 10)),
    "sheared": ("EPSG:32633", NORTH, (15, 45), chain(Affine.shear(20), METERS)),
}


def transform_of(name: str):
    """The transform of one of :data:`PLACES`."""
    _, point, _, shape = PLACES[name]
    row, column = PIXEL
    return chain(Affine.translation(*point), shape, Affine.translation(-column - 0.5, -row - 0.5))


def write_map(path: Path, values: np.ndarray, place: str = "utm north", mask=None, **options) -> Path:
    """Write bands ``(B, H, W)`` as a GeoTIFF, with what is valid ``(H, W)`` as a mask in it."""
    count, height, width = values.shape
    where = {"crs": PLACES[place][0], "transform": transform_of(place), **options}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", "GTiff", width, height, count, dtype=values.dtype.name, **where) as file,
    ):
        file.write(values)
        if mask is not None:
            file.write_mask(mask)
    return path
