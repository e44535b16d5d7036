"""Places of rasters on a map, and opening them."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Floats", "Place", "Window", "open_raster", "require_rasterio"]

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
            image begins, to (x, y) in the units of the coordinate system.
    """

    crs: Any
    transform: Any

    @classmethod
    def of(cls, source: Any, rows: _Begins, columns: _Begins) -> "Place":
        """The place of some rows and columns of a raster that rasterio has opened."""
        import rasterio

        t = source.transform
        x, y = cls(None, t).locate(np.array(columns.start), np.array(rows.start))
        return cls(source.crs, rasterio.Affine(t.a, t.b, float(x), t.d, t.e, float(y)))

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
