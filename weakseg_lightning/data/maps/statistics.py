"""Statistics of the channels of rasters, measured by windows: no raster is in memory as a whole."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weakseg_lightning.channels import Channels
from weakseg_lightning.data.images.statistics import Moments, channels_of, moments_of
from weakseg_lightning.data.maps.contents import Map, MapFolder
from weakseg_lightning.data.maps.places import Window
from weakseg_lightning.data.maps.rasters import open_map
from weakseg_lightning.data.maps.tiles import blocks_of
from weakseg_lightning.data.samples import BadSampleError

__all__ = ["find_constant_channels", "measure_maps"]

_SAMPLED = 2**20  # pixels that percentiles are taken of, in all


def measure_maps(
    found: MapFolder,
    parts: dict[str, list[Window]],
    given: dict[str, int | str] | list[str],
    colors: tuple[int, int, int],
) -> Channels:
    """Measure the channels of rasters where they have data.

    Args:
        found: the rasters.
        parts: what is measured of each raster, by name.
        given: see :class:`Channels`.
        colors: see :class:`Channels`.

    Raises:
        BadSampleError: if a raster cannot be read, or none has data.
        ValueError: if a channel has one value throughout, or immense ones.
    """
    assert found.channels is not None
    pixels = sum(part.width * part.height for windows in parts.values() for part in windows)
    step = -(-pixels // _SAMPLED)
    measured = [one for name, windows in parts.items() for one in _moments(found, found.maps[name], windows, step)]
    if not measured:
        raise BadSampleError(f"the rasters in {found.root} have no data: see to their masks and nodata values")
    return channels_of(measured, found.channels.names, given, colors)


def _moments(found: MapFolder, one: Map, windows: Iterable[Window], step: int) -> Iterator[Moments]:
    with open_map(one.path, found.channels) as raster:
        for window in windows:
            planes, valid = raster.read(window)
            if valid.any():
                values: NDArray[Any] = np.stack([plane[valid].astype(np.float64) for plane in planes])
                yield moments_of(values, step)


def find_constant_channels(found: MapFolder, maps: Sequence[Map], side: int) -> dict[str, float]:
    """Find channels that have one value in rasters wherever these have data; no more is read than it takes to know.

    Args:
        found: the folder; without ``channels`` there are none.
        maps: the rasters.
        side: of the windows that are read.

    Returns:
        Their values by their names.

    Raises:
        BadSampleError: if a raster cannot be read.
    """
    names = () if found.channels is None else found.channels.names
    low, high = np.full(len(names), np.inf), np.full(len(names), -np.inf)
    for one in maps if names else ():
        with open_map(one.path, found.channels) as raster:
            for block in blocks_of(one, side):
                planes, valid = raster.read(block.window)
                if valid.any():
                    low = np.minimum(low, [plane[valid].min() for plane in planes])
                    high = np.maximum(high, [plane[valid].max() for plane in planes])
                if (low < high).all():
                    return {}
    return {name: float(least) for name, least, most in zip(names, low, high, strict=True) if least == most}
