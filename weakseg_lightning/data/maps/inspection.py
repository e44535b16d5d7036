"""Everything about a folder of maps in a few lines, and what is wrong with it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from weakseg_lightning.data.folder.annotations import Problem, relative
from weakseg_lightning.data.folder.classes import CLASSES_FILE, Classes, read_classes
from weakseg_lightning.data.images.channels import ChannelFiles, GivenChannels
from weakseg_lightning.data.maps.brushes import Brush
from weakseg_lightning.data.maps.contents import MASKS, SCRIBBLES, MapFolder, holds_maps, read_map_folder
from weakseg_lightning.data.maps.places import require_rasterio
from weakseg_lightning.data.maps.tiles import Counts, count_labels
from weakseg_lightning.data.samples import BadSampleError
from weakseg_lightning.errors import MissingFileError, UserError

__all__ = ["describe_maps", "require_no_maps"]

_FIT = "weakseg fit --config recipes/adm_grid.yaml --config recipes/data/maps.yaml --model.labels tags --data.root"
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
        channels: of the rasters; None for grey and RGB of 8 bits.

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
    if not found.problems and not any(one.scribbles or one.mask for one in found.maps.values()):
        found.problems.append(Problem(SCRIBBLES, "is missing: add NAME.geojson or NAME.tif for a raster, or masks/"))
    lines = [*_sizes(found), "", *_balance(classes, counts), *(f"note: {note}" for note in found.notes)]
    if not found.problems:
        lines += ["", "All is well. Next:", f"  {_FIT} {root}"]
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
            file = relative(layer.path, found.root)
            found.problems.append(Problem(file, str(error).removeprefix(str(layer.path)).lstrip(": "), one.name))
            continue
        if not counts.any():
            text = f"labels no pixel where {one.path.name} has data: see to its nodata value and mask, or remove it"
            found.problems.append(Problem(relative(layer.path, found.root), text, one.name))
        total += counts
    return total


def _sizes(found: MapFolder) -> Iterator[str]:
    yield f"{found.root}: {len(found.maps)} rasters; {len(found.classes.names)} classes"
    for one in found.maps.values():
        system = one.place.crs.to_string() if one.place.crs is not None else "no coordinate system"
        layers = [layer.path for layer in (one.scribbles, one.mask) if layer is not None]
        known = ", ".join(str(relative(path, found.root)) for path in layers) or "no labels"
        yield f"  {one.name}: {one.width} x {one.height} pixels, {system}; {known}"


def _balance(classes: Classes, counts: dict[str, Counts]) -> Iterator[str]:
    yield f"{'class':<20}{'pixels of scribbles':>22}{'of masks':>14}"
    for index, name in enumerate(classes.names):
        yield f"{index:>3} {name:<16}{counts[SCRIBBLES][index]:>22}{counts[MASKS][index]:>14}"
