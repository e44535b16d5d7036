"""Pixels without data: those of the value that a TIFF declares, in the tag that GDAL writes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from weakseg_lightning.data.images.tiff import TiffHeader
from weakseg_lightning.data.images.tiff_tags import GDAL_NODATA

__all__ = ["IMMENSE", "NODATA_COLOR", "Flags", "filled", "has_data", "nodata_of"]

Flags = NDArray[np.bool_]

IMMENSE = 1e30
"""Samples of this size are no measurements: programs write the largest numbers of a type where there are no data."""

NODATA_COLOR = (124, 116, 104)
"""RGB of pixels of declared nodata as networks see them, in training and in prediction: the mean of ImageNet."""


def nodata_of(header: TiffHeader) -> float | None:
    """The value that stands for no data in a TIFF; None where it declares none, or what is no number."""
    text = bytes(header.tags.get(GDAL_NODATA, ())).partition(b"\0")[0]
    try:
        return float(text)
    except ValueError:
        return None


def has_data(values: NDArray[Any], nodata: float) -> Flags:
    """Tell which samples are others than ``nodata``, which may be NaN."""
    return np.asarray(~np.isnan(values) if np.isnan(nodata) else values != nodata)


def filled(values: NDArray[Any], valid: Flags) -> NDArray[Any]:
    """Replace the pixels without data by the lowest value that a band has elsewhere.

    Args:
        values: ``(H, W, bands)``.
        valid: pixels that have data, ``(H, W)``.
    """
    lowest = values[valid].min(0) if valid.any() else np.zeros(values.shape[-1])
    return np.where(valid[..., None], values, lowest.astype(values.dtype))
