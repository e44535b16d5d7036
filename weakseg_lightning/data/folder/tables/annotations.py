"""Annotations in CSV files: points, boxes, tags, sizes."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from weakseg_lightning.data.folder.annotations import Annotation, AnnotationKind, Problem, Reading, relative
from weakseg_lightning.data.folder.names import row_ref
from weakseg_lightning.data.folder.tables.rows import Row, read_number, read_rows
from weakseg_lightning.errors import UserError

__all__ = ["SEVERAL", "TABLES", "Table", "read_table"]


@dataclass(frozen=True)
class Table:
    """The columns of a CSV file besides ``image`` and ``class``, and what its rows are."""

    kind: AnnotationKind
    numbers: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns that are needed."""
        return ("image", *self.numbers, "class")


TABLES = {
    "points.csv": Table("click", ("x", "y")),
    "boxes.csv": Table("box", ("x1", "y1", "x2", "y2")),
    "tags.csv": Table("tag", ()),
    "sizes.csv": Table("size", ("size",)),
}
"""The CSV files that are read, by name."""

SEVERAL = "|"
"""Parts the classes of one row of tags.csv."""


def read_table(path: Path, root: Path) -> Iterator[Reading]:
    """Read a CSV file.

    Commas, semicolons or tabs part the columns, whichever the header has; with semicolons, numbers may have a decimal
    comma. UTF-8, with or without a byte order annotation.

    Args:
        path: one of :data:`TABLES`.
        root: the root of the data, for messages.

    Yields:
        An annotation for each row, or what is wrong with it.
    """
    table, file = TABLES[path.name], relative(path, root)
    for row in read_rows(path, file, table.columns):
        yield from [row] if isinstance(row, Problem) else _read_row(row, table, file)


def _read_row(row: Row, table: Table, file: str) -> Iterator[Reading]:
    cells, delimiter = row.cells, row.delimiter
    image = row_ref(cells["image"])
    try:
        values = [read_number(cells[name], name, delimiter) for name in table.numbers if table.kind != "size"]
        fraction = _fraction(cells["size"], delimiter) if table.kind == "size" else None
    except ValueError as error:
        yield Problem(file, f"{row.where} {error}", about=image)
        return
    for label in cells["class"].split(SEVERAL) if table.kind == "tag" else [cells["class"]]:
        points = np.array(values, dtype=np.float64).reshape(-1, 2)
        yield Annotation(table.kind, image, label.strip(), file, row.where, points, fraction=fraction, by_index=True)


def _fraction(text: str, delimiter: str) -> float | Literal["small", "large"]:
    if (word := text.casefold()) in ("small", "large"):
        return "small" if word == "small" else "large"
    percent = text.endswith("%")
    try:
        fraction = float(text.rstrip("% ").replace(",", ".") if delimiter == ";" else text.rstrip("% "))
    except ValueError:
        fraction = float("nan")
    fraction /= 100 if percent else 1
    if not 0 <= fraction <= 1:
        raise UserError(
            f"has the size {text!r}, expected a fraction such as 0.15 or 15%, or small or large: correct it"
        )
    return fraction
