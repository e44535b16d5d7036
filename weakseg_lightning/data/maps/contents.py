"""Contents of a folder of maps: rasters with their scribbles and masks, and what is wrong with them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from weakseg_lightning.data.folder.annotations import Problem, relative
from weakseg_lightning.data.folder.classes import CLASSES_FILE, FIRST_IS_BACKGROUND, Classes
from weakseg_lightning.data.folder.label_maps import labels_all
from weakseg_lightning.data.images.channels import ChannelFiles
from weakseg_lightning.data.images.reading import IMAGE_SUFFIXES, files_below
from weakseg_lightning.data.maps.brushes import Brush, ground_resolution
from weakseg_lightning.data.maps.geojson import Kind
from weakseg_lightning.data.maps.layers import DrawnLayer, Layer, StoredLayer
from weakseg_lightning.data.maps.places import Place, Window, is_mosaic, open_raster
from weakseg_lightning.data.maps.placing import read_shapes
from weakseg_lightning.data.maps.rasters import open_map
from weakseg_lightning.data.maps.remarks import Remark, notes_of, uneven, unread
from weakseg_lightning.data.maps.shapes import Shape, draw_shapes
from weakseg_lightning.data.samples import BadSampleError
from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.errors import MissingFileError

__all__ = ["Counts", "Map", "MapFolder", "holds_maps", "read_map_folder"]

DRAWN, STORED = (".geojson", ".json"), (".tif", ".tiff")
RASTERS = (*STORED, ".vrt", ".jp2")
IMAGES, SCRIBBLES, MASKS = "images", "scribbles", "masks"

Counts = NDArray[np.int64]

_STRIP = 256  # rows


@dataclass(frozen=True)
class Map:
    """A raster with what is known about it.

    Attributes:
        name: its path below ``images/`` without suffix.
        path: its file.
        width: in pixels.
        height: in pixels.
        place: on the map.
        scribbles: labels of some pixels; None if there are none.
        mask: labels of all pixels but the void ones; None if it is not known.
    """

    name: str
    path: Path
    width: int
    height: int
    place: Place
    scribbles: Layer | None = None
    mask: Layer | None = None

    @property
    def whole(self) -> Window:
        """All of it."""
        return Window(0, 0, self.width, self.height)


@dataclass
class MapFolder:
    """The rasters of a folder.

    Attributes:
        root: the folder.
        classes: of ``classes.yaml``.
        channels: of the rasters; None for gray and RGB of 8 bits.
        maps: the sound rasters by name.
        problems: what cannot be used.
        notes: what is left out, or read in a way that users should know.
        remarks: of the notes, those that are told once of all files.
    """

    root: Path
    classes: Classes
    channels: ChannelFiles | None
    maps: dict[str, Map] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)


def holds_maps(root: Path) -> bool:
    """Recognize a folder whose labels are drawn on a map, or stored as rasters beside nothing but rasters."""
    labels = _suffixes(root / SCRIBBLES) | _suffixes(root / MASKS)
    images = _suffixes(root / IMAGES) & {*IMAGE_SUFFIXES, *RASTERS}
    return DRAWN[0] in labels or bool(labels & set(STORED) and images and images <= set(RASTERS))


def _suffixes(folder: Path) -> set[str]:
    return {path.suffix.lower() for path in files_below(folder)} if folder.is_dir() else set()


def read_map_folder(root: Path, classes: Classes, channels: ChannelFiles | None, brush: Brush) -> MapFolder:
    """Find rasters and their labels, and read those that are drawn.

    Args:
        root: absolute path of the folder.
        classes: of the data.
        channels: of the rasters; None for gray and RGB of 8 bits.
        brush: of points and lines that say no width of their own.

    Raises:
        MissingFileError: if there is no raster.
    """
    found = MapFolder(root, classes, channels)
    files = _rasters(found)
    layers = {kind: _layers(found, kind, files) for kind in (SCRIBBLES, MASKS)}
    for name, path in files.items():
        one = _reported(found, name, path, lambda name=name, path=path: _open(found, name, path))  # type: ignore[misc]
        if one is None:
            continue
        scribbles, mask = (_layer(found, one, layers[kind].get(name), kind, brush) for kind in (SCRIBBLES, MASKS))
        found.maps[name] = Map(name, path, one.width, one.height, one.place, scribbles, mask)
    sides = {one.path: ground_resolution(one.place, (one.width, one.height)) for one in found.maps.values()}
    found.notes += uneven(root, {path: side for path, side in sides.items() if side is not None})
    found.notes += [*notes_of(found.remarks, root), *_left(found, {*files.values()})]
    return found


def _rasters(found: MapFolder) -> dict[str, Path]:
    folder, channels = found.root / IMAGES, found.channels
    files: dict[str, Path] = {}
    for path in _files(folder):
        usual = is_mosaic(path, channels) or (
            path.suffix.lower() in RASTERS and (channels is None or channels.is_image(path))
        )
        if usual and (name := _name(path, folder, channels)) not in files:
            files[name] = path
        elif usual:
            _report(found, path, f"has the name of {files[name].name}: rename or remove one")
    if not files:
        others = {path.suffix.lower() for path in _files(folder)} & set(IMAGE_SUFFIXES)
        hint = ", or label images that lie on no map by PNG or CSV files, not by GeoJSON" if others else ""
        raise MissingFileError(f"no raster in {folder}: put rasters there ({', '.join(RASTERS)}){hint}")
    return files


def _name(path: Path, folder: Path, channels: ChannelFiles | None) -> str:
    stem = path.stem if channels is None else channels.stem(path)
    return path.relative_to(folder).with_name(stem).as_posix()


def _layers(found: MapFolder, kind: str, files: dict[str, Path]) -> dict[str, Path]:
    """The files of one kind of labels by the names of their rasters."""
    folder, layers = found.root / kind, dict[str, Path]()
    for path in filter(_is_layer, _files(folder)):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name not in files:
            _report(found, path, f"belongs to no raster: there is no {IMAGES}/{name}.tif, rename it or remove it")
        elif name in layers:
            _report(found, path, f"is there beside {layers[name].name}: remove one of them")
        else:
            layers[name] = path
    return layers


def _is_layer(path: Path) -> bool:
    return path.suffix.lower() in (*DRAWN, *STORED)


def _files(folder: Path) -> list[Path]:
    return files_below(folder) if folder.is_dir() else []


def _left(found: MapFolder, images: set[Path]) -> Iterator[str]:
    """Notes on files that are not read; those that were tried have a problem of their own."""
    channels, tried = found.channels, {problem.file for problem in found.problems}
    left = [path for path in _files(found.root / IMAGES) if path not in images]
    if channels is not None:
        left = [path for path in left if not any(channels.belongs(path, image) for image in images)]
    left += [path for kind in (SCRIBBLES, MASKS) for path in _files(found.root / kind) if not _is_layer(path)]
    files = [path for path in left if relative(path, found.root) not in tried]
    return unread(found.root, files, (IMAGES, SCRIBBLES, MASKS, CLASSES_FILE))


def _open(found: MapFolder, name: str, path: Path) -> Map:
    with open_map(path, found.channels) as raster:
        if raster.alpha is not None:
            meaning = f"has no data where its band {raster.alpha}, which is marked as transparency, is 0"
            text = f"{meaning}: if it is a channel, name it in `channels`, as [red, green, blue, nir]"
            found.remarks.append(Remark(path, text))
        return Map(name, path, raster.width, raster.height, raster.place)


def _layer(found: MapFolder, one: Map, path: Path | None, kind: str, brush: Brush) -> Layer | None:
    if path is None:
        return None
    read = _drawn if path.suffix.lower() in DRAWN else _stored
    layer: Layer | None = _reported(found, one.name, path, lambda: read(found, one, path, kind, brush))
    return layer


def _drawn(found: MapFolder, one: Map, path: Path, kind: str, brush: Brush) -> Layer:
    size, kinds = (one.width, one.height), get_args(Kind) if kind == SCRIBBLES else ("Polygon",)
    shapes, notes = read_shapes(path, found.classes, one.place, size, brush, kinds)
    found.notes += notes
    first = [shape.where for shape in shapes if shape.label == 0 and not found.classes.begin_with_background]
    if kind == MASKS and first and _leave_pixels(found, one, shapes):
        fault = f"is {found.classes.names[0]}, the first class, which is what polygons leave, too"
        raise BadSampleError(f"{path}: {first[0]} {fault}: {FIRST_IS_BACKGROUND}")
    return DrawnLayer(path, shapes, VOID if kind == SCRIBBLES else 0)


def _leave_pixels(found: MapFolder, one: Map, shapes: list[Shape]) -> bool:
    """Tell if polygons leave more than a thousandth of the pixels with data."""
    left = valid = 0
    with open_map(one.path, found.channels) as raster:
        for window in _strips(one):
            has_data = raster.read(window)[1]
            valid += int(np.count_nonzero(has_data))
            left += int(np.count_nonzero(has_data & (draw_shapes(shapes, window) == VOID)))
    return left > valid / 1000


def _strips(one: Map) -> Iterator[Window]:
    for top in range(0, one.height, _STRIP):
        yield Window(0, top, one.width, min(_STRIP, one.height - top))


def _stored(found: MapFolder, one: Map, path: Path, kind: str, brush: Brush) -> Layer:
    classes, layer = found.classes, StoredLayer(path, len(found.classes.names))
    if kind == SCRIBBLES and isinstance(classes.unlabelled, int):
        layer = replace(layer, unlabelled=classes.unlabelled, background=classes.background)
    with open_raster(one.path) as source:
        layer.require_grid_of(source)
    if (value := layer.nodata()) is not None and (label := layer.class_of(value)) is not None:
        name = classes.names[label]
        meaning = f"has the nodata value {value:g}, which is also the class {name}: its pixels are without label"
        text = f"{meaning}; unset it (`gdal_edit.py -unsetnodata`) if they are {name}"
        found.remarks.append(Remark(path, text))
    if kind == SCRIBBLES and (counts := _counts_of_all(found, one, layer)) is not None:
        most = int(counts.argmax())
        raise BadSampleError(f"{path} {labels_all(counts, 'pixel')}; or declare it: `gdal_edit.py -a_nodata {most}`")
    return layer


def _counts_of_all(found: MapFolder, one: Map, layer: StoredLayer) -> Counts | None:
    """How many pixels each class has where all that have data have one; None where one of them has none."""
    counts = np.zeros(256, dtype=np.int64)
    with open_map(one.path, found.channels) as raster:
        for window in _strips(one):
            labels = layer.read(window)[raster.read(window)[1]]
            if (labels == VOID).any():
                return None
            counts += np.bincount(labels, minlength=256)
    return counts if counts.sum() > 1 else None


def _reported(found: MapFolder, name: str, path: Path, read: Callable[[], Any]) -> Any:
    """What is read; None, and a problem, if it cannot be used."""
    try:
        return read()
    except BadSampleError as error:
        _report(found, path, str(error).removeprefix(str(path)).lstrip(": "), name)
        return None


def _report(found: MapFolder, path: Path, text: str, name: str | None = None) -> None:
    found.problems.append(Problem(relative(path, found.root), text, name))
