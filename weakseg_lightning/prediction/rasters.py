"""Image files as rows: small ones from memory, those that are too large for it from the file, incrementally."""

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from weakseg_lightning.data import BadSampleError
from weakseg_lightning.data.images.pixels import (
    Layout,
    Pixels,
    UnsuitableError,
    check_bands,
    find_range,
    on_white,
    to_rgb,
    upright,
)
from weakseg_lightning.data.images.reading import ImageHead, read_head, read_image
from weakseg_lightning.prediction.tiling import MemoryRows, Span

IN_MEMORY = 2**26
"""Images of more pixels (8192 x 8192) are read incrementally."""

_PREVIEW = 1024  # sides of the reduced image that deep images take black and white from
_STRIP = 256  # rows that are decoded at once
_CACHE = 64  # of GDAL in megabytes; it would take a fraction of the memory that there is


@contextmanager
def open_rows(path: Path, in_memory: int = IN_MEMORY) -> Iterator["MemoryRows | FileRows"]:
    """Open an image file of any size.

    As `read_image` reads it: RGB, grey, palette and transparent images (on white), of any depth, upright. Black and
    white of deep images that are read incrementally are those of a reduced copy.

    Args:
        path: image file.
        in_memory: images of more pixels are read incrementally, which needs the package rasterio.

    Yields:
        Its rows. Those of a large image can only be asked for from the top downwards.

    Raises:
        BadSampleError: if the file cannot be read, now or later.
    """
    head = _head(path)
    if head.width * head.height <= in_memory:
        pixels = read_image(path).permute(1, 2, 0).numpy()
        yield MemoryRows(pixels)
        return
    with _raster(path) as source:
        rows = FileRows(path, source, head)
        if head.orientation == 1:
            yield rows
            return
        with tempfile.TemporaryFile() as file:
            yield MemoryRows(upright(_spooled(rows, file), head.orientation))


class FileRows:
    """The rows of a file, read from the top downwards: PNG and JPEG can be decoded in no other order.

    Args:
        path: the file, for messages.
        source: the same, opened by rasterio.
        head: what its head says.
    """

    def __init__(self, path: Path, source: Any, head: ImageHead) -> None:
        self.path = path
        self.source = source
        self.height, self.width = int(source.height), int(source.width)
        self._read = Span(0, 0)
        self._kept = np.empty((0, self.width, 3), dtype=np.uint8)
        with _bad_sample(path):
            check_bands(self.source.count)
            self._palette = self._find_palette(head)
            self._layout = head.layout or self._find_layout()
            shape = (source.count, min(self.height, _PREVIEW), min(self.width, _PREVIEW))
            self._range = find_range(_last(source.read(out_shape=shape)), self._layout) if self._layout.deep else None

    def read(self, rows: Span) -> Pixels:
        """Read rows, uint8 ``(h, W, 3)``; what an earlier call has read of them is not read again."""
        if rows.start < self._read.start:
            raise ValueError(f"rows {rows} were asked for after {self._read}: a file is read from the top downwards")
        known = self._kept[rows.start - self._read.start : rows.stop - self._read.start]
        pixels = np.empty((rows.size, self.width, 3), dtype=np.uint8)
        pixels[: len(known)] = known
        for start in range(len(known), rows.size, _STRIP):
            stop = min(start + _STRIP, rows.size)
            pixels[start:stop] = self._decode(Span(rows.start + start, rows.start + stop))
        self._kept, self._read = pixels, rows
        return pixels

    def _decode(self, rows: Span) -> Pixels:
        with _bad_sample(self.path):
            values = _last(self.source.read(window=((rows.start, rows.stop), (0, self.width))))
            if self._palette is not None:
                painted: Pixels = self._palette[values[..., 0]]
                return painted
            return to_rgb(values, self._layout, self._range)

    def _find_palette(self, head: ImageHead) -> Pixels | None:
        """Its colors on white, ``(256, 3)``; rasterio also gives grey files whose low values are bright a palette."""
        if self.source.colorinterp[0].name != "palette" or (head.layout is not None and not head.has_palette):
            return None
        found = self.source.colormap(1)
        colors = np.array([[found.get(index, (0, 0, 0, 255)) for index in range(256)]], dtype=np.uint8)
        palette: Pixels = on_white(colors[..., :3], colors[..., 3])[0]
        return palette

    def _find_layout(self) -> Layout:
        """Meaning of the bands, of files whose heads say it to rasterio alone."""
        colors = 3 if self.source.count >= 3 else 1
        dtype = np.dtype(self.source.dtypes[0])
        # In 8 bits Pillow takes any band after the colors for opacity.
        alpha = self.source.count > colors and (dtype == np.uint8 or self.source.colorinterp[colors].name == "alpha")
        return Layout(colors, alpha, bits=8 * dtype.itemsize, deep=dtype != np.uint8)


def _last(bands: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Bands as the last dimension."""
    return np.moveaxis(bands, 0, -1)


def _head(path: Path) -> ImageHead:
    """Read the head of an image that may be larger than Pillow would decode."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        return read_head(path)
    finally:
        Image.MAX_IMAGE_PIXELS = limit


@contextmanager
def _raster(path: Path) -> Iterator[Any]:
    try:
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning
    except ImportError as error:
        size = f"more than {IN_MEMORY} pixels"
        raise BadSampleError(
            f"{path} has {size}, which is read incrementally with rasterio: pip install '.[raster]' in the checkout"
        ) from error
    with rasterio.Env(GDAL_CACHEMAX=_CACHE):
        with warnings.catch_warnings(), _bad_sample(path):
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            source = rasterio.open(path)
        with source:
            yield source


@contextmanager
def _bad_sample(path: Path) -> Iterator[None]:
    from rasterio.errors import RasterioError

    try:
        yield
    except UnsuitableError as error:
        raise BadSampleError(f"{path} {error}") from error
    except (RasterioError, ValueError) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise BadSampleError(f"{path} cannot be read ({reason}): restore the file") from error


def _spooled(rows: FileRows, file: Any) -> Pixels:
    """Decode an image into a file that is mapped into memory."""
    pixels: Pixels = np.memmap(file, dtype=np.uint8, mode="w+", shape=(rows.height, rows.width, 3))
    for start in range(0, rows.height, _STRIP):
        stop = min(start + _STRIP, rows.height)
        pixels[start:stop] = rows.read(Span(start, stop))
    return pixels
