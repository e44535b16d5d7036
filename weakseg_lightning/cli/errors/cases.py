"""Mistakes in arguments, with a suggestion, in the words of the package instead of the parser's."""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

from weakseg_lightning.cli.errors.given import COMMANDS, Arguments, Finding, Place
from weakseg_lightning.cli.errors.signatures import (
    annotated_class,
    annotated_classes,
    annotation,
    class_named,
    imported,
    in_words,
    is_group,
    known_classes,
    options_of,
)
from weakseg_lightning.cli.recipes import YAML_SUFFIXES, given_configs, given_options, known_recipes, yaml_files
from weakseg_lightning.data.text import compose_yaml, read_text, read_yaml
from weakseg_lightning.errors import closest, did_you_mean

__all__ = ["Arguments", "explain_argument"]


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
    return f"{prefix}{finding.message}{_where(finding, arguments)}"


def _find(text: str, place: Place, arguments: Arguments) -> Finding:
    for pattern, explained in _CASES:
        if match := re.search(pattern, text, re.DOTALL):
            return explained(match, place, arguments)
    name = f"`{place.key}`: " if place.key and place.key != "config" else ""
    return Finding(f"{name}{' '.join(text.split())}")


# ---- the cases ----------------------------------------------------------------------------------------------


def _unknown_in_group(match: re.Match[str], place: Place, arguments: Arguments) -> Finding:
    group, name = match[1], match[2]
    below = [option.removeprefix(f"{group}.") for option in arguments.options if option.startswith(f"{group}.")]
    known = options_of(annotated_class(place.cls, group)) if place.cls else below
    return Finding(f"`{name}` is not an option{did_you_mean(name, known)}", name, group=group)


def _unknown(match: re.Match[str], place: Place, arguments: Arguments) -> Finding:
    name = match[1]
    if place.cls is None:
        return _unknown_at_top(name, arguments)
    return Finding(f"`{name}` is not an option{did_you_mean(name, options_of(place.cls))}", _last(name))


def _unknown_at_top(name: str, arguments: Arguments) -> Finding:
    root = name.split(".", 1)[0]
    roots = {option.split(".", 1)[0] for option in arguments.options}
    wrong = name if root in roots else root
    return Finding(f"`{wrong}` is not an option{_option_meant(wrong, arguments)}", _last(wrong))


def _unrecognized(match: re.Match[str], place: Place, arguments: Arguments) -> Finding:
    words = match[1].split()
    wrong = next((word.split("=", 1)[0] for word in words if word.startswith("-")), None)
    if wrong is None:
        what = "a recipe" if arguments.takes_recipes else "a file of options"
        message = f"cannot use `{words[0]}`: {what} is given as `--config {words[0]}`, a value as `--OPTION VALUE`"
        return Finding(message)
    name = wrong.lstrip("-")
    if place.cls is None:
        return Finding(f"`{wrong}` is not an option{_option_meant(name, arguments, '--')}")
    group, _, inner = name.rpartition(".")
    known = options_of(annotated_class(place.cls, group) if group else place.cls)
    return Finding(f"`{inner}` is not an option{did_you_mean(inner, known)}", group=group)


def _option_meant(name: str, arguments: Arguments, dashes: str = "") -> str:
    """`; did you mean ...?` for an option at the top: one of the same name in a group comes first, as `data.root`."""
    known = [*arguments.options, *(option for root in ("model", "data") for option in _below(root, arguments))]
    namesakes = [option for option in known if _last(option) == _last(name)]
    meant = min(namesakes, key=len, default=None) or closest(name, known)
    return did_you_mean(name, known) if meant is None else f"; did you mean `{dashes}{meant}`?"


def _below(root: str, arguments: Arguments) -> Iterator[str]:
    """Options of the class that is chosen as model or data, and of its groups."""
    chosen = [value for option, value in given_options(arguments.given) if option == f"--{root}"]
    for path in given_configs(arguments.given):
        part = content.get(root) if isinstance(content := read_yaml(path), dict) else None
        chosen += [part["class_path"]] if isinstance(part, dict) and "class_path" in part else []
    base = next(iter(annotated_classes(arguments.types.get(root))), None)
    cls = class_named(str(chosen[0]), base) if chosen and base else None
    for name in options_of(cls):
        yield f"{root}.{name}"
        group = annotated_class(cls, name)
        yield from (f"{root}.{name}.{option}" for option in options_of(group) if is_group(group))


def _missing(match: re.Match[str], place: Place, arguments: Arguments) -> Finding:
    names = match[1].split(", ")
    tops = [name for name in ("model", "data") if name in {_last(given) for given in names}]
    if place.cls is None and tops and arguments.takes_recipes:
        hint = "choose a recipe, as in --config recipes/adm/adm_grid.yaml"
        recipes = f"The recipes are {', '.join(known_recipes())}"
        return Finding(f"no {' and no '.join(tops)} given: {hint}\n{recipes}")
    return Finding(f"{' and '.join(f'`{name}`' for name in names)} must be given")


def _no_class_path(match: re.Match[str], place: Place, arguments: Arguments) -> Finding:
    for path in given_configs(arguments.given):
        for cls, beside in _misplaced(read_yaml(path)):
            return Finding(f"{cls}: `{beside}` must stand below `init_args:`", beside)
    known = ", ".join(known_classes(*_bases(place, arguments)))
    return Finding(f"`{place.key}` needs a `class_path:`, one of {known}, or an import path of your own class")


def _unknown_class(match: re.Match[str], place: Place, arguments: Arguments) -> Finding:
    path = match[1]
    if re.fullmatch(r"[A-Za-z_]\w*(\.\w+)+", path) and imported(path) is None:
        return _no_import(match, place, arguments)
    bases = _bases(place, arguments)
    kind = f"is no {' or '.join(base.__name__ for base in bases)}" if bases else "is no known class"
    hint = did_you_mean(path, known_classes(*bases)) or ", give the import path of your own class"
    return Finding(f"`{place.key}`: `{path}` {kind}{hint}", "class_path", path)


def _no_import(match: re.Match[str], place: Place, arguments: Arguments) -> Finding:
    path = place.wanted or match[1]
    if path.endswith(YAML_SUFFIXES):
        return _no_part(path, place, arguments)
    module, _, name = path.rpartition(".")
    try:
        problem = f"{import_module(module).__name__} has no {name}"
    except (ImportError, ValueError) as error:
        problem = " ".join(str(error).split())
    close = get_close_matches(name, known_classes(*_bases(place, arguments)), 1)
    hint = f"; did you mean `{close[0]}`?" if close else ""
    return Finding(f"cannot import `{path}`: {problem}{hint} (working directory: {Path.cwd()})", "class_path", path)


def _unreadable_part(match: re.Match[str], place: Place, arguments: Arguments) -> Finding:
    return _no_part(match[1], place, arguments)


def _no_part(name: str, place: Place, arguments: Arguments) -> Finding:
    """A YAML file that should stand for a part of the configuration."""
    for path in yaml_files(arguments.given):
        if path.name == Path(name).name:
            try:
                read_yaml(path)
            except ValueError as error:
                return Finding(f"`{place.key}`: {error}")
            return Finding(f"`{place.key}`: {path}: expected `class_path:` and `init_args:` at the outermost level")
    return Finding(f"`{place.key}`: there is no file {name} (working directory: {Path.cwd()})")


def _undecodable(match: re.Match[str], place: Place, arguments: Arguments) -> Finding:
    for path in yaml_files(arguments.given):
        try:
            read_text(path)
        except ValueError as error:
            return Finding(f"`{place.key}`: {error}")
    return Finding(f"`{place.key}`: {match.string}")


def _no_class_here(match: re.Match[str], place: Place, arguments: Arguments) -> Finding:
    what = f"`class_path: {match[2]}` stands where only options of {match[1]} may"
    return Finding(f"{what}: leave it out, and `init_args:`", "class_path", match[2])


def _no_group(match: re.Match[str], place: Place, arguments: Arguments) -> Finding:
    group = annotated_class(place.cls, place.key) if place.cls else None
    known = options_of(group) or [_last(name) for name in arguments.types if name.startswith(f"{place.key}.")]
    some = ", ".join(f"`{place.key}.{name}`" for name in known[:3])
    return Finding(f"`{place.key}` has options of its own, as {some}: give those, got {match[1]!r}")


def _no_value(match: re.Match[str], place: Place, arguments: Arguments) -> Finding:
    return Finding(f"`{match[1].split('/')[-1]}` needs a value")


def _wrong_command(match: re.Match[str], place: Place, arguments: Arguments) -> Finding:
    given = match[1] or arguments.given[0]
    known = dict.fromkeys([*COMMANDS, *(name.split()[0] for name in arguments.subcommands)])
    return Finding(f"`{given}` is not a command{did_you_mean(given, known)}")


def _wrong_value(match: re.Match[str], place: Place, arguments: Arguments) -> Finding:
    expected, value = _expected(place, arguments) or match[1], match[2].strip()
    if annotated_classes(expected) and (name := re.fullmatch(r"([A-Za-z_][\w.]*)", value)):
        return _unknown_class(name, place, arguments)
    return Finding(f"`{place.key}` must be {in_words(expected)}, got {value!r}", _last(place.key), value)


_Explanation = Callable[[re.Match[str], Place, Arguments], Finding]
_CASES: tuple[tuple[str, _Explanation], ...] = (
    (r"^Group '([^']+)' does not accept (?:nested )?(?:key|option) '([^']+)'", _unknown_in_group),
    (r"(?:^(?:Option|Key) |does not accept (?:nested )?(?:key|option) )'([^']+)'", _unknown),
    (r"^unrecognized arguments: (.+)", _unrecognized),
    (r"arguments are required: (.+)", _missing),
    (r"instantiatable class, but (\S+) is abstract|^Not a valid subclass of", _no_class_path),
    (r"^(?:Config file loop detected:|Invalid content in sub-config file) (\S+?):?\s", _unreadable_part),
    (r"^Unable to load config ['\"](.*?)['\"]", _no_group),
    (r"^argument (\S+): expected one argument", _no_value),
    (r"^(?:Expected a dot import path string: |Unexpected import path format: |Import path )(\S+)", _unknown_class),
    (r"^Subclasses are disabled for (\w+), thus '([^']*)'", _no_class_here),
    (r"No module named '([^']+)'|has no attribute '([^']+)'|^No \S+ attribute (\S+)", _no_import),
    (r"codec can't decode", _undecodable),
    (r"invalid choice: '([^']*)'|expected \"subcommand\" to be one of", _wrong_command),
    (r"Expected an? (.+?)\. Got value:(.*)", _wrong_value),
)


def _expected(place: Place, arguments: Arguments) -> Any:
    """Type of what is wrong; None if unknown."""
    return annotation(place.cls, place.key) if place.cls else arguments.types.get(place.key)


def _bases(place: Place, arguments: Arguments) -> list[type]:
    return annotated_classes(_expected(place, arguments))


def _last(path: str) -> str:
    return path.rsplit(".", 1)[-1]


# ---- in the recipes -----------------------------------------------------------------------------------------


def _malformed_configs(arguments: Arguments) -> Iterator[str]:
    """Mistakes of a recipe as a whole: no mapping, an unknown word at its outermost level."""
    roots = {option.split(".", 1)[0] for option in arguments.options}
    for path in given_configs(arguments.given):
        content = read_yaml(path)
        if not isinstance(content, dict):
            root = compose_yaml(read_text(path), str(path))
            line = "" if root is None else f" (line {root.start_mark.line + 1})"
            yield f"{path}: expected {_outermost(arguments)} at the outermost level, found {_kind(content)}{line}"
            continue
        for key in content if roots else ():
            if str(key).split(".", 1)[0] not in roots:
                finding = _unknown_at_top(str(key), arguments)
                yield f"{finding.message}{_where(finding, arguments)}"


def _outermost(arguments: Arguments) -> str:
    names = ("trainer", "model", "data") if arguments.takes_recipes else arguments.types
    return ", ".join(f"`{name}:`" for name in names)


def _kind(content: Any) -> str:
    if content is None:
        return "nothing"
    return "a list" if isinstance(content, list) else f"`{content!s:.60}`"


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


def _where(finding: Finding, arguments: Arguments) -> str:
    """` (mine.yaml, line 7)`, if the recipes leave no doubt, and the command line has no such option."""
    if not finding.key or any(_last(option) == finding.key for option, _ in given_options(arguments.given)):
        return ""
    value = rf"\s*['\"]?{re.escape(finding.value)}\b" if finding.value else ""
    pattern = re.compile(rf"(?:^|[\s{{,-]){re.escape(finding.key)}\s*:{value}", re.MULTILINE)
    places = [
        f" ({path}, line {text.count(chr(10), 0, match.end()) + 1})"
        for path, text in _texts(arguments)
        for match in pattern.finditer(text)
    ]
    return places[0] if len(places) == 1 else ""


def _texts(arguments: Arguments) -> Iterator[tuple[Path, str]]:
    """The recipes, and what can be parts of them."""
    for path in yaml_files(arguments.given, parts=arguments.takes_recipes):
        with suppress(ValueError):
            yield path, read_text(path)
