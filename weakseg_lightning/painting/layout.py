"""The files that annotations are kept in: `scribbles/`, `points.csv`, `tags.csv`, `classes.yaml`."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from weakseg_lightning.data.folder.classes import Classes, classes_text, read_classes
from weakseg_lightning.data.folder.tables import TABLES, Table, canonical, find_columns, open_rows
from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.files import replacing
from weakseg_lightning.visualization.panels import voc_palette

__all__ = ["full_palette", "named_classes", "read_paintable", "write_classes", "write_rows", "write_scribbles"]

Labels = NDArray[np.uint8]
Row = Mapping[str, str]
About = Callable[[str], bool]
"""Whether what a row calls its image is a certain one."""


# ---- classes ------------------------------------------------------------------------------------------------


def named_classes(names: Sequence[str]) -> Classes:
    """Classes in the colors of PASCAL VOC, background first.

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
    """Colors of all pixel values, uint8 ``(256, 3)``."""
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


def write_rows(root: Path, file: str, about: About, rows: Sequence[Row]) -> None:
    """Put these in place of the rows of an image. A file without any row is removed.

    Rows of other images, other columns and the delimiter stay as they are in the file.

    Args:
        root: folder of the file.
        file: one of :data:`weakseg_lightning.data.folder.tables.TABLES`.
        about: tells whether what a row calls its image is the one.
        rows: the new rows, by the names of the columns.

    Raises:
        ValueError: if the file is no such table.
    """
    path, table = root / file, TABLES[file]
    content = _Content.read(path, table)
    place = content.header.index("image")
    kept = [row for row in content.rows if len(row) <= place or not about(row[place])]
    added = [[row.get(column, "") for column in content.header] for row in rows]
    if not kept and not added:
        path.unlink(missing_ok=True)
    elif len(kept) < len(content.rows) or added:
        write_whole(path, content.text([*kept, *added]).encode())


@dataclass(frozen=True)
class _Content:
    """What a CSV file holds: names of the columns, the first line as it is written, the rows."""

    header: list[str]
    first: list[str]
    rows: list[list[str]]
    delimiter: str

    @classmethod
    def read(cls, path: Path, table: Table) -> "_Content":
        if not path.is_file():
            return cls(list(table.columns), list(table.columns), [], ",")
        try:
            numbered, delimiter = open_rows(path)
            first, *rows = [row for _, row in numbered] or [list(table.columns)]
            find_columns(first, table)
        except (ValueError, csv.Error) as error:
            raise ValueError(f"{path} {error}") from error
        return cls(canonical(first), first, rows, delimiter)

    def text(self, rows: Sequence[Sequence[str]]) -> str:
        stream = io.StringIO(newline="")
        csv.writer(stream, delimiter=self.delimiter, lineterminator="\n").writerows([self.first, *rows])
        return stream.getvalue()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file; one of that name is replaced only when the new one is complete and on the disk. Links are kept."""
    with replacing(path, durable=True) as unfinished:
        unfinished.write_bytes(content)
