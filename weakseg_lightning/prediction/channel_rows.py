"""Image files of several channels as rows, scaled as the network learned them; GeoTIFFs from the file, by windows."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from weakseg_lightning.channels import Channels
from weakseg_lightning.data import BadSampleError
from weakseg_lightning.data.images.channels import ChannelFiles
from weakseg_lightning.prediction.maps import Place, is_map, open_raster
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
    planes = files.read(path)
    height, width = planes[0].shape
    rows, columns = region.find(path, width, height, None)
    part = [plane[rows.start : rows.stop, columns.start : columns.stop] for plane in planes]
    yield MemoryRows(channels.scaled(part).permute(1, 2, 0).numpy())


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
        self.path, self.files, self.channels = path, files, channels
        self._stack = stack
        self._sources: dict[Path, Any] = {}
        source = self._source(path)
        whole = Place(source.crs, source.transform)
        self.rows, self.columns = region.find(path, int(source.width), int(source.height), whole)
        self.height, self.width = self.rows.size, self.columns.size
        self.place = Place.of(source, self.rows, self.columns)
        self._fill = np.array(channels.normalization[0], dtype=np.float32)
        self._read, self._invalid = Span(0, 0), np.empty((0, self.width), dtype=np.bool_)
        self.read(Span(0, 1))  # whatever is wrong is found before anything is written

    def read(self, rows: Span) -> Floats:
        """Read rows, ``(h, W, C)``."""
        first = self.rows.start
        window = (first + rows.start, first + rows.stop), (self.columns.start, self.columns.stop)
        masks: dict[Path, npt.NDArray[Any]] = {}

        def read(file: Path) -> npt.NDArray[Any]:
            source = self._source(file)
            try:
                values, masks[file] = (_last(each(window=window)) for each in (source.read, source.read_masks))
            except Exception as error:  # GDAL's, of a block that is damaged
                raise _unreadable(file, error) from error
            if values.dtype.kind == "f":
                masks[file] = np.where(np.isfinite(values), masks[file], 0)
                values[masks[file] == 0] = 0
            return values

        scaled = self.channels.scaled(self.files.read(self.path, read)).permute(1, 2, 0).numpy()
        invalid = np.stack(self.files.read(self.path, masks.__getitem__)).min(0) == 0
        scaled[invalid] = self._fill
        self._read, self._invalid = rows, invalid
        return scaled

    def invalid(self, rows: Span) -> npt.NDArray[np.bool_]:
        """Tell which pixels have no data, ``(h, W)``, of rows that were read last."""
        return self._invalid[rows.start - self._read.start : rows.stop - self._read.start]

    def _source(self, file: Path) -> Any:
        if file not in self._sources:
            try:
                self._sources[file] = self._stack.enter_context(open_raster(file))
            except Exception as error:
                raise _unreadable(file, error) from error
        return self._sources[file]


def _last(bands: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.moveaxis(bands, 0, -1)


def _unreadable(file: Path, error: Exception) -> BadSampleError:
    reason = " ".join(str(error.__cause__ or error).split())
    return BadSampleError(f"{file} cannot be read ({reason}): restore the file")
