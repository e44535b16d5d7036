"""Large rasters with scribbles, in tiles."""

import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from typing_extensions import override

from weakseg_lightning.channels import Channels
from weakseg_lightning.checks import at_least, at_least_and_below, one_of
from weakseg_lightning.data.folder.classes import CLASSES_FILE, Classes, read_classes
from weakseg_lightning.data.held_out import HeldOutDataModule
from weakseg_lightning.data.images.channels import ChannelFiles
from weakseg_lightning.data.images.statistics import places_of, rgb_of
from weakseg_lightning.data.maps.brushes import read_brush
from weakseg_lightning.data.maps.contents import Map, MapFolder, read_map_folder
from weakseg_lightning.data.maps.places import Window, require_rasterio
from weakseg_lightning.data.maps.source import MapTiles, Tile
from weakseg_lightning.data.maps.statistics import measure_maps
from weakseg_lightning.data.maps.tiles import (
    Block,
    Counts,
    blocks_of,
    count_labels,
    hold_out,
    left_to_train,
    training_tiles,
)
from weakseg_lightning.data.samples import BadSampleError
from weakseg_lightning.errors import MissingFileError, UserError, first_of
from weakseg_lightning.visualization.panels import Colors

__all__ = ["MapDataModule"]

_NAMED_PROBLEMS = 5


class MapDataModule(HeldOutDataModule):
    """Large rasters on a map: a folder with ``images/``, and labels of some places in them.

    Rasters are read by windows, and never as a whole; this needs the package rasterio, the extra ``raster``. Training
    sees tiles where there are seeds: those of a raster are the same in each epoch, are cropped and augmented as images
    are, and are what methods that label whole images label. Where a raster has no data (its nodata value, mask or
    opacity says so, or a channel is no number) there is no loss, no energy, no score, and no statistics. A band that
    ``channels`` names holds data, also where the file calls it opacity.

    ==========================  =================================================================================
    file                        what it holds
    ==========================  =================================================================================
    ``classes.yaml``            as of :class:`FolderDataModule`
    ``images/NAME.tif``         gray or RGB of 8 bits, or, with ``channels``, any bands of any depth; also VRT and
                                JPEG 2000, in folders if you like
    ``scribbles/NAME.geojson``  points, lines and polygons with a property ``class``, the name of a class or its
                                index; ``brush``, a width as ``5 px`` or ``2.5 m``, overrides the argument. In WGS 84,
                                or in the system that a member ``crs`` names. Later features cover earlier ones; a
                                class that ``ignore`` lists takes away what lies below it
    ``scribbles/NAME.tif``      or a raster of the same grid: the index of a class, 255 = none
    ``masks/NAME.geojson``      polygons alone, what they leave is background
    ``masks/NAME.tif``          or a raster of the same grid, 255 = void
    ==========================  =================================================================================

    Where there are masks, squares of the size of the tiles are held out for validation: all of rasters without seeds,
    then a seeded fraction of all. Training does not see their pixels. Without any mask there is no validation. For
    prediction name the rasters: ``weakseg predict ... images/*.tif``.

    Args:
        root: the folder.
        supervision: labels of the training tiles: ``scribble``: those in ``scribbles/``; ``full``: masks.
        val_fraction: fraction of the squares with masks that is held out, 0 to 1, one at least; 0 for no validation.
        split_seed: draws them; apart from ``seed``, so that runs with other seeds stay comparable.
        val_maps: names of rasters that are held out as wholes, in place of ``val_fraction``.
        brush: width of points and lines without a property ``brush``: ``3 px``, or in meters on the ground, ``2.5 m``.
        tile: side of the tiles in pixels, an even number; by default twice the crop, so that a crop fits in at any
            scale from 0.5.
        channels: names the bands of the rasters, or chooses some, as ``channels`` of :class:`FolderDataModule` does.
        guide: the channels that Potts weights, lattices, GrabCut and pictures see, see :class:`FolderDataModule`.
        balanced_crops: as in the base; by default all crops are centered at a labeled pixel.
        base: those of :class:`SegmentationDataModule`.

    Raises:
        ValueError: if an argument is out of range.
    """

    _held_out_unit = "place"

    def __init__(
        self,
        root: str | Path,
        supervision: Literal["scribble", "full"] = "scribble",
        val_fraction: float = 0.2,
        split_seed: int = 0,
        val_maps: list[str] | None = None,
        brush: str = "3 px",
        tile: int | None = None,
        channels: dict[str, int | str] | list[str] | None = None,
        guide: list[str] | None = None,
        balanced_crops: float = 1.0,
        **base: Any,
    ) -> None:
        super().__init__(balanced_crops=balanced_crops, **base)
        at_least_and_below("val_fraction", val_fraction, 0, 1)
        one_of("supervision", supervision, ("scribble", "full"))
        if tile is not None:
            at_least("tile", tile, 2)
        self.root = root
        self.images_to_predict = str(Path(root).expanduser() / "images")
        self.supervision = supervision
        self.val_fraction = val_fraction
        self.split_seed = split_seed
        self.val_maps = val_maps
        self.brush = brush
        self.tile = tile
        self.guide = guide
        self._brush = read_brush(brush, "`data`")
        self._cell = (2 * self.crop_size if tile is None else tile) // 2
        self._files = None if channels is None else ChannelFiles(channels)
        self._given = channels
        self._measured: Channels | None = None
        if self._files is not None:
            self._colors = places_of(self._files.names, guide)
            self._rgb = rgb_of(self._files.names, self.color_jitter)
        elif guide is not None:
            raise UserError("`guide` chooses among `channels`: name these too")

    @property
    @override
    def class_names(self) -> list[str]:
        """Names of the classes in ``classes.yaml``, background first."""
        return list(self._classes.names)

    @property
    @override
    def palette(self) -> Colors:
        """Colors of ``classes.yaml``, or those of PASCAL VOC."""
        return self._classes.palette

    @property
    @override
    def has_channels(self) -> bool:
        return self._files is not None

    @property
    @override
    def channels(self) -> Channels | None:
        """The channels and their statistics: those of a checkpoint that were set, or else of the training rasters."""
        if self._measured is None and self._given is not None:
            side = 2 * self._cell
            parts = {
                name: [block.window for block in blocks_of(self._folder.maps[name], side) if block not in self._held]
                for name in self._trained
            }
            self._measured = measure_maps(self._folder, parts, self._given, self._colors)
        return self._measured

    @channels.setter
    def channels(self, channels: Channels) -> None:
        if self._files is None or self._files.names != channels.names:
            here = ", ".join(self._files.names) if self._files is not None else "RGB"
            raise UserError(
                f"the weights were trained on the channels {', '.join(channels.names)}, the rasters here have {here}: "
                "set `channels` of the data to these"
            )
        if channels != self._measured:
            self._measured = channels
            self._sources.clear()

    @override
    def train_source(self) -> MapTiles:
        """Find the tiles to train on."""
        tiles = [
            Tile(name, window)
            for name, cells in self._trained.items()
            for window in training_tiles(self._folder.maps[name], cells, 2 * self._cell)
        ]
        rasters = f"{len(self._trained)} raster{'s' * (len(self._trained) != 1)}"
        rank_zero_info(f"{self.root}: {len(tiles)} training tile{'s' * (len(tiles) != 1)} of {rasters}")
        self._tell_notes()
        hidden: dict[str, list[Window]] = {}
        for block in self._held:
            hidden.setdefault(block.name, []).append(block.window)
        present = {name: self._classes_in(cells.values()) for name, cells in self._trained.items()}
        kind: Literal["mask", "scribbles"] = "mask" if self.supervision == "full" else "scribbles"
        return MapTiles(self._folder, tiles, kind, present, hidden, self.channels)

    @override
    def val_source(self) -> MapTiles:
        """Find the squares that are held out; they have masks and no seeds."""
        tiles = [Tile(block.name, block.window) for block in self._held]
        if not tiles:
            rank_zero_info(f"{self.root}: no place with a mask is held out, so that there is no validation")
        return MapTiles(self._folder, tiles, None, channels=self.channels)

    @override
    def predict_source(self) -> Any:
        """Raise: rasters are predicted as wholes.

        Raises:
            ValueError: says how.
        """
        raise UserError(f"maps are predicted as wholes: name them, as `weakseg predict ... {self.images_to_predict}`")

    # ---- inside ---------------------------------------------------------------------------------------------

    @cached_property
    def _root(self) -> Path:
        root = Path(self.root).expanduser().absolute()
        if not root.is_dir():
            raise MissingFileError(f"`root`: there is no folder {self.root} (working directory: {Path.cwd()})")
        return root

    @cached_property
    def _classes(self) -> Classes:
        path = self._root / CLASSES_FILE
        if not path.is_file():
            example = "`classes: [background, field, road]`"
            raise MissingFileError(f"no {CLASSES_FILE} in {self.root}: write {example}, background first")
        return read_classes(path)

    @cached_property
    def _folder(self) -> MapFolder:
        require_rasterio("maps are read")
        found = read_map_folder(self._root, self._classes, self._files, self._brush)
        if found.problems:
            named = first_of([*map(str, found.problems)], _NAMED_PROBLEMS)
            if self.on_bad_sample == "error":
                raise BadSampleError(f"{self.root}: {named} (`weakseg check {self.root}` names all)")
            warnings.warn(f"skipping in {self.root}: {named}", stacklevel=2)
        return found

    @cached_property
    def _seeded(self) -> dict[str, dict[Block, Counts]]:
        """Labels of the squares of half a tile that can be trained on, of each raster that has some."""
        held_out = self._require_maps(self.val_maps or ())
        layers = {name: _seeds_of(one, self.supervision) for name, one in self._folder.maps.items()}
        kept = {name: layer for name, layer in layers.items() if layer is not None and name not in held_out}
        counts = {name: count_labels(self._folder, self._folder.maps[name], kept[name], self._cell) for name in kept}
        if lacking := [name for name, found in counts.items() if not found]:
            raise BadSampleError(
                f"{kept[lacking[0]].path} labels no pixel where {self._folder.maps[lacking[0]].path} has data: see to "
                "its nodata value and mask, or remove the labels"
            )
        return counts

    @cached_property
    def _held(self) -> list[Block]:
        """The squares that are held out, in order."""
        if self.val_maps is not None:
            masked = {name: self._masked(name) for name in self._require_maps(self.val_maps)}
            if lacking := [name for name, blocks in masked.items() if not blocks]:
                raise UserError(f"`val_maps`: {lacking[0]!r} has no mask: add masks/{lacking[0]}.geojson or .tif")
            return [block for blocks in masked.values() for block in blocks]
        every = [block for name in self._folder.maps for block in self._masked(name)] if self.val_fraction > 0 else []
        held = hold_out(every, self._seeded, self.val_fraction, self.split_seed)
        return [block for block in every if block in held]

    def _masked(self, name: str) -> list[Block]:
        """The squares of a raster where its mask is not void."""
        one = self._folder.maps[name]
        return [] if one.mask is None else [*count_labels(self._folder, one, one.mask, 2 * self._cell)]

    @cached_property
    def _trained(self) -> dict[str, dict[Block, Counts]]:
        """The squares to train on, of each raster that has some."""
        kept = {name: left_to_train(cells, self._held) for name, cells in self._seeded.items()}
        if not any(kept.values()):
            where = "masks" if self.supervision == "full" else "scribbles"
            raise MissingFileError(f"no training raster in {self.root} has {where}: add {where}/NAME.geojson or .tif")
        return {name: cells for name, cells in kept.items() if cells}

    def _require_maps(self, names: Sequence[str]) -> Sequence[str]:
        if unknown := [name for name in names if name not in self._folder.maps]:
            raise UserError(
                f"`val_maps`: no raster is called {unknown[0]!r}: take some of {', '.join(self._folder.maps)}"
            )
        return names

    def _classes_in(self, counts: Any) -> Tensor:
        total = np.sum([*counts], axis=0)[: self.num_classes]
        return torch.from_numpy(total > 0)

    def _tell_notes(self) -> None:
        for note in self._folder.notes:
            rank_zero_info(note)
        seeded = torch.stack([self._classes_in(cells.values()) for cells in self._trained.values()]).any(0)
        if absent := [name for name, found in zip(self.class_names, seeded.tolist(), strict=True) if not found]:
            warnings.warn(f"{self.root}: no training label of the class {', '.join(absent)}: it is not learned",
                          stacklevel=2)  # fmt: skip


def _seeds_of(one: Map, supervision: Literal["scribble", "full"]) -> Any:
    return one.mask if supervision == "full" else one.scribbles
