"""Slices of volumes: each volume is decoded once in a process, into a temporary file that slices are read from."""

import os
import tempfile
import weakref
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from weakseg_lightning.checks import at_least, one_of
from weakseg_lightning.data.images.channels import ChannelFiles, Planes
from weakseg_lightning.data.images.nifti import VolumeHeader, read_voxels, require_same_space
from weakseg_lightning.data.images.pixels import Layout, find_range, to_rgb
from weakseg_lightning.data.images.png import StoredLabels
from weakseg_lightning.data.samples import BadSampleError
from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.errors import FileError

__all__ = ["INTENSITY", "SLICE", "SliceStore", "VolumeReader", "as_image", "as_stored"]

SLICE = "slice"
"""Name of the channel of volumes without `channels`."""

INTENSITY = "intensity"
"""Name of the values of volumes without `channels`."""

_SAMPLED = 2**24  # voxels of a volume that black and white are taken from
_LARGE_DISK = Path("/var/tmp")  # /tmp may be in memory

Look = Literal["gray", "fractions", "values", "labels"]
Slices = NDArray[Any]
"""``(slices, H, W)``."""


class VolumeReader:
    """Reads slices of volumes.

    Args:
        axis: the axis of the array along which slices are counted, 0 to 2; None for that of the largest spacing, see
            :meth:`VolumeHeader.read`.
        neighbors: slices before and after each one that are channels of its image.
        channels: the files that hold the channels of a volume; None for one volume without a name.

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(self, axis: int | None = None, neighbors: int = 0, channels: ChannelFiles | None = None) -> None:
        one_of("slice_axis", axis, (None, 0, 1, 2))
        at_least("neighbors", neighbors, 0)
        self.axis = axis
        self.neighbors = neighbors
        self.channels = channels
        self._headers: dict[Path, VolumeHeader] = {}
        self._store = SliceStore()

    @property
    def has_channels(self) -> bool:
        """True if images are made of :meth:`planes`, False if of :meth:`gray`."""
        return self.channels is not None or self.neighbors > 0

    def header(self, path: Path) -> VolumeHeader:
        """Read the header of an image, once.

        Raises:
            BadSampleError: see :meth:`VolumeHeader.read`.
        """
        if path not in self._headers:
            self._headers[path] = VolumeHeader.read(path, self.axis)
        return self._headers[path]

    def header_like(self, path: Path, image: Path) -> VolumeHeader:
        """Read the header of labels or a channel; ``BadSampleError`` if shape or place are not those of the image."""
        header = VolumeHeader.read(path, self.header(image).axis)
        require_same_space(header, self.header(image))
        return header

    def gray(self, path: Path, index: int) -> NDArray[np.uint8]:
        """Read a slice in 8 bits ``(H, W)``: uint8 as it is, others between the percentiles 0.1 and 99.9 of the volume.

        Where these are equal, the least and the largest value take their place.

        Raises:
            BadSampleError: if the volume cannot be read.
        """
        return self._read(path, index, "gray", path)

    def planes(self, path: Path, index: int, neighbors: int | None = None) -> Planes:
        """Read a slice between its neighbors, channel by channel of each; slices at the ends stand for those beyond.

        Without `channels`, values are 0 and 1 where those of :meth:`gray` are 0 and 255, and not cut off.

        Args:
            path: the volume.
            index: the slice.
            neighbors: on each side; by default those of the reader.

        Raises:
            BadSampleError: if the volume cannot be read.
        """
        reach, last = self.neighbors if neighbors is None else neighbors, self.header(path).depth - 1
        places = (min(max(place, 0), last) for place in range(index - reach, index + reach + 1))
        return [plane for place in places for plane in self._channels(path, place)]

    @property
    def value_names(self) -> tuple[str, ...]:
        """Names of the channels of :meth:`values`."""
        return (INTENSITY,) if self.channels is None else self.channels.names

    def values(self, path: Path, index: int) -> Planes:
        """Read the channels of a slice without its neighbors, in the values of the files, also without `channels`.

        Raises:
            BadSampleError: if the volume cannot be read.
        """
        if self.channels is None:
            return [self._read(path, index, "values", path)]
        return self._channels(path, index)

    def labels(self, path: Path, index: int, image: Path) -> NDArray[np.uint8]:
        """Read a slice of the labels of an image ``(H, W)``.

        Raises:
            BadSampleError: if they cannot be read, are not of its shape and place, or hold other values than 0 to 255.
        """
        return self._read(path, index, "labels", image)

    def _channels(self, path: Path, index: int) -> Planes:
        if self.channels is None:
            return [self._read(path, index, "fractions", path)]
        return self.channels.read(path, lambda file: self._read(file, index, "values", path)[..., None])

    def _read(self, path: Path, index: int, look: Look, image: Path) -> NDArray[Any]:
        return self._store.read((path, look), index, partial(self._decode, path, look, image))

    def _decode(self, path: Path, look: Look, image: Path) -> Slices:
        header = self.header(image) if path == image else self.header_like(path, image)
        return _LOOKS[look](path, read_voxels(header))


@dataclass(frozen=True)
class _Place:
    """Place of a decoded volume: the open file, the first byte, type and shape of its slices."""

    file: int
    start: int
    dtype: np.dtype[Any]
    shape: tuple[int, int]


class SliceStore:
    """Decoded volumes one after the other in a temporary file, which the system removes with the last process.

    Workers that are forked read what was decoded before; what they decode themselves goes into a file of their own.
    Workers that are started otherwise begin with nothing.
    """

    def __init__(self) -> None:
        self._places: dict[Hashable, _Place | BadSampleError] = {}
        self._file = -1
        self._owner = 0
        self._lock = Lock()

    def read(self, key: Hashable, index: int, decode: Callable[[], Slices]) -> NDArray[Any]:
        """Read a slice ``(H, W)``.

        Args:
            key: names the volume.
            index: number of the slice.
            decode: makes all its slices, if they are not there.

        Raises:
            BadSampleError: if the volume could not be decoded, now or before.
            OSError: if the disk is full.
        """
        with self._lock:  # one volume at a time is in memory
            if key not in self._places:
                self._places[key] = self._kept(decode)
            place = self._places[key]
        if isinstance(place, BadSampleError):
            raise place
        count = place.dtype.itemsize * place.shape[0] * place.shape[1]
        found = self._bytes(place.file, place.start + index * count, count)
        return np.frombuffer(bytearray(found), place.dtype).reshape(place.shape)

    @override
    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        SliceStore.__init__(self)

    def _kept(self, decode: Callable[[], Slices]) -> "_Place | BadSampleError":
        try:
            slices = decode()
        except BadSampleError as error:
            return error
        try:
            if self._owner != os.getpid():
                self._file, self._owner = _temporary_file(), os.getpid()
                weakref.finalize(self, os.close, self._file)
            with os.fdopen(self._file, "r+b", closefd=False) as file:
                start = file.seek(0, os.SEEK_END)
                file.writelines(np.ascontiguousarray(one).data for one in slices)
        except OSError as error:
            text = f"volumes cannot be unpacked ({error.strerror or error}): set TMPDIR to a folder with more room"
            raise FileError(text) from error
        return _Place(self._file, start, slices.dtype, (slices.shape[1], slices.shape[2]))

    def _bytes(self, file: int, start: int, count: int) -> bytes:
        if hasattr(os, "pread"):  # forked workers share the position in the file
            return os.pread(file, count, start)
        with self._lock:
            os.lseek(file, start, os.SEEK_SET)
            return os.read(file, count)


def as_image(gray: NDArray[np.uint8]) -> Tensor:
    """A slice as an image of three equal colors, uint8 ``(3, H, W)``."""
    return torch.from_numpy(gray).expand(3, -1, -1).clone()


def as_stored(labels: NDArray[np.uint8]) -> StoredLabels:
    """A slice of labels as a label map of gray."""
    return StoredLabels(labels[..., None], None, None, 8)


def _temporary_file() -> int:
    on_disk = "TMPDIR" not in os.environ and os.access(_LARGE_DISK, os.W_OK)
    with tempfile.TemporaryFile(dir=_LARGE_DISK if on_disk else None) as file:
        return os.dup(file.fileno())


def _gray(_: Path, values: Slices) -> Slices:
    if values.dtype == np.uint8:
        return values
    layout, limits = _range(values)
    return np.stack([to_rgb(one[..., None], layout, limits)[..., 0] for one in values])


def _fractions(_: Path, values: Slices) -> Slices:
    dark, bright = (0.0, 255.0) if values.dtype == np.uint8 else _range(values)[1]
    found = np.empty(values.shape, dtype=np.float32)
    with np.errstate(over="ignore"):  # what is too far away is infinite
        for one, plane in zip(values, found, strict=True):
            plane[:] = (one.astype(np.float64) - dark) / max(bright - dark, 1e-12)
    return found


def _range(values: Slices) -> tuple[Layout, tuple[float, float]]:
    """Black and white of a volume; of a large one those of every n-th slice. The full range where these are equal."""
    layout = Layout(1, bits=8 * values.itemsize, deep=True)
    limits = find_range(values[:: -(-values.size // _SAMPLED), ..., None], layout)
    assert limits is not None
    if limits[0] == limits[1]:  # almost all voxels are of one value
        limits = float(values.min()), float(values.max())
    return layout, limits


def _labels(path: Path, values: Slices) -> Slices:
    found = np.empty(values.shape, dtype=np.uint8)
    for one, plane in zip(values, found, strict=True):
        wrong = one[(one < 0) | (one > VOID) | (one != np.trunc(one))]
        if wrong.size:
            raise BadSampleError(f"{path} holds the value {wrong[0]:g}, expected class indices, 0 to 254, or 255")
        plane[:] = one
    return found


_LOOKS: dict[Look, Callable[[Path, Slices], Slices]] = {
    "gray": _gray,
    "fractions": _fractions,
    "values": lambda _, values: values,
    "labels": _labels,
}
