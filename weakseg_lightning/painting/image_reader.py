"""The images of a folder as the page shows them, and as those that learn from them see them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from weakseg_lightning.channels import Channels
from weakseg_lightning.data.images.channels import ChannelFiles
from weakseg_lightning.data.images.reading import image_size, is_image, read_image
from weakseg_lightning.data.images.statistics import measure, picture, places_of

__all__ = ["ImageReader", "read_scaled"]

_MEASURED = 30  # images: an encoder needs the range of the channels, not their last digit


@dataclass(frozen=True)
class ImageReader:
    """Reads gray and RGB, or channels, of which three or one are shown with a stretch of each image's percentiles.

    Args:
        channels: ``channels`` of the data; None for gray and RGB.
        guide: names of those that are shown; by default red, green and blue, or the first three.

    Raises:
        ValueError: if the channels make no sense.
    """

    channels: dict[str, int | str] | list[str] | None = None
    guide: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if (files := self.files) is not None:
            places_of(files.names, self.guide)

    @property
    def files(self) -> ChannelFiles | None:
        """The channels and their files; None for gray and RGB."""
        return None if self.channels is None else ChannelFiles(self.channels)

    def recognizes(self, path: Path) -> bool:
        """Tell if a file is an image by its name."""
        return is_image(path) if (files := self.files) is None else files.is_image(path)

    def size(self, path: Path) -> tuple[int, int]:
        """Read width and height; raises ``BadSampleError`` if the file is missing or no image."""
        return image_size(path) if (files := self.files) is None else files.size(path)

    def picture(self, path: Path) -> Tensor:
        """Read what is shown of an image, uint8 ``(3, H, W)``; raises ``BadSampleError`` if it cannot be read."""
        if (files := self.files) is None:
            return read_image(path)
        shown = picture(files.read(path), places_of(files.names, self.guide))
        return torch.from_numpy(shown).permute(2, 0, 1)

    def measure(self, images: Mapping[str, Path]) -> Channels | None:
        """Measure the channels of some of the images; None for gray and RGB.

        Raises:
            BadSampleError: if none of them can be read.
            ValueError: if a channel has one value throughout.
        """
        files, given = self.files, self.channels
        if files is None or given is None or not images:
            return None
        some = list(images)[:: -(-len(images) // _MEASURED)]
        colors = places_of(files.names, self.guide)
        return measure(lambda name: files.read(images[name]), some, files.names, given, colors)


def read_scaled(path: Path, channels: Channels | None) -> Tensor:
    """Read an image as networks learn from it: uint8 ``(3, H, W)``, or scaled channels, float32 ``(C, H, W)``."""
    if channels is None:
        return read_image(path)
    return channels.scaled(ChannelFiles(channels.given).read(path))
