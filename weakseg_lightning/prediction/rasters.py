"""Image files as rows: small ones from memory, those that are too large for it from the file, incrementally."""

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError
from typing_extensions import override

from weakseg_lightning.data import BadSampleError
from weakseg_lightning.data.images.bands import picture_valid
from weakseg_lightning.data.images.described import describe_bands
from weakseg_lightning.data.images.nodata import NODATA_COLOR, Flags
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
from weakseg_lightning.data.images.reading import ImageHeader, read_header, read_image
from weakseg_lightning.data.maps.places import Place, open_raster
from weakseg_lightning.errors import FileError
from weakseg_lightning.files import reserve
from weakseg_lightning.prediction.maps import is_map
from weakseg_lightning.prediction.regions import Region
from weakseg_lightning.prediction.tiling import MemoryRows, Span

IN_MEMORY = 2**26
"""Images of more pixels (8192 x 8192) are read incrementally."""

_PREVIEW = 1024  # sides of the reduced image that deep images take black and white from
_STRIP = 256  # rows that are decoded at once
_WHOLE = Region()


@contextmanager
def open_rows(
    path: Path,
    in_memory: int = IN_MEMORY,
    region: Region = _WHOLE,
) -> Iterator["MemoryRows | FileRows"]:
    """Open an image file of any size.

    As `read_image` reads it: RGB, gray, palette and transparent images (on white), of any depth, upright. Black and
    white of deep images that are read incrementally are those of a reduced copy of the whole image. Pixels without data
    are seen as `NODATA_COLOR`, except in images that are read incrementally and lie on no map: there, all have data.

    Args:
        path: image file.
        in_memory: images of more pixels are read incrementally, which needs the package rasterio. So are all that
            lie on a map.
        region: the part that is read.

    Yields:
        Its rows. Those of a large image can only be asked for from the top downwards; :class:`MapRows` if it lies on a
        map.

    Raises:
        BadSampleError: if the file cannot be read, now or later.
    """
    _tell_of_bands(path)
    if is_map(path):
        with _raster(path) as source:
            yield MapRows(path, source, region)
        return
    header = _header(path)
    if header.width * header.height <= in_memory:
        pixels, valid = read_image(path).permute(1, 2, 0).numpy(), picture_valid(path)
        if valid is not None:
            pixels[~valid] = NODATA_COLOR
        yield _part(path, pixels, region, valid)
        return
    with _raster(path) as source:
        if header.orientation == 1:
            yield FileRows(path, source, header, region)
            return
        with tempfile.TemporaryFile() as file:
            pixels = upright(_spooled(FileRows(path, source, header), file), header.orientation)
            yield _part(path, pixels, region)


def is_turned(path: Path) -> bool:
    """Tell if EXIF data turn or mirror an image, which is not done where it lies on a map.

    Raises:
        BadSampleError: if the file cannot be read.
    """
    header = _header_of_map(path)
    return header is not None and header.orientation != 1


class FileRows:
    """The rows of a file, read from the top downwards: PNG and JPEG can be decoded in no other order.

    Args:
        path: the file, for messages.
        source: the same, opened by rasterio.
        header: what its header says; None if rasterio alone knows its format.
        region: the part that is read.
        place: its place on a map, if it has one.
    """

    _bands = 3  # of what is decoded

    def __init__(
        self, path: Path, source: Any, header: ImageHeader | None, region: Region = _WHOLE, place: Place | None = None
    ) -> None:
        self.path = path
        self.source = source
        self.rows, self.columns = region.find(path, int(source.width), int(source.height), place)
        self.height, self.width = self.rows.size, self.columns.size
        self._read = Span(0, 0)
        self._kept = np.empty((0, self.width, self._bands), dtype=np.uint8)
        with _bad_sample(path):
            check_bands(self.source.count)
            self._palette = self._find_palette(header)
            self._layout = (header.layout if header is not None else None) or self._find_layout(header is not None)
            self._range = self._find_range() if self._layout.deep else None

    def read(self, rows: Span) -> Pixels:
        """Read rows, uint8 ``(h, W, 3)``; what an earlier call has read of them is not read again."""
        return self._keep(rows)[..., :3]

    def invalid(self, rows: Span) -> npt.NDArray[np.bool_] | None:
        """All pixels count as having data."""
        return None

    def _keep(self, rows: Span) -> Pixels:
        """Rows with all that is decoded, which are kept until the next ones are read."""
        if rows.start < self._read.start:
            raise ValueError(f"rows {rows} were asked for after {self._read}: a file is read from the top downwards")
        known = self._kept[rows.start - self._read.start : rows.stop - self._read.start]
        pixels = np.empty((rows.size, self.width, self._bands), dtype=np.uint8)
        pixels[: len(known)] = known
        for start in range(len(known), rows.size, _STRIP):
            stop = min(start + _STRIP, rows.size)
            pixels[start:stop] = self._decode(Span(rows.start + start, rows.start + stop))
        self._kept, self._read = pixels, rows
        return pixels

    def _decode(self, rows: Span) -> Pixels:
        with _bad_sample(self.path):
            return self._in_rgb(_last(self.source.read(window=self._window(rows))))

    def _window(self, rows: Span) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows of the part in the whole image."""
        first = self.rows.start
        return (first + rows.start, first + rows.stop), (self.columns.start, self.columns.stop)

    def _in_rgb(self, values: npt.NDArray[Any]) -> Pixels:
        if self._palette is not None:
            painted: Pixels = self._palette[values[..., 0]]
            return painted
        return to_rgb(values, self._layout, self._range)

    def _find_range(self) -> tuple[float, float] | None:
        return find_range(_last(self.source.read(out_shape=(self.source.count, *self._preview()))), self._layout)

    def _preview(self) -> tuple[int, int]:
        return min(self.source.height, _PREVIEW), min(self.source.width, _PREVIEW)

    def _find_palette(self, header: ImageHeader | None) -> Pixels | None:
        """Its colors on white, ``(256, 3)``; rasterio also gives gray files whose low values are bright a palette."""
        known_as_gray = header is not None and header.layout is not None and not header.has_palette
        if self.source.colorinterp[0].name != "palette" or known_as_gray:
            return None
        found = self.source.colormap(1)
        colors = np.array([[found.get(index, (0, 0, 0, 255)) for index in range(256)]], dtype=np.uint8)
        palette: Pixels = on_white(colors[..., :3], colors[..., 3])[0]
        return palette

    def _find_layout(self, as_pillow: bool) -> Layout:
        """Meaning of the bands, of files whose headers say it to rasterio alone."""
        colors = 3 if self.source.count >= 3 else 1
        dtype = np.dtype(self.source.dtypes[0])
        # In 8 bits Pillow takes any band after the colors for opacity.
        unsaid = as_pillow and dtype == np.uint8
        alpha = self.source.count > colors and (unsaid or self.source.colorinterp[colors].name == "alpha")
        return Layout(colors, alpha, bits=8 * dtype.itemsize, deep=dtype != np.uint8)


class MapRows(FileRows):
    """The rows of an image that lies on a map: upright as the map has it, whatever EXIF data say.

    What the file marks as having no data is invalid, and so are pixels that are no numbers. They have no influence on
    the range of deep images, and what is stored there none on anything.

    Args:
        path: the file.
        source: the same, opened by rasterio.
        region: the part that is read.

    Attributes:
        place: of the part that is read.
    """

    _bands = 4  # the last tells which pixels are valid

    def __init__(self, path: Path, source: Any, region: Region) -> None:
        whole = Place.of_whole(source)
        super().__init__(path, source, _header_of_map(path), region, whole)
        self.place = Place.of(source, self.rows, self.columns)

    @override
    def invalid(self, rows: Span) -> npt.NDArray[np.bool_]:
        """Tell which pixels have no data, ``(h, W)``, of rows that were read last."""
        kept: Pixels = self._kept[rows.start - self._read.start : rows.stop - self._read.start]
        invalid: npt.NDArray[np.bool_] = kept[..., 3] == 0
        return invalid

    @override
    def _decode(self, rows: Span) -> Pixels:
        with _bad_sample(self.path):
            window = self._window(rows)
            values = _last(self.source.read(window=window))
            valid = _finite(values) & (self.source.dataset_mask(window=window) > 0)
            values[~valid] = 0
            pixels = self._in_rgb(values)
            return np.dstack([np.where(valid[..., None], pixels, np.array(NODATA_COLOR, np.uint8)), valid])

    @override
    def _find_range(self) -> tuple[float, float] | None:
        shape = self._preview()
        values = _last(self.source.read(out_shape=(self.source.count, *shape)))
        valid = _finite(values) & (self.source.dataset_mask(out_shape=shape) > 0)
        return find_range(values[valid][None], self._layout) if valid.any() else (0.0, 1.0)


def _finite(values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Pixels ``(H, W)`` that are numbers in all bands."""
    finite: npt.NDArray[np.bool_] = np.isfinite(values).all(-1)
    return finite


def _tell_of_bands(path: Path) -> None:
    """Warn of a band beside gray or RGB that is not said to be opacity, and is left out."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        return
    found = describe_bands(path)
    if not found.is_picture and found.count in (2, 4):
        read = "gray" if found.count == 2 else "red, green and blue"
        warnings.warn(
            f"{path} has {found.count} bands, of which the network sees {found.count - 1}, as {read}: one that sees "
            "all is trained with `channels` of the data",
            stacklevel=2,
        )


def _part(path: Path, pixels: Pixels, region: Region, valid: Flags | None = None) -> MemoryRows:
    height, width = pixels.shape[:2]
    rows, columns = region.find(path, width, height, None)
    place = slice(rows.start, rows.stop), slice(columns.start, columns.stop)
    return MemoryRows(pixels[place], None if valid is None else valid[place])


def _header_of_map(path: Path) -> ImageHeader | None:
    """Its header; None for formats that GDAL alone knows, mosaics of several files among them."""
    try:
        return _header(path)
    except BadSampleError as error:
        if isinstance(error.__cause__, UnidentifiedImageError):
            return None
        raise


def _last(bands: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Bands as the last dimension."""
    return np.moveaxis(bands, 0, -1)


def _header(path: Path) -> ImageHeader:
    """Read the header of an image that may be larger than Pillow would decode."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        return read_header(path)
    finally:
        Image.MAX_IMAGE_PIXELS = limit


@contextmanager
def _raster(path: Path) -> Iterator[Any]:
    try:
        import rasterio  # noqa: F401 - its absence is said here
    except ImportError as error:
        size = f"more than {IN_MEMORY} pixels"
        raise BadSampleError(
            f"{path} has {size}, which is read incrementally with rasterio: pip install '.[raster]' in the checkout"
        ) from error
    with ExitStack() as stack:
        with _bad_sample(path):
            source = stack.enter_context(open_raster(path))
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
    try:
        pixels: Pixels = np.memmap(file, dtype=np.uint8, mode="w+", shape=(rows.height, rows.width, 3))
        reserve(file)
    except OSError as error:
        text = f"{rows.path} cannot be unpacked ({error.strerror or error}): set TMPDIR to a folder with more room"
        raise FileError(text) from error
    for start in range(0, rows.height, _STRIP):
        stop = min(start + _STRIP, rows.height)
        pixels[start:stop] = rows.read(Span(start, stop))
    return pixels
