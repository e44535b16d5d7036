"""Parts of images that are predicted, by pixels or by coordinates of a map."""

from dataclasses import dataclass
from math import ceil, floor
from pathlib import Path

import numpy as np

from weakseg_lightning.checks import at_least
from weakseg_lightning.data import BadSampleError
from weakseg_lightning.data.maps.places import Place
from weakseg_lightning.errors import UserError
from weakseg_lightning.prediction.tiling import Span

_TOUCHED = 1e-3  # bounds that reach less of a pixel into it, by rounding, leave it out


@dataclass(frozen=True)
class Region:
    """A part of each image; what lies beyond its borders is left out.

    Args:
        window: first column, first row, width and height, in pixels; None for whole images.
        bounds: left, bottom, right and top in the coordinates of the image; the part is the smallest window that holds
            them.

    Raises:
        UserError: if both are given, or one holds no pixel of any image.
    """

    window: tuple[int, int, int, int] | None = None
    bounds: tuple[float, float, float, float] | None = None

    def __post_init__(self) -> None:
        if self.window is not None and self.bounds is not None:
            raise UserError("`window` and `bounds` both say which part is predicted: give one of them")
        if self.window is not None:
            for name, value, least in zip(("column", "row", "width", "height"), self.window, (0, 0, 1, 1), strict=True):
                at_least(f"window: {name}", value, least, "it is [column, row, width, height]")
        if self.bounds is not None:
            left, bottom, right, top = self.bounds
            if not (left < right and bottom < top):
                raise UserError(f"`bounds` must be [left, bottom, right, top], got {list(self.bounds)}")

    def find(self, path: Path, width: int, height: int, place: Place | None) -> tuple[Span, Span]:
        """Find the part of an image.

        Args:
            path: its file, for messages.
            width: of the image, in pixels.
            height: of the image, in pixels.
            place: of the image on a map, if it has one.

        Returns:
            Rows and columns.

        Raises:
            BadSampleError: if it lies outside of the image, or the image on no map.
        """
        if self.window is None and self.bounds is None:
            return Span(0, height), Span(0, width)
        rows, columns = self._in_pixels(path, place)
        inside = [Span(max(s.start, 0), min(s.stop, size)) for s, size in ((rows, height), (columns, width))]
        if min(span.size for span in inside) < 1:
            if self.bounds is not None and place is not None:
                raise BadSampleError(f"{path} {_outside(self.bounds, width, height, place)}")
            raise BadSampleError(
                f"{path} has {width} x {height} pixels, and its columns {columns.start} to {columns.stop} and rows "
                f"{rows.start} to {rows.stop} are asked for: name a part of it, or leave it out"
            )
        return inside[0], inside[1]

    def _in_pixels(self, path: Path, place: Place | None) -> tuple[Span, Span]:
        if self.window is not None:
            column, row, width, height = self.window
            return Span(row, row + height), Span(column, column + width)
        assert self.bounds is not None
        if place is not None and place.unwarped is not None:
            raise BadSampleError(f"{path} {place.unwarped}, or name a `window` in pixels")
        if place is None:
            raise BadSampleError(f"{path} lies on no map, so that it has no `bounds`: name a `window` in pixels")
        left, bottom, right, top = self.bounds
        corners = np.array([[left, bottom], [left, top], [right, bottom], [right, top]])
        columns, rows = place.find(*corners.T)
        return _around(rows), _around(columns)


def _outside(bounds: tuple[float, float, float, float], width: int, height: int, place: Place) -> str:
    xs, ys = place.locate(np.array([0.0, width, 0.0, width]), np.array([0.0, 0.0, height, height]))
    extent = ", ".join(f"{value:.10g}" for value in (xs.min(), ys.min(), xs.max(), ys.max()))
    system = "" if place.crs is None else f" in {place.crs.to_string()}"
    asked = ", ".join(f"{value:.10g}" for value in bounds)
    return f"spans [{extent}]{system}, and the `bounds` [{asked}] lie outside: name a part of it, or leave it out"


def _around(values: np.typing.NDArray[np.float64]) -> Span:
    """The pixels that hold all values."""
    return Span(floor(values.min() + _TOUCHED), ceil(values.max() - _TOUCHED))
