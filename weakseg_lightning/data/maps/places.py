"""Places of rasters on a map, and opening them."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from weakseg_lightning.data.images.channels import ChannelFiles
from weakseg_lightning.data.samples import BadSampleError

__all__ = ["Floats", "Place", "Window", "is_mosaic", "open_raster", "require_rasterio"]

Floats = npt.NDArray[np.float64]

_CACHE = 64  # of GDAL in megabytes; it would take a fraction of the memory that there is


class Window(NamedTuple):
    """A part of a raster, in pixels."""

    left: int
    top: int
    width: int
    height: int

    @property
    def ranges(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Its rows and its columns, as rasterio takes a window."""
        return (self.top, self.bottom), (self.left, self.right)

    @property
    def right(self) -> int:
        """The column after its last one."""
        return self.left + self.width

    @property
    def bottom(self) -> int:
        """The row after its last one."""
        return self.top + self.height

    def within(self, other: "Window") -> tuple[slice, slice]:
        """Index of its pixels in an array of another window; maybe of none."""
        rows = slice(max(self.top - other.top, 0), max(self.bottom - other.top, 0))
        return rows, slice(max(self.left - other.left, 0), max(self.right - other.left, 0))


class _Begins(Protocol):
    @property
    def start(self) -> int: ...


@dataclass(frozen=True)
class Place:
    """The place of an image on a map.

    Attributes:
        crs: coordinate system, as rasterio has it; None where only the transform is known.
        transform: affine transform, as rasterio has it, from (column, row) in pixels, (0, 0) being the corner where the
            image begins, to (x, y) in the units of the coordinate system; the identity where it is not known.
        gcps: ground control points and their coordinate system, as rasterio has them.
        rpcs: rational polynomial coefficients, as rasterio has them; None if there are none.
    """

    crs: Any
    transform: Any
    gcps: Any = ((), None)
    rpcs: Any = None

    @classmethod
    def of_whole(cls, source: Any) -> "Place":
        """The place of a raster that rasterio has opened.

        Raises:
            BadSampleError: if its transform leads from no place on the map back to a pixel.
        """
        place = cls(source.crs, source.transform, source.gcps, source.rpcs)
        if not 0 < place.pixel_area < np.inf:
            numbers = ", ".join(f"{value:g}" for value in source.transform.to_gdal())
            raise BadSampleError(
                f"{source.name} has the transform ({numbers}), in which pixels have no area: give it another, as by "
                "gdal_edit.py -a_ullr"
            )
        return place

    @classmethod
    def of(cls, source: Any, rows: _Begins, columns: _Begins) -> "Place":
        """The place of some rows and columns of a raster that rasterio has opened."""
        import rasterio

        t = source.transform
        x, y = cls(None, t).locate(np.array(columns.start), np.array(rows.start))
        moved = t if t.is_identity else rasterio.Affine(t.a, t.b, float(x), t.d, t.e, float(y))
        points = [_moved(point, rows.start, columns.start) for point in source.gcps[0]]
        return cls(source.crs, moved, (points, source.gcps[1]), _moved_model(source.rpcs, rows.start, columns.start))

    @property
    def unwarped(self) -> str | None:
        """The name of what places an image that has no transform, and how to give it one; None if there is no such."""
        if not self.transform.is_identity or not (self.gcps[0] or self.rpcs):
            return None
        named, option = ("ground control points", "") if self.gcps[0] else ("a sensor model (RPC)", " -rpc")
        return f"is placed on the map by {named}: warp it first (`gdalwarp{option} IN.tif OUT.tif`)"

    def locate(self, columns: Floats, rows: Floats) -> tuple[Floats, Floats]:
        """Coordinates x and y of points in pixels, as many as there are."""
        t = self.transform
        return t.a * columns + t.b * rows + t.c, t.d * columns + t.e * rows + t.f

    def find(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Columns and rows of points by their coordinates, as many as there are."""
        return Place(None, ~self.transform).locate(x, y)

    @property
    def pixel_area(self) -> float:
        """Area of a pixel in units of the map, squared."""
        return abs(float(self.transform.determinant))


def _moved(point: Any, row: int, column: int) -> Any:
    """A ground control point of an image that begins at a row and column."""
    from rasterio.control import GroundControlPoint

    return GroundControlPoint(point.row - row, point.col - column, point.x, point.y, point.z, point.id, point.info)


def _moved_model(rpcs: Any, row: int, column: int) -> Any:
    moved = copy(rpcs)
    if moved is not None:
        moved.line_off -= row
        moved.samp_off -= column
    return moved


@contextmanager
def open_raster(path: Path) -> Iterator[Any]:
    """Open a file with rasterio, with a bounded cache and without the warning that it lies on no map.

    Raises:
        ImportError: if rasterio is not installed.
    """
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning

    with rasterio.Env(GDAL_CACHEMAX=_CACHE):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            source = rasterio.open(path)
        with source:
            yield source


def is_mosaic(path: Path, channels: ChannelFiles | None = None) -> bool:
    """Recognize a virtual raster of GDAL, which stands for an image by its own name."""
    named = channels is None or (channels.stem(path) == path.stem and not channels.is_companion(path))
    return named and path.suffix.lower() == ".vrt"


def require_rasterio(why: str) -> Any:
    """Import rasterio with what traces and fills polygons.

    Args:
        why: what it is needed for, to begin the message with.

    Raises:
        ImportError: if it is not installed; says how it is.
    """
    try:
        import rasterio
        import rasterio.features
    except ImportError as error:
        raise ImportError(f"{why} by rasterio: pip install '.[raster]' in the checkout") from error
    return rasterio
