"""Samples of rasters: tiles with what is known about them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from weakseg_lightning.channels import Channels
from weakseg_lightning.data.images.channels import Planes
from weakseg_lightning.data.images.nodata import NODATA_COLOR
from weakseg_lightning.data.maps.contents import Map, MapFolder
from weakseg_lightning.data.maps.layers import Layer
from weakseg_lightning.data.maps.places import Window
from weakseg_lightning.data.maps.rasters import Flags, open_map
from weakseg_lightning.data.samples import Sample, SampleSource, present_labels
from weakseg_lightning.energies.potts import VOID

__all__ = ["MapTiles", "Tile"]


class Tile(NamedTuple):
    """A part of a raster.

    Attributes:
        name: of the raster.
        window: its pixels.
    """

    name: str
    window: Window

    @property
    def id(self) -> str:
        """The name of the raster, and the place of the part in it."""
        return f"{self.name}_x{self.window.left}_y{self.window.top}"


@dataclass(frozen=True)
class MapTiles(SampleSource):
    """Tiles of rasters.

    Args:
        found: the rasters.
        tiles: the parts of them, in order.
        seeds: the labels that are seeds; None for no seeds, as it is not for training.
        present: the classes of each raster, bool ``(K,)``, by its name: tags of its tiles.
        hidden: windows that training must not see, by the name of the raster.
        channels: the channels with their statistics; None for gray and RGB.
    """

    found: MapFolder
    tiles: Sequence[Tile]
    seeds: Literal["scribbles", "mask"] | None
    present: dict[str, Tensor] = field(default_factory=dict)
    hidden: dict[str, list[Window]] = field(default_factory=dict)
    channels: Channels | None = None

    @property
    @override
    def ids(self) -> Sequence[str]:
        return [tile.id for tile in self.tiles]

    @override
    def __getitem__(self, index: int) -> Sample:
        name, window = self.tiles[index]
        one = self.found.maps[name]
        with open_map(one.path, self.found.channels) as raster:
            planes, valid = raster.read(window)
        for hidden in self.hidden.get(name, ()):
            valid[hidden.within(window)] = False
        seeds, mask = self._seeds(one, window, valid), _labels(one.mask, window, valid)
        void = torch.full(valid.shape, VOID, dtype=torch.uint8)
        return Sample(
            id=self.tiles[index].id,
            image=self._image(planes, valid),
            seeds=void if seeds is None else seeds,
            mask=mask,
            tags=self._tags(name, mask),
            colors=None if self.channels is None else torch.tensor(self.channels.colors),
            valid=torch.from_numpy(valid),
        )

    @override
    def has_mask(self, index: int) -> bool:
        return self.found.maps[self.tiles[index].name].mask is not None

    @override
    def origin(self, index: int, what: Literal["image", "seeds", "mask"]) -> str:
        one = self.found.maps[self.tiles[index].name]
        layer = {"seeds": one.scribbles, "mask": one.mask}.get(what)
        return str(one.path if layer is None else layer.path)

    def _seeds(self, one: Map, window: Window, valid: Flags) -> Tensor | None:
        return None if self.seeds is None else _labels(getattr(one, self.seeds), window, valid)

    def _image(self, planes: Planes, valid: Flags) -> Tensor:
        if self.channels is None:
            image, neutral = torch.from_numpy(np.stack(planes)), torch.tensor(NODATA_COLOR, dtype=torch.uint8)
        else:
            image, neutral = self.channels.scaled(planes), torch.tensor(self.channels.normalization[0])
        return torch.where(torch.from_numpy(valid), image, neutral[:, None, None])

    def _tags(self, name: str, mask: Tensor | None) -> Tensor:
        tags = self.present.get(name, torch.zeros(len(self.found.classes.names), dtype=torch.bool)).clone()
        if mask is not None:
            tags |= present_labels(mask, len(tags))
        tags[0] = True
        return tags


def _labels(layer: Layer | None, window: Window, valid: Flags) -> Tensor | None:
    return None if layer is None else torch.from_numpy(np.where(valid, layer.read(window), VOID).astype(np.uint8))
