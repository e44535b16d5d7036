"""Widths of brushes, in pixels or in meters on the ground."""

import re
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from weakseg_lightning.data.maps.places import Floats, Place
from weakseg_lightning.data.samples import BadSampleError

__all__ = ["Brush", "ground_resolution", "meters_of_pixels", "read_brush"]

_FORM = re.compile(r"\s*([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*(px|m)?\s*", re.IGNORECASE)
_LEAST, _MOST = 1e-6, 1e6  # no stroke is that thin or wide; squares of such numbers have digits left
_AXIS, _ECCENTRICITY_2 = 6378137.0, 0.00669437999014  # of the ellipsoid of WGS 84: semi-major axis in m, e squared
_TURN = 360.0  # degrees


@dataclass(frozen=True)
class Brush:
    """The width of a line or of a point.

    Attributes:
        width: above 0, a millionth to a million.
        unit: ``px``, pixels of the raster, or ``m``, meters on the ground.
    """

    width: float
    unit: Literal["px", "m"]


def read_brush(given: Any, where: str) -> Brush:
    """Read a width: ``5 px``, ``2.5 m``, or a number of pixels.

    Args:
        given: the text or number.
        where: what has it, to begin messages with.

    Raises:
        BadSampleError: if it is neither, or no width of a stroke.
    """
    found = _FORM.fullmatch(str(given))
    if found is None or not 0 < float(found[1]) < np.inf:
        raise BadSampleError(f"{where}: `brush` must be a width above 0 in pixels or meters, as '3 px' or '2.5 m', "
                             f"got {given!r}")  # fmt: skip
    if not _LEAST <= float(found[1]) <= _MOST:
        raise BadSampleError(
            f"{where}: `brush` must be {_LEAST:f} to {_MOST:.0f} pixels or meters wide, got {given!r}: give the width "
            "of the stroke, as '3 px' or '2.5 m'"
        )
    return Brush(float(found[1]), "m" if (found[2] or "").lower() == "m" else "px")


def meters_of_pixels(place: Place, points: Floats) -> Floats:
    """Steps on the ground that belong to steps of a pixel along rows and columns.

    Args:
        place: of the raster, with a coordinate system.
        points: columns and rows of the places, ``(n, 2)``.

    Returns:
        ``(n, 2, 2)``: matrices from (columns, rows) to meters east and north.
    """
    from rasterio.warp import transform

    # At each place the point itself, and one a pixel further in each direction.
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    around = (points[:, None] + corners).reshape(-1, 2).T
    degrees = np.stack(transform(place.crs, "EPSG:4326", *place.locate(*around)), axis=1).reshape(-1, 3, 2)
    steps = degrees[:, 1:] - degrees[:, :1]
    turns = np.radians(steps - _TURN * np.round(steps / _TURN))  # the antimeridian may lie between
    latitude = np.radians(degrees[:, 0, 1])
    flat = 1 - _ECCENTRICITY_2 * np.sin(latitude) ** 2
    radii = _AXIS * np.cos(latitude) / np.sqrt(flat), _AXIS * (1 - _ECCENTRICITY_2) / flat**1.5
    meters: Floats = np.swapaxes(turns * np.stack(radii, axis=1)[:, None], 1, 2)
    return meters


def ground_resolution(place: Place, size: tuple[int, int]) -> float | None:
    """The side in meters of a square on the ground as large as the pixel in the middle; None if it is not known.

    Args:
        place: of the raster.
        size: its width and height in pixels.
    """
    if place.crs is None or place.transform.is_identity:
        return None
    try:
        step = meters_of_pixels(place, np.array([size]) / 2)[0]
    except Exception:  # rasterio raises whatever GDAL and PROJ do, by no common name
        return None
    side = float(np.sqrt(abs(np.linalg.det(step))))
    return side if 0 < side < np.inf else None
