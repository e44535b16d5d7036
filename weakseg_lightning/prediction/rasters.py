"""Image files as rows: small ones from memory, those that are too large for it from the file, by and by."""

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from weakseg_lightning.data import BadSampleError
from weakseg_lightning.data.files import opened, read_image
from weakseg_lightning.prediction.tiling import Span

Pixels = npt.NDArray[np.uint8]

IN_MEMORY = 2**26
"""Images of more pixels (8192 x 8192) are read by and by."""

_PERCENTILES = (0.1, 99.9)  # what becomes black and white, as `read_image` has it
_PREVIEW = 1024  # sides of the reduced image that the percentiles are taken from
_STRIP = 256  # rows that are decoded at once
_CACHE = 64  # of GDAL in megabytes; it would take a share of the memory that there is


@contextmanager
def open_rows(path: Path, in_memory: int = IN_MEMORY) -> Iterator["MemoryRows | FileRows"]:
    """Open an image file of any size.

    RGB, grey, palette and transparent images (on white), also of 16 bits, upright as their EXIF data say.

    Args:
        path: image file.
        in_memory: images of more pixels are read by and by, which needs the package rasterio.

    Yields:
        Its rows. Those of a large image can only be asked for from the top downwards.

    Raises:
        BadSampleError: if the file cannot be read, now or later.
    """
    width, height, orientation = _head(path)
    if width * height <= in_memory:
        pixels = read_image(path).permute(1, 2, 0).numpy()
        yield MemoryRows(pixels)
        return
    with _raster(path) as source:
        rows = FileRows(path, source)
        if orientation == 1:
            yield rows
            return
        with tempfile.TemporaryFile() as file:
            yield MemoryRows(_turned(_spooled(rows, file), orientation))


class MemoryRows:
    """The rows of an array, which may be a file that is mapped into memory.

    Args:
        pixels: uint8 ``(H, W, 3)``.
    """

    def __init__(self, pixels: Pixels) -> None:
        self.pixels = pixels
        self.height, self.width = pixels.shape[:2]

    def read(self, rows: Span) -> Pixels:
        """Read rows, uint8 ``(h, W, 3)``."""
        return self.pixels[rows.start : rows.stop]


class FileRows:
    """The rows of a file, read from the top downwards: PNG and JPEG can be decoded in no other order.

    Args:
        path: the file, for messages.
        source: the same, opened by rasterio.
    """

    def __init__(self, path: Path, source: Any) -> None:
        self.path = path
        self.source = source
        self.height, self.width = int(source.height), int(source.width)
        self._read = Span(0, 0)
        self._kept = np.empty((0, self.width, 3), dtype=np.uint8)
        with _bad_sample(path):
            self._check_bands()
            self._palette = self._find_palette()
            self._range = self._find_range()

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
            bands = self.source.read(window=((rows.start, rows.stop), (0, self.width)))
        color = bands[:-1] if self._has_alpha else bands
        if self._palette is not None:
            painted: Pixels = self._palette[color[0]]
            return painted
        rgb = np.broadcast_to(self._eight_bits(color), (3, *color.shape[1:])).transpose(1, 2, 0)
        if not self._has_alpha:
            return np.ascontiguousarray(rgb)
        alpha = bands[-1][..., None] / np.float32(np.iinfo(bands.dtype).max)
        mixed: Pixels = (alpha * rgb + (1 - alpha) * 255).round().astype(np.uint8)
        return mixed

    @property
    def _has_alpha(self) -> bool:
        return self.source.count in (2, 4)

    def _check_bands(self) -> None:
        if self.source.count > 4 or len(set(self.source.dtypes)) > 1:
            raise BadSampleError(
                f"{self.path} has {self.source.count} bands of {', '.join(sorted(set(self.source.dtypes)))}, expected "
                "grey or RGB, with or without transparency: convert it"
            )

    def _find_palette(self) -> Pixels | None:
        if self.source.count != 1 or self.source.colorinterp[0].name != "palette":
            return None
        colors = self.source.colormap(1)
        return np.array([colors.get(index, (0, 0, 0))[:3] for index in range(256)], dtype=np.uint8)

    def _find_range(self) -> tuple[float, float] | None:
        """What becomes black and white, where that is not what the file says: in grey images of more than 8 bits."""
        if self.source.dtypes[0] == "uint8" or self.source.count > 2:
            return None
        shape = (1, min(self.height, _PREVIEW), min(self.width, _PREVIEW))
        dark, bright = np.percentile(self.source.read([1], out_shape=shape), _PERCENTILES)
        return float(dark), float(max(bright, dark + 1e-12))

    def _eight_bits(self, values: npt.NDArray[Any]) -> Pixels:
        if values.dtype == np.uint8:
            return values
        dark, bright = self._range or (0.0, float(np.iinfo(values.dtype).max))
        stretched = (values.astype(np.float32) - dark) / (bright - dark)
        eight: Pixels = (255 * stretched.clip(0, 1)).round().astype(np.uint8)
        return eight


def _head(path: Path) -> tuple[int, int, int]:
    """Width and height as they are in the file, and the EXIF orientation."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # only the head is read here
    try:
        with opened(path) as image:
            width, height = image.size
            orientation = int(image.getexif().get(ExifTags.Base.Orientation, 1))
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    return width, height, orientation


@contextmanager
def _raster(path: Path) -> Iterator[Any]:
    try:
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning
    except ImportError as error:
        size = f"more than {IN_MEMORY} pixels"
        raise BadSampleError(
            f"{path} has {size}, which is read by and by with rasterio: pip install 'weakseg-lightning[raster]'"
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
    except RasterioError as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise BadSampleError(f"{path} cannot be read ({reason}): restore the file") from error


def _spooled(rows: FileRows, file: Any) -> Pixels:
    """Decode an image into a file that is mapped into memory."""
    pixels: Pixels = np.memmap(file, dtype=np.uint8, mode="w+", shape=(rows.height, rows.width, 3))
    for start in range(0, rows.height, _STRIP):
        stop = min(start + _STRIP, rows.height)
        pixels[start:stop] = rows.read(Span(start, stop))
    return pixels


def _turned(pixels: Pixels, orientation: int) -> Pixels:
    """Turn an image upright, without copying it."""
    if orientation in (2, 3, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7):
        pixels = pixels[::-1]
    if orientation in (5, 7):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (6, 8):
        pixels = np.rot90(pixels, 1 if orientation == 8 else -1)
    return pixels
