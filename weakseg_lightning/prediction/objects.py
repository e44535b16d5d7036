"""Connected objects of label maps, measured while their rows pass by."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from skimage.measure import label

from weakseg_lightning.channels import Channels
from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.prediction.maps import Place

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

COLUMNS = ("image", "class", "area", "x1", "y1", "x2", "y2", "center_x", "center_y", "red", "green", "blue")
"""Of the table: area in pixels; box and center in pixels, (0, 0) the upper left corner of the image; mean color."""

MAP_COLUMNS = ("map_x", "map_y", "map_area", "crs")
"""Of the table where images lie on a map: center and area in the units of its coordinate system, and that system."""

_NUM_FIXED = COLUMNS.index("red")
_CHANNEL_DIGITS = 6
_DIGITS = 10  # of coordinates: millimeters of those in meters, and of degrees
_ROWS = 64  # what is measured at once; coordinates and sums take fifty times the memory of its labels
_NO_BOX = (np.inf, np.inf, -np.inf, -np.inf)


@dataclass
class _Parts:
    """Parts of objects: class, sums of (1, x, y, colors or channels) and box of each."""

    classes: npt.NDArray[np.int64]
    sums: Floats
    boxes: Floats


class ImageObjects:
    """Objects of one image: connected parts (by edges of pixels) of one class; background and void are none.

    Rows are measured as they come and not kept, so that no image has to fit into memory.

    Args:
        width: of the image, in pixels.
    """

    def __init__(self, width: int) -> None:
        self._above: npt.NDArray[np.int64] = np.zeros(width, dtype=np.int64)
        self._last: Bytes = np.zeros(width, dtype=np.uint8)
        self._parts: list[_Parts] = []
        self._same: list[npt.NDArray[np.int64]] = []
        self._count = self._row = 0

    def add(self, labels: Bytes, pixels: npt.NDArray[Any]) -> None:
        """Measure the next rows.

        Args:
            labels: ``(h, W)``, 255 = void.
            pixels: RGB ``(h, W, 3)``, or scaled channels ``(h, W, C)``.
        """
        for start in range(0, len(labels), _ROWS):
            self._measure(labels[start : start + _ROWS], pixels[start : start + _ROWS])

    def _measure(self, labels: Bytes, pixels: npt.NDArray[Any]) -> None:
        shown = np.where(labels == VOID, 0, labels)
        numbers, found = label(shown, background=0, connectivity=1, return_num=True)
        self._join(shown, numbers)
        flat = numbers.ravel()
        rows, columns = (axis.ravel() + 0.5 for axis in np.indices(labels.shape))
        weights = [None, columns, rows + self._row, *pixels.reshape(-1, pixels.shape[-1]).T]
        sums = np.stack([np.bincount(flat, weight, minlength=found + 1)[1:] for weight in weights], 1)
        classes = np.zeros(found + 1, dtype=np.int64)
        classes[flat] = shown.ravel()
        boxes = [(x.start, y.start + self._row, x.stop, y.stop + self._row) for y, x in ndimage.find_objects(numbers)]
        self._parts.append(_Parts(classes[1:], sums.astype(np.float64), np.array(boxes, dtype=float).reshape(-1, 4)))
        self._count += found
        self._row += len(labels)

    def _join(self, shown: Bytes, numbers: npt.NDArray[np.int64]) -> None:
        """Note which parts go on from the row above."""
        touching = (self._last == shown[0]) & (shown[0] > 0)
        pairs = np.stack([self._above, numbers[0] + self._count], 1)[touching]
        self._same.extend(np.unique(pairs, axis=0))
        self._above = np.where(numbers[-1] > 0, numbers[-1] + self._count, 0)
        self._last = shown[-1]

    def table(self, class_names: Sequence[str], channels: Channels | None = None) -> list[list[str | float]]:
        """Rows of the table without the image's name, in the order of the objects' first pixels.

        Args:
            class_names: names of the classes, background first.
            channels: of the image, whose means are in the values of its files then; None for RGB.
        """
        if not self._count:
            return []
        roots = _roots(self._count, self._same)
        kept, place = np.unique(roots, return_inverse=True)
        each = np.concatenate([part.sums for part in self._parts])
        sums, boxes = np.zeros((len(kept), each.shape[1])), np.tile(_NO_BOX, (len(kept), 1))
        np.add.at(sums, place, each)
        every = np.concatenate([part.boxes for part in self._parts])
        np.minimum.at(boxes[:, :2], place, every[:, :2])
        np.maximum.at(boxes[:, 2:], place, every[:, 2:])
        classes = np.concatenate([part.classes for part in self._parts])[kept]
        means = sums[:, 1:] / sums[:, :1]
        return [
            [class_names[k], int(area), *map(int, box), *(round(float(value), 2) for value in mean[:2]), *colors]
            for k, area, box, mean, colors in zip(
                classes, sums[:, 0], boxes, means, _colors(means[:, 2:], channels), strict=True
            )
        ]


def _colors(means: Floats, channels: Channels | None) -> list[list[float]]:
    """Mean colors as the table has them: of channels in the values of the files, which may be far below 1."""
    if channels is None:
        return [[round(float(value), 2) for value in row] for row in means]
    return [[float(f"{value:.{_CHANNEL_DIGITS}g}") for value in row] for row in channels.unscaled(means)]


def _roots(count: int, same: list[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    """The smallest number, from 0, of those that each part is one with; ``same`` counts from 1."""
    pairs = np.array(same).reshape(-1, 2) - 1
    graph = coo_matrix((np.ones(len(pairs)), pairs.T), shape=(count, count))
    groups = connected_components(graph, directed=False)[1]
    first = np.full(count, count)
    np.minimum.at(first, groups, np.arange(count))
    smallest: npt.NDArray[np.int64] = first[groups]
    return smallest


class ObjectTable:
    """The objects of all images of a run, as one CSV file.

    Args:
        class_names: names of the classes, background first.
        channels: channels of the images, which have columns of their names in place of the mean color; None for RGB.
    """

    def __init__(self, class_names: Sequence[str], channels: Channels | None = None) -> None:
        self.class_names = list(class_names)
        self.channels = channels
        self.rows: list[list[str | float]] = []
        self.on_map = False

    def add(self, name: str, objects: ImageObjects, place: Place | None = None) -> None:
        """Add the objects of an image, which may have a place on a map."""
        rows = [[name, *row] for row in objects.table(self.class_names, self.channels)]
        self.on_map |= place is not None
        self.rows += rows if place is None else [row + _on_map(row, place) for row in rows]

    def write(self, path: Path) -> None:
        """Write the table; with :data:`MAP_COLUMNS` if an image lies on a map, which are empty for others."""
        own = COLUMNS if self.channels is None else (*COLUMNS[:_NUM_FIXED], *self.channels.names)
        columns = (*own, *MAP_COLUMNS) if self.on_map else own
        with path.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([columns, *(row + [""] * (len(columns) - len(row)) for row in self.rows)])


def _on_map(row: list[str | float], place: Place) -> list[str | float]:
    """Values of :data:`MAP_COLUMNS` for a row of the table."""
    found = dict(zip(COLUMNS[:_NUM_FIXED], row, strict=False))  # what follows may be as many channels as there are
    center = place.locate(np.array(found["center_x"]), np.array(found["center_y"]))
    values = (*map(float, center), float(found["area"]) * place.pixel_area)
    return [*(float(f"{value:.{_DIGITS}g}") for value in values), "" if place.crs is None else place.crs.to_string()]
