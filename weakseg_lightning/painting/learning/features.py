"""Features of a folder's images, made when they are first asked for and kept within a budget."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from weakseg_lightning.channels import Channels
from weakseg_lightning.networks.frozen.cache import FeatureCache
from weakseg_lightning.networks.frozen.features import FrozenNet
from weakseg_lightning.painting.image_reader import read_scaled
from weakseg_lightning.painting.learning.messages import LONGEST_SIDE
from weakseg_lightning.painting.learning.ordering import descriptor_of

__all__ = ["ImageFeatures", "size_for_encoder"]

_GIGABYTE = 2**30


class ImageFeatures:
    """Maps of images resized to a longest side of 384 pixels, in memory alone.

    Args:
        net: holds the encoder.
        images: files of all images, by name.
        memory: gigabytes to keep; the maps used longest ago go first.
        channels: of the images, with their statistics; None for gray and RGB.

    Attributes:
        sizes: height and width of the images that were encoded, as the encoder saw them.
        descriptors: mean of the channels of the coarsest map of each of them.
        broken: images whose files cannot be read.
    """

    def __init__(
        self, net: FrozenNet, images: Mapping[str, Path], memory: float, channels: Channels | None = None
    ) -> None:
        self.net = net
        self.channels = channels
        self.images = images
        self.sizes: dict[str, tuple[int, int]] = {}
        self.descriptors: dict[str, NDArray[np.float32]] = {}
        self.broken: set[str] = set()
        self._cache = FeatureCache(memory=memory)
        self._bytes = 0

    @property
    def has_room(self) -> bool:
        """True while the maps of one more image do not push out others."""
        each = self._bytes / max(len(self.sizes), 1)
        return self._bytes + each <= self._cache.memory * _GIGABYTE

    def maps(self, name: str) -> list[Tensor]:
        """Maps of an image, the finest first.

        Raises:
            BadSampleError: if its file cannot be read; it is then one of :attr:`broken`.
        """
        return self._cache.get(name, lambda: self._encode(name))

    @torch.inference_mode()
    def at_cells(self, name: str, cells: NDArray[np.int64], size: tuple[int, int]) -> Tensor:
        """Joined features ``(N, C)`` of cells of a grid over the image, in half precision."""
        pixels = torch.from_numpy(cells // size[1]), torch.from_numpy(cells % size[1])
        return self.net.features_at(self.maps(name), self.sizes[name], pixels, size).half()

    def _encode(self, name: str) -> list[Tensor]:
        try:
            image = read_scaled(self.images[name], self.channels)
        except ValueError:
            self.broken.add(name)
            raise
        size = size_for_encoder(image.shape[1], image.shape[2], self.net.map_stride)
        with torch.inference_mode():
            small = F.interpolate(image[None].float(), size=size, mode="bilinear", antialias=True)
            maps, _ = self.net.encode_image(small[0].round().byte() if self.channels is None else small[0])
        if name not in self.sizes:
            self.sizes[name] = size
            self.descriptors[name] = descriptor_of(maps[-1], size, [self.net.padded_size(length) for length in size])
            self._bytes += sum(features.nbytes for features in maps)
        return maps


def size_for_encoder(height: int, width: int, stride: int) -> tuple[int, int]:
    """Size of an image with a longest side of 384 pixels; four times its own at most, as in the recipes of `init`.

    In whole cells of the finest map: that of the scores then covers the image, and nothing beyond.
    """
    factor = min(LONGEST_SIDE / max(height, width), 4) / stride
    return max(round(height * factor), 1) * stride, max(round(width * factor), 1) * stride
