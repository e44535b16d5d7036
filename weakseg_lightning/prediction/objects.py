"""Connected objects of label maps and volumes, measured while their rows or slices pass by."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import EllipsisType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from skimage.measure import label

from weakseg_lightning.channels import Channels
from weakseg_lightning.data.images.nifti import VolumeHeader
from weakseg_lightning.data.maps.brushes import meters_of_pixels
from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.prediction.maps import Place

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

COLUMNS = ("image", "class", "area", "x1", "y1", "x2", "y2", "center_x", "center_y", "red", "green", "blue")
"""Of the table: area in pixels, of volumes in voxels; box and center in pixels, (0, 0) the upper left corner of the
image or the slice; mean color."""

MAP_COLUMNS = ("map_x", "map_y", "map_area", "crs")
"""Of the table where images lie on a map: center and area in the units of its coordinate system, and that system.

Where these are degrees, areas are in square meters by the pixel at the center: half a percent too large for an object
that spans 20 degrees of latitude."""

VOLUME_COLUMNS = ("z1", "z2", "center_z", "volume_mm3", "world_x", "world_y", "world_z")
"""Of the table where images are volumes: first slice and the one after the last; center, the first slice spanning 0 to
1; volume, and the center by the affine, in mm."""

_NUM_FIXED = COLUMNS.index("red")
_FIXED, _COLORS = COLUMNS[:_NUM_FIXED], COLUMNS[_NUM_FIXED:]
_VALUE_DIGITS = 6  # of single precision, as files and headers of volumes have it
_DIGITS = 10  # of coordinates: millimeters of those in meters, and of degrees
_ROWS = 64  # what is measured at once; coordinates and sums take fifty times the memory of its labels
_NO_BOX = (np.inf, np.inf, np.inf, -np.inf, -np.inf, -np.inf)

Row = list[str | float]


@dataclass
class _Parts:
    """Parts of objects: class, sums of (1, x, y, z, values of pixels) and box (x1, y1, z1, x2, y2, z2) of each."""

    classes: npt.NDArray[np.int64]
    sums: Floats
    boxes: Floats


class _Object(NamedTuple):
    """An object: class, pixels or voxels, box (x1, y1, z1, x2, y2, z2), center (x, y, z) and mean values."""

    label: int
    area: int
    box: list[int]
    center: Floats
    means: Floats


class _Objects:
    """Objects of labels that pass by in pieces, each of which goes on from the one before.

    They are not kept, so that no image has to fit into memory.

    Args:
        seam: shape of the part of a piece that touches the next one: a row of an image, or a whole slice.
    """

    def __init__(self, seam: tuple[int, ...]) -> None:
        self._last: Bytes = np.zeros(seam, dtype=np.uint8)
        self._last_numbers: npt.NDArray[np.int64] = np.zeros(seam, dtype=np.int64)
        # Pieces touch in their first and last rows, or all over.
        self._near: int | EllipsisType = 0 if len(seam) == 1 else ...
        self._far: int | EllipsisType = -1 if len(seam) == 1 else ...
        self._parts: list[_Parts] = []
        self._same: list[npt.NDArray[np.int64]] = []
        self._count = 0

    def _measure(self, labels: Bytes, pixels: npt.NDArray[Any], row: int, place: int) -> None:
        """Measure a piece ``(h, W)`` whose first row is ``row``, of the slice at ``place``."""
        shown = np.where(labels == VOID, 0, labels)
        numbers, found = label(shown, background=0, connectivity=1, return_num=True)
        self._join(shown, numbers)
        flat = numbers.ravel()
        rows, columns = (axis.ravel() + 0.5 for axis in np.indices(labels.shape))
        weights = [None, columns, rows + row, *pixels.reshape(-1, pixels.shape[-1]).T]
        each = np.stack([np.bincount(flat, weight, minlength=found + 1)[1:] for weight in weights], 1)
        sums: Floats = np.insert(each.astype(np.float64), 3, (place + 0.5) * each[:, 0], axis=1)
        classes = np.zeros(found + 1, dtype=np.int64)
        classes[flat] = shown.ravel()
        boxes = [
            (x.start, y.start + row, place, x.stop, y.stop + row, place + 1) for y, x in ndimage.find_objects(numbers)
        ]
        self._parts.append(_Parts(classes[1:], sums, np.array(boxes, dtype=float).reshape(-1, 6)))
        self._count += found

    def _join(self, shown: Bytes, numbers: npt.NDArray[np.int64]) -> None:
        """Note which parts go on from the piece before."""
        touching = (self._last == shown[self._near]) & (shown[self._near] > 0)
        pairs = np.stack([self._last_numbers, numbers[self._near] + self._count], -1)[touching]
        self._same.extend(np.unique(pairs, axis=0))
        self._last_numbers = np.where(numbers[self._far] > 0, numbers[self._far] + self._count, 0)
        self._last = shown[self._far]

    def _joined(self) -> Iterator[_Object]:
        """The objects in the order of their first pixels."""
        if not self._count:
            return
        roots = _roots(self._count, self._same)
        kept, place = np.unique(roots, return_inverse=True)
        each = np.concatenate([part.sums for part in self._parts])
        sums, boxes = np.zeros((len(kept), each.shape[1])), np.tile(_NO_BOX, (len(kept), 1))
        np.add.at(sums, place, each)
        every = np.concatenate([part.boxes for part in self._parts])
        np.minimum.at(boxes[:, :3], place, every[:, :3])
        np.maximum.at(boxes[:, 3:], place, every[:, 3:])
        classes = np.concatenate([part.classes for part in self._parts])[kept]
        for k, total, box in zip(classes, sums, boxes, strict=True):
            means = total[1:] / total[0]
            yield _Object(int(k), int(total[0]), [int(side) for side in box], means[:3], means[3:])


class ImageObjects(_Objects):
    """Objects of one image: connected parts (by edges of pixels) of one class; background and void are none.

    Args:
        width: of the image, in pixels.
    """

    def __init__(self, width: int) -> None:
        super().__init__((width,))
        self._row = 0

    def add(self, labels: Bytes, pixels: npt.NDArray[Any]) -> None:
        """Measure the next rows.

        Args:
            labels: ``(h, W)``, 255 = void.
            pixels: RGB ``(h, W, 3)``, or scaled channels ``(h, W, C)``.
        """
        for start in range(0, len(labels), _ROWS):
            piece = labels[start : start + _ROWS]
            self._measure(piece, pixels[start : start + _ROWS], self._row, 0)
            self._row += len(piece)

    def table(self, class_names: Sequence[str], channels: Channels | None = None) -> list[Row]:
        """Rows of the table without the image's name, in the order of the objects' first pixels.

        Args:
            class_names: names of the classes, background first.
            channels: of the image, whose means are in the values of its files then; None for RGB.
        """
        return [[*_fixed(one, class_names), *_colors(one.means, channels)] for one in self._joined()]


class VolumeObjects(_Objects):
    """Objects of a volume: connected parts (by faces of voxels) of one class; background and void are none.

    Args:
        header: of the volume.
    """

    def __init__(self, header: VolumeHeader) -> None:
        super().__init__(header.size[::-1])
        self.header = header
        self._slice = 0

    def add(self, labels: Bytes, values: npt.NDArray[Any]) -> None:
        """Measure the next slice.

        Args:
            labels: ``(H, W)``, 255 = void.
            values: of the volume's files, ``(H, W, C)``.
        """
        self._measure(labels, values.astype(np.float64), 0, self._slice)
        self._slice += 1

    def table(self, class_names: Sequence[str]) -> list[tuple[Row, Row, Row]]:
        """Rows of the table, in the order of the objects' first voxels.

        Args:
            class_names: names of the classes, background first.

        Returns:
            Of each object what images have as well, without name and color; mean values; and :data:`VOLUME_COLUMNS`.
        """
        voxel = abs(float(np.linalg.det(self.header.affine[:3, :3])))
        return [
            (
                _fixed(one, class_names),
                _rounded(one.means, _VALUE_DIGITS),
                [
                    *(one.box[2], one.box[5], round(float(one.center[2]), 2)),
                    *_rounded([one.area * voxel], _VALUE_DIGITS),
                    *_rounded(self.header.locate(one.center), _DIGITS),
                ],
            )
            for one in self._joined()
        ]


def _fixed(one: _Object, class_names: Sequence[str]) -> Row:
    """Class, area, box and center within the image or the slices."""
    x1, y1, _, x2, y2, _ = one.box
    return [class_names[one.label], one.area, x1, y1, x2, y2, *(round(float(value), 2) for value in one.center[:2])]


def _rounded(values: Sequence[float] | Floats, digits: int) -> Row:
    return [float(f"{value:.{digits}g}") for value in values]


def _colors(means: Floats, channels: Channels | None) -> Row:
    """Mean colors as the table has them: of channels in the values of the files, which may be far below 1."""
    if channels is None:
        return [round(float(value), 2) for value in means]
    return _rounded(channels.unscaled(means), _VALUE_DIGITS)


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

    It has the columns that any of the images has; they are empty for the others.

    Args:
        class_names: names of the classes, background first.
        channels: channels of the images, which have columns of their names in place of the mean color; None for RGB.
    """

    def __init__(self, class_names: Sequence[str], channels: Channels | None = None) -> None:
        self.class_names = list(class_names)
        self.channels = channels
        self._columns: dict[tuple[str, ...], None] = {_FIXED: None}
        self.rows: list[dict[tuple[str, ...], Row]] = []

    def add(self, name: str, objects: ImageObjects, place: Place | None = None) -> None:
        """Add the objects of an image, which may have a place on a map, known by more than control points."""
        place = None if place is None or place.unwarped is not None else place
        colors = _COLORS if self.channels is None else self.channels.names
        rows = []
        for row in objects.table(self.class_names, self.channels):
            fixed, means = row[: _NUM_FIXED - 1], row[_NUM_FIXED - 1 :]
            found: dict[tuple[str, ...], Row] = {_FIXED: [name, *fixed], colors: means}
            rows.append(found if place is None else found | {MAP_COLUMNS: _on_map(fixed, place)})
        self._columns |= dict.fromkeys([colors] if place is None else [colors, MAP_COLUMNS])
        self.rows += rows

    def add_volume(self, name: str, objects: VolumeObjects, values: tuple[str, ...]) -> None:
        """Add the objects of a volume, with columns for the means of its values."""
        self._columns |= dict.fromkeys([values, VOLUME_COLUMNS])
        for fixed, means, in_space in objects.table(self.class_names):
            self.rows.append({_FIXED: [name, *fixed], values: means, VOLUME_COLUMNS: in_space})

    def write(self, path: Path) -> None:
        """Write the table."""
        rows = [[cell for part in self._columns for cell in row.get(part, [""] * len(part))] for row in self.rows]
        header = [column for part in self._columns for column in part]
        with path.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows([header, *rows])


def _on_map(fixed: Row, place: Place) -> Row:
    """Values of :data:`MAP_COLUMNS` for an object."""
    found = dict(zip(_FIXED[1:], fixed, strict=True))
    at = np.array([[found["center_x"], found["center_y"]]], dtype=np.float64)
    in_degrees = place.crs is not None and place.crs.is_geographic
    pixel = abs(float(np.linalg.det(meters_of_pixels(place, at)[0]))) if in_degrees else place.pixel_area
    values = (*map(float, place.locate(*at[0])), float(found["area"]) * pixel)
    return [*_rounded(values, _DIGITS), "" if place.crs is None else place.crs.to_string()]
