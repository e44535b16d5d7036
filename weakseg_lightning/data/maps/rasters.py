"""Large rasters, read by windows: their channels, and which pixels have data."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from weakseg_lightning.data.images.channels import ChannelFiles, Planes
from weakseg_lightning.data.maps.places import Place, Window, open_raster, require_rasterio
from weakseg_lightning.data.samples import BadSampleError

__all__ = ["Flags", "MapRaster", "open_map", "readable", "same_grid"]

Flags = npt.NDArray[np.bool_]

_APART = 0.1  # pixels by which the corners of two rasters of one grid may lie apart, by rounding


class MapRaster:
    """A raster that is open: gray or RGB of 8 bits, or chosen channels of any depth.

    Args:
        path: the file that stands for it.
        files: its channels and the files that hold them; None for gray or RGB of 8 bits.
        stack: closes the files.

    Attributes:
        width: in pixels.
        height: in pixels.
        place: on the map.

    Raises:
        BadSampleError: if a file is missing or cannot be read, lies on another grid, or lacks a band.
    """

    def __init__(self, path: Path, files: ChannelFiles | None, stack: ExitStack) -> None:
        self.path = path
        self.files = files
        self._stack = stack
        self._sources: dict[Path, Any] = {}
        self._named = {} if files is None else _bands_by_file(path, files)
        source = self._source(path)
        self.width, self.height = int(source.width), int(source.height)
        self.place = Place.of_whole(source)
        if source.colorinterp[0].name == "palette":
            raise BadSampleError(f"{path} has a palette: expand it to RGB, as by gdal_translate -expand rgb")
        if files is None:
            _require_rgb(path, source)
        else:
            self.read(Window(0, 0, 1, 1))  # whatever bands and files are lacking

    def read(self, window: Window) -> tuple[Planes, Flags]:
        """Read a window.

        Returns:
            The channels, ``(h, w)`` each, three of them of gray and RGB; and which pixels have data ``(h, w)``: in all
            channels, and that are numbers. Of other pixels the channels have any value.

        Raises:
            BadSampleError: if it cannot be read.
        """
        if self.files is None:
            return self._read_rgb(window)
        masks: dict[Path, npt.NDArray[Any]] = {}

        def read(file: Path) -> npt.NDArray[Any]:
            source = self._source(file)
            with readable(file):
                values, masks[file] = (_last(each(window=window.ranges)) for each in (source.read, source.read_masks))
            masks[file][..., _veiled_by(source, self._named[file])] = 255
            if values.dtype.kind == "f":
                masks[file] = np.where(np.isfinite(values), masks[file], 0)
                values[masks[file] == 0] = 0
            return values

        planes = self.files.read(self.path, read)
        valid = np.stack(self.files.read_masks(self.path, masks.__getitem__)).min(0) > 0
        return planes, valid

    @property
    def alpha(self) -> int | None:
        """The band of its file, from 1, that says as transparency where there is data; None if there is none."""
        source, named = self._source(self.path), self._named.get(self.path, set())
        return next((band + 1 for band in _alpha_bands(source) - named if _veiled_by(source, {band}).any()), None)

    def _read_rgb(self, window: Window) -> tuple[Planes, Flags]:
        source = self._source(self.path)
        with readable(self.path):
            colors = source.read([1, 2, 3] if source.count >= 3 else [1, 1, 1], window=window.ranges)
            valid = source.dataset_mask(window=window.ranges) > 0
        return [*colors], valid

    def _source(self, file: Path) -> Any:
        if file not in self._sources:
            with readable(file):
                source = self._stack.enter_context(open_raster(file))
            if self._sources and (fault := same_grid(source, self._sources[self.path])) is not None:
                raise BadSampleError(f"{file} {fault}, as its other channels")
            if self.files is not None and (kinds := [kind for kind in source.dtypes if kind.startswith("complex")]):
                raise BadSampleError(
                    f"{file} has bands of {kinds[0]}, expected real numbers: store amplitude or phase as bands"
                )
            self._sources[file] = source
        return self._sources[file]


@contextmanager
def open_map(path: Path, files: ChannelFiles | None) -> Iterator[MapRaster]:
    """Open a raster, see :class:`MapRaster`; each reader opens it anew, as rasterio's files are of one thread."""
    with ExitStack() as stack:
        yield MapRaster(path, files, stack)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Raise what rasterio raises within as a ``BadSampleError`` that names the file."""
    require_rasterio("maps are read")
    from rasterio.errors import RasterioError

    try:
        yield
    except BadSampleError:
        raise
    except (RasterioError, ValueError) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise BadSampleError(f"{path} cannot be read ({reason}): restore the file") from error


def same_grid(source: Any, other: Any) -> str | None:
    """Compare the grids of two rasters.

    Args:
        source: what rasterio has opened.
        other: the one that it should be like, or anything with a ``width``, ``height``, ``crs`` and ``transform``.

    Returns:
        What differs, to go on where the file's name ends; None if they are the same.
    """
    if (source.width, source.height) != (other.width, other.height):
        sizes = [f"{one.width} x {one.height}" for one in (source, other)]
        return f"has {sizes[0]} pixels, its image {sizes[1]}: bring it to the grid of the image"
    if source.crs and other.crs and source.crs != other.crs:
        return f"has the coordinate system {source.crs}, its image {other.crs}: bring it to the grid of the image"
    if source.transform.is_identity or other.transform.is_identity:
        return None  # one of them lies on no map
    corners = np.array([[0, 0], [source.width, 0], [0, source.height]], dtype=np.float64).T
    there = Place(None, other.transform).find(*Place(None, source.transform).locate(*corners))
    apart = float(np.abs(np.stack(there) - corners).max())
    if apart > _APART:
        return f"lies up to {apart:.1f} pixels apart from its image: bring it to the grid of the image"
    return None


def _bands_by_file(path: Path, files: ChannelFiles) -> dict[Path, set[int]]:
    """The bands that are channels, from 0, of each file of a raster."""
    bands: dict[Path, set[int]] = {path: set()}
    for source in files.sources:
        file = path.with_name(files.stem(path) + source.ending) if source.ending else path
        bands.setdefault(file, set()).add(source.band or 0)
    return bands


def _alpha_bands(source: Any) -> set[int]:
    return {band for band, meaning in enumerate(source.colorinterp) if meaning.name == "alpha"}


def _veiled_by(source: Any, bands: set[int]) -> Flags:
    """Tell which bands of a file ``(B,)`` have their mask from one of some bands.

    GDAL takes the fourth of four plain bands of 8 bits for opacity. A band that is a channel holds data.
    """
    from rasterio.enums import MaskFlags

    veiled = [MaskFlags.alpha in flags for flags in source.mask_flag_enums]
    return np.array(veiled, dtype=bool) & bool(_alpha_bands(source) & bands)


def _require_rgb(path: Path, source: Any) -> None:
    bands, kinds = source.count, sorted(set(source.dtypes))
    alpha = bands > 1 and source.colorinterp[-1].name == "alpha"
    if kinds != ["uint8"] or bands - alpha not in (1, 3):
        shown = f"{bands} band{'s' * (bands > 1)} of {', '.join(kinds)}"
        raise BadSampleError(
            f"{path} has {shown}, expected gray or RGB of 8 bits: name the bands with `channels`, as "
            "[blue, green, red, nir], or choose some, as {red: 3, nir: 4}"
        )


def _last(bands: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Bands as the last dimension."""
    return np.moveaxis(bands, 0, -1)
