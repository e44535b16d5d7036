"""Channels of images with their statistics: what data, modules and prediction tell each other about them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Channels"]

_LOOKED_AT = 2**18  # pixels
_OUTSIDE = 3.0  # ranges between the first and the 99th percentile of the training images
_WIDER = 50.0


@dataclass(frozen=True)
class Channels:
    """The channels of images: what they are, and their statistics over the training images.

    Images of channels are float32, 0 at the 1st percentile of a channel and 1 at the 99th; nothing is cut off.

    Attributes:
        names: of the C channels.
        given: ``channels`` of the data, see :class:`ChannelFiles`.
        low: 1st percentile of each, in the values of the files.
        high: 99th percentile of each.
        mean: of each, in the values of the files.
        std: standard deviation of each.
        colors: numbers of the three channels that pictures and pairwise terms show as red, green and blue.
    """

    names: tuple[str, ...]
    given: dict[str, int | str] | list[str]
    low: tuple[float, ...]
    high: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    colors: tuple[int, int, int]

    def scaled(self, planes: Sequence[NDArray[Any]]) -> Tensor:
        """Bring the channels of an image to one scale: float32 ``(C, H, W)``."""
        image = torch.empty(len(planes), *planes[0].shape)
        for number, (plane, low, high) in enumerate(zip(planes, self.low, self.high, strict=True)):
            image[number] = torch.from_numpy((plane.astype(np.float64) - low) / (high - low))
        return image

    def doubt(self, planes: Sequence[NDArray[Any]]) -> str | None:
        """Say if the channels of an image seem to be in another unit than those of the training images.

        Args:
            planes: pixels of the C channels, in the values of their file.

        Returns:
            What is doubtful; None if a channel that varies is where it should be: not far outside the range of the
            training images, nor many times as wide or, outside of it, as narrow.
        """
        doubted = None
        for name, plane, low, high in zip(self.names, planes, self.low, self.high, strict=True):
            step = -(-plane.size // _LOOKED_AT)
            least, most = np.percentile(plane.ravel()[::step].astype(np.float64), (25, 75))
            if least == most:
                continue
            size, outside = high - low, max(low - most, least - high)
            is_near, is_narrow = outside <= _OUTSIDE * size, most - least < size / _WIDER
            if is_near and most - least <= _WIDER * size and not (is_narrow and outside > 0):
                return None
            doubted = doubted or f"{name!r} is from {least:.4g} to {most:.4g}, in training from {low:.4g} to {high:.4g}"
        return doubted and f"seems to be in another unit than the images of training: {doubted} (bring it to theirs)"

    def unscaled(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """Values of scaled channels, ``(..., C)``, in those of the files."""
        low, high = np.array(self.low), np.array(self.high)
        return np.asarray(low + values * (high - low))

    def picture(self, image: NDArray[Any]) -> NDArray[np.uint8]:
        """Show the chosen three of scaled channels ``(h, W, C)`` as RGB ``(h, W, 3)``, 0 as black and 1 as white."""
        return np.asarray((255 * image[..., list(self.colors)].clip(0, 1)).round(), dtype=np.uint8)

    @property
    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of the channels of scaled images, as :meth:`Network.for_channels` takes them."""
        ranges = [high - low for low, high in zip(self.low, self.high, strict=True)]
        mean = tuple((mean - low) / size for mean, low, size in zip(self.mean, self.low, ranges, strict=True))
        return mean, tuple(std / size for std, size in zip(self.std, ranges, strict=True))

    def plain(self) -> dict[str, Any]:
        """Plain values, for checkpoints."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def of_plain(cls, values: dict[str, Any]) -> Self:
        """The channels that :meth:`plain` has written."""
        stored: dict[str, Any] = {name: value if name == "given" else tuple(value) for name, value in values.items()}
        return cls(**stored)
