"""The classes of a folder of one's own images: `classes.yaml`, or what the annotations let one guess."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from weakseg_lightning.data.transforms import VOID
from weakseg_lightning.visualization import voc_palette

__all__ = ["CLASSES_FILE", "Classes", "Color", "classes_text", "guess_classes", "read_classes"]

CLASSES_FILE = "classes.yaml"
BACKGROUND = "background"
_FEWEST, _MOST = 2, 255
_HEX = re.compile(r"#?([0-9a-fA-F]{6})$")
_KEYS = {"classes", "unlabelled"}
_EXAMPLE = "classes: [background, cat, dog]"

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Classes:
    """Names and colours of the classes.

    Attributes:
        names: names in the order of their indices, background first.
        given_colors: colours by index, where they are chosen; the others have those of PASCAL VOC.
        unlabelled: value, or colour, of pixels without a label in scribbles, besides 255.
    """

    names: Sequence[str]
    given_colors: dict[int, Color] = field(default_factory=dict)
    unlabelled: int | Color = VOID

    @cached_property
    def palette(self) -> NDArray[np.uint8]:
        """Colours, uint8 ``(K, 3)``."""
        colors = voc_palette(len(self.names)).copy()
        for index, color in self.given_colors.items():
            colors[index] = color
        return colors

    @cached_property
    def index_of_color(self) -> dict[Color, int]:
        """Index by colour; pixels without a label have 255."""
        known = {_color(row): index for index, row in enumerate(self.palette)}
        return {**known, self.unlabelled: VOID} if isinstance(self.unlabelled, tuple) else known

    @cached_property
    def _index(self) -> dict[str, int]:
        lowered = {name.casefold(): index for index, name in enumerate(self.names)}
        return {**lowered, **{name: index for index, name in enumerate(self.names)}}

    def find(self, label: str) -> int | None:
        """Find a class by name (small or large letters) or by index; None if there is none."""
        wanted = label.strip()
        if (found := self._index.get(wanted, self._index.get(wanted.casefold()))) is not None:
            return found
        number = int(wanted) if wanted.isdecimal() else None
        return number if number is not None and number < len(self.names) else None


def read_classes(path: Path) -> Classes:
    """Read `classes.yaml`, see :class:`weakseg_lightning.data.FolderDataModule` for its format.

    Raises:
        ValueError: if it is not valid; says where and what to write.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid YAML ({' '.join(str(error).split())}): write `{_EXAMPLE}`") from error
    if not isinstance(content, dict) or not isinstance(content.get("classes"), list):
        raise ValueError(f"{path} must hold a list `classes`, background first: write `{_EXAMPLE}`")
    if unknown := set(map(str, content)) - _KEYS:
        raise ValueError(f"{path} has the unknown keys {', '.join(sorted(unknown))}, expected {', '.join(_KEYS)}")
    entries = [_entry(path, entry) for entry in content["classes"]]
    names = [name for name, _ in entries]
    _check_names(path, names)
    colors = {index: color for index, (_, color) in enumerate(entries) if color is not None}
    classes = Classes(names, colors, _unlabelled(path, content.get("unlabelled", VOID)))
    _check_colors(path, classes)
    return classes


def classes_text(classes: Classes) -> str:
    """Write classes as the text of a commented `classes.yaml`."""
    lines = []
    for index, name in enumerate(classes.names):
        color = classes.given_colors.get(index)
        text = _quoted(name) if color is None else f'{{name: {_quoted(name)}, color: "{_hex(color)}"}}'
        lines.append(f"  - {text}")
    unlabelled = classes.unlabelled if isinstance(classes.unlabelled, int) else f'"{_hex(classes.unlabelled)}"'
    return "\n".join(
        [
            "# The classes in the order of their indices, the pixel values of PNGs; the first is the background.",
            "# Annotations name a class or give its index. One with a colour, for PNGs in colours and for pictures:",
            '#   - {name: cat, color: "#ff8800"}',
            "classes:",
            *lines,
            f"unlabelled: {unlabelled}   # value (or colour) of scribble pixels without a label; 255 is always without",
            "",
        ]
    )


def guess_classes(names: Iterable[str], indices: Iterable[int]) -> Classes:
    """Make classes of what annotations hold, where there is no `classes.yaml`.

    Args:
        names: names of classes, or indices as text, in any order.
        indices: pixel values of label maps; 255 is none.

    Returns:
        Background, then the names by alphabet; where there are only indices, ``class_1``, ``class_2`` and so on.
    """
    words = {name.strip() for name in names} - {""}
    numbers = {int(word) for word in words if word.isdecimal()} | {index for index in indices if index != VOID}
    # Of names that differ in their letters' case alone one is enough: they are found by either.
    spelt = {word.casefold(): word for word in sorted(words) if not word.isdecimal()}
    named = [spelt[low] for low in sorted(spelt) if low != BACKGROUND][: _MOST - 1]
    highest = min(max(numbers, default=0), _MOST - 1)
    rest = [f"class_{index}" for index in range(len(named) + 1, highest + 1)]
    return Classes([BACKGROUND, *named, *rest])


def _entry(path: Path, entry: Any) -> tuple[str, Color | None]:
    """Name and colour of one line."""
    if isinstance(entry, str | int) and not isinstance(entry, bool):
        return str(entry), None
    if isinstance(entry, dict) and "name" in entry and set(entry) <= {"name", "color"}:
        color = entry.get("color")
        return str(entry["name"]), None if color is None else _read_color(path, color)
    raise ValueError(f'{path} has the class {entry!r}, expected a name, or {{name: cat, color: "#ff8800"}}')


def _read_color(path: Path, value: Any) -> Color:
    if isinstance(value, str) and (match := _HEX.match(value.strip())):
        return _color(bytes.fromhex(match[1]))
    whole = isinstance(value, list) and len(value) == 3 and all(type(part) is int for part in value)
    if whole and all(0 <= part <= 255 for part in value):
        return _color(value)
    raise ValueError(f'{path} has the colour {value!r}, expected "#ff8800" (in quotes) or [255, 136, 0]')


def _unlabelled(path: Path, value: Any) -> int | Color:
    if type(value) is int and 0 <= value <= VOID:
        return value
    if isinstance(value, int):
        raise ValueError(f"{path}: `unlabelled` must be 0 to 255, or a colour, got {value}")
    return _read_color(path, value)


def _check_names(path: Path, names: Sequence[str]) -> None:
    if not _FEWEST <= len(names) <= _MOST:
        raise ValueError(f"{path} has {len(names)} classes, expected {_FEWEST} to {_MOST}, background among them")
    if any(not name.strip() for name in names):
        raise ValueError(f"{path} has a class without a name: write `{_EXAMPLE}`")
    seen: set[str] = set()
    for name in names:
        if name.casefold() in seen:
            raise ValueError(f"{path} names the class {name!r} twice: every class needs a name of its own")
        seen.add(name.casefold())


def _check_colors(path: Path, classes: Classes) -> None:
    taken: dict[Color, str] = {}
    for name, row in zip(classes.names, classes.palette, strict=True):
        if (color := _color(row)) in taken:
            other = f"{taken[color]!r} and {name!r} the colour {_hex(row)}"
            raise ValueError(f"{path} gives {other}: choose another `color` for one of them")
        taken[color] = name
    if isinstance(classes.unlabelled, tuple) and classes.unlabelled in taken:
        raise ValueError(f"{path}: `unlabelled` has the colour of {taken[classes.unlabelled]!r}: choose another")


def _color(values: Iterable[Any]) -> Color:
    red, green, blue = (int(value) for value in values)
    return red, green, blue


def _hex(values: Iterable[Any]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*_color(values))


def _quoted(name: str) -> str:
    """A name as YAML needs it: in quotes unless it is a plain word."""
    plain = re.fullmatch(r"[A-Za-z_]\w*", name) and isinstance(yaml.safe_load(name), str)
    return name if plain else json.dumps(name, ensure_ascii=False)
