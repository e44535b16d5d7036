"""Cases: which images of a folder are the slices of one volume, by their names or by a table."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from weakseg_lightning.data.folder.annotations import Problem
from weakseg_lightning.data.folder.names import IMAGES, ImageNames, row_ref
from weakseg_lightning.data.folder.tables.rows import Row, read_number, read_rows
from weakseg_lightning.data.samples import CaseSlice
from weakseg_lightning.errors import UserError

__all__ = ["CASES_FILE", "CaseRule", "cases_in_words", "find_cases", "unassigned"]

CASES_FILE = "cases.csv"

Spacing = tuple[float, float, float]
_SPACING = ("spacing_z", "spacing_y", "spacing_x")


@dataclass(frozen=True)
class CaseRule:
    """A rule that tells the cases of a folder.

    Args:
        pattern: regular expression that the whole names of the images match: what is in its first parentheses is the
            case; None for the table ``cases.csv``, if there is one.
        spacing: distance of neighboring slices, rows and columns, in mm, where the table does not say it.

    Raises:
        ValueError: if an argument makes no sense.
    """

    pattern: str | None = None
    spacing: Spacing = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        if self.pattern is not None:
            _require_group(self.pattern)
        if len(self.spacing) != 3 or not all(0 < side < float("inf") for side in self.spacing):
            raise UserError(f"`spacing` must be three lengths above 0 (slices, rows, columns), got {self.spacing}")


@dataclass(frozen=True)
class _Named:
    """An image, its case, its number among the slices, if it is given, and the spacing."""

    image: str
    case: str
    number: float | None
    spacing: Spacing

    def key(self) -> tuple[float, list[str | int]]:
        """The key by which slices are ordered."""
        return self.number or 0.0, _natural(self.image)


def find_cases(root: Path, images: Iterable[str], rule: CaseRule) -> tuple[dict[str, CaseSlice], list[Problem]]:
    """Find out which images are the slices of which cases.

    Slices are in the order of the column ``slice``, or else of their names, in which 10 comes after 9.

    Args:
        root: the folder.
        images: ids of its images.
        rule: how the cases are told.

    Returns:
        The place of each image that belongs to a case, and what is wrong with the table.
    """
    readings = _by_names(images, rule) if rule.pattern is not None else _by_table(root, images, rule.spacing)
    cases: dict[str, list[_Named]] = {}
    problems, seen = [], set()
    for one in readings:
        if isinstance(one, Problem):
            problems.append(one)
        elif one.image in seen:
            problems.append(Problem(CASES_FILE, f"names the image {one.image!r} twice: remove a row", one.image))
        else:
            seen.add(one.image)
            cases.setdefault(one.case, []).append(one)
    problems += [fault for case, slices in cases.items() for fault in _faults(case, slices)]
    places = {
        one.image: CaseSlice(case, place, one.spacing)
        for case, slices in cases.items()
        for place, one in enumerate(sorted(slices, key=_Named.key))
    }
    return places, problems


def _faults(case: str, slices: list[_Named]) -> Iterator[Problem]:
    if len({tuple(one.spacing) for one in slices}) > 1:
        yield Problem(CASES_FILE, f"gives the slices of the case {case!r} several spacings: correct it")
    numbers = Counter(one.number for one in slices if one.number is not None)
    if twice := [number for number, count in numbers.items() if count > 1]:
        text = f"gives several slices of the case {case!r} the number {twice[0]:g} in the column `slice`: correct it"
        yield Problem(CASES_FILE, text)


def unassigned(cases: Mapping[str, CaseSlice], masked: list[str], rule: CaseRule) -> Iterator[Problem]:
    """Report images with masks that belong to no case, where others do or a pattern is given: all at once."""
    without = [name for name in masked if name not in cases]
    if not without or not (cases or rule.pattern is not None):
        return
    count = f"{len(without)} of {len(masked)} images with masks"
    if rule.pattern is None:
        yield Problem(CASES_FILE, f"has no row for {count}, as {without[0]!r}: add them")
        return
    text = f"`cases` must match all names, and {rule.pattern!r} does not match those of {count}, as {without[0]!r}"
    yield Problem(IMAGES, f"{text}; such as '(.+)_[0-9]+' takes what is before the last number for the case")


def cases_in_words(places: Iterable[CaseSlice]) -> str:
    """Count the cases and their slices, such as ``2 cases of 6 to 8 slices``."""
    counts: dict[str, int] = {}
    for one in places:
        counts[one.case] = counts.get(one.case, 0) + 1
    sizes = sorted({min(counts.values()), max(counts.values())})
    cases, slices = (f"{word}{'s' * (number > 1)}" for word, number in (("case", len(counts)), ("slice", sizes[-1])))
    return f"{len(counts)} {cases} of {' to '.join(map(str, sizes))} {slices}"


def _by_names(images: Iterable[str], rule: CaseRule) -> Iterator[_Named]:
    assert rule.pattern is not None
    for name in images:
        if (found := re.fullmatch(rule.pattern, name)) and found[1]:
            yield _Named(name, found[1], None, rule.spacing)


def _by_table(root: Path, images: Iterable[str], spacing: Spacing) -> Iterator[_Named | Problem]:
    if not (root / CASES_FILE).is_file():
        return
    names = ImageNames(images)
    for row in read_rows(root / CASES_FILE, CASES_FILE, ("image", "case"), ("slice", *_SPACING)):
        yield row if isinstance(row, Problem) else _read_row(row, names, spacing)


def _read_row(row: Row, names: ImageNames, spacing: Spacing) -> _Named | Problem:
    cells = row.cells
    found = names.find(row_ref(cells["image"]))
    if found.name is None:
        return Problem(CASES_FILE, f"{row.where} {found.fault}; rename or remove it")
    if not cells["case"]:
        return Problem(CASES_FILE, f"{row.where} names no case: write its name in the column `case`", found.name)
    try:
        number = read_number(cells["slice"], "slice", row.delimiter, "number") if "slice" in cells else None
        lengths = [_length(cells[name], name, row.delimiter) for name in _SPACING if name in cells]
        if len(lengths) not in (0, 3):
            raise UserError(f"has a spacing in some directions alone: give {', '.join(_SPACING)} or none of them")
    except ValueError as error:
        return Problem(CASES_FILE, f"{row.where} {error}", found.name)
    given = (lengths[0], lengths[1], lengths[2]) if lengths else spacing
    return _Named(found.name, cells["case"], number, given)


def _length(text: str, column: str, delimiter: str) -> float:
    length = read_number(text, column, delimiter, "number of mm")
    if length <= 0:
        raise UserError(f"has {text!r} in the column `{column}`, expected a length above 0 mm: correct it")
    return length


def _natural(name: str) -> list[str | int]:
    """A key that orders names by the numbers in them; texts and numbers alternate."""
    return [int(part) if part.isdecimal() else part for part in re.split("([0-9]+)", name)]


def _require_group(pattern: str) -> None:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise UserError(f"`cases` must be a regular expression, got {pattern!r} ({error})") from error
    if not groups:
        raise UserError(f"`cases` must have the case in parentheses, as '(.+)_slice_[0-9]+', got {pattern!r}")
