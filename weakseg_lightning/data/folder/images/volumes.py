"""Folders of volumes: their slices as cases, labels of some slices alone, predictions joined into volumes."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from weakseg_lightning.data.folder.annotations import Problem, relative
from weakseg_lightning.data.folder.classes import Classes
from weakseg_lightning.data.folder.files import Files
from weakseg_lightning.data.folder.label_maps import labels_all, to_labels
from weakseg_lightning.data.folder.names import IMAGES, ImageNames, row_ref
from weakseg_lightning.data.folder.tables.cases import CASES_FILE, CaseRule
from weakseg_lightning.data.images.nifti import VolumeHeader, is_volume, volume_name
from weakseg_lightning.data.images.reading import read_labels
from weakseg_lightning.data.samples import BadSampleError, CaseSlice
from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.errors import UserError

__all__ = [
    "cases_of_volumes",
    "doubts",
    "join_slices",
    "named_volume",
    "orientations",
    "partial_maps",
    "require_volumes",
]

_SHOWN = 4


def require_volumes(files: Files, neighbors: int, slice_axis: int | None) -> None:
    """Raise ``UserError`` if options of volumes are given for a folder of images."""
    if files.volumes is None and (neighbors or slice_axis is not None):
        where = f"{files.root}/{IMAGES}"
        raise UserError(f"`neighbors` and `slice_axis` are for volumes, {where} has none: leave them out")


def cases_of_volumes(files: Files, rule: CaseRule) -> tuple[dict[str, CaseSlice], list[Problem]]:
    """Take each volume for a case, with the spacing of its header.

    Args:
        files: a folder of volumes.
        rule: how cases are told, where images are no volumes.

    Returns:
        The place of each slice, and what is wrong.
    """
    headers = {volume: _header(files, slices[0]) for volume, slices in files.volume_slices.items() if slices}
    places = {
        name: CaseSlice(one.volume, one.number, headers[one.volume].distances) for name, one in files.slices.items()
    }
    problems = []
    text = "for images: each volume is a case, with the spacing of its header; remove"
    if rule.pattern is not None or tuple(rule.spacing) != CaseRule().spacing:
        problems.append(Problem(IMAGES, f"holds volumes, and `cases` and `spacing` are {text} them"))
    if (files.root / CASES_FILE).is_file():
        problems.append(Problem(CASES_FILE, f"is {text} it"))
    return places, problems


def orientations(files: Files) -> Iterator[str]:
    """Tell of volumes that are stored in several orientations: the network sees them as they are stored."""
    stored = [_header(files, slices[0]).orientation for slices in files.volume_slices.values() if slices]
    if len(counts := Counter(stored)) > 1:
        shown = ", ".join(f"{codes} ({count})" for codes, count in counts.most_common(_SHOWN))
        more = ", ..." if len(counts) > _SHOWN else ""
        yield f"volumes are stored in several orientations, {shown}{more}, and learned from so: bring them to one"


def doubts(files: Files) -> Iterator[str]:
    """Tell of volumes whose headers contradict themselves."""
    for slices in files.volume_slices.values():
        if slices:
            header = _header(files, slices[0])
            yield from (f"{relative(header.path, files.root)} {doubt}" for doubt in header.doubts)


def partial_maps(files: Files, classes: Classes, maps: dict[str, Path], drawn: bool) -> dict[str, Path]:
    """Leave out the slices of partial label maps in which nothing is labelled, as images without a file.

    Volumes without any label are reported and left out; so are drawn ones in which all is labelled: programs that write
    0 where nothing is drawn would make it background.

    Args:
        files: the folder.
        classes: its classes.
        maps: files of label maps by the ids of their images.
        drawn: whether they are scribbles, of which some voxels are without a label.
    """
    of_volumes = dict[Path, list[str]]()
    for name, path in maps.items():
        if is_volume(path):
            of_volumes.setdefault(path, []).append(name)
    left_out = set[str]()
    for path, names in of_volumes.items():
        counts = {name: _counted(files, classes, name, path) for name in names}
        bare = {name for name in names if not counts[name][:VOID].any()}
        total = np.sum([*counts.values()], axis=0)
        if len(bare) == len(names):
            files.report(path, "has no labelled voxel: draw a stroke, or remove the file")
        elif drawn and not total[VOID]:
            files.report(path, labels_all(total, "voxel"))
            bare = set(names)
        left_out |= bare
    return {name: path for name, path in maps.items() if name not in left_out}


def named_volume(files: Files, given: str) -> list[str]:
    """List the slices of the volume that a list of images names, with or without suffix; none if there is none."""
    path = Path(given)
    found = ImageNames(files.volume_slices).find(row_ref(path.with_name(volume_name(path)).as_posix()))
    return [] if found.name is None else files.volume_slices[found.name]


def join_slices(files: Files, folder: Path, stem: Callable[[str], str]) -> None:
    """Join label maps of slices, PNGs, into volumes in the space of their images; those that lack a slice stay.

    Args:
        files: the folder.
        folder: holds the label maps, and gets the volumes.
        stem: names the file of a slice or a volume by its id, without suffix.
    """
    for volume, slices in files.volume_slices.items():
        maps = [folder / f"{stem(name)}.png" for name in slices]
        if maps and all(path.is_file() for path in maps):
            labels = [read_labels(path).numpy() for path in maps]
            _header(files, slices[0]).write_labels(folder / f"{stem(volume)}.nii.gz", labels)
            for path in maps:
                path.unlink()


def _header(files: Files, name: str) -> VolumeHeader:
    assert files.volumes is not None
    return files.volumes.header(files.images[name])


def _counted(files: Files, classes: Classes, name: str, path: Path) -> NDArray[np.int64]:
    try:
        labels = to_labels(path, files.read_stored(name, path), classes, scribbles=True)
    except BadSampleError:
        return np.ones(256, dtype=np.int64)  # reported when its image is
    return np.bincount(labels.ravel(), minlength=256)
