"""The files that annotations are kept in: `scribbles/`, `points.csv`, `tags.csv`, `classes.yaml`."""

import csv
import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from weakseg_lightning.data.files import read_labels
from weakseg_lightning.data.samples import BadSampleError
from weakseg_lightning.data.transforms import VOID
from weakseg_lightning.visualization import voc_palette

__all__ = ["POINTS", "TAGS", "Classes", "Table", "read_classes", "read_scribbles", "write_classes", "write_scribbles"]

Labels = NDArray[np.uint8]
Row = Mapping[str, str]
About = Callable[[str], bool]
"""Whether what a row calls its image is a certain one."""

_COLUMNS = {"file": "image", "filename": "image", "file_name": "image", "label": "class", "class_name": "class"}
_SEVERAL = "|"  # parts the classes of one row of tags.csv


# ---- classes ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Classes:
    """Names and colours of the classes.

    Attributes:
        names: in the order of their indices, background first.
        palette: colours by index, uint8 ``(256, 3)``.
        unlabelled: value of pixels without a label in scribbles, besides 255.
    """

    names: Sequence[str]
    palette: NDArray[np.uint8]
    unlabelled: int = VOID

    @classmethod
    def named(cls, names: Sequence[str], unlabelled: int = VOID) -> "Classes":
        """Classes in the colours of PASCAL VOC.

        Raises:
            ValueError: if there are too few or too many, or two of one name.
        """
        if not 2 <= len(names) <= VOID:
            raise ValueError(f"`classes` must be 2 to {VOID} names, background first, got {len(names)}")
        if len({name.casefold() for name in names}) < len(names) or not all(name.strip() for name in names):
            raise ValueError(f"`classes` must be different names, got {', '.join(map(repr, names))}")
        return cls(list(names), voc_palette(), unlabelled)

    def find(self, label: str) -> int | None:
        """Find a class by its name or its index; None if there is none."""
        if (wanted := label.strip()) in self.names:
            return self.names.index(wanted)
        lowered = [name.casefold() for name in self.names]
        if wanted.casefold() in lowered:
            return lowered.index(wanted.casefold())
        return int(wanted) if wanted.isdecimal() and int(wanted) < len(self.names) else None


def read_classes(path: Path) -> Classes:
    """Read `classes.yaml`.

    Raises:
        ValueError: if it is not valid.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
        entries = [_entry(entry) for entry in content["classes"]]
        unlabelled = content.get("unlabelled", VOID)
        classes = Classes.named([name for name, _ in entries], unlabelled if isinstance(unlabelled, int) else VOID)
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, KeyError, ValueError) as error:
        why = " ".join(str(error).split())
        raise ValueError(f"{path} cannot be used ({why}): write `classes: [background, cat, dog]`") from error
    if classes.unlabelled < len(entries):
        raise ValueError(
            f"{path}: `unlabelled` is {classes.unlabelled}, a class too, so that its strokes would be lost: write 255, "
            "in the scribbles that are there as well"
        )
    for index, (_, color) in enumerate(entries):
        if color is not None:
            classes.palette[index] = color
    return classes


def _entry(entry: Any) -> tuple[str, Sequence[int] | None]:
    """Name and colour of a class, given as a name or as a mapping."""
    if not isinstance(entry, dict):
        return str(entry), None
    color = entry.get("color")
    if isinstance(color, str):
        color = list(bytes.fromhex(color.removeprefix("#")))
    if color is not None and (len(color) != 3 or not all(0 <= int(part) <= 255 for part in color)):
        raise ValueError(f"{entry['color']!r} is no colour")
    return str(entry["name"]), color


def write_classes(path: Path, classes: Classes) -> None:
    """Write `classes.yaml`."""
    colors = ("#{:02x}{:02x}{:02x}".format(*classes.palette[index].tolist()) for index in range(len(classes.names)))
    entries = [{"name": name, "color": color} for name, color in zip(classes.names, colors, strict=True)]
    listed = "".join(
        f"  - {yaml.safe_dump(entry, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10**6)}"
        for entry in entries
    )
    head = "# The classes, in the order of their indices: pixel values 0, 1, 2 ... The first is the background.\n"
    write_whole(path, f"{head}classes:\n{listed}".encode())


# ---- scribbles ----------------------------------------------------------------------------------------------


def read_scribbles(path: Path, classes: Classes) -> Labels:
    """Read scribbles, uint8 ``(H, W)``, 255 = unlabelled.

    Raises:
        BadSampleError: if they cannot be read or name a class that does not exist.
    """
    labels: Labels = read_labels(path).numpy().copy()
    labels[labels == classes.unlabelled] = VOID
    highest = int(labels[labels != VOID].max(initial=0))
    if highest >= (count := len(classes.names)):
        raise BadSampleError(
            f"{path} has pixels of class {highest}, there are {count} classes: add the missing ones to classes.yaml"
        )
    return labels


def write_scribbles(path: Path, labels: Labels, classes: Classes) -> None:
    """Write scribbles as a palette PNG: value = class, 255 = unlabelled. A file without any is removed."""
    if (labels == VOID).all():
        path.unlink(missing_ok=True)
        return
    indexed = Image.fromarray(labels)
    indexed.putpalette(classes.palette.tobytes())
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
