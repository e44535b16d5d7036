"""Parting the images of a folder into those for training and those for validation."""

from collections.abc import Sequence
from pathlib import Path

from weakseg_lightning.data.folder.contents import FolderContents
from weakseg_lightning.data.sampling import derive_seed
from weakseg_lightning.data.text import read_text
from weakseg_lightning.data.weak_labels import Supervision
from weakseg_lightning.errors import MissingFileError, UserError

__all__ = ["read_names", "require_labeled", "split_names"]


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


def read_names(path: Path, contents: FolderContents, argument: str) -> list[str]:
    """Read a list of images, a name a line, with or without folder and suffix.

    Args:
        path: text file.
        contents: the folder.
        argument: name of the argument, for messages.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not UTF-8 text, or names an image that is not there.
    """
    if not path.is_file():
        raise MissingFileError(f"`{argument}`: there is no file {path} (working directory: {Path.cwd()})")
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    if not lines:
        raise UserError(f"`{argument}`: {path} names no image: write a name a line")
    found = {line: contents.find(line) for line in lines}
    if absent := [line for line, name in found.items() if name is None]:
        more = f" (and {len(absent) - 1} more)" if len(absent) > 1 else ""
        raise UserError(f"`{argument}`: {path} names {absent[0]!r}{more}, which is not in {contents.root}/images")
    return list(dict.fromkeys(name for name in found.values() if name is not None))


def require_labeled(names: Sequence[str] | None, lacking: Sequence[str], argument: str, wanted: str) -> None:
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
