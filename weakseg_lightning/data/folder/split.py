"""Splitting the images of a folder into those for training and those for validation."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from weakseg_lightning.data.folder.contents import FolderContents
from weakseg_lightning.data.sampling import derive_seed
from weakseg_lightning.data.text import read_text
from weakseg_lightning.data.weak_labels import Supervision
from weakseg_lightning.errors import MissingFileError, UserError

__all__ = ["choose_split", "read_names", "split_names"]

_ANNOTATIONS: dict[Supervision, str] = {
    "full": "masks (`masks/`, or polygons and brushes of an annotation tool)",
    "scribble": "scribbles or clicks (`scribbles/`, `points.csv`, or lines and points of an annotation tool), or "
    "accepted labels (`accepted/`)",
    "point": "clicks (`points.csv`, or points of an annotation tool)",
    "box": "boxes (`boxes.csv`, or rectangles of an annotation tool) or masks",
    "tags": "tags (`tags.csv`, or those of an annotation tool) or other annotations",
}


def choose_split(
    contents: FolderContents,
    root: str | Path,
    supervision: Supervision,
    val_fraction: float,
    seed: int,
    train_list: str | Path | None,
    val_list: str | Path | None,
) -> tuple[list[str], list[str]]:
    """Choose the training and the validation images by lists, if they are given, or else as :func:`split_names` does.

    Args:
        contents: the folder.
        root: its path, for messages.
        supervision: see :func:`split_names`.
        val_fraction: see there.
        seed: see there.
        train_list: text file with the names of the training images.
        val_list: text file with those of the validation images.

    Returns:
        Ids of both, by name.

    Raises:
        FileNotFoundError: if there is no such file, or no training image.
        ValueError: if a list names an image that is not there, lacks the labels, or is in the other list.
    """
    can_train = partial(contents.can_train, supervision=supervision)
    val = None if val_list is None else read_names(Path(val_list), contents, "val_list", contents.has_mask)
    given = None if train_list is None else read_names(Path(train_list), contents, "train_list", can_train)
    _require_labeled(val, [name for name in val or () if not contents.has_mask(name)], "val_list", "masks")
    lacking = [name for name in given or () if not can_train(name)]
    _require_labeled(given, lacking, "train_list", _ANNOTATIONS[supervision])
    units = [set(map(contents.unit, names or ())) for names in (given, val)]
    if both := sorted(set.intersection(*units)):
        raise UserError(f"`train_list` and `val_list` both name {both[0]!r}: leave it in one of them")
    train, held_out = split_names(contents, supervision, val_fraction, seed, given, val)
    if not train:
        raise MissingFileError(
            f"no training image in {root} has {_ANNOTATIONS[supervision]}, as `supervision: {supervision}` needs; "
            f"`weakseg init {root}` chooses what is there"
        )
    return train, held_out


def split_names(
    contents: FolderContents,
    supervision: Supervision,
    val_fraction: float,
    seed: int,
    train: Sequence[str] | None = None,
    val: Sequence[str] | None = None,
) -> tuple[list[str], list[str]]:
    """Part the images of a folder into those for training and those for validation, cases as wholes.

    Args:
        contents: the folder.
        supervision: what training needs.
        val_fraction: fraction of the images with masks, or of the cases, that is held out.
        seed: draws them, by their names alone.
        train: ids for training, if they are given.
        val: ids for validation, if they are given.

    Returns:
        Ids of both, by name.
    """
    fit = set(contents.of(supervision) if train is None else train)
    trained = set(map(contents.unit, fit))
    if val is None:
        masked = [name for name in contents.images if contents.has_mask(name)]
        masked = [name for name in masked if train is None or contents.unit(name) not in trained]
        units = dict.fromkeys(map(contents.unit, masked))
        # Those that cannot train anyway come first, then it is drawn by lot.
        ordered = sorted(units, key=lambda unit: (unit in trained, derive_seed(seed, *unit.encode())))
        useless = sum(unit not in trained for unit in units)
        count = max(useless, 1, round(val_fraction * len(units))) if val_fraction > 0 and units else 0
        drawn = set(ordered[: min(count, useless + max(len(trained) - 1, 0))])
        val = [name for name in masked if contents.unit(name) in drawn]
    held_out = set(map(contents.unit, val))
    return sorted(name for name in fit if contents.unit(name) not in held_out), sorted(val)


def read_names(path: Path, contents: FolderContents, argument: str, usable: Callable[[str], bool]) -> list[str]:
    """Read a list of images, one name per line, with or without folder and suffix.

    The name of a volume means its usable slices.

    Args:
        path: text file.
        contents: the folder.
        argument: name of the argument, for messages.
        usable: tells by its id if an image has the labels that the list is for.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not UTF-8 text, or names an image that is not there.
    """
    if not path.is_file():
        raise MissingFileError(f"`{argument}`: there is no file {path} (working directory: {Path.cwd()})")
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    if not lines:
        raise UserError(f"`{argument}`: {path} names no image: write one name per line")
    found = {line: contents.find_all(line) for line in lines}
    if absent := [line for line, names in found.items() if not names]:
        more = f" (and {len(absent) - 1} more)" if len(absent) > 1 else ""
        raise UserError(f"`{argument}`: {path} names {absent[0]!r}{more}, which is not in {contents.root}/images")
    chosen = ([name for name in names if usable(name)] or names for names in found.values())
    return list(dict.fromkeys(name for names in chosen for name in names))


def _require_labeled(names: Sequence[str] | None, lacking: Sequence[str], argument: str, wanted: str) -> None:
    """Raise if images of a list lack the labels that it is for.

    Args:
        names: ids of the list, if it is given.
        lacking: those without.
        argument: name of the argument, for messages.
        wanted: the labels in words.

    Raises:
        ValueError: names one of them.
    """
    if names and lacking:
        raise UserError(f"`{argument}`: {len(lacking)} of {len(names)} images have no {wanted}, as {lacking[0]!r}")
