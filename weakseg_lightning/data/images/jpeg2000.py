"""JPEG 2000 in colors of more than 8 bits, which Pillow cuts to 8."""

import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np

from weakseg_lightning.data.images.pixels import Bands, Layout, UnsuitableError, check_bands, check_size

_STARTS = (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")
_CODESTREAM = b"\xff\x4f\xff\x51"
_BOXES = 2**20  # bytes that may stand before the image itself: color profiles, places on a map


def is_deep_jpeg2000(file: BinaryIO) -> bool:
    """Recognize JPEG 2000 in colors of more than 8 bits. The file is put back to its start.

    Raises:
        UnsuitableError: if it has more bands than gray or RGB with transparency have.
    """
    header = file.read(12)
    header += file.read(_BOXES) if header.startswith(_STARTS) else b""
    file.seek(0)
    start = header.find(_CODESTREAM)
    if not header.startswith(_STARTS) or start < 0 or len(header) < start + 43:
        return False
    bands, kind = int.from_bytes(header[start + 40 : start + 42], "big"), header[start + 42]
    if bands > 4:
        raise UnsuitableError(f"has {bands} bands, of which JPEG 2000 is not read: convert it to TIFF")
    return bands > 1 and kind != 7  # unsigned, of 8 bits


def read_deep_jpeg2000(path: Path) -> Bands:
    """Read it with rasterio.

    Raises:
        UnsuitableError: if it has too many bands, or rasterio is not installed.
    """
    try:
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning
    except ImportError as error:
        raise UnsuitableError(
            "is JPEG 2000 in colors of more than 8 bits, which rasterio reads: "
            "pip install '.[raster]' in the checkout, or save it as PNG or TIFF"
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)  # as most images are
        source = rasterio.open(path)
    with source:
        check_bands(source.count)
        check_size(source.width, source.height)
        values = np.moveaxis(source.read(), 0, -1)
        alpha = source.colorinterp[-1].name == "alpha"
    return Bands(values, Layout(3 if values.shape[-1] >= 3 else 1, alpha, bits=8 * values.itemsize, deep=True))
