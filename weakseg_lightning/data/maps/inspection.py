"""Everything about a folder of maps in a few lines, and what is wrong with it."""

from collections.abc import Iterator
from pathlib import Path
from shlex import quote

import numpy as np

from weakseg_lightning.data.folder.annotations import Problem, relative
from weakseg_lightning.data.folder.classes import CLASSES_FILE, Classes, read_classes
from weakseg_lightning.data.images.channels import ChannelFiles, GivenChannels
from weakseg_lightning.data.images.statistics import constant_channel
from weakseg_lightning.data.maps.brushes import Brush
from weakseg_lightning.data.maps.contents import IMAGES, MASKS, SCRIBBLES, Map, MapFolder, holds_maps, read_map_folder
from weakseg_lightning.data.maps.layers import DrawnLayer
from weakseg_lightning.data.maps.places import require_rasterio
from weakseg_lightning.data.maps.rasters import MapRaster, open_map
from weakseg_lightning.data.maps.statistics import find_constant_channels
from weakseg_lightning.data.maps.tiles import Counts, blocks_of, count_labels
from weakseg_lightning.data.samples import BadSampleError
from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.errors import MissingFileError, UserError

__all__ = ["describe_maps", "require_no_maps"]

_FIT = "weakseg fit --config recipes/adm/adm_grid.yaml --config recipes/data/maps.yaml --model.labels tags --data.root"
_SIDE = 1024
_BRUSH = Brush(3, "px")


def require_no_maps(root: Path, command: str) -> None:
    """Raise if a folder holds maps, which a command does not take.

    Raises:
        UserError: names what does.
    """
    if holds_maps(root):
        raise UserError(
            f"{root} holds labels on a map, which `{command}` does not take: draw in a GIS such as QGIS, and train by "
            f"`{_FIT} {root}`"
        )


def describe_maps(root: Path, channels: GivenChannels | None) -> tuple[list[str], list[Problem]]:
    """Read all labels of a folder of maps.

    Args:
        root: absolute path of the folder.
        channels: of the rasters; None for gray and RGB of 8 bits.

    Returns:
        What there is, line by line; and what would stop training.

    Raises:
        MissingFileError: if there is no raster, or no ``classes.yaml``.
    """
    require_rasterio("maps are read")
    if not (root / CLASSES_FILE).is_file():
        raise MissingFileError(f"no {CLASSES_FILE} in {root}: write `classes: [background, field, road]`")
    classes = read_classes(root / CLASSES_FILE)
    found = read_map_folder(root, classes, None if channels is None else ChannelFiles(channels), _BRUSH)
    counts = {kind: _counted(found, kind) for kind in (SCRIBBLES, MASKS)}
    if not found.problems and not any(one.scribbles for one in found.maps.values()):
        masked = any(one.mask for one in found.maps.values())
        otherwise = ", or train on the masks with --data.supervision full" if masked else ""
        text = f"no training raster has scribbles: add {SCRIBBLES}/NAME.geojson or .tif{otherwise}"
        found.problems.append(Problem(SCRIBBLES, text))
    if not found.problems:
        found.problems += _constant(found)
    lines = [*_sizes(found), "", *_balance(classes, counts), *(f"note: {note}" for note in found.notes)]
    if not found.problems:
        chosen = "" if channels is None else f" --data.channels {quote(str(channels))}"
        lines += ["", "All is well. Next:", f"  {_FIT} {quote(str(root))}{chosen}"]
    return lines, found.problems


def _counted(found: MapFolder, kind: str) -> Counts:
    """Pixels of each class in all labels of a kind."""
    total = np.zeros(256, dtype=np.int64)
    for one in found.maps.values():
        if (layer := one.scribbles if kind == SCRIBBLES else one.mask) is None:
            continue
        try:
            counts = sum(count_labels(found, one, layer, _SIDE).values(), np.zeros(256, dtype=np.int64))
        except BadSampleError as error:
            _report(found, one, layer.path, str(error))
            continue
        if not counts.any():
            text = f"labels no pixel where {one.path.name} has data: see to its nodata value and mask, or remove it"
            found.problems.append(Problem(relative(layer.path, found.root), text, one.name))
        total += counts
        if isinstance(layer, DrawnLayer) and counts.any():
            found.notes += _away(found, one, layer)
    return total


def _constant(found: MapFolder) -> Iterator[Problem]:
    """Problems of channels that training could not bring to a scale."""
    trained = [one for one in found.maps.values() if one.scribbles is not None]
    try:
        constant = find_constant_channels(found, trained, _SIDE)
    except BadSampleError as error:
        yield Problem(IMAGES, str(error))
        return
    yield from (Problem(IMAGES, constant_channel(name, value)) for name, value in constant.items())


def _report(found: MapFolder, one: Map, layer: Path, text: str) -> None:
    """Report what stopped reading the labels of a raster: once, if it is the raster itself."""
    file = one.path if text.startswith(str(one.path)) else layer
    problem = Problem(relative(file, found.root), text.removeprefix(str(file)).lstrip(": "), one.name)
    if problem not in found.problems:
        found.problems.append(problem)


def _away(found: MapFolder, one: Map, layer: DrawnLayer) -> Iterator[str]:
    """A note on shapes that label no pixel with data."""
    drawn = [shape for shape in layer.shapes if shape.label != VOID]
    alone = [DrawnLayer(layer.path, [shape], VOID) for shape in drawn]
    with open_map(one.path, found.channels) as raster:
        away = [shape for shape, own in zip(drawn, alone, strict=True) if not _labels_data(raster, own, one)]
    if away:
        named = f"{len(away)} of {len(drawn)} shapes, as {away[0].where} ({found.classes.names[away[0].label]})"
        yield f"{relative(layer.path, found.root)}: {named}, label no pixel where {one.path.name} has data"


def _labels_data(raster: MapRaster, layer: DrawnLayer, one: Map) -> bool:
    windows = (block.window for block in blocks_of(one, _SIDE) if layer.may_label(block.window))
    return any((raster.read(window)[1] & (layer.read(window) != VOID)).any() for window in windows)


def _sizes(found: MapFolder) -> Iterator[str]:
    rasters = f"{len(found.maps)} raster{'s' * (len(found.maps) != 1)}"
    yield f"{found.root}: {rasters}; {len(found.classes.names)} classes"
    for one in found.maps.values():
        system = one.place.crs.to_string() if one.place.crs is not None else "no coordinate system"
        layers = [layer.path for layer in (one.scribbles, one.mask) if layer is not None]
        known = ", ".join(str(relative(path, found.root)) for path in layers) or "no labels"
        yield f"  {one.name}: {one.width} x {one.height} pixels, {system}; {known}"


def _balance(classes: Classes, counts: dict[str, Counts]) -> Iterator[str]:
    yield f"{'class':<20}{'pixels of scribbles':>22}{'of masks':>14}"
    for index, name in enumerate(classes.names):
        yield f"{index:>3} {name:<16}{counts[SCRIBBLES][index]:>22}{counts[MASKS][index]:>14}"
