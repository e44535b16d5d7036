"""The headers of TIFF files of any depth: sizes, types and meaning of their samples, and where these are stored."""

import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Any, BinaryIO

import numpy as np

from weakseg_lightning.data.images import tiff_tags as tag
from weakseg_lightning.data.images.pixels import Layout, UnsuitableError, check_bands

_TEXTS = {tag.DESCRIPTION, tag.GDAL_NODATA}  # kept as bytes, of which this many tell
_MOST_TEXT = 2048
_NUMBERS = {1: "u1", 3: "u2", 4: "u4", 16: "u8"}  # types of tags that are whole numbers

_INVERTED_GRAY, GRAY, _RGB, _PALETTE, _, _SEPARATED = range(6)
_PREMULTIPLIED, _STRAIGHT, _OF_CORELDRAW = 1, 2, 999
_OPACITY = ([_PREMULTIPLIED], [_STRAIGHT], [_OF_CORELDRAW])  # extra samples that are opacity
_REDUCED, _MASK = 1, 4  # bits of the type of a page that is no image of its own
LOSSLESS = {1: "none", 5: "LZW", 8: "deflate", 32946: "deflate", 32773: "PackBits", 34925: "LZMA", 50000: "ZSTD"}
_KINDS = {1: "u", 2: "i", 3: "f", 4: "u"}

Tags = dict[int, list[int]]


@dataclass(frozen=True)
class TiffHeader:
    """Facts from the header of a TIFF.

    Attributes:
        tags: whole numbers of its tags, by the numbers of these, and the first bytes of its description and of GDAL's
            text of nodata.
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
        return not self.first(tag.SUBFILE, 0) & (_REDUCED | _MASK)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as stored."""
        return self.first(tag.WIDTH, 0), self.first(tag.HEIGHT, 0)

    @property
    def orientation(self) -> int:
        """As EXIF data have it, 1 to 8; other numbers turn nothing."""
        stored = self.first(tag.ORIENTATION, 1)
        return stored if 1 <= stored <= 8 else 1

    @property
    def bands(self) -> int:
        """Number of samples of a pixel."""
        return self.first(tag.SAMPLES, 1)

    @property
    def is_tiled(self) -> bool:
        """Storage in tiles, not in strips."""
        return tag.TILE_OFFSETS in self.tags

    @property
    def places(self) -> tuple[int, int]:
        """The tags that say where its tiles or strips begin, and how many bytes these take."""
        return (tag.TILE_OFFSETS, tag.TILE_COUNTS) if self.is_tiled else (tag.OFFSETS, tag.COUNTS)

    @property
    def has_palette(self) -> bool:
        """Values that are indices of colors."""
        return self.first(tag.PHOTOMETRIC, GRAY) == _PALETTE

    @property
    def has_gray_or_rgb(self) -> bool:
        """Colors that are gray or red, green and blue."""
        return self.first(tag.PHOTOMETRIC, GRAY) in (GRAY, _INVERTED_GRAY, _RGB)

    @property
    def has_plain_samples(self) -> bool:
        """Samples that ``read_samples`` reads: neither compressed with loss nor of colors such as YCbCr."""
        plain = self.has_gray_or_rgb or self.first(tag.PHOTOMETRIC, GRAY) == _SEPARATED
        return plain and self.first(tag.COMPRESSION, 1) in LOSSLESS

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the samples; of a number of bits that is none of NumPy's, the next larger.

        Raises:
            UnsuitableError: if bands differ, or are of a type that is not read.
        """
        bits, formats = set(self.tags.get(tag.BITS, [1])), set(self.tags.get(tag.FORMATS, [1]))
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
        photometric, extras = self.first(tag.PHOTOMETRIC, GRAY), self.tags.get(tag.EXTRA_SAMPLES, [])
        check_bands(self.bands)
        # Three bands are red, green and blue also where the program that wrote them did not say so.
        colors = 3 if photometric == _RGB or (self.bands >= 3 and extras[:1] not in _OPACITY) else 1
        if self.bands < colors:
            raise UnsuitableError(f"has {self.bands} bands, expected 3 of a color image: convert it")
        after = extras[colors - self.bands :] if self.bands > colors else []
        unsaid = photometric == _RGB and not extras and self.bands > colors
        alpha = unsaid or after[:1] in _OPACITY
        bits, signed = self.first(tag.BITS, 1), self.dtype.kind != "u"
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
        eight = max(self.tags.get(tag.BITS, [1])) <= 8 and set(self.tags.get(tag.FORMATS, [1])) <= {1, 4}
        together, rgb = self.first(tag.PLANAR, 1) == 1, self.first(tag.PHOTOMETRIC, GRAY) == _RGB
        usual = (rgb and (together or self.bands == 3)) or (together and self.bands == 1)
        known = not (self.big and self.order == ">")  # a BigTIFF whose highest bytes are first
        return eight and ((usual and known) or self.first(tag.COMPRESSION, 1) not in LOSSLESS)


def read_tiff_header(file: BinaryIO) -> TiffHeader | None:
    """Read the header of a TIFF; None if the file is none. The file is put back to its start.

    Raises:
        UnsuitableError: if it has more images than one; reduced copies of it and masks do not count.
    """
    if (pages := read_tiff_pages(file)) is None:
        return None
    if len(pages) != 1 or pages[0].number:
        what = f"{len(pages)} pages, expected one image" if len(pages) > 1 else "a thumbnail or mask before its image"
        raise UnsuitableError(f"has {what}: name their bands as `channels` of the data, or save one of them")
    return pages[0]


def read_tiff_pages(file: BinaryIO) -> list[TiffHeader] | None:
    """Read the headers of the images of a TIFF, as :func:`read_tiff_header` does of one; raises if there is none."""
    pages = _all_pages(file)
    full = [page for page in pages or () if page.is_full]
    if pages is not None and not full:
        raise ValueError(f"it has {len(pages)} pages, expected an image")
    return (_stack(file, full[0]) if len(full) == 1 else full) or None


# ---- stacks behind one header -------------------------------------------------------------------------------------


def _stack(file: BinaryIO, page: TiffHeader) -> list[TiffHeader]:
    """A header for each image of a stack that is stored behind the header of its first, as ImageJ stores large ones.

    Raises:
        UnsuitableError: if there are more images than are found.
    """
    if (depth := page.first(tag.DEPTH, 1)) > 1:
        raise UnsuitableError(f"is a volume of {depth} slices in one page: save it with a page for each slice")
    if (count := _images_described(page)) == 1:
        return [page]
    starts, sizes, (width, height) = page.tags.get(tag.OFFSETS, [0]), page.tags.get(tag.COUNTS, [0]), page.size
    bytes_of_one = width * height * page.bands * page.dtype.itemsize
    in_one_piece = all(start + size == after for start, size, after in zip(starts, sizes, starts[1:], strict=False))
    is_plain = page.first(tag.COMPRESSION, 1) == 1 and not page.is_tiled and sum(sizes) == bytes_of_one
    is_plain &= page.bands == 1 or page.first(tag.PLANAR, 1) == 1
    end = starts[0] + count * bytes_of_one
    if not (in_one_piece and is_plain and end <= os.fstat(file.fileno()).st_size):
        raise UnsuitableError(
            f"holds {count} images by its description, of which one is found: save it with a page for each, or without "
            "the description"
        )
    whole = page.tags | {tag.COUNTS: [bytes_of_one], tag.ROWS: [height]}
    return [
        replace(page, tags=whole | {tag.OFFSETS: [starts[0] + number * bytes_of_one]}, number=number)
        for number in range(count)
    ]


def _images_described(page: TiffHeader) -> int:
    """The number of images that ImageJ, or tifffile where it cut the headers away, say that they have written."""
    text = bytes(page.tags.get(tag.DESCRIPTION, [])).split(b"\0")[0]
    if text.startswith(b"ImageJ=") and (found := re.search(rb"\nimages=(\d+)", text)) is not None:
        return max(1, int(found[1]))
    shape = re.match(rb'{"shape": \[([\d, ]+)\]', text) if b'"truncated": true' in text else None
    values = 1 if shape is None else prod(map(int, shape[1].split(b",")))
    return max(1, values // max(1, page.size[0] * page.size[1] * page.bands))


# ---- tags -------------------------------------------------------------------------------------------------------


def _number(order: str, data: bytes) -> int:
    return int.from_bytes(data, "little" if order == "<" else "big")


def _all_pages(file: BinaryIO) -> list[TiffHeader] | None:
    start = file.read(16)
    file.seek(0)
    order = {b"II": "<", b"MM": ">"}.get(start[:2], "")
    if not order or len(start) < 16 or (version := _number(order, start[2:4])) not in (42, 43):
        return None
    big = version == 43
    tags = _pages(file, order, big, _number(order, start[8:] if big else start[4:8]))
    pages = [TiffHeader(page, order, big, number) for number, page in enumerate(tags)]
    file.seek(0)
    return pages


def _pages(file: BinaryIO, order: str, big: bool, offset: int) -> Iterator[Tags]:
    seen = set[int]()
    while offset and offset not in seen:
        seen.add(offset)
        file.seek(offset)
        count = _number(order, read_bytes(file, 8 if big else 2))
        entry = struct.Struct(f"{order}HHQ8s" if big else f"{order}HHI4s")
        table, after = read_bytes(file, count * entry.size), read_bytes(file, 8 if big else 4)
        kept = (row for row in entry.iter_unpack(table) if row[1] in _NUMBERS or row[0] in _TEXTS)
        yield {tag: _values(file, order, kind, count, inline) for tag, kind, count, inline in kept}
        offset = _number(order, after)


def _values(file: BinaryIO, order: str, kind: int, count: int, inline: bytes) -> list[int]:
    dtype = np.dtype(_NUMBERS.get(kind, "u1")).newbyteorder(order)  # type: ignore[arg-type]
    count = count if kind in _NUMBERS else min(count, _MOST_TEXT)
    if (size := count * dtype.itemsize) > len(inline):
        file.seek(_number(order, inline))
        inline = read_bytes(file, size)
    return [int(value) for value in np.frombuffer(inline[:size], dtype)]


def read_bytes(file: BinaryIO, size: int) -> bytes:
    """Read a number of bytes; raises ``OSError`` where the file ends before."""
    left = os.fstat(file.fileno()).st_size - file.tell()
    if size > left:  # damaged tags may ask for more than there is memory
        raise OSError("the file is truncated")
    return file.read(size)
