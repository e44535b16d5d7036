"""The files that annotations are kept in: `scribbles/`, `points.csv`, `tags.csv`, `classes.yaml`."""

import csv
import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from weakseg_lightning.data.folder_classes import Classes, classes_text, read_classes
from weakseg_lightning.data.transforms import VOID
from weakseg_lightning.visualization import voc_palette

__all__ = [
    "POINTS",
    "TAGS",
    "Table",
    "full_palette",
    "named_classes",
    "read_paintable",
    "write_classes",
    "write_scribbles",
]

Labels = NDArray[np.uint8]
Row = Mapping[str, str]
About = Callable[[str], bool]
"""Whether what a row calls its image is a certain one."""

_COLUMNS = {"file": "image", "filename": "image", "file_name": "image", "label": "class", "class_name": "class"}
_SEVERAL = "|"  # parts the classes of one row of tags.csv


# ---- classes ------------------------------------------------------------------------------------------------


def named_classes(names: Sequence[str]) -> Classes:
    """Classes in the colours of PASCAL VOC, background first.

    Raises:
        ValueError: if there are too few or too many, or two of one name.
    """
    if not 2 <= len(names) <= VOID:
        raise ValueError(f"`classes` must be 2 to {VOID} names, background first, got {len(names)}")
    if len({name.casefold() for name in names}) < len(names) or not all(name.strip() for name in names):
        raise ValueError(f"`classes` must be different names, got {', '.join(map(repr, names))}")
    colors = voc_palette(len(names)).tolist()
    return Classes(list(names), {index: (red, green, blue) for index, (red, green, blue) in enumerate(colors)})


def read_paintable(path: Path) -> Classes:
    """Read `classes.yaml`, and refuse classes whose strokes could not be kept.

    Raises:
        ValueError: if it is not valid.
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
    write_whole(path, classes_text(classes).encode())


def full_palette(classes: Classes) -> NDArray[np.uint8]:
    """Colours of all pixel values, uint8 ``(256, 3)``."""
    palette = voc_palette().copy()
    palette[: len(classes.names)] = classes.palette
    return palette


# ---- scribbles ----------------------------------------------------------------------------------------------


def write_scribbles(path: Path, labels: Labels, classes: Classes) -> None:
    """Write scribbles as a palette PNG: value = class, 255 = unlabelled. A file without any is removed."""
    if (labels == VOID).all():
        path.unlink(missing_ok=True)
        return
    indexed = Image.fromarray(labels)
    indexed.putpalette(full_palette(classes).tobytes())
    stream = io.BytesIO()
    indexed.save(stream, format="PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, stream.getvalue())


# ---- tables -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """A CSV file with a row for each statement about an image, in the columns ``image``, others, and ``class``.

    Rows of other images, other columns and the delimiter stay as they are in the file.

    Attributes:
        file: name of the file.
        columns: those that a new file gets.
    """

    file: str
    columns: tuple[str, ...]

    def images(self, root: Path) -> set[str]:
        """List the images that have rows, as the file writes them.

        Raises:
            ValueError: if the file is no such table.
        """
        return {row["image"] for row in _Content.read(root / self.file, self.columns).mappings()}

    def read(self, root: Path, about: About) -> list[Row]:
        """Read the rows of an image; several classes in one row are several rows.

        Raises:
            ValueError: if the file is no such table.
        """
        found = [row for row in _Content.read(root / self.file, self.columns).mappings() if about(row["image"])]
        return [{**row, "class": name} for row in found for name in row["class"].split(_SEVERAL)]

    def write(self, root: Path, about: About, rows: Sequence[Row]) -> None:
        """Put these in place of the rows of an image. A file without any row is removed.

        Raises:
            ValueError: if the file is no such table.
        """
        path = root / self.file
        content = _Content.read(path, self.columns)
        named = content.mappings()
        kept = [row for row, cells in zip(content.rows, named, strict=True) if not about(cells["image"])]
        added = [[row.get(column, "") for column in content.header] for row in rows]
        if not kept and not added:
            path.unlink(missing_ok=True)
        elif len(kept) < len(content.rows) or added:
            write_whole(path, content.text([*kept, *added]).encode())


POINTS = Table("points.csv", ("image", "x", "y", "class"))
TAGS = Table("tags.csv", ("image", "class"))


@dataclass(frozen=True)
class _Content:
    """What a CSV file holds: names of the columns, the first line as it is written, the rows."""

    header: list[str]
    first: list[str]
    rows: list[list[str]]
    delimiter: str

    @classmethod
    def read(cls, path: Path, columns: Sequence[str]) -> "_Content":
        if not path.is_file():
            return cls(list(columns), list(columns), [], ",")
        try:
            text = path.read_bytes().decode("utf-8-sig")
            delimiter = max(",;\t", key=text.lstrip().split("\n", 1)[0].count)
            lines = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if any(row)]
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path} is no CSV in UTF-8 ({error}): save it as such") from error
        first, rows = (lines[0], lines[1:]) if lines else (list(columns), [])
        header = [_COLUMNS.get(name, name) for name in (cell.strip().casefold() for cell in first)]
        if missing := [name for name in columns if name not in header]:
            raise ValueError(f"{path} has no column `{missing[0]}`: its first line must be {','.join(columns)}")
        return cls(header, first, rows, delimiter)

    def mappings(self) -> list[dict[str, str]]:
        """The rows by column; cells that a row lacks are empty."""
        return [dict(zip_longest(self.header, row[: len(self.header)], fillvalue="")) for row in self.rows]

    def text(self, rows: Sequence[Sequence[str]]) -> str:
        stream = io.StringIO(newline="")
        csv.writer(stream, delimiter=self.delimiter, lineterminator="\n").writerows([self.first, *rows])
        return stream.getvalue()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file; one of that name is replaced only when the new one is complete and on the disk."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with unfinished.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
