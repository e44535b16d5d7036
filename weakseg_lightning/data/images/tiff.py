"""TIFF files of any depth: Pillow decompresses them as rows of bytes, of which samples are made here.

Read as images, Pillow cuts 16-bit colors to 8 bits, and knows no floats in color and no deep gray with transparency.
"""

import io
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL.TiffImagePlugin import TiffImageFile

from weakseg_lightning.data.images.pixels import Bands, Layout, UnsuitableError, check_bands, check_size

# Numbers of tags.
_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 254, 256, 257, 258, 259, 262, 266
_OFFSETS, _ORIENTATION, _SAMPLES, _ROWS, _COUNTS, _PLANAR, _PREDICTOR = 273, 274, 277, 278, 279, 284, 317
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS, _EXTRA_SAMPLES, _FORMATS = 322, 323, 324, 325, 338, 339
GDAL_NODATA = 42113
_NUMBERS = {1: "u1", 3: "u2", 4: "u4", 16: "u8"}  # types of tags that are whole numbers

_INVERTED_GRAY, _GRAY, _RGB, _PALETTE, _, _SEPARATED = range(6)
_PREMULTIPLIED, _STRAIGHT, _OF_CORELDRAW = 1, 2, 999
_OPACITY = ([_PREMULTIPLIED], [_STRAIGHT], [_OF_CORELDRAW])  # extra samples that are opacity
_REDUCED, _MASK = 1, 4  # bits of the type of a page that is no image of its own
_DIFFERENCES, _FLOAT_DIFFERENCES = 2, 3
_LOSSLESS = {1: "none", 5: "LZW", 8: "deflate", 32946: "deflate", 32773: "PackBits", 34925: "LZMA", 50000: "ZSTD"}
_KINDS = {1: "u", 2: "i", 3: "f", 4: "u"}

Tags = dict[int, list[int]]


@dataclass(frozen=True)
class TiffHead:
    """Facts from the head of a TIFF.

    Attributes:
        tags: whole numbers of its tags, by the numbers of these, and the bytes of GDAL's text of nodata.
        order: ``<`` or ``>``, the order of its bytes.
        big: whether it is a BigTIFF.
        number: of its page, from 0.
    """

    tags: Tags
    order: str
    big: bool
    number: int = 0

    def first(self, tag: int, default: int) -> int:
        """The first value of a tag."""
        return (self.tags.get(tag) or [default])[0]

    @property
    def is_full(self) -> bool:
        """An image of its own, no reduced copy and no mask of another page."""
        return not self.first(_SUBFILE, 0) & (_REDUCED | _MASK)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as stored."""
        return self.first(_WIDTH, 0), self.first(_HEIGHT, 0)

    @property
    def orientation(self) -> int:
        """As EXIF data have it, 1 to 8."""
        return self.first(_ORIENTATION, 1)

    @property
    def bands(self) -> int:
        """Number of samples of a pixel."""
        return self.first(_SAMPLES, 1)

    @property
    def is_tiled(self) -> bool:
        """Storage in tiles, not in strips."""
        return _TILE_OFFSETS in self.tags

    @property
    def places(self) -> tuple[int, int]:
        """The tags that say where its tiles or strips begin, and how many bytes these take."""
        return (_TILE_OFFSETS, _TILE_COUNTS) if self.is_tiled else (_OFFSETS, _COUNTS)

    @property
    def has_palette(self) -> bool:
        """Values that are indices of colors."""
        return self.first(_PHOTOMETRIC, _GRAY) == _PALETTE

    @property
    def has_gray_or_rgb(self) -> bool:
        """Colors that are gray or red, green and blue."""
        return self.first(_PHOTOMETRIC, _GRAY) in (_GRAY, _INVERTED_GRAY, _RGB)

    @property
    def has_plain_samples(self) -> bool:
        """Samples that :func:`read_samples` reads: neither compressed with loss nor of colors such as YCbCr."""
        plain = self.has_gray_or_rgb or self.first(_PHOTOMETRIC, _GRAY) == _SEPARATED
        return plain and self.first(_COMPRESSION, 1) in _LOSSLESS

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the samples; of a number of bits that is none of NumPy's, the next larger.

        Raises:
            UnsuitableError: if bands differ, or are of a type that is not read.
        """
        bits, formats = set(self.tags.get(_BITS, [1])), set(self.tags.get(_FORMATS, [1]))
        if len(bits) > 1 or len(formats) > 1:
            raise UnsuitableError("has bands of different types: convert it to one type")
        size, kind = bits.pop(), _KINDS.get(formats.pop(), "")
        whole = max(8, 2 ** (size - 1).bit_length())
        if not kind or whole > 64 or (kind != "u" and whole != size) or (kind == "f" and size == 8):
            raise UnsuitableError(f"has pixels of a type that is not read ({size} bits): convert it to 8 or 16 bits")
        return np.dtype(f"{kind}{whole // 8}")

    @property
    def layout(self) -> Layout:
        """The meaning of its bands.

        Raises:
            UnsuitableError: if they cannot be gray or RGB with or without transparency.
        """
        photometric, extras = self.first(_PHOTOMETRIC, _GRAY), self.tags.get(_EXTRA_SAMPLES, [])
        check_bands(self.bands)
        # Three bands are red, green and blue also where the program that wrote them did not say so.
        colors = 3 if photometric == _RGB or (self.bands >= 3 and extras[:1] not in _OPACITY) else 1
        if self.bands < colors:
            raise UnsuitableError(f"has {self.bands} bands, expected 3 of a color image: convert it")
        after = extras[colors - self.bands :] if self.bands > colors else []
        unsaid = photometric == _RGB and not extras and self.bands > colors
        alpha = unsaid or after[:1] in _OPACITY
        bits, signed = self.first(_BITS, 1), self.dtype.kind != "u"
        return Layout(
            colors,
            alpha,
            premultiplied=after[:1] == [_PREMULTIPLIED],
            bits=bits,
            deep=bits > 8 or signed,
            inverted=photometric == _INVERTED_GRAY and colors == 1,
        )

    @property
    def is_ordinary(self) -> bool:
        """Gray and RGB of 8 bits as most programs store it, palettes, other colors: what Pillow reads as it is.

        Raises:
            UnsuitableError: if it has too many bands.
        """
        if not self.has_gray_or_rgb:
            return True
        check_bands(self.bands)
        eight = max(self.tags.get(_BITS, [1])) <= 8 and set(self.tags.get(_FORMATS, [1])) <= {1, 4}
        together, rgb = self.first(_PLANAR, 1) == 1, self.first(_PHOTOMETRIC, _GRAY) == _RGB
        usual = (rgb and (together or self.bands == 3)) or (together and self.bands == 1)
        known = not (self.big and self.order == ">")  # a BigTIFF whose highest bytes are first
        return eight and ((usual and known) or self.first(_COMPRESSION, 1) not in _LOSSLESS)


def read_tiff_head(file: BinaryIO) -> TiffHead | None:
    """Read the head of a TIFF; None if the file is none. The file is put back to its start.

    Raises:
        UnsuitableError: if it has more images than one; reduced copies of it and masks do not count.
    """
    if (pages := read_tiff_pages(file)) is None:
        return None
    if len(pages) != 1 or pages[0].number:
        what = f"{len(pages)} pages, expected one image" if len(pages) > 1 else "a thumbnail or mask before its image"
        raise UnsuitableError(f"has {what}: name their bands as `channels` of the data, or save one of them")
    return pages[0]


def read_tiff_pages(file: BinaryIO) -> list[TiffHead] | None:
    """Read the heads of the images of a TIFF, as :func:`read_tiff_head` does of one; raises if there is none."""
    pages = _all_pages(file)
    full = [page for page in pages or () if page.is_full]
    if pages is not None and not full:
        raise ValueError(f"it has {len(pages)} pages, expected an image")
    return full or None


def read_deep_tiff(file: BinaryIO, head: TiffHead) -> Bands:
    """Read the samples of a TIFF.

    Raises:
        UnsuitableError: if it is stored in a way that is not read.
        OSError, ValueError: if it is damaged.
    """
    layout = head.layout  # raises before anything is decompressed
    return Bands(read_samples(file, head), layout, head.orientation)


def read_samples(file: BinaryIO, head: TiffHead) -> NDArray[Any]:
    """Read the samples of a page, of any number of bands, ``(H, W, bands)``; raises as :func:`read_deep_tiff`."""
    check_size(*head.size)
    parts = _parts(head)
    planes = [_samples(_decompressed(file, head, parts, plane), head, parts) for plane in range(parts.planes)]
    return planes[0] if parts.planes == 1 else np.concatenate(planes, axis=-1)


# ---- tags -------------------------------------------------------------------------------------------------------


def _number(order: str, data: bytes) -> int:
    return int.from_bytes(data, "little" if order == "<" else "big")


def _all_pages(file: BinaryIO) -> list[TiffHead] | None:
    start = file.read(16)
    file.seek(0)
    order = {b"II": "<", b"MM": ">"}.get(start[:2], "")
    if not order or len(start) < 16 or (version := _number(order, start[2:4])) not in (42, 43):
        return None
    big = version == 43
    tags = _pages(file, order, big, _number(order, start[8:] if big else start[4:8]))
    pages = [TiffHead(page, order, big, number) for number, page in enumerate(tags)]
    file.seek(0)
    return pages


def _pages(file: BinaryIO, order: str, big: bool, offset: int) -> Iterator[Tags]:
    seen = set[int]()
    while offset and offset not in seen:
        seen.add(offset)
        file.seek(offset)
        count = _number(order, _read(file, 8 if big else 2))
        entry = struct.Struct(f"{order}HHQ8s" if big else f"{order}HHI4s")
        table, after = _read(file, count * entry.size), _read(file, 8 if big else 4)
        kept = (row for row in entry.iter_unpack(table) if row[1] in _NUMBERS or row[0] == GDAL_NODATA)
        yield {tag: _values(file, order, *rest) for tag, *rest in kept}
        offset = _number(order, after)


def _values(file: BinaryIO, order: str, kind: int, count: int, inline: bytes) -> list[int]:
    dtype = np.dtype(_NUMBERS.get(kind, "u1")).newbyteorder(order)  # type: ignore[arg-type]
    if (size := count * dtype.itemsize) > len(inline):
        file.seek(_number(order, inline))
        inline = _read(file, size)
    return [int(value) for value in np.frombuffer(inline[:size], dtype)]


def _read(file: BinaryIO, size: int) -> bytes:
    left = os.fstat(file.fileno()).st_size - file.tell()
    if size > left:  # damaged tags may ask for more than there is memory
        raise OSError("the file is truncated")
    return file.read(size)


# ---- pixels -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Parts:
    """How the image is cut: into tiles, or into strips, which are tiles as wide as it is."""

    width: int
    height: int
    across: int
    planes: int
    samples: int  # of a pixel in a plane
    offsets: Sequence[int]
    counts: Sequence[int]

    @property
    def number(self) -> int:
        """Number of tiles of a plane."""
        return len(self.offsets) // self.planes


def _parts(head: TiffHead) -> _Parts:
    width, height = head.size
    planes = head.bands if head.first(_PLANAR, 1) == 2 else 1
    wide = head.first(_TILE_WIDTH, 0) if head.is_tiled else width
    high = head.first(_TILE_HEIGHT, 0) if head.is_tiled else min(head.first(_ROWS, height), height)
    offsets, counts = (head.tags.get(tag, []) for tag in head.places)
    if min(width, height, wide, high) < 1 or len(offsets) != len(counts):
        raise ValueError("its tags contradict each other")
    across = ceil(width / wide)
    if len(offsets) != planes * across * ceil(height / high):
        raise ValueError("parts of it are missing")
    return _Parts(wide, high, across, planes, head.bands // planes, offsets, counts)


def _decompressed(file: BinaryIO, head: TiffHead, parts: _Parts, plane: int) -> NDArray[np.uint8]:
    """The bytes of a plane, ``(H, bytes of a row)``: its parts as a TIFF that is said to be gray of 8 bits."""
    compression, row = head.first(_COMPRESSION, 1), ceil(parts.width * parts.samples * head.first(_BITS, 1) / 8)
    if compression not in _LOSSLESS:
        ways = ", ".join(dict.fromkeys(_LOSSLESS.values()))
        raise UnsuitableError(f"has a compression (number {compression}) not read at its depth: save it with {ways}")
    data, offsets = bytearray(8), list[int]()
    mine = slice(plane * parts.number, (plane + 1) * parts.number)
    for offset, count in zip(parts.offsets[mine], parts.counts[mine], strict=True):
        file.seek(offset)
        offsets.append(len(data))
        data += _read(file, count)
    tags = {_WIDTH: [row * parts.across], _HEIGHT: [head.size[1]], _BITS: [8], _SAMPLES: [1], _PHOTOMETRIC: [_GRAY]}
    tags |= {_COMPRESSION: [compression], _FILL_ORDER: [head.first(_FILL_ORDER, 1)]}
    tags |= {_TILE_WIDTH: [row], _TILE_HEIGHT: [parts.height]} if head.is_tiled else {_ROWS: [parts.height]}
    tags |= dict(zip(head.places, (offsets, list(parts.counts[mine])), strict=True))
    try:
        with TiffImageFile(io.BytesIO(_with_tags(data, tags))) as image:
            return np.array(image)
    except OSError as error:
        raise OSError(f"its pixels cannot be decompressed with {_LOSSLESS[compression]}") from error


def _with_tags(data: bytearray, tags: Tags) -> bytes:
    """A TIFF of data that begin with eight bytes for its head."""
    entries = []
    for tag, values in sorted(tags.items()):
        packed = struct.pack(f"<{len(values)}I", *values)
        place = packed if len(values) == 1 else struct.pack("<I", len(data))
        data += packed if len(values) > 1 else b""
        entries.append(struct.pack("<HHI", tag, 4, len(values)) + place)
    data[:8] = struct.pack("<2sHI", b"II", 42, len(data))
    return bytes(data) + struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)


def _samples(rows: NDArray[np.uint8], head: TiffHead, parts: _Parts) -> NDArray[Any]:
    """Samples ``(H, W, samples)`` from the bytes of a plane."""
    tiles = rows.reshape(len(rows), parts.across, -1)
    predictor, dtype = head.first(_PREDICTOR, 1), head.dtype
    if head.first(_BITS, 1) % 8:
        values = _unpacked(tiles, parts.width * parts.samples, head.first(_BITS, 1)).astype(dtype)
    elif predictor == _FLOAT_DIFFERENCES and dtype.kind == "f":
        values = _from_float_differences(tiles, dtype, parts.samples)
    else:
        values = tiles.view(dtype.newbyteorder(head.order)).astype(dtype)  # type: ignore[arg-type]
    values = values.reshape(len(rows), parts.across, parts.width, parts.samples)
    if predictor == _DIFFERENCES:
        whole = values.view(f"u{dtype.itemsize}")
        values = np.cumsum(whole, axis=2, dtype=whole.dtype).view(dtype)
    return values.reshape(len(rows), -1, parts.samples)[:, : head.size[0]]


def _unpacked(tiles: NDArray[np.uint8], number: int, bits: int) -> NDArray[Any]:
    """Numbers of a number of bits that is no multiple of 8, the highest bit first."""
    single = np.unpackbits(tiles, axis=-1)[..., : number * bits].reshape(*tiles.shape[:2], number, bits)
    return single @ (2 ** np.arange(bits - 1, -1, -1, dtype=np.uint64))


def _from_float_differences(tiles: NDArray[np.uint8], dtype: np.dtype[Any], samples: int) -> NDArray[Any]:
    """Floats whose bytes are differences to the pixel before, the highest bytes of a row first."""
    by_pixel = tiles.reshape(*tiles.shape[:2], -1, samples)
    summed = np.cumsum(by_pixel, axis=2, dtype=np.uint8).reshape(*tiles.shape[:2], dtype.itemsize, -1)
    return np.ascontiguousarray(summed.swapaxes(-1, -2)).view(dtype.newbyteorder(">"))[..., 0].astype(dtype)
