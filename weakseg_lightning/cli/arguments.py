"""What is wrong with an argument, with a suggestion, in the words of the package instead of the parser's."""

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weakseg_lightning.cli.recipes import given_configs, known_recipes, yaml_files
from weakseg_lightning.cli.signatures import (
    annotated_class,
    annotation,
    did_you_mean,
    imported,
    in_words,
    known_classes,
    options_of,
)
from weakseg_lightning.data.text import read_text, read_yaml

__all__ = ["Arguments", "Place", "explain_argument", "imported"]

_COMMANDS = ("fit", "validate", "test", "predict")


@dataclass
class Arguments:
    """What the command was given, and what it accepts.

    Args:
        given: the arguments.
        options: names of all options of the subcommand, as far as they are known.
        bases: base classes of the arguments at the top: ``{"model": WeakSegModule, ...}``.
        types: types of the arguments at the top, where they are those of a function.
        helpers: names of the commands that are functions.
        images: images to predict that stand among the arguments.
    """

    given: list[str]
    options: list[str] = field(default_factory=list)
    bases: dict[str, type] = field(default_factory=dict)
    types: dict[str, Any] = field(default_factory=dict)
    helpers: Collection[str] = ()
    images: list[str] = field(default_factory=list)

    @property
    def takes_recipes(self) -> bool:
        """Whether the command trains or evaluates, as the recipes say, and is no helper."""
        return self.given[:1] != [] and self.given[0] in _COMMANDS


@dataclass
class Place:
    """Where in the configuration something is wrong.

    Args:
        names: what encloses it, as a user would call it: ``["ADMModule", "AlphaExpansion"]``.
        owner: import path of the innermost class, empty at the top.
        key: name of the argument there, if the parser told it.
    """

    names: list[str]
    owner: str
    key: str

    @property
    def cls(self) -> type | None:
        """The innermost class."""
        return imported(self.owner) if self.owner else None


@dataclass
class _Finding:
    """The message, what to look for in the recipes, and one more name on the way down."""

    message: str
    key: str = ""
    value: str = ""
    group: str = ""


def explain_argument(text: str, place: Place, arguments: Arguments) -> str:
    """Say what is wrong with an argument.

    Args:
        text: the innermost message of the parser.
        place: where in the configuration it arose.
        arguments: what was given and what is accepted.

    Returns:
        One or two lines.
    """
    if malformed := next(_malformed_configs(arguments), None):
        return malformed
    finding = _find(text, place, arguments)
    names = [*place.names, finding.group] if finding.group else place.names
    prefix = f"{' > '.join(names)}: " if names else ""
    return f"{prefix}{finding.message}{_where(finding, arguments.given)}"


def _find(text: str, place: Place, arguments: Arguments) -> _Finding:
    for pattern, explained in _CASES:
        if match := re.search(pattern, text, re.DOTALL):
            return explained(match, place, arguments)
    name = f"`{place.key}`: " if place.key and place.key != "config" else ""
    return _Finding(f"{name}{' '.join(text.split())}")


# ---- the cases ----------------------------------------------------------------------------------------------


def _unknown_in_group(match: re.Match[str], place: Place, arguments: Arguments) -> _Finding:
    group, name = match[1], match[2]
    below = [option.removeprefix(f"{group}.") for option in arguments.options if option.startswith(f"{group}.")]
    known = options_of(annotated_class(place.cls, group)) if place.cls else below
    return _Finding(f"`{name}` is not an option{did_you_mean(name, known)}", name, group=group)


def _unknown(match: re.Match[str], place: Place, arguments: Arguments) -> _Finding:
    name = match[1]
    if place.cls is None:
        return _unknown_at_top(name, arguments)
    return _Finding(f"`{name}` is not an option{did_you_mean(name, options_of(place.cls))}", _last(name))


def _unknown_at_top(name: str, arguments: Arguments) -> _Finding:
    root = name.split(".", 1)[0]
    roots = {option.split(".", 1)[0] for option in arguments.options}
    wrong, known = (name, arguments.options) if root in roots else (root, sorted(roots))
    return _Finding(f"`{wrong}` is not an option{did_you_mean(wrong, known)}", _last(wrong))


def _unrecognized(match: re.Match[str], place: Place, arguments: Arguments) -> _Finding:
    words = match[1].split()
    wrong = next((word.split("=", 1)[0] for word in words if word.startswith("-")), None)
    if wrong is None:
        what = "a recipe" if arguments.takes_recipes else "a file of options"
        message = f"cannot use `{words[0]}`: {what} is given as `--config {words[0]}`, a value as `--OPTION VALUE`"
        return _Finding(message)
    if place.cls is None:
        return _Finding(f"`{wrong}` is not an option{did_you_mean(wrong, [f'--{name}' for name in arguments.options])}")
    name = wrong.removeprefix("--")
    group, _, inner = name.rpartition(".")
    known = options_of(annotated_class(place.cls, group) if group else place.cls)
    return _Finding(f"`{inner}` is not an option{did_you_mean(inner, known)}", group=group)


def _missing(match: re.Match[str], place: Place, arguments: Arguments) -> _Finding:
    names = match[1].split(", ")
    tops = [name for name in ("model", "data") if name in {_last(given) for given in names}]
    if place.cls is None and tops and arguments.takes_recipes:
        hint = "choose a recipe, as in --config recipes/adm_grid.yaml"
        recipes = f"The recipes are {', '.join(known_recipes())}"
        return _Finding(f"no {' and no '.join(tops)} given: {hint}\n{recipes}")
    return _Finding(f"{' and '.join(f'`{name}`' for name in names)} must be given")


def _no_class_path(match: re.Match[str], place: Place, arguments: Arguments) -> _Finding:
    for path in given_configs(arguments.given):
        for cls, beside in _misplaced(read_yaml(path)):
            return _Finding(f"{cls}: `{beside}` must stand below `init_args:`", beside)
    known = ", ".join(known_classes(_base(place, arguments)))
    return _Finding(f"`{place.key}` needs a `class_path:`, one of {known}, or an import path of your own class")


def _unknown_class(match: re.Match[str], place: Place, arguments: Arguments) -> _Finding:
    path = match[1]
    base = _base(place, arguments)
    known = known_classes(base)
    kind = f"is no {base.__name__}" if base else "is no known class"
    hint = did_you_mean(_last(path), known, listed=False)
    hint = hint or f"; known are {', '.join(known)}, or give the import path of your own class"
    return _Finding(f"`{place.key}`: `{path}` {kind}{hint}", "class_path", path)


def _no_import(match: re.Match[str], place: Place, arguments: Arguments) -> _Finding:
    path = place.owner or match[1]
    hint = did_you_mean(_last(path), known_classes(_base(place, arguments)), listed=False)
    problem = " ".join(match.string.split())
    message = f"cannot import `{path}`: {problem}{hint} (working directory: {Path.cwd()})"
    place.names = place.names[:-1]
    return _Finding(message, "class_path", path)


def _wrong_command(match: re.Match[str], place: Place, arguments: Arguments) -> _Finding:
    given = match[1] or arguments.given[0]
    known = dict.fromkeys([*_COMMANDS, *(name.split()[0] for name in arguments.helpers)])
    return _Finding(f"`{given}` is not a command{did_you_mean(given, known)}")


def _wrong_value(match: re.Match[str], place: Place, arguments: Arguments) -> _Finding:
    expected = annotation(place.cls, place.key) or arguments.types.get(place.key) or match[1]
    value = match[2].strip()
    return _Finding(f"`{place.key}` must be {in_words(expected)}, got {value!r}", _last(place.key), value)


_Explanation = Callable[[re.Match[str], Place, Arguments], _Finding]
_CASES: tuple[tuple[str, _Explanation], ...] = (
    (r"^Group '([^']+)' does not accept (?:nested )?(?:key|option) '([^']+)'", _unknown_in_group),
    (r"(?:^(?:Option|Key) |does not accept (?:nested )?(?:key|option) )'([^']+)'", _unknown),
    (r"^unrecognized arguments: (.+)", _unrecognized),
    (r"arguments are required: (.+)", _missing),
    (r"instantiatable class, but (\S+) is abstract|^Not a valid subclass of", _no_class_path),
    (r"^(?:Expected a dot import path string: |Import path )(\S+)", _unknown_class),
    (r"No module named '([^']+)'|has no attribute '([^']+)'", _no_import),
    (r"invalid choice: '([^']*)'|expected \"subcommand\" to be one of", _wrong_command),
    (r"Expected an? (.+?)\. Got value: (.*)", _wrong_value),
)


def _base(place: Place, arguments: Arguments) -> type | None:
    return annotated_class(place.cls, place.key) if place.cls else arguments.bases.get(place.key)


def _last(path: str) -> str:
    return path.rsplit(".", 1)[-1]


# ---- in the recipes -----------------------------------------------------------------------------------------


def _malformed_configs(arguments: Arguments) -> Iterator[str]:
    """What is wrong with a recipe as a whole: not YAML, no mapping, an unknown word at its outermost level."""
    roots = {option.split(".", 1)[0] for option in arguments.options}
    for path in yaml_files(arguments.given, parts=arguments.takes_recipes):
        try:
            content = read_yaml(path)
        except ValueError as error:
            yield str(error)
            continue
        if path not in given_configs(arguments.given):
            continue
        if not isinstance(content, dict):
            yield f"{path}: expected {_outermost(arguments)} at the outermost level, found {_kind(content)}"
            continue
        for key in content if roots else ():
            if str(key).split(".", 1)[0] not in roots:
                finding = _unknown_at_top(str(key), arguments)
                yield f"{finding.message}{_where(finding, arguments.given)}"


def _outermost(arguments: Arguments) -> str:
    names = ("trainer", "model", "data") if arguments.takes_recipes else arguments.types
    return ", ".join(f"`{name}:`" for name in names if name != "return")


def _kind(content: Any) -> str:
    if content is None:
        return "nothing"
    return f"a list, `{content!r:.40}`" if isinstance(content, list) else f"`{content!r:.60}`"


def _misplaced(node: Any) -> Iterator[tuple[str, str]]:
    """Keys that stand beside a `class_path` instead of below its `init_args`."""
    if isinstance(node, dict):
        if "class_path" in node:
            beside = [key for key in node if key not in {"class_path", "init_args", "dict_kwargs"}]
            yield from ((str(node["class_path"]), str(key)) for key in beside)
        for value in node.values():
            yield from _misplaced(value)
    elif isinstance(node, list):
        for value in node:
            yield from _misplaced(value)


def _where(finding: _Finding, given: list[str]) -> str:
    """` (mine.yaml, line 7)`, if the recipes leave no doubt."""
    if not finding.key:
        return ""
    value = rf"\s*['\"]?{re.escape(finding.value)}\b" if finding.value else ""
    pattern = re.compile(rf"(?:^|[\s{{,-]){re.escape(finding.key)}\s*:{value}", re.MULTILINE)
    places = [
        f" ({path}, line {text.count(chr(10), 0, match.end()) + 1})"
        for path in given_configs(given)
        for text in [read_text(path)]
        for match in pattern.finditer(text)
    ]
    return places[0] if len(places) == 1 else ""
