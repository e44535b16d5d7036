"""Samples of TIFF files of any depth: Pillow decompresses them as rows of bytes, of which samples are made here.

Read as images, Pillow cuts 16-bit colors to 8 bits, and knows no floats in color and no deep gray with transparency.
"""

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL.TiffImagePlugin import TiffImageFile

from weakseg_lightning.data.images import tiff_tags as tag
from weakseg_lightning.data.images.pixels import Bands, UnsuitableError, check_size
from weakseg_lightning.data.images.tiff import GRAY, LOSSLESS, Tags, TiffHeader, read_bytes

_DIFFERENCES, _FLOAT_DIFFERENCES = 2, 3


def read_deep_tiff(file: BinaryIO, header: TiffHeader) -> Bands:
    """Read the samples of a TIFF.

    Raises:
        UnsuitableError: if it is stored in a way that is not read.
        OSError, ValueError: if it is damaged.
    """
    layout = header.layout  # raises before anything is decompressed
    return Bands(read_samples(file, header), layout, header.orientation)


def read_samples(file: BinaryIO, header: TiffHeader) -> NDArray[Any]:
    """Read the samples of a page, of any number of bands, ``(H, W, bands)``; raises as :func:`read_deep_tiff`."""
    check_size(*header.size)
    parts = _parts(header)
    planes = [_samples(_decompressed(file, header, parts, plane), header, parts) for plane in range(parts.planes)]
    return planes[0] if parts.planes == 1 else np.concatenate(planes, axis=-1)


@dataclass(frozen=True)
class _Parts:
    """The parts of an image: tiles, or strips, which are tiles as wide as it is."""

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


def _parts(header: TiffHeader) -> _Parts:
    width, height = header.size
    planes = header.bands if header.first(tag.PLANAR, 1) == 2 else 1
    wide = header.first(tag.TILE_WIDTH, 0) if header.is_tiled else width
    high = header.first(tag.TILE_HEIGHT, 0) if header.is_tiled else min(header.first(tag.ROWS, height), height)
    offsets, counts = (header.tags.get(tag, []) for tag in header.places)
    if min(width, height, wide, high) < 1 or len(offsets) != len(counts):
        raise ValueError("its tags contradict each other")
    across = ceil(width / wide)
    if len(offsets) != planes * across * ceil(height / high):
        raise ValueError("parts of it are missing")
    return _Parts(wide, high, across, planes, header.bands // planes, offsets, counts)


def _decompressed(file: BinaryIO, header: TiffHeader, parts: _Parts, plane: int) -> NDArray[np.uint8]:
    """The bytes of a plane, ``(H, bytes of a row)``: its parts as a TIFF that is said to be gray of 8 bits."""
    compression, row = (
        header.first(tag.COMPRESSION, 1),
        ceil(parts.width * parts.samples * header.first(tag.BITS, 1) / 8),
    )
    if compression not in LOSSLESS:
        ways = ", ".join(dict.fromkeys(LOSSLESS.values()))
        raise UnsuitableError(f"has a compression (number {compression}) not read at its depth: save it with {ways}")
    data, offsets = bytearray(8), list[int]()
    mine = slice(plane * parts.number, (plane + 1) * parts.number)
    for offset, count in zip(parts.offsets[mine], parts.counts[mine], strict=True):
        if not count:
            raise UnsuitableError("leaves out parts that have no data (a sparse file): save it without SPARSE_OK")
        file.seek(offset)
        offsets.append(len(data))
        data += read_bytes(file, count)
    tags = {tag.WIDTH: [row * parts.across], tag.HEIGHT: [header.size[1]]}
    tags |= {tag.BITS: [8], tag.SAMPLES: [1], tag.PHOTOMETRIC: [GRAY]}
    tags |= {tag.COMPRESSION: [compression], tag.FILL_ORDER: [header.first(tag.FILL_ORDER, 1)]}
    tags |= {tag.TILE_WIDTH: [row], tag.TILE_HEIGHT: [parts.height]} if header.is_tiled else {tag.ROWS: [parts.height]}
    tags |= dict(zip(header.places, (offsets, list(parts.counts[mine])), strict=True))
    try:
        with TiffImageFile(io.BytesIO(_with_tags(data, tags))) as image:
            return np.array(image)
    except OSError as error:
        raise OSError(f"its pixels cannot be decompressed with {LOSSLESS[compression]}") from error


def _with_tags(data: bytearray, tags: Tags) -> bytes:
    """A TIFF of data that begin with eight bytes for its header."""
    entries = []
    for number, values in sorted(tags.items()):
        packed = struct.pack(f"<{len(values)}I", *values)
        place = packed if len(values) == 1 else struct.pack("<I", len(data))
        data += packed if len(values) > 1 else b""
        entries.append(struct.pack("<HHI", number, 4, len(values)) + place)
    data[:8] = struct.pack("<2sHI", b"II", 42, len(data))
    return bytes(data) + struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)


def _samples(rows: NDArray[np.uint8], header: TiffHeader, parts: _Parts) -> NDArray[Any]:
    """Samples ``(H, W, samples)`` from the bytes of a plane."""
    tiles = rows.reshape(len(rows), parts.across, -1)
    predictor, dtype = header.first(tag.PREDICTOR, 1), header.dtype
    if header.first(tag.BITS, 1) % 8:
        values = _unpacked(tiles, parts.width * parts.samples, header.first(tag.BITS, 1)).astype(dtype)
    elif predictor == _FLOAT_DIFFERENCES and dtype.kind == "f":
        values = _from_float_differences(tiles, dtype, parts.samples)
    else:
        values = tiles.view(dtype.newbyteorder(header.order)).astype(dtype)  # type: ignore[arg-type]
    values = values.reshape(len(rows), parts.across, parts.width, parts.samples)
    if predictor == _DIFFERENCES:
        whole = values.view(f"u{dtype.itemsize}")
        values = np.cumsum(whole, axis=2, dtype=whole.dtype).view(dtype)
    return values.reshape(len(rows), -1, parts.samples)[:, : header.size[0]]


def _unpacked(tiles: NDArray[np.uint8], number: int, bits: int) -> NDArray[Any]:
    """Numbers of a number of bits that is no multiple of 8, the highest bit first."""
    single = np.unpackbits(tiles, axis=-1)[..., : number * bits].reshape(*tiles.shape[:2], number, bits)
    return single @ (2 ** np.arange(bits - 1, -1, -1, dtype=np.uint64))


def _from_float_differences(tiles: NDArray[np.uint8], dtype: np.dtype[Any], samples: int) -> NDArray[Any]:
    """Floats whose bytes are differences to the pixel before, the highest bytes of a row first."""
    by_pixel = tiles.reshape(*tiles.shape[:2], -1, samples)
    summed = np.cumsum(by_pixel, axis=2, dtype=np.uint8).reshape(*tiles.shape[:2], dtype.itemsize, -1)
    return np.ascontiguousarray(summed.swapaxes(-1, -2)).view(dtype.newbyteorder(">"))[..., 0].astype(dtype)
