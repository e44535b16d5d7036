"""Channels of the images of a folder: their names, those that pictures show, their statistics."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from weakseg_lightning.channels import Channels
from weakseg_lightning.data.folder.contents import FolderContents
from weakseg_lightning.data.images.channels import ChannelFiles, GivenChannels
from weakseg_lightning.data.images.statistics import measure, places_of, rgb_of
from weakseg_lightning.data.images.volumes import SLICE
from weakseg_lightning.errors import UserError

__all__ = ["FolderChannels"]


@dataclass(frozen=True)
class FolderChannels:
    """The channels of a folder's images.

    Args:
        files: those of an image itself, and the files that hold them; None for one volume without a name.
        given: ``channels`` of the data.
        neighbors: slices on each side of an image that is one of a volume, which are channels as well.
        guide: names of the channels that pairwise terms and pictures see; None to choose among those of the image
            itself.

    Raises:
        ValueError: if ``guide`` names others.
    """

    files: ChannelFiles | None
    given: GivenChannels
    neighbors: int
    guide: Sequence[str] | None

    def __post_init__(self) -> None:
        _ = self.colors

    @classmethod
    def of(cls, given: GivenChannels | None, neighbors: int, guide: Sequence[str] | None) -> "FolderChannels | None":
        """Make them of the arguments of the data module; None for images that are gray or RGB.

        Raises:
            ValueError: if the arguments make no sense.
        """
        if given is None and not neighbors:
            if guide is not None:
                raise UserError("`guide` chooses among `channels`, which are not given: name them, or leave it out")
            return None
        return cls(None if given is None else ChannelFiles(given), given or [SLICE], neighbors, guide)

    @property
    def own(self) -> tuple[str, ...]:
        """Names of the channels of an image itself."""
        return (SLICE,) if self.files is None else self.files.names

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all channels: ``slice-1``, ``slice``, ``slice+1`` for those of neighbors."""
        reach = range(-self.neighbors, self.neighbors + 1)
        return tuple(f"{name}{offset:+d}" if offset else name for offset in reach for name in self.own)

    @property
    def colors(self) -> tuple[int, int, int]:
        """Numbers of the channels that are shown as red, green and blue."""
        if self.guide is not None:
            return places_of(self.names, self.guide)
        first = self.neighbors * len(self.own)
        red, green, blue = places_of(self.own, None)
        return first + red, first + green, first + blue

    def rgb(self, color_jitter: float) -> tuple[int, int, int] | None:
        """Find the channels that augmentation may change the colors of, see :func:`rgb_of`."""
        return rgb_of(self.names, color_jitter)

    def measure(self, contents: FolderContents, images: Sequence[str]) -> Channels:
        """Measure the channels over training images; neighbors have the statistics of the slices themselves.

        Args:
            contents: the folder.
            images: ids of the training images.

        Raises:
            BadSampleError: if no image can be read.
            ValueError: if a channel has one value throughout.
        """
        given = dict(self.given) if isinstance(self.given, dict) else list(self.given)
        own = measure(contents.read_valid_planes, images, self.own, given, self.colors)
        times = 2 * self.neighbors + 1
        numbers = {name: times * getattr(own, name) for name in ("low", "high", "mean", "std")}
        return replace(own, names=self.names, **numbers)
