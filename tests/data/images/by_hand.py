"""PNGs written byte by byte, and how deep images are stretched: a reference that shares nothing with the reader."""

import struct
import zlib
from pathlib import Path

import numpy as np

from weakseg_lightning.data.images.reading import read_image

GRAY, RGB, PALETTE, GRAY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
BANDS = {GRAY: 1, RGB: 3, PALETTE: 1, GRAY_ALPHA: 2, RGB_ALPHA: 4}
PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def images(path: Path) -> np.ndarray:
    """What is read, ``(H, W, 3)``."""
    return read_image(path).permute(1, 2, 0).numpy()


def stretched(colors: np.ndarray) -> np.ndarray:
    """Gray or colors, ``(H, W)`` or ``(H, W, 1 or 3)``, in 8 bits ``(H, W, 3)``."""
    numbers = colors.astype(float).reshape(*colors.shape[:2], -1)
    dark, bright = np.percentile(numbers, (0.1, 99.9))
    return np.broadcast_to(np.round(255 * np.clip((numbers - dark) / (bright - dark), 0, 1)), (*colors.shape[:2], 3))


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def write_png(
    path: Path, values, depth: int, kind: int, before: bytes = b"", after: bytes = b"", interlaced: bool = False
) -> None:
    """Write values ``(H, W)`` or ``(H, W, bands)``; rows have each of the five filters in turn."""
    values = np.asarray(values).reshape(*np.shape(values)[:2], BANDS[kind])
    parts = [values[y::down, x::right] for y, x, down, right in PASSES] if interlaced else [values]
    data = b"".join(filtered(packed(part, depth), BANDS[kind] * depth // 8 or 1) for part in parts if part.size)
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], depth, kind, 0, 0, interlaced)
    compressed = zlib.compress(data)
    half = len(compressed) // 2
    image = chunk(b"IDAT", compressed[:half]) + chunk(b"IDAT", compressed[half:])
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + before + image + after + chunk(b"IEND", b""))


def packed(values, depth: int):
    """Rows of bytes, the highest bit first."""
    bits = values.reshape(len(values), -1, 1) >> np.arange(depth - 1, -1, -1) & 1
    return np.packbits(bits.astype(np.uint8).reshape(len(values), -1), axis=1)


def filtered(rows, step: int) -> bytes:
    found, above = b"", [0] * rows.shape[1]
    for number, row in enumerate(rows.tolist()):
        name = number % 5
        predicted = [predict(name, row[i - step] if i >= step else 0, above[i], above[i - step] if i >= step else 0)
                     for i in range(len(row))]  # fmt: skip
        found += bytes([name, *((value - guess) % 256 for value, guess in zip(row, predicted, strict=True))])
        above = row
    return found


def predict(name: int, left: int, up: int, corner: int) -> int:
    if name == 4:
        return min((left, up, corner), key=lambda value: abs(left + up - corner - value))
    return (0, left, up, (left + up) // 2)[name]


def turned(orientation: int) -> bytes:
    """A chunk of EXIF data that say how the image is turned."""
    return chunk(
        b"eXIf", b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01" + struct.pack(">HH", orientation, 0) + bytes(4)
    )
