"""Statistics of channels over the training images, which bring channels of every range to one scale."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from weakseg_lightning.channels import Channels
from weakseg_lightning.data.images.channels import Planes
from weakseg_lightning.data.images.nodata import IMMENSE
from weakseg_lightning.data.samples import BadSampleError
from weakseg_lightning.errors import UserError

__all__ = ["Moments", "channels_of", "constant_channel", "measure", "moments_of", "picture", "places_of", "rgb_of"]

_RANGE = (1, 99)
"""Percentiles that become 0 and 1."""
_SAMPLED = 2**14  # pixels of an image that percentiles are taken of
_READERS = 4
_RGB = ("red", "green", "blue")


class Moments(NamedTuple):
    """Number of pixels, and by channel their mean, sum of squares about it, some of them, and the furthest from 0."""

    pixels: int
    mean: NDArray[np.float64]
    squares: NDArray[np.float64]
    sampled: NDArray[np.float64]
    extreme: NDArray[np.float64]


def measure(
    read: Callable[[str], Planes],
    images: Sequence[str],
    names: Sequence[str],
    given: dict[str, int | str] | list[str],
    colors: tuple[int, int, int],
) -> Channels:
    """Measure the channels of images; those that cannot be read are left out.

    Args:
        read: reads the pixels of the channels of an image that count, by its id.
        images: ids of the training images.
        names: of the channels.
        given: see :class:`Channels`.
        colors: see :class:`Channels`.

    Raises:
        BadSampleError: if no image can be read, or none has a pixel that counts.
        ValueError: if a channel has one value throughout, or immense ones.
    """
    with ThreadPoolExecutor(_READERS) as pool:  # decoding releases the GIL
        found = list(pool.map(lambda image: _moments(read, image), images))
    measured = [one for one in found if isinstance(one, Moments)]
    if not measured:
        faults = (one for one in found if isinstance(one, BadSampleError))
        raise next(
            faults, BadSampleError("all pixels of the training images are nodata: correct what the files declare")
        )
    return channels_of(measured, names, given, colors)


def moments_of(values: NDArray[np.float64], step: int) -> Moments:
    """Measure some pixels.

    Args:
        values: of the channels, ``(C, n)``, n at least 1.
        step: every which of them is kept for percentiles.
    """
    low, high = values.min(1), values.max(1)
    with np.errstate(over="ignore", invalid="ignore"):  # immense values are named later
        mean = values.mean(1)
        squares = ((values - mean[:, None]) ** 2).sum(1)
    return Moments(values.shape[1], mean, squares, values[:, ::step].copy(), np.where(-low > high, low, high))


def channels_of(
    measured: Sequence[Moments],
    names: Sequence[str],
    given: dict[str, int | str] | list[str],
    colors: tuple[int, int, int],
) -> Channels:
    """Join what was measured of images; the arguments and errors are those of :func:`measure`."""
    mean, std = _joined(measured)
    low, high = np.percentile(np.concatenate([one.sampled for one in measured], axis=1), _RANGE, axis=1)
    for number, name in enumerate(names):
        if std[number] == 0:
            raise UserError(constant_channel(name, mean[number]))
        extreme = max((one.extreme[number] for one in measured), key=abs)
        if abs(extreme) >= IMMENSE:
            raise UserError(
                f"the channel {name!r} holds {extreme:.4g}: if that means no data, declare it as the nodata of the "
                "file, or fill it in"
            )
    narrow = high <= low  # nearly all pixels alike
    low, high = np.where(narrow, mean - std, low), np.where(narrow, mean + std, high)
    numbers: list[tuple[float, ...]] = [tuple(each.tolist()) for each in (low, high, mean, std)]
    return Channels(tuple(names), given, numbers[0], numbers[1], numbers[2], numbers[3], colors)


def constant_channel(name: str, value: float) -> str:
    """What is wrong with a channel that has one value throughout."""
    return f"the channel {name!r} is {value:g} in all training images: leave it out"


def places_of(names: Sequence[str], guide: Sequence[str] | None) -> tuple[int, int, int]:
    """Choose the three channels that pictures and pairwise terms see.

    Args:
        names: of all channels.
        guide: three names, or one for all three; by default red, green and blue, where there are such channels, or
            else the first three, or the first alone where there are fewer.

    Raises:
        ValueError: if a name is unknown, or there are neither three nor one.
    """
    if guide is None:
        guide = _RGB if set(_RGB) <= set(names) else names[:3] if len(names) >= 3 else names[:1]
    if unknown := [name for name in guide if name not in names]:
        raise UserError(f"`guide`: no channel is called {unknown[0]!r}: take some of {', '.join(names)}")
    if len(guide) not in (1, 3):
        raise UserError(f"`guide` must name three channels or one, got {len(guide)}")
    red, green, blue = [names.index(name) for name in (guide if len(guide) == 3 else [guide[0]] * 3)]
    return red, green, blue


def rgb_of(names: Sequence[str], color_jitter: float) -> tuple[int, int, int] | None:
    """Find the channels that augmentation may change the colors of, red, green and blue; None if there are none.

    Raises:
        ValueError: if there are none, and their colors are to be changed.
    """
    if set(_RGB) <= set(names):
        return places_of(names, _RGB)
    if color_jitter > 0:
        raise UserError(
            "`color_jitter` changes red, green and blue, and `channels` has none of these names: set it to 0"
        )
    return None


def picture(planes: Planes, colors: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Show three channels of an image as red, green and blue, each between its own percentiles: ``(H, W, 3)``."""
    shown = np.stack([planes[number] for number in colors], axis=-1).astype(np.float64)
    low, high = np.percentile(shown, _RANGE, axis=(0, 1))
    fractions = (shown - low) / np.where(high > low, high - low, 1)
    return np.asarray((255 * fractions.clip(0, 1)).round(), dtype=np.uint8)


def _moments(read: Callable[[str], Planes], image: str) -> "Moments | BadSampleError | None":
    try:
        values = np.stack([plane.ravel().astype(np.float64) for plane in read(image)])
    except BadSampleError as error:
        return error
    return moments_of(values, -(-values.shape[1] // _SAMPLED)) if values.size else None


def _joined(measured: Sequence[Moments]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of all pixels of all images."""
    counts = np.array([one.pixels for one in measured], dtype=np.float64)[:, None]
    means = np.stack([one.mean for one in measured])
    mean = (counts * means).sum(0) / counts.sum()
    squares = sum(one.squares for one in measured) + (counts * (means - mean) ** 2).sum(0)
    return mean, np.sqrt(squares / counts.sum())
