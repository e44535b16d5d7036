"""Rows of CSV files about images, in whatever form spreadsheets write them."""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from weakseg_lightning.data.folder.annotations import Problem
from weakseg_lightning.errors import UserError

__all__ = ["Row", "canonical", "find_columns", "open_rows", "read_number", "read_rows"]

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


@dataclass(frozen=True)
class Row:
    """A row of a CSV file: where it is, its values by the names of the columns, and what parts these."""

    where: str
    cells: dict[str, str]
    delimiter: str


def read_rows(path: Path, file: str, wanted: Sequence[str], optional: Sequence[str] = ()) -> Iterator[Row | Problem]:
    """Read the rows of a CSV file that is about images.

    Args:
        path: the file.
        file: its path from the root of the data, for messages.
        wanted: names of the columns that are needed, `image` among them.
        optional: names of those that may be there.

    Yields:
        Each row below the first, or what is wrong with it.
    """
    try:
        rows, delimiter = open_rows(path)
        line, header = next(rows, (0, []))
        columns = find_columns(header, wanted, optional)
    except (ValueError, OSError) as error:
        yield Problem(file, str(error))
        return
    except csv.Error as error:
        yield Problem(file, f"line 1 cannot be read ({error}): write one row per line")
        return
    count = 0
    while True:
        try:
            line, row = next(rows)
        except StopIteration:
            break
        except csv.Error as error:
            yield Problem(file, f"line {line + 1} cannot be read ({error}): write one row per line")
            return
        count += 1
        yield _named(row, columns, len(header), delimiter, file, f"line {line}")
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


def find_columns(header: Sequence[str], wanted: Sequence[str], optional: Sequence[str] = ()) -> dict[str, int]:
    """Find the place of each column of a table, those that may be missing among them.

    Raises:
        ValueError: if one is missing, or there twice.
    """
    names = canonical(header)
    expected = f"expected a first line `{','.join(wanted)}`"
    if not names:
        raise UserError(f"is empty, {expected}")
    if missing := [name for name in wanted if name not in names]:
        raise UserError(f"has no column {', '.join(f'`{name}`' for name in missing)} in its first line, {expected}")
    known = [*wanted, *(name for name in optional if name in names)]
    if twice := [name for name in known if names.count(name) > 1]:
        raise UserError(f"has the column `{twice[0]}` twice in its first line, {expected}")
    return {name: names.index(name) for name in known}


def _named(
    row: Sequence[str], columns: dict[str, int], width: int, delimiter: str, file: str, where: str
) -> Row | Problem:
    """A row with its values by the names of the columns."""
    if len(row) != width or any("\n" in cell for cell in row):
        hint = "" if len(row) >= width or delimiter in ";\t" or ";" not in row[0] else " (parted by semicolons?)"
        return Problem(file, f"{where} has {len(row)} values, the first line {width}{hint}: write one row per line")
    cells = {name: row[column].strip() for name, column in columns.items()}
    if not cells["image"]:
        return Problem(file, f"{where} names no image: write its name in the column `image`")
    return Row(where, cells, delimiter)


def read_number(text: str, column: str, delimiter: str, what: str = "number of pixels") -> float:
    """Read a finite number, with a decimal comma where semicolons part the columns.

    Raises:
        ValueError: if it is none.
    """
    try:
        number = float(text.replace(",", ".") if delimiter == ";" else text)
    except ValueError:
        number = float("nan")
    if not np.isfinite(number):
        raise UserError(f"has {text!r} in the column `{column}`, expected a {what}: correct or remove it")
    return number
