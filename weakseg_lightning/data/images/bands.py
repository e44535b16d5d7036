"""All bands of an image file at the depth of the file: of TIFF with bands, planes or pages, NumPy and other files."""

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from weakseg_lightning.data.images.nodata import Flags, has_data, nodata_of
from weakseg_lightning.data.images.pixels import UnsuitableError, upright
from weakseg_lightning.data.images.reading import image_size, read_deep, reading, turned_upright
from weakseg_lightning.data.images.tiff import TiffHeader, read_tiff_pages
from weakseg_lightning.data.images.tiff_pixels import read_samples

__all__ = ["ARRAY_SUFFIX", "array_bands", "bands_size", "declared_nodata", "picture_valid", "read_bands"]

ARRAY_SUFFIX = ".npy"
_TIFF_SUFFIXES = (".tif", ".tiff")
_SIDEWAYS = range(5, 9)  # orientations of EXIF data in which rows are columns

_MODES = ("1", "L", "LA", "RGB", "RGBA", "CMYK", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_UNREAD = "has a compression or colors that are not read: save it as RGB or gray, with deflate"
_PALETTE = "has a palette, whose values are indices of colors, not measurements: save it as gray or RGB"

Samples = NDArray[Any]


def read_bands(path: Path) -> Samples:
    """Read all bands of an image file, upright as its EXIF data say, without any stretch.

    Args:
        path: TIFF, whose pages of one size are bands one after the other (reduced copies and masks do not count);
            ``.npy`` of ``(H, W)``, ``(bands, H, W)`` or ``(H, W, bands)``, the bands being the shorter of the first
            and the last axis, or that beside a square of the two others; or another image, whose opacity is a band as
            others are.

    Returns:
        ``(H, W, bands)``, integers or floats of the type of the file.

    Raises:
        BadSampleError: if the file is missing, unreadable, truncated, complex, or has a palette.
    """
    with reading(path) as file:
        if path.suffix.lower() == ARRAY_SUFFIX:
            return _array(file)
        if (pages := read_tiff_pages(file)) is not None:
            return _tiff(file, pages)
        deep = read_deep(path, file)
        if deep is not None:
            return upright(deep.values, deep.orientation)
        with Image.open(file) as image:
            return _pillow(turned_upright(image))


def bands_size(path: Path) -> tuple[int, int]:
    """Read the size of an image that :func:`read_bands` reads, (width, height) in pixels, from the header of its file.

    Raises:
        BadSampleError: if the file is missing or no image.
    """
    with reading(path) as file:
        if path.suffix.lower() == ARRAY_SUFFIX:
            height, width = array_bands(path).shape[:2]
            return width, height
        if (pages := read_tiff_pages(file)) is not None:
            width, height = _first_of_alike(pages).size
            return (height, width) if pages[0].orientation in _SIDEWAYS else (width, height)
    return image_size(path)


def declared_nodata(path: Path) -> float | None:
    """Read from the header of a file which value stands for no data; None where none is declared, as in all but TIFF.

    Raises:
        BadSampleError: if the file is missing or no image.
    """
    if path.suffix.lower() not in _TIFF_SUFFIXES:
        return None
    with reading(path) as file:
        pages = read_tiff_pages(file)
    return None if pages is None else nodata_of(pages[0])


def picture_valid(path: Path) -> Flags | None:
    """Tell which pixels of a gray or RGB image have data in any of its colors, ``(H, W)``; None where all have.

    Raises:
        BadSampleError: if the file is missing or cannot be read.
    """
    if (nodata := declared_nodata(path)) is None:
        return None
    with reading(path) as file:
        if (pages := read_tiff_pages(file)) is not None and pages[0].has_palette:
            with Image.open(file) as image:
                values = np.array(turned_upright(image))[..., None]
        else:
            values = read_bands(path)
    valid = np.asarray(has_data(values[..., : 3 if values.shape[-1] > 2 else 1], nodata).any(-1))
    return None if valid.all() else valid


def array_bands(path: Path) -> Samples:
    """The bands of a ``.npy`` file ``(H, W, bands)``, of which none is read before it is looked at."""
    with path.open("rb") as file:
        _require_array(file)
    return _bands_last(np.load(path, mmap_mode="r", allow_pickle=False))


def _array(file: BinaryIO) -> Samples:
    _require_array(file)
    values = _bands_last(np.load(file, allow_pickle=False))
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _require_array(file: BinaryIO) -> None:
    """Raise if a file is no array of NumPy, or one of objects. It is put back to its start."""
    start = file.read(len(np.lib.format.MAGIC_PREFIX) + 2)
    if not start.startswith(np.lib.format.MAGIC_PREFIX):
        kind = "is an archive (.npz)" if start.startswith(b"PK") else "is no array of NumPy (.npy)"
        raise UnsuitableError(f"{kind}: save one array with numpy.save")
    file.seek(0)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    if read(file)[2].hasobject:
        raise UnsuitableError("holds objects of Python, expected numbers: save an array of numbers")
    file.seek(0)


def _bands_last(values: Samples) -> Samples:
    if values.dtype.kind not in "buif" or values.ndim not in (2, 3) or 0 in values.shape:
        shape = " x ".join(map(str, values.shape)) or "a single number"
        raise UnsuitableError(f"holds {values.dtype} of {shape}, expected numbers of 2 or 3 dimensions")
    if values.ndim == 2:
        return values[..., None]
    first, second, last = values.shape
    if (first == second) != (second == last):  # a square, as 64 x 64 pixels with 200 bands
        return values if first == second else np.moveaxis(values, 0, -1)
    return np.moveaxis(values, 0, -1) if first <= last else values


def _tiff(file: BinaryIO, pages: list[TiffHeader]) -> Samples:
    first = _first_of_alike(pages)
    read = [_page(file, page) for page in pages]
    if len({values.dtype for values in read}) > 1:
        raise UnsuitableError("has pages of different types: convert it to one type")
    return upright(np.concatenate(read, axis=-1), first.orientation)


def _first_of_alike(pages: list[TiffHeader]) -> TiffHeader:
    """The first page, if all have its size."""
    if len(sizes := list(dict.fromkeys(page.size for page in pages))) > 1:
        shown = " and ".join(f"{width} x {height}" for width, height in sizes[:2])
        raise UnsuitableError(f"has pages of different sizes ({shown}): save one image, or pages of one size")
    return pages[0]


def _page(file: BinaryIO, page: TiffHeader) -> Samples:
    if page.has_palette:
        raise UnsuitableError(_PALETTE)
    if page.has_plain_samples:
        return read_samples(file, page)
    try:
        opened = Image.open(file)
    except UnidentifiedImageError as error:
        raise UnsuitableError(_UNREAD) from error
    with opened as image:  # JPEG, and colors that are no measurements, as YCbCr
        image.seek(page.number)
        if image.mode not in (*_MODES, "YCbCr") or len(image.getbands()) != page.bands:
            raise UnsuitableError(_UNREAD)
        return _pillow(image.convert("RGB") if image.mode == "YCbCr" else image)


def _pillow(image: Image.Image) -> Samples:
    if image.mode in ("P", "PA"):
        raise UnsuitableError(_PALETTE)
    if image.mode not in _MODES:
        raise UnsuitableError(f"has pixels of type {image.mode}, which is not read: save it as gray or RGB")
    return np.atleast_3d(np.array(image))
