"""Labels of a raster, by windows: drawn shapes, or a raster of the same grid."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from weakseg_lightning.data.maps.places import Window, open_raster
from weakseg_lightning.data.maps.rasters import readable, same_grid
from weakseg_lightning.data.maps.shapes import Labels, Shape, draw_shapes
from weakseg_lightning.data.samples import BadSampleError
from weakseg_lightning.energies.potts import VOID

__all__ = ["DrawnLayer", "Layer", "StoredLayer"]


class Layer(Protocol):
    """Labels of a raster."""

    @property
    def path(self) -> Path:
        """Their file."""

    def read(self, window: Window) -> Labels:
        """Read a window, uint8 ``(h, w)``, 255 = none.

        Raises:
            BadSampleError: if it cannot be read, or holds labels that are no classes.
        """

    def may_label(self, window: Window) -> bool:
        """Tell if there may be labels in a window, without reading it."""


@dataclass(frozen=True)
class DrawnLayer:
    """Labels that are drawn in GeoJSON.

    Attributes:
        path: the file.
        shapes: what it holds, on the raster.
        background: class of what nothing covers: 255 of scribbles, 0 of masks.
    """

    path: Path
    shapes: list[Shape]
    background: int

    def read(self, window: Window) -> Labels:
        """Draw a window, uint8 ``(h, w)``."""
        return draw_shapes(self.shapes, window, self.background)

    def may_label(self, window: Window) -> bool:
        """Tell if there may be labels in a window."""
        return self.background != VOID or any(shape.touches(window) for shape in self.shapes)


@dataclass(frozen=True)
class StoredLayer:
    """Labels that are stored as a raster.

    Attributes:
        path: the file: one band of integers, on the grid of the image; 255 and what has no data is without label.
        num_classes: classes K.
        unlabelled: another value of pixels without a label.
        background: another value of background.
    """

    path: Path
    num_classes: int
    unlabelled: int = VOID
    background: int = 0

    def require_grid_of(self, image: Any) -> None:
        """Raise ``BadSampleError`` if the file does not suit the grid of an image that rasterio has opened."""
        with readable(self.path), open_raster(self.path) as source:
            if (fault := same_grid(source, image)) is not None:
                raise BadSampleError(f"{self.path} {fault}")
            if source.count != 1 or np.dtype(source.dtypes[0]).kind not in "ui":
                bands = f"{source.count} band{'s' * (source.count > 1)} of {source.dtypes[0]}"
                raise BadSampleError(f"{self.path} has {bands}, expected one of integers: store classes as numbers")

    def nodata(self) -> float | None:
        """Read the value that the file declares as no data."""
        with readable(self.path), open_raster(self.path) as source:
            value: float | None = source.nodata
            return value

    def class_of(self, value: float) -> int | None:
        """The class that a value means; None if it means none."""
        if value in (VOID, self.unlabelled) or not 0 <= value < VOID:
            return None
        label = 0 if self.background and value == self.background else int(value)
        return label if label < self.num_classes else None

    def read(self, window: Window) -> Labels:
        """Read a window, uint8 ``(h, w)``."""
        with readable(self.path), open_raster(self.path) as source:
            values = source.read(1, window=window.ranges)
            known = source.read_masks(1, window=window.ranges) > 0
        known &= (values != VOID) & (values != self.unlabelled)
        if self.background:
            values = np.where(values == self.background, 0, values)
        if (wrong := known & ((values < 0) | (values >= self.num_classes))).any():
            raise BadSampleError(
                f"{self.path} holds the value {values[wrong][0]}, expected 0 to {self.num_classes - 1}, or {VOID} for "
                "none: store the indices of the classes"
            )
        return np.where(known, values, VOID).astype(np.uint8)

    def may_label(self, window: Window) -> bool:
        """Tell if there may be labels in a window."""
        return True
