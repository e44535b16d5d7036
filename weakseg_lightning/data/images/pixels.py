"""From the bands of an image file, of whatever depth, to the RGB of 8 bits that networks see."""

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_STRETCH = (0.1, 99.9)
"""Percentiles of a deep image that become black and white: sensors use a part of the range alone."""
_ROWS = 256  # what is converted at once; float64 takes eight times the memory of the result

Pixels = NDArray[np.uint8]
Sample = TypeVar("Sample", bound=np.generic)


class UnsuitableError(ValueError):
    """A sound image that is not read; the message goes on where its file's name ends, and says what to do."""


@dataclass(frozen=True)
class Layout:
    """The meaning of the bands of an image.

    Attributes:
        colors: number of bands that are colors, the first: 1 gray, 3 RGB.
        alpha: whether the next band is opacity; others are left out.
        premultiplied: whether the colors are multiplied by it.
        bits: number of bits of a sample.
        deep: whether samples are stretched to 8 bits: those of more than 8 bits, signed ones and floats.
        inverted: whether low values are bright.
        transparent: the color that is transparent.
    """

    colors: int
    alpha: bool = False
    premultiplied: bool = False
    bits: int = 8
    deep: bool = False
    inverted: bool = False
    transparent: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Bands:
    """The samples of an image as they are stored.

    Attributes:
        values: ``(H, W, bands)``.
        layout: what they mean.
        orientation: as EXIF data have it, 1 to 8.
        nodata: the value of pixels without data; None where none is declared.
    """

    values: NDArray[Any]
    layout: Layout
    orientation: int = 1
    nodata: float | None = None


def check_bands(count: int) -> None:
    """Raise ``UnsuitableError`` for more bands than gray or RGB with transparency have."""
    if count > 4:
        raise UnsuitableError(
            f"has {count} bands, expected gray or RGB, with or without transparency: name them as `channels` of the "
            "data, or convert it"
        )


def check_size(width: int, height: int) -> None:
    """Raise Pillow's ``DecompressionBombError`` for images larger than Pillow would read."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > 2 * limit:
        raise Image.DecompressionBombError(f"{width * height} pixels, limit is {2 * limit}")


def find_range(values: NDArray[Any], layout: Layout) -> tuple[float, float] | None:
    """Find which values become black and white: percentiles 0.1 and 99.9, the same for all colors, which keeps hues.

    Args:
        values: samples ``(H, W, bands)``.
        layout: what they mean.

    Returns:
        None if samples are taken as they are.

    Raises:
        ValueError: if there are values that are no numbers.
    """
    if not layout.deep:
        return None
    colors = _colors(values, layout)
    dark, bright = np.percentile(colors if colors.dtype == np.uint16 else colors.astype(np.float64), _STRETCH)
    return float(dark), float(bright)


def to_rgb(values: NDArray[Any], layout: Layout, limits: tuple[float, float] | None) -> Pixels:
    """Convert samples to RGB on white.

    Args:
        values: samples ``(H, W, bands)``.
        layout: what they mean.
        limits: what becomes black and white, see :func:`find_range`.

    Returns:
        ``(H, W, 3)``.

    Raises:
        ValueError: if there are values that are no numbers.
    """
    rgb = np.empty((*values.shape[:2], 3), dtype=np.uint8)
    for start in range(0, len(values), _ROWS):
        rows = values[start : start + _ROWS]
        colors = _colors(rows, layout)
        eight = _stretched(colors, limits) if limits is not None else _scaled(colors, layout.bits)
        if layout.inverted:
            eight = 255 - eight
        opacity = _opacity(rows, layout)
        rgb[start : start + _ROWS] = eight if opacity is None else on_white(eight, opacity)
    return rgb


def on_white(colors: Pixels, opacity: Pixels) -> Pixels:
    """Put colors ``(H, W, 1 or 3)`` of an opacity ``(H, W)`` on white.

    Returns:
        ``(H, W, 3)``.
    """
    rgb = np.broadcast_to(colors, (*colors.shape[:2], 3))
    layer = Image.fromarray(np.dstack([rgb, opacity]))
    return np.asarray(Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer))[..., :3]


def upright(pixels: NDArray[Sample], orientation: int) -> NDArray[Sample]:
    """Turn an image upright, without copying it, as its EXIF orientation (1 to 8) says."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    rows, columns = (-1 if orientation in flipped else 1 for flipped in ((3, 4, 7, 8), (2, 3, 6, 7)))
    return pixels[::rows, ::columns]


def _colors(values: NDArray[Any], layout: Layout) -> NDArray[Any]:
    colors = values[..., : layout.colors]
    if layout.premultiplied:
        opacity = values[..., layout.colors, None]
        colors = colors.astype(np.float64) * _most(values.dtype, layout.bits)
        colors = np.divide(colors, opacity, out=np.zeros_like(colors), where=opacity > 0)
    if colors.dtype.kind == "f" and not np.isfinite(colors).all():
        raise ValueError("it holds pixels that are no numbers")
    return colors


def _stretched(colors: NDArray[Any], limits: tuple[float, float]) -> Pixels:
    dark, bright = limits
    fractions = (colors.astype(np.float64) - dark) / max(bright - dark, 1e-12)
    return np.asarray((255 * np.clip(fractions, 0, 1)).round(), dtype=np.uint8)


def _scaled(colors: NDArray[Any], bits: int) -> Pixels:
    """Values of up to 8 bits as values of 8 bits."""
    eight = colors if colors.dtype == np.uint8 else np.clip(colors, 0, 255).astype(np.uint8)
    return eight if bits == 8 else eight * np.uint8(255 // (2**bits - 1))


def _opacity(values: NDArray[Any], layout: Layout) -> Pixels | None:
    """Opacity in 8 bits, ``(H, W)``; None where all is opaque."""
    if layout.transparent is not None:
        return np.where((values[..., : layout.colors] == layout.transparent).all(-1), 0, 255).astype(np.uint8)
    if not layout.alpha:
        return None
    fractions = values[..., layout.colors].astype(np.float64) / _most(values.dtype, layout.bits)
    return np.asarray((255 * np.clip(fractions, 0, 1)).round(), dtype=np.uint8)


def _most(dtype: np.dtype[Any], bits: int) -> float:
    """The value that is wholly opaque."""
    if dtype.kind == "f":
        return 1.0
    return float(2 ** (bits - 1) - 1 if dtype.kind == "i" else 2**bits - 1)
