"""Annotations in CSV files: points, boxes, tags, sizes."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from weakseg_lightning.data.folder.annotations import Annotation, AnnotationKind, Problem, Reading, relative
from weakseg_lightning.data.folder.names import row_ref
from weakseg_lightning.errors import UserError

__all__ = ["SEVERAL", "TABLES", "Table", "canonical", "find_columns", "open_rows", "read_table"]


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

_SYNONYMS = {"file": "image", "filename": "image", "file_name": "image", "label": "class", "class_name": "class"} | {
    "xmin": "x1",
    "ymin": "y1",
    "xmax": "x2",
    "ymax": "y2",
    "tag": "class",
    "tags": "class",
    "share": "size",
}
_DELIMITERS = ",;\t"
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
    try:
        rows, delimiter = open_rows(path)
        line, header = next(rows, (0, []))
        columns = find_columns(header, table)
    except (ValueError, OSError) as error:
        yield Problem(file, str(error))
        return
    count = 0
    while True:
        try:
            line, row = next(rows)
        except StopIteration:
            break
        except csv.Error as error:
            yield Problem(file, f"line {line + 1} cannot be read ({error}): write one row a line")
            return
        count += 1
        yield from _read_row(row, columns, len(header), delimiter, table, file, f"line {line}")
    if not count:
        yield Problem(file, "has no row below its header: annotate an image, or remove the file")


def open_rows(path: Path) -> tuple[Iterator[tuple[int, list[str]]], str]:
    """List the rows that are not empty with their line numbers, the first line among them, and find the delimiter.

    Raises:
        ValueError: if it is no text in UTF-8.
        csv.Error: by the iterator, if a row cannot be read.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"is not UTF-8 text ({error.reason}): save it as CSV in UTF-8") from error
    if "\0" in text:
        raise UserError("holds zero bytes, as no text does: save it as CSV in UTF-8")
    text = re.sub(r"\A\s*sep=[,;\t][^\n]*", "", text)  # Excel's line, which other programs do not write
    header = text.lstrip().split("\n", 1)[0]
    delimiter = max(_DELIMITERS, key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    return ((reader.line_num, row) for row in reader if any(cell.strip() for cell in row)), delimiter


def canonical(header: Sequence[str]) -> list[str]:
    """Columns by the names that they have here: synonyms and capital letters are allowed in files."""
    names = [cell.strip().casefold() for cell in header]
    return [_SYNONYMS.get(name, name) for name in names]


def find_columns(header: Sequence[str], table: Table) -> dict[str, int]:
    """Find the place of each column of a table.

    Raises:
        ValueError: if one is missing, or there twice.
    """
    names, wanted = canonical(header), table.columns
    expected = f"expected a first line `{','.join(wanted)}`"
    if not names:
        raise UserError(f"is empty, {expected}")
    if missing := [name for name in wanted if name not in names]:
        raise UserError(f"has no column {', '.join(f'`{name}`' for name in missing)} in its first line, {expected}")
    if twice := [name for name in wanted if names.count(name) > 1]:
        raise UserError(f"has the column `{twice[0]}` twice in its first line, {expected}")
    return {name: names.index(name) for name in wanted}


def _read_row(
    row: Sequence[str], columns: dict[str, int], width: int, delimiter: str, table: Table, file: str, where: str
) -> Iterator[Reading]:
    if len(row) != width or any("\n" in cell for cell in row):
        hint = "" if len(row) >= width or delimiter in ";\t" or ";" not in row[0] else " (parted by semicolons?)"
        yield Problem(file, f"{where} has {len(row)} values, the first line {width}{hint}: write one row a line")
        return
    cells = {name: row[column].strip() for name, column in columns.items()}
    if not cells["image"]:
        yield Problem(file, f"{where} names no image: write its name in the column `image`")
        return
    image = row_ref(cells["image"])
    try:
        values = [_number(cells[name], name, delimiter) for name in table.numbers if table.kind != "size"]
        share = _share(cells["size"], delimiter) if table.kind == "size" else None
    except ValueError as error:
        yield Problem(file, f"{where} {error}", about=image)
        return
    for label in cells["class"].split(SEVERAL) if table.kind == "tag" else [cells["class"]]:
        points = np.array(values, dtype=np.float64).reshape(-1, 2)
        yield Annotation(table.kind, image, label.strip(), file, where, points, share=share, by_index=True)


def _number(text: str, column: str, delimiter: str) -> float:
    try:
        number = float(text.replace(",", ".") if delimiter == ";" else text)
    except ValueError:
        number = float("nan")
    if not np.isfinite(number):
        raise UserError(f"has {text!r} in the column `{column}`, expected a number of pixels: correct or remove it")
    return number


def _share(text: str, delimiter: str) -> float | Literal["small", "large"]:
    if (word := text.casefold()) in ("small", "large"):
        return "small" if word == "small" else "large"
    percent = text.endswith("%")
    try:
        share = float(text.rstrip("% ").replace(",", ".") if delimiter == ";" else text.rstrip("% "))
    except ValueError:
        share = float("nan")
    share /= 100 if percent else 1
    if not 0 <= share <= 1:
        raise UserError(
            f"has the size {text!r}, expected a fraction such as 0.15 or 15%, or small or large: correct it"
        )
    return share
