"""Image files of several channels as rows, scaled as the network learned them; GeoTIFFs from the file, by windows."""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt

from weakseg_lightning.channels import Channels
from weakseg_lightning.data.images.channels import ChannelFiles
from weakseg_lightning.data.maps.places import Place, Window
from weakseg_lightning.data.maps.rasters import MapRaster
from weakseg_lightning.prediction.maps import is_map
from weakseg_lightning.prediction.regions import Region
from weakseg_lightning.prediction.tiling import MemoryRows, Span

__all__ = ["ChannelMapRows", "open_channels"]

Floats = npt.NDArray[np.float32]


@contextmanager
def open_channels(path: Path, channels: Channels, region: Region) -> Iterator["MemoryRows | ChannelMapRows"]:
    """Open an image of several channels.

    Args:
        path: the file that stands for it; its channels may be in others beside it.
        channels: the channels that the network was trained on.
        region: the part that is read.

    Yields:
        Its rows, float32 ``(h, W, C)``; :class:`ChannelMapRows` if it lies on a map.

    Raises:
        BadSampleError: if a file is missing or cannot be read, or has other bands, now or later.
    """
    files = ChannelFiles(channels.given)
    if is_map(path):
        with ExitStack() as stack:
            yield ChannelMapRows(path, files, channels, region, stack)
        return
    planes, valid = files.read_valid(path)
    height, width = planes[0].shape
    rows, columns = region.find(path, width, height, None)
    if (doubt := channels.doubt(planes)) is not None:
        warnings.warn(f"{path} {doubt}", stacklevel=3)
    place = slice(rows.start, rows.stop), slice(columns.start, columns.stop)
    scaled = channels.scaled([plane[place] for plane in planes]).permute(1, 2, 0).numpy()
    if valid is not None:
        valid = valid[place]
        scaled[~valid] = channels.normalization[0]
    yield MemoryRows(scaled, valid)


class ChannelMapRows:
    """The channels of an image that lies on a map, read from its files when they are asked for.

    What a file marks as having no data in one of the channels is invalid, and so is what is no number there. The
    network sees the mean of the channels in its place.

    Args:
        path: the file that stands for the image.
        files: its channels.
        channels: the same, with their statistics.
        region: the part that is read.
        stack: closes the files.

    Attributes:
        place: of the part that is read.
    """

    def __init__(self, path: Path, files: ChannelFiles, channels: Channels, region: Region, stack: ExitStack) -> None:
        self.channels = channels
        self._raster = MapRaster(path, files, stack)
        whole = self._raster.place
        self.rows, self.columns = region.find(path, self._raster.width, self._raster.height, whole)
        self.height, self.width = self.rows.size, self.columns.size
        self.place = Place.of(whole, self.rows, self.columns)
        self._fill = np.array(channels.normalization[0], dtype=np.float32)
        self._read, self._invalid = Span(0, 0), np.empty((0, self.width), dtype=np.bool_)
        self._path: Path | None = path  # until it was looked at

    def read(self, rows: Span) -> Floats:
        """Read rows, ``(h, W, C)``."""
        window = Window(self.columns.start, self.rows.start + rows.start, self.width, rows.size)
        planes, valid = self._raster.read(window)
        scaled = self.channels.scaled(planes).permute(1, 2, 0).numpy()
        scaled[~valid] = self._fill
        if self._path is not None and valid.any():
            if (doubt := self.channels.doubt([plane[valid] for plane in planes])) is not None:
                warnings.warn(f"{self._path} {doubt}", stacklevel=2)
            self._path = None
        self._read, self._invalid = rows, ~valid
        return scaled

    def invalid(self, rows: Span) -> npt.NDArray[np.bool_]:
        """Tell which pixels have no data, ``(h, W)``, of rows that were read last."""
        return self._invalid[rows.start - self._read.start : rows.stop - self._read.start]
