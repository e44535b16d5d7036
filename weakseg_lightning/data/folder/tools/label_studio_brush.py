"""Masks of Label Studio: the run-length code of its brushes, and the PNG of its bitmasks."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from weakseg_lightning.data.folder.tools.shapes import covering

_MOST = 2**33
"""Values of a code: those of two gigapixels."""


def read_brush(packed: Sequence[int], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Read the pixels that a brush covers, however faintly, ``(h, w)``.

    Args:
        packed: bytes of the run-length code, see :func:`decode_brush`.
        size: width and height of the image.

    Raises:
        ValueError: if it is damaged, covers nothing or is of another size.
    """
    width, height = size
    values = decode_brush(packed)
    if values.size != 4 * width * height:
        raise ValueError(f"it has {values.size // 4} pixels, expected {width * height}")
    return covering(values.reshape(height, width, 4)[..., 3] > 0)


def decode_bitmask(address: str, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Read the pixels that a bitmask covers, however faintly, ``(h, w)``.

    Args:
        address: a PNG as ``data:image/png;base64,...``; it is transparent outside of the mask.
        size: width and height of the image.

    Raises:
        ValueError: if it is damaged, covers nothing, is of another size or has no transparency.
    """
    with Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as picture:
        if picture.size != size:
            raise ValueError(f"it has {picture.width} x {picture.height} pixels, expected {size[0]} x {size[1]}")
        if not picture.has_transparency_data:
            raise ValueError("its PNG has no transparency, which tells what lies outside")
        return covering(np.asarray(picture.convert("RGBA"))[..., 3] > 0)


def decode_brush(packed: Sequence[int]) -> NDArray[np.uint8]:
    """Unpack the run-length code of brushes, a stream of bits.

    It begins with the number of values (32 bits), the bits of a value less one (5), and four widths of run lengths
    less one (4 each). Runs follow: a bit that is set for one value repeated, two bits that choose the width, the run's
    length less one in that width, then the value, or all values of the run.

    Args:
        packed: the code's bytes.

    Returns:
        uint8 values: red, green, blue and opacity of one pixel after the other.

    Raises:
        ValueError: if it is none, or ends too early.

    References:
        The format of the library rle-pack (thi.ng/umbrella), which Label Studio uses.
    """
    bits = _Bits(packed)
    count, word = bits.take(32), bits.take(5) + 1
    widths = [bits.take(4) + 1 for _ in range(4)]
    if count > _MOST:
        raise ValueError(f"it claims {count} values")
    runs: list[NDArray[np.uint8]] = []
    done = 0
    while done < count:
        repeated = bits.take(1)
        length = bits.take(widths[bits.take(2)]) + 1
        if repeated:
            runs.append(np.full(min(length, count - done), bits.take(word) & 255, dtype=np.uint8))
        else:
            runs.append(bits.take_bytes(length, word))
        done += length
    return np.concatenate(runs)[:count] if runs else np.zeros(0, dtype=np.uint8)


class _Bits:
    """Reads bytes as a stream of bits, the highest first."""

    def __init__(self, packed: Sequence[int]) -> None:
        try:
            self.bytes = bytes(packed)
        except (TypeError, ValueError) as error:
            raise ValueError("its code is no list of bytes, 0 to 255") from error
        self.bits = np.unpackbits(np.frombuffer(self.bytes, dtype=np.uint8))
        self.position = 0

    def take(self, count: int) -> int:
        """The next bits as a number."""
        start, end = self._advance(count)
        window = int.from_bytes(self.bytes[start // 8 : -(-end // 8)], "big")
        return window >> (-end % 8) & ((1 << count) - 1)

    def take_bytes(self, count: int, width: int) -> NDArray[np.uint8]:
        """The next numbers of so many bits each, the lowest eight bits of each."""
        start, end = self._advance(count * width)
        digits = self.bits[start:end].reshape(count, width)[:, -8:]
        padded = np.pad(digits, ((0, 0), (8 - digits.shape[1], 0)))
        return np.packbits(padded, axis=1)[:, 0]

    def _advance(self, count: int) -> tuple[int, int]:
        start, end = self.position, self.position + count
        if end > len(self.bits):
            raise ValueError("its code ends too early")
        self.position = end
        return start, end
