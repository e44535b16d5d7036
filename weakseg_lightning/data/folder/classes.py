"""The classes of a folder of images: `classes.yaml`, or what the annotations suggest."""

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from weakseg_lightning.data.text import read_text, read_yaml
from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.errors import UserError
from weakseg_lightning.visualization.panels import voc_palette

__all__ = ["CLASSES_FILE", "Classes", "Color", "check_names", "classes_text", "guess_classes", "normal", "read_classes"]

CLASSES_FILE = "classes.yaml"
BACKGROUND = "background"
BACKGROUND_OF_LABELME = "_background_"
FIRST_IS_BACKGROUND = "if that is not meant, name `background` first in classes.yaml"
_BACKGROUNDS = (BACKGROUND, BACKGROUND_OF_LABELME, "bg", "other", "others", "rest", "nothing", "unlabeled")
_FEWEST, _MOST = 2, 255
_MEAN = "mean"
_HEX = re.compile(r"#?([0-9a-fA-F]{6})$")
_KEYS = ("classes", "unlabelled", "background", "ignore", "tags")
_VOID_OF_LABELME = "__ignore__"
_MEANT = (BACKGROUND, BACKGROUND_OF_LABELME, _VOID_OF_LABELME)
_NULLS = ("nan", "none", "null", "n/a")
"""Words that programs write into a table where a value is missing."""
_EXAMPLE = "classes: [background, cat, dog]"
_MEANINGS = {
    "ignore": "# labels of annotation tools that mean no class",
    "tags": "# which of their flags, tags and choices are tags of the image",
}

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Classes:
    """Names and colors of the classes.

    Attributes:
        names: names in the order of their indices, background first.
        given_colors: colors by index, where they are chosen; the others have those of PASCAL VOC.
        unlabelled: value, or color, of pixels without a label in scribbles, besides 255.
        background: value of background in scribbles, where ``unlabelled`` takes its own, 0.
        ignore: labels of annotation tools and tables that mean no class: what they cover is void.
        tags: labels of annotation tools that are tags of the image, among its flags, tags and choices; by default those
            that name a class.
    """

    names: Sequence[str]
    given_colors: dict[int, Color] = field(default_factory=dict)
    unlabelled: int | Color = VOID
    background: int = 0
    ignore: Sequence[str] = ()
    tags: Sequence[str] | None = None

    @cached_property
    def palette(self) -> NDArray[np.uint8]:
        """Colors, uint8 ``(K, 3)``."""
        colors = voc_palette(len(self.names)).copy()
        for index, color in self.given_colors.items():
            colors[index] = color
        return colors

    @cached_property
    def index_of_color(self) -> dict[Color, int]:
        """Index by color; pixels without a label have 255."""
        known = {_color(row): index for index, row in enumerate(self.palette)}
        return {**known, self.unlabelled: VOID} if isinstance(self.unlabelled, tuple) else known

    @cached_property
    def _index(self) -> dict[str, int]:
        known = {normal(name): index for index, name in enumerate(self.names)}
        return {BACKGROUND_OF_LABELME: 0, **known} if BACKGROUND in known else known

    @cached_property
    def _void(self) -> frozenset[str]:
        return frozenset(map(normal, (*self.ignore, _VOID_OF_LABELME)))

    @property
    def begin_with_background(self) -> bool:
        """True if the first class is background by its name."""
        return normal(self.names[0]) in _BACKGROUNDS

    @cached_property
    def have_numerals(self) -> bool:
        """True if a class is called by a number, so that a number cannot be the index of one."""
        return any(name.isdecimal() for name in self._index)

    def find_name(self, label: str) -> int | None:
        """Find a class by name, whatever its letters' case and its blanks; 255 for void, None if there is none."""
        wanted = normal(label)
        return self._index.get(wanted, VOID if wanted in self._void else None)

    def find(self, label: str) -> int | None:
        """Find a class by name or by index; 255 for void, None if there is none."""
        if (found := self.find_name(label)) is not None:
            return found
        number = int(label) if label.strip().isdecimal() else None
        return number if number is not None and number < len(self.names) else None

    def is_tag(self, label: str) -> bool:
        """Tell if a flag, tag or choice of an annotation tool is a tag of the image, and no attribute."""
        if self.tags is not None:
            return normal(label) in map(normal, self.tags)
        return self.find_name(label) not in (None, VOID)


def normal(label: str) -> str:
    """Spell a label so that those which people take for the same are: case, blanks, ways to write an accent."""
    return " ".join(unicodedata.normalize("NFC", label).split()).casefold()


def read_classes(path: Path) -> Classes:
    """Read `classes.yaml`, see :class:`weakseg_lightning.data.FolderDataModule` for its format.

    Raises:
        ValueError: if it is not valid; says where and what to write.
    """
    try:
        content = read_yaml(path)
    except ValueError as error:
        reason = str(error).removeprefix(str(path)).lstrip(",: ")
        raise UserError(f"{path} is not valid YAML ({reason}): write `{_EXAMPLE}`") from error
    if not isinstance(content, dict) or not isinstance(content.get("classes"), list):
        raise UserError(f"{path} must hold a list `classes`, background first: write `{_EXAMPLE}`")
    if unknown := set(map(str, content)) - set(_KEYS):
        raise UserError(f"{path} has the unknown keys {', '.join(sorted(unknown))}, expected {', '.join(_KEYS)}")
    written = yaml.load(read_text(path), yaml.BaseLoader)["classes"]  # all of it text: `010` is a name, and no 8
    entries = [_entry(path, *pair) for pair in zip(content["classes"], written, strict=True)]
    names = [name for name, _ in entries]
    check_names(path, names)
    colors = {index: color for index, (_, color) in enumerate(entries) if color is not None}
    unlabelled = _unlabelled(path, content.get("unlabelled", VOID))
    tags = None if content.get("tags") is None else _labels(path, content, "tags")
    background = _background(path, content, unlabelled, len(names))
    classes = Classes(names, colors, unlabelled, background, _labels(path, content, "ignore"), tags)
    _check_colors(path, classes)
    _check_labels(path, classes)
    return classes


def classes_text(classes: Classes) -> str:
    """Write classes as the text of a commented `classes.yaml`."""
    lines = []
    for index, name in enumerate(classes.names):
        color = classes.given_colors.get(index)
        text = _quoted(name) if color is None else f'{{name: {_quoted(name)}, color: "{_hex(color)}"}}'
        lines.append(f"  - {text}")
    unlabelled = classes.unlabelled if isinstance(classes.unlabelled, int) else f'"{_hex(classes.unlabelled)}"'
    labels = {"ignore": classes.ignore or None, "tags": classes.tags}
    written = [
        f"{key}: [{', '.join(map(_quoted, names))}]   {_MEANINGS[key]}"
        for key, names in labels.items()
        if names is not None
    ]
    return "\n".join(
        [
            "# The classes in the order of their indices, the pixel values of PNGs; the first is the background.",
            "# Annotations name a class or give its index. One with a color, for PNGs in colors and for pictures:",
            '#   - {name: cat, color: "#ff8800"}',
            "classes:",
            *lines,
            f"unlabelled: {unlabelled}   # value (or color) of scribble pixels without a label; 255 is always without",
            *([f"background: {classes.background}   # value of background in scribbles"] if classes.background else []),
            *written,
            "",
        ]
    )


def guess_classes(names: Iterable[str], indices: Iterable[int], labels: Iterable[str] = ()) -> Classes:
    """Make classes of what annotations hold, where there is no `classes.yaml`.

    Args:
        names: names of classes, or indices as text, in any order; those of missing values, such as ``nan``, are none.
        indices: pixel values of label maps; 255 is none.
        labels: labels of annotation tools, which are names, also where they are numbers.

    Returns:
        Background, then the names by alphabet; where there are only indices, ``class_1``, ``class_2`` and so on.
    """
    words = {word for word in map(_spaced, names) if word and normal(word) not in _NULLS}
    given = set(map(_spaced, labels)) - {""}
    numbers = {int(word) for word in words - given if word.isdecimal()} | {index for index in indices if index != VOID}
    # Of names that differ in their letters' case alone one is enough: they are found by either.
    spelt = {normal(word): word for word in sorted(given | {word for word in words if not word.isdecimal()})}
    known = [spelt[word] for word in sorted(spelt) if word not in _MEANT]
    highest = min(max(numbers, default=0), _MOST - 1)
    rest = [f"class_{index}" for index in range(len(known) + 1, highest + 1)]
    return Classes([BACKGROUND, *known[: _MOST - 1], *rest])


def _spaced(name: str) -> str:
    return " ".join(name.split())


def _entry(path: Path, entry: Any, written: Any) -> tuple[str, Color | None]:
    """Name and color of one line, which YAML reads in one way and people have written in another."""
    if isinstance(entry, str | int) and not isinstance(entry, bool):
        return str(written), None
    if isinstance(entry, dict) and "name" in entry and set(entry) <= {"name", "color"}:
        if "color" in entry and entry["color"] is None:  # what follows a # is a comment in YAML
            raise UserError(f'{path} has no color for {written["name"]!r}: write it in quotes, as color: "#ff8800"')
        return str(written["name"]), _read_color(path, entry["color"]) if "color" in entry else None
    hint = "" if isinstance(entry, list | dict) else " in quotes (YAML reads it otherwise)"
    raise UserError(f'{path} has the class {entry!r}, expected a name{hint}, or {{name: cat, color: "#ff8800"}}')


def _read_color(path: Path, value: Any) -> Color:
    if isinstance(value, str) and (match := _HEX.match(value.strip())):
        return _color(bytes.fromhex(match[1]))
    whole = isinstance(value, list) and len(value) == 3 and all(type(part) is int for part in value)
    if whole and all(0 <= part <= 255 for part in value):
        return _color(value)
    raise UserError(f'{path} has the color {value!r}, expected "#ff8800" (in quotes) or [255, 136, 0]')


def _unlabelled(path: Path, value: Any) -> int | Color:
    if type(value) is int and 0 <= value <= VOID:
        return value
    if isinstance(value, int):
        raise UserError(f"{path}: `unlabelled` must be 0 to 255, or a color, got {value}")
    return _read_color(path, value)


def _background(path: Path, content: dict[str, Any], unlabelled: int | Color, num_classes: int) -> int:
    if (value := content.get("background", 0)) == 0:
        return 0
    if unlabelled != 0:
        raise UserError(f"{path}: `background` is for scribbles in which 0 means no label: write `unlabelled: 0`, too")
    if type(value) is not int or not num_classes <= value < VOID:
        expected = f"a value of no other class, {num_classes} to {VOID - 1}"
        raise UserError(f"{path}: `background` must be {expected}, got {value!r}")
    return value


def check_names(file: Path | str, names: Sequence[str]) -> None:
    """Raise if there are too few or too many names, two of one spelling, or one that means no class.

    Args:
        file: the file or the option that has them, for the message.
        names: names of the classes, background first.

    Raises:
        ValueError: says so.
    """
    if not _FEWEST <= len(names) <= _MOST:
        raise UserError(f"{file} has {len(names)} classes, expected {_FEWEST} to {_MOST}, background among them")
    if any(not name.strip() for name in names):
        raise UserError(f"{file} has a class without a name: write `{_EXAMPLE}`")
    if _VOID_OF_LABELME in names:
        raise UserError(f"{file} names {_VOID_OF_LABELME!r}, LabelMe's word for void, which is no class: leave it out")
    if _MEAN in names:
        raise UserError(f"{file} names {_MEAN!r}, which in tables of scores is the mean over the classes: rename it")
    seen: set[str] = set()
    for name in names:
        if normal(name) in seen:
            raise UserError(f"{file} names the class {name!r} twice: every class needs a name of its own")
        seen.add(normal(name))


def _labels(path: Path, content: dict[str, Any], key: str) -> list[str]:
    """A list of labels."""
    given = content.get(key) or []
    if not isinstance(given, list) or not all(isinstance(label, str | int) and str(label).strip() for label in given):
        raise UserError(f"{path}: `{key}` must be a list of labels, as `{key}: [unsure]`, got {given!r}")
    return [str(label) for label in given]


def _check_labels(path: Path, classes: Classes) -> None:
    known = set(map(normal, classes.names))
    if both := [label for label in classes.ignore if normal(label) in known]:
        raise UserError(f"{path} has {both[0]!r} among the classes and in `ignore`: it is one or the other")
    if unknown := [label for label in classes.tags or () if classes.find(label) in (None, VOID)]:
        raise UserError(f"{path} has {unknown[0]!r} in `tags`, which is none of the classes: name it there, too")


def _check_colors(path: Path, classes: Classes) -> None:
    taken: dict[Color, str] = {}
    for name, row in zip(classes.names, classes.palette, strict=True):
        if (color := _color(row)) in taken:
            other = f"{taken[color]!r} and {name!r} the color {_hex(row)}"
            raise UserError(f"{path} gives {other}: choose another `color` for one of them")
        taken[color] = name
    if isinstance(classes.unlabelled, tuple) and classes.unlabelled in taken:
        raise UserError(f"{path}: `unlabelled` has the color of {taken[classes.unlabelled]!r}: choose another")


def _color(values: Iterable[Any]) -> Color:
    red, green, blue = (int(value) for value in values)
    return red, green, blue


def _hex(values: Iterable[Any]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*_color(values))


def _quoted(name: str) -> str:
    """A name as YAML needs it: in quotes unless it is a plain word."""
    plain = re.fullmatch(r"[A-Za-z_]\w*", name) and isinstance(yaml.safe_load(name), str)
    return name if plain else json.dumps(name, ensure_ascii=False)
