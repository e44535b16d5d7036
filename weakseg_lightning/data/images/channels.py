"""Channels of images by name: which band of which file each is."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weakseg_lightning.data.images.bands import ARRAY_SUFFIX, bands_size, declared_nodata, read_bands
from weakseg_lightning.data.images.described import band_names
from weakseg_lightning.data.images.nifti import VOLUME_SUFFIXES, is_volume, volume_name
from weakseg_lightning.data.images.nodata import IMMENSE, Flags, filled, has_data
from weakseg_lightning.data.images.reading import IMAGE_SUFFIXES
from weakseg_lightning.data.samples import BadSampleError
from weakseg_lightning.data.text import counted
from weakseg_lightning.errors import UserError

__all__ = ["ChannelFiles", "GivenChannels", "Planes"]

GivenChannels = Mapping[str, int | str] | Sequence[str]
"""Channels as a recipe has them: names by band or file, or the names of all bands."""
Planes = list[NDArray[Any]]
"""Channels of an image, ``(H, W)`` each, in the types of their files."""

_SUFFIXES = (*IMAGE_SUFFIXES, ARRAY_SUFFIX, *VOLUME_SUFFIXES)
_PATTERN = re.compile(r"NAME(?P<ending>.*\.\w+?)(:(?P<band>[0-9]+))?")


@dataclass(frozen=True)
class _Source:
    """A channel: the end of its file's name, empty for the image's own file, and the band there, from 0."""

    name: str
    ending: str
    band: int | None


class ChannelFiles:
    """The channels of images, and the files that hold them.

    Args:
        given: the names of all bands of an image's file in their order; or, by name, the band, counted from 1, or the
            pattern of another file: ``NAME_nir.tif`` for ``a_nir.tif`` beside ``a.tif``, ``NAME_swir.tif:2`` for the
            second of its bands. Where all channels are in such files, the first pattern tells the names of the images.

    Raises:
        ValueError: if there is no channel, two of one name, or one that is neither a band nor a file.
    """

    def __init__(self, given: GivenChannels) -> None:
        names = list(given)
        if not names:
            raise UserError("`channels` must name one channel or more, as `channels: [red, green, blue, nir]`")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(f"`channels` names {twice[0]!r} twice: give each channel a name of its own")
        places = given.items() if isinstance(given, Mapping) else zip(names, range(1, len(names) + 1), strict=True)
        self.sources = [_source(name, place) for name, place in places]
        self.names = tuple(names)
        self._all = None if isinstance(given, Mapping) else len(names)
        endings = list(dict.fromkeys(source.ending for source in self.sources))
        self._own = "" if "" in endings else endings[0]
        self._others = tuple(ending for ending in endings if ending != self._own)
        self._seen = set[Path]()  # files whose own names of bands were compared

    def is_image(self, path: Path) -> bool:
        """Recognize the file that stands for an image, among those of its channels."""
        if self._own:
            return path.name.endswith(self._own)
        return path.name.lower().endswith(_SUFFIXES) and not self.is_companion(path)

    def is_companion(self, path: Path) -> bool:
        """Recognize the files that hold more channels of an image."""
        return bool(self._others) and path.name.endswith(self._others)

    def belongs(self, companion: Path, image: Path) -> bool:
        """Tell if a file holds channels of an image."""
        names = (self.stem(image) + ending for ending in self._others)
        return companion.parent == image.parent and companion.name in names

    def files(self, path: Path) -> list[Path]:
        """List the files that hold the channels of an image, there or not, the one that stands for it first."""
        return [path, *(path.with_name(self.stem(path) + ending) for ending in self._others)]

    def stem(self, path: Path) -> str:
        """The name of an image by its file: without suffix, or what comes before the end of the pattern."""
        if self._own:
            return path.name.removesuffix(self._own)
        return volume_name(path) if is_volume(path) else path.stem

    def size(self, path: Path) -> tuple[int, int]:
        """Read the size of an image, (width, height) in pixels.

        Raises:
            BadSampleError: if its file is missing or no image.
        """
        return bands_size(path)

    def read(self, path: Path, read: Callable[[Path], NDArray[Any]] = read_bands) -> Planes:
        """Read the channels of an image, in their order.

        A pixel that is the nodata which a TIFF declares has the lowest value that the channel has elsewhere.

        Args:
            path: the file that stands for it.
            read: reads the bands of a file, ``(H, W, bands)``.

        Raises:
            BadSampleError: if a file is missing or cannot be read, lacks a band, names its bands in another order than
                the channels, has another size than the first, or holds values that are no numbers, or immense.
        """
        return self._read(path, read, declared_nodata)[0]

    def read_masks(self, path: Path, read: Callable[[Path], NDArray[Any]]) -> Planes:
        """Read by channel what is known of the bands of files, as which of their pixels have data.

        Args:
            path: the file that stands for an image.
            read: reads it for all bands of a file, ``(H, W, bands)``.

        Raises:
            BadSampleError: see :meth:`read`.
        """
        return self._read(path, read, lambda _: None)[0]

    def read_valid(self, path: Path) -> tuple[Planes, Flags | None]:
        """Read the channels of an image as above, and which pixels have data in all of them ``(H, W)``; None for all.

        Raises:
            BadSampleError: see :meth:`read`.
        """
        return self._read(path, read_bands, declared_nodata)

    def valid(self, path: Path) -> Flags | None:
        """Tell which pixels have data in all channels, ``(H, W)``; None for all, which is told without reading them.

        Raises:
            BadSampleError: see :meth:`read`.
        """
        declared = any(declared_nodata(self._file(path, source)) is not None for source in self.sources)
        return self.read_valid(path)[1] if declared else None

    def _read(
        self, path: Path, read: Callable[[Path], NDArray[Any]], nodata_in: Callable[[Path], float | None]
    ) -> tuple[Planes, Flags | None]:
        files = {source.ending: self._file(path, source) for source in self.sources}
        bands = {ending: read(file) for ending, file in files.items()}
        for ending, file in files.items():
            if file not in self._seen:
                self.require_order(file, ending, band_names(file, bands[ending].shape[-1]))
                self._seen.add(file)
        nodata = {ending: nodata_in(file) for ending, file in files.items()}
        ends = [source.ending for source in self.sources]
        found = [
            self._plane(files[end], bands[end], source, nodata[end])
            for source, end in zip(self.sources, ends, strict=True)
        ]
        planes = [plane for plane, _ in found]
        for source, plane in zip(self.sources, planes, strict=True):
            if plane.shape != planes[0].shape:
                here, first = (f"{shape[1]} x {shape[0]}" for shape in (plane.shape, planes[0].shape))
                raise BadSampleError(
                    f"{files[source.ending]} has {here} pixels, {files[self.sources[0].ending].name} {first}: "
                    "bring the channels of an image to one size"
                )
        partial = [valid for _, valid in found if valid is not None]
        return planes, np.logical_and.reduce(partial) if partial else None

    def require_order(self, file: Path, ending: str, names: Sequence[str]) -> None:
        """Raise if a file gives a band the name of a channel that is taken from another of its bands.

        Args:
            file: the file.
            ending: the end of its name in the pattern; empty for the file that stands for the image.
            names: the names that it gives its bands; empty where it gives none.
        """
        for source in self.sources:
            band = 0 if source.band is None and len(names) == 1 else source.band
            if source.ending != ending or source.name not in names or band is None or band >= len(names):
                continue  # a band that is lacking, or not chosen, is told where it is taken
            if names[band] != source.name:
                raise BadSampleError(
                    f"{file} calls its band {band + 1} {names[band]!r}, and {source.name!r} its band "
                    f"{names.index(source.name) + 1}, but `channels` takes {source.name!r} from band {band + 1}: bring "
                    "the bands of all images into one order, or rename them"
                )

    def _file(self, path: Path, source: _Source) -> Path:
        if source.ending == self._own:
            return path
        file = path.with_name(self.stem(path) + source.ending)
        if not file.is_file():
            raise BadSampleError(
                f"{path} lacks the file of its channel {source.name!r}, {file.name}: add it, or correct `channels`"
            )
        return file

    def _plane(
        self, file: Path, values: NDArray[Any], source: _Source, nodata: float | None
    ) -> tuple[NDArray[Any], Flags | None]:
        count = values.shape[-1]
        if self._all not in (None, count):
            raise BadSampleError(
                f"{file} has {_bands(count)}, `channels` names {self._all}: name all of them in their order, or choose "
                f"some by number, as {{{source.name}: 1}}"
            )
        if source.band is None and count > 1:
            raise BadSampleError(f"{file} has {_bands(count)}, expected one: choose one, as NAME{source.ending}:1")
        band = source.band or 0
        if band >= count:
            raise BadSampleError(f"{file} has {_bands(count)}, the channel {source.name!r} is number {band + 1}")
        plane: NDArray[Any] = values[..., band]
        valid = None if nodata is None else has_data(plane, nodata)
        if valid is not None and not valid.all():
            plane = filled(plane[..., None], valid)[..., 0]
        if plane.dtype.kind == "f" and (fault := _no_measurements(plane)):
            raise BadSampleError(f"{file} holds {fault[0]} in the channel {source.name!r}: {fault[1]}")
        return plane, None if valid is None or valid.all() else valid


def _no_measurements(plane: NDArray[Any]) -> tuple[str, str] | None:
    """What a plane of floats holds besides measurements, if it does, and what to do about it."""
    if wrong := plane.size - int(np.isfinite(plane).sum()):
        return f"{counted(wrong, 'pixel')} without a number", "fill them in"
    extreme = max(float(plane.min()), float(plane.max()), key=abs)
    if abs(extreme) < IMMENSE:
        return None
    text = f"{counted(int((plane == extreme).sum()), 'pixel')} of {extreme:.4g}"
    return text, "if that means no data, declare it as the nodata of the TIFF, or fill them in"


def _bands(count: int) -> str:
    return f"{count} bands" if count > 1 else "1 band"


def _source(name: str, place: int | str) -> _Source:
    if isinstance(place, int) and not isinstance(place, bool):
        if place < 1:
            raise UserError(f"`channels`: bands are counted from 1, got {place} for {name!r}")
        return _Source(name, "", place - 1)
    found = _PATTERN.fullmatch(str(place))
    if found is None or not found["ending"].lower().removesuffix(":").endswith(_SUFFIXES) or "/" in str(place):
        raise UserError(
            f"`channels`: {name!r} must be a band, as 4, or a file beside the image's, as NAME_nir.tif or "
            f"NAME_nir.tif:1, got {place!r}"
        )
    band = found["band"]
    if band is not None and int(band) < 1:
        raise UserError(f"`channels`: bands are counted from 1, got {place!r} for {name!r}")
    return _Source(name, found["ending"], None if band is None else int(band) - 1)
