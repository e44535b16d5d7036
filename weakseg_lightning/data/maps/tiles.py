"""Tiles of rasters: those to train on, where labels are, and those that are held out for validation."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from weakseg_lightning.data.maps.contents import Counts, Map, MapFolder
from weakseg_lightning.data.maps.layers import Layer
from weakseg_lightning.data.maps.places import Window
from weakseg_lightning.data.maps.rasters import open_map
from weakseg_lightning.data.sampling import derive_seed
from weakseg_lightning.energies.potts import VOID

__all__ = ["Block", "Counts", "blocks_of", "count_labels", "hold_out", "left_to_train", "training_tiles"]

"""Pixels of each label, ``(256,)``."""
_Place = tuple[str, int, int]


@dataclass(frozen=True)
class Block:
    """A square of the grid that a raster is cut into; smaller at its right and bottom.

    Attributes:
        name: of the raster.
        row: of the grid.
        column: of the grid.
        window: its pixels.
    """

    name: str
    row: int
    column: int
    window: Window


def blocks_of(one: Map, side: int) -> Iterator[Block]:
    """Cut a raster into squares, row by row."""
    for row, top in enumerate(range(0, one.height, side)):
        for column, left in enumerate(range(0, one.width, side)):
            window = Window(left, top, min(side, one.width - left), min(side, one.height - top))
            yield Block(one.name, row, column, window)


def count_labels(found: MapFolder, one: Map, layer: Layer, side: int) -> dict[Block, Counts]:
    """Count the labels in the squares of a raster, where it has data; squares without labels are left out.

    Raises:
        BadSampleError: if labels or raster cannot be read there.
    """
    counts = {}
    with open_map(one.path, found.channels) as raster:
        for block in blocks_of(one, side):
            if not layer.may_label(block.window):
                continue
            labels = layer.read(block.window)
            if (labels == VOID).all():
                continue
            _, valid = raster.read(block.window)
            counted = np.bincount(labels[valid], minlength=256)
            counted[VOID] = 0
            if counted.any():
                counts[block] = counted
    return counts


def hold_out(
    masked: Iterable[Block], seeded: Mapping[str, Mapping[Block, Counts]], fraction: float, seed: int
) -> set[Block]:
    """Choose squares for validation.

    Rasters without seeds of their own go first, then a fraction of all is drawn by lot, which depends on the names of
    the rasters and the places alone. A square with the last seeds of a class stays in training.

    Args:
        masked: the squares whose mask is known.
        seeded: the labels of the squares that can be trained on, of each raster; of squares half as wide.
        fraction: of the squares that are held out, one at least; 0 for none.
        seed: draws them.
    """
    every = list(masked)
    if fraction == 0 or not every:
        return set()
    held = {block for block in every if not seeded.get(block.name)}
    drawn = sorted(
        (block for block in every if block not in held),
        key=lambda block: derive_seed(seed, *f"{block.name}/{block.row}/{block.column}".encode()),
    )
    inside = defaultdict[_Place, Counts](lambda: np.zeros(256, dtype=np.int64))
    for cell, counts in (pair for cells in seeded.values() for pair in cells.items()):
        inside[_around_of(cell)] += counts
    left = sum(inside.values(), np.zeros(256, dtype=np.int64))
    wanted = max(len(held), 1, round(fraction * len(every)))
    for block in drawn:
        rest = left - inside[_place(block)]
        if len(held) < wanted and not ((left > 0) & (rest == 0)).any():
            held.add(block)
            left = rest
    return held


def left_to_train(seeded: Mapping[Block, Counts], held: Iterable[Block]) -> dict[Block, Counts]:
    """The squares of a raster that lie in none of those, twice as wide, that are held out."""
    away = set(map(_place, held))
    return {cell: counts for cell, counts in seeded.items() if _around_of(cell) not in away}


def training_tiles(one: Map, seeded: Iterable[Block], side: int) -> list[Window]:
    """Windows around the squares of a raster that are trained on.

    Args:
        one: the raster.
        seeded: squares with labels, half as wide as the tiles.
        side: of the tiles, which reach beyond their squares by a quarter on each side, as far as the raster does.
    """
    return [_around(cell.window, side, one) for cell in seeded]


def _place(block: Block) -> _Place:
    return block.name, block.row, block.column


def _around_of(cell: Block) -> _Place:
    """The square of twice the width that a square lies in."""
    return cell.name, cell.row // 2, cell.column // 2


def _around(cell: Window, side: int, one: Map) -> Window:
    left, width = _span(cell.left, side, one.width)
    top, height = _span(cell.top, side, one.height)
    return Window(left, top, width, height)


def _span(start: int, side: int, length: int) -> tuple[int, int]:
    """Where a tile begins along one axis, and its size."""
    size = min(side, length)
    return min(max(start - side // 4, 0), length - size), size
