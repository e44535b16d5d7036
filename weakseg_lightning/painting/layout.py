"""Files of the page: annotations, classes, and those that hold its token, which only its user may read."""

import csv
import io
import os
import stat
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from weakseg_lightning.data.folder.classes import Classes, check_names, classes_text, read_classes
from weakseg_lightning.data.folder.tables.annotations import TABLES, Table
from weakseg_lightning.data.folder.tables.rows import canonical, find_columns, open_rows
from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.files import replacing
from weakseg_lightning.visualization.panels import save_palette_png, voc_palette

__all__ = [
    "is_private",
    "named_classes",
    "read_paintable",
    "write_classes",
    "write_labels",
    "write_private",
    "write_rows",
]

Labels = NDArray[np.uint8]
Row = Mapping[str, str]
About = Callable[[str], bool]
Meaning = Callable[[Row, str], list[Hashable] | None]


# ---- classes ------------------------------------------------------------------------------------------------


def named_classes(names: Sequence[str]) -> Classes:
    """Classes in the colors of PASCAL VOC, background first.

    Raises:
        ValueError: if there are too few or too many, or two of one name.
    """
    check_names("`classes`", names)
    colors = voc_palette(len(names)).tolist()
    return Classes(list(names), {index: (red, green, blue) for index, (red, green, blue) in enumerate(colors)})


def read_paintable(path: Path) -> Classes:
    """Read `classes.yaml`.

    Raises:
        ValueError: if it is not valid, or strokes of a class could not be kept.
    """
    classes = read_classes(path)
    if isinstance(classes.unlabelled, int) and classes.unlabelled < len(classes.names):
        raise ValueError(
            f"{path}: `unlabelled` is {classes.unlabelled}, a class too, so that its strokes would be lost: write 255, "
            "in the scribbles that are there as well"
        )
    return classes


def write_classes(path: Path, classes: Classes) -> None:
    """Write `classes.yaml`."""
    _write_text(path, classes_text(classes))


# ---- scribbles and accepted labels --------------------------------------------------------------------------


def write_labels(path: Path, labels: Labels, classes: Classes) -> None:
    """Write labels as a palette PNG: value = class, 255 = unlabelled. A file without any is removed."""
    if (labels == VOID).all():
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, durable=True) as unfinished:
        save_palette_png(unfinished, labels, classes.palette)


# ---- tables -------------------------------------------------------------------------------------------------


def write_rows(root: Path, file: str, about: About, rows: Sequence[Row], meaning: Meaning) -> None:
    """Let these be the rows of an image. A file without any row is removed.

    Rows of other images, those of the image that say what is still true, or what the page cannot read, and the
    delimiter stay as they are in the file.

    Args:
        root: folder of the file.
        file: one of :data:`weakseg_lightning.data.folder.tables.annotations.TABLES`.
        about: tells whether what a row calls its image is the one.
        rows: all that is to be said about the image, by the names of the columns.
        meaning: what a row of the image says, one thing or several; None where the page cannot read it. It is given the
            delimiter, too.

    Raises:
        ValueError: if the file is no such table.
    """
    path = root / file
    (first, *found), delimiter = _read_lines(path, TABLES[file])
    header = canonical(first)
    place = header.index("image")
    missing = [(row, meaning(row, ",")) for row in rows]

    def stays(row: list[str]) -> bool:
        if len(row) <= place or not about(row[place].strip()) or len(row) != len(header):
            return True
        if (said := meaning(dict(zip(header, map(str.strip, row), strict=True)), delimiter)) is None:
            return True
        left = list(missing)
        for each in said:
            if (match := next((one for one in left if one[1] == [each]), None)) is None:
                return False
            left.remove(match)
        missing[:] = left
        return True

    kept = [row for row in found if stays(row)]
    added = [[row.get(column, "") for column in header] for row, _ in missing]
    if not kept and not added:
        path.unlink(missing_ok=True)
    elif len(kept) < len(found) or added:
        stream = io.StringIO(newline="")
        csv.writer(stream, delimiter=delimiter, lineterminator="\n").writerows([first, *kept, *added])
        _write_text(path, stream.getvalue())


def _read_lines(path: Path, table: Table) -> tuple[list[list[str]], str]:
    """Rows of a CSV file, the names of its columns first, and its delimiter; where there is no file, these names."""
    names = list(table.columns)
    if not path.is_file():
        return [names], ","
    try:
        numbered, delimiter = open_rows(path)
        lines = [row for _, row in numbered] or [names]
        find_columns(lines[0], table.columns)
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path} {error}") from error
    return lines, delimiter


def _write_text(path: Path, text: str) -> None:
    with replacing(path, durable=True) as unfinished:
        unfinished.write_bytes(text.encode())


def is_private(path: Path) -> bool:
    """Find out if this process's user owns a file and is the only one who can read it; never so on Windows.

    Raises:
        OSError: if there is no such file.
    """
    found = path.lstat()
    own = os.name == "posix" and found.st_uid == os.geteuid()
    return own and stat.S_ISREG(found.st_mode) and not found.st_mode & 0o077


def write_private(path: Path, text: str) -> bool:
    """Write a file that this user alone can read.

    Args:
        path: the file; one that is there is replaced.
        text: what to write.

    Returns:
        False where that is impossible, as on FAT and some network drives, which let everyone read; the file is then
        not there. On Windows it is written, with the permissions of its folder.
    """
    try:
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            if private := os.name != "posix" or is_private(path):
                file.write(text)
    except OSError:
        private = False
    if not private:
        with suppress(OSError):
            path.unlink(missing_ok=True)
    return private
