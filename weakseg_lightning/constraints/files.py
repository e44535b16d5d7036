"""The rule whose bounds are written in a file."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor
from typing_extensions import override

from weakseg_lightning.checks import between, one_of
from weakseg_lightning.constraints.arguments import check_slack, class_index, rows_per_image
from weakseg_lightning.constraints.base import CompiledRule, ConstraintRule
from weakseg_lightning.constraints.linear import ImageFacts
from weakseg_lightning.devices import to_device
from weakseg_lightning.errors import UserError, first_of

Missing = Literal["allow", "error"]

_BOUNDS = ["image", "class", "lower", "upper"]
_AREA = ["image", "class", "area"]
_NAMED_IMAGES = 5


@dataclass(frozen=True)
class AreaTable(ConstraintRule):
    """Bounds of the areas of classes in single images, from a CSV file.

    Its columns are ``image,class,lower,upper`` (an empty field is no bound) or ``image,class,area``; classes are named
    or given by index, areas are fractions of the image, 0..1.

    Args:
        path: the file.
        tolerance: with the column ``area``: how far the area may be off to either side.
        slack: the most that a constraint may add to a logit; null = hard.
        missing: what to do about images without a row in the file: ``allow`` them, or stop with an ``error``.

    Raises:
        ValueError: if an argument is out of range.

    The file is read when it is first needed; what is wrong with it is a ValueError that names the line.
    """

    path: str | Path
    tolerance: float | None = None
    slack: float | None = None
    missing: Missing = "allow"
    _tables: dict[tuple[str, ...], "_Table"] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the arguments."""
        if self.tolerance is not None:
            between("tolerance", self.tolerance, 0, 1)
        one_of("missing", self.missing, get_args(Missing))
        check_slack(self.slack)

    @property
    def has_areas(self) -> bool:
        """True where the file has rows with the column ``area``."""
        return any("area" in fields for _, fields in _lines(Path(self.path)))

    @override
    def compile(self, facts: ImageFacts) -> CompiledRule:
        table = self._read(facts.class_names)
        if self.missing == "error":
            self._check_missing(table, facts.ids)
        places = [table.places.get(name, -1) for name in facts.ids]
        bounds = to_device(table.bounds[torch.tensor(places, dtype=torch.int64)], facts.tags.device)
        return CompiledRule(rows_per_image(bounds, facts, self.slack))

    @override
    def check(self, ids: Sequence[str], class_names: Sequence[str]) -> None:
        table = self._read(class_names)
        there = set(ids)
        strange = [name for name in table.places if name not in there]
        if strange:
            raise UserError(
                f"{self.path}, line {table.lines[strange[0]]}: the data set has no training image "
                f"{first_of(strange, _NAMED_IMAGES, ', ')}: "
                f"take {'these' if len(strange) > 1 else 'it'} out of the file, or correct the name"
            )
        if self.missing == "error":
            self._check_missing(table, ids)

    def _check_missing(self, table: "_Table", ids: Sequence[str]) -> None:
        absent = [name for name in ids if name not in table.places]
        if absent:
            raise UserError(
                f"{self.path} has no row for the image {first_of(absent, _NAMED_IMAGES, ', ')}: add rows, or set "
                "`missing` to 'allow'"
            )

    def _read(self, class_names: Sequence[str]) -> "_Table":
        names = tuple(class_names)
        if names not in self._tables:
            self._tables[names] = _Table(Path(self.path), self.tolerance, names)
        return self._tables[names]


class _Table:
    """The bounds of a file.

    Attributes:
        places: index of each image in ``bounds``.
        lines: the line where each image is first named.
        bounds: lower and upper bounds, float ``(N + 1, 2, K)``; the last is that of images without a row.
    """

    def __init__(self, path: Path, tolerance: float | None, class_names: Sequence[str]) -> None:
        self.places: dict[str, int] = {}
        self.lines: dict[str, int] = {}
        found: dict[tuple[str, int], tuple[int, float, float]] = {}
        for line, fields in _lines(path):
            where = f"{path}, line {line}:"
            image, label = fields["image"], class_index(fields["class"], class_names, f"{where} `class`")
            if not image:
                raise UserError(f"{where} `image` must be the name of an image, got nothing")
            if (image, label) in found:
                first = found[image, label][0]
                raise UserError(
                    f"{where} the class {class_names[label]} of the image {image} is there already, in line {first}"
                )
            found[image, label] = (line, *_bounds(fields, tolerance, where))
            self.places.setdefault(image, len(self.places))
            self.lines.setdefault(image, line)
        self.bounds = self._filled(found, len(class_names))

    def _filled(self, found: dict[tuple[str, int], tuple[int, float, float]], num_classes: int) -> Tensor:
        bounds = torch.zeros((len(self.places) + 1, 2, num_classes))
        bounds[:, 1] = 1
        images = [self.places[image] for image, _ in found]
        labels = [label for _, label in found]
        values = torch.tensor([pair for _, *pair in found.values()]).reshape(-1, 2)
        bounds[images, :, labels] = values
        return bounds


def _lines(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a file below its head, each with its line number."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            head = [name.strip() for name in next(reader, [])]
            if sorted(head) not in (sorted(_BOUNDS), sorted(_AREA)):
                raise UserError(
                    f"{path}, line 1: the columns must be {','.join(_BOUNDS)} or {','.join(_AREA)}, got "
                    f"{','.join(head) or 'nothing'}"
                )
            for fields in reader:
                if not any(field.strip() for field in fields):
                    continue
                if len(fields) != len(head):
                    raise UserError(
                        f"{path}, line {reader.line_num}: there must be {len(head)} fields, got {len(fields)}"
                    )
                yield reader.line_num, dict(zip(head, (field.strip() for field in fields), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a CSV file of areas: {error}") from error


def _bounds(fields: dict[str, str], tolerance: float | None, where: str) -> tuple[float, float]:
    if "area" in fields:
        area = _fraction(fields, "area", where)
        if area is None:
            raise UserError(f"{where} `area` must be a fraction between 0 and 1, got nothing")
        if tolerance is None:
            raise UserError(f"{where} a file of areas needs `tolerance`: how far an area may be off, 0..1")
        return max(0.0, area - tolerance), min(1.0, area + tolerance)
    lower, upper = _fraction(fields, "lower", where), _fraction(fields, "upper", where)
    if lower is None and upper is None:
        raise UserError(f"{where} `lower` or `upper` must be given, got neither")
    if lower is not None and upper is not None and lower > upper:
        raise UserError(f"{where} `lower` must not exceed `upper`, got {lower:g} > {upper:g}")
    return 0.0 if lower is None else lower, 1.0 if upper is None else upper


def _fraction(fields: dict[str, str], name: str, where: str) -> float | None:
    if not fields[name]:
        return None
    try:
        fraction = float(fields[name])
    except ValueError:
        fraction = float("nan")
    if not 0 <= fraction <= 1:
        raise UserError(f"{where} `{name}` must be a fraction between 0 and 1, got {fields[name]}")
    return fraction
