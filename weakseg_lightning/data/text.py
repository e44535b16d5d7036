"""Text files of users: UTF-8, and YAML in which every key stands once."""

from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import SafeConstructor

from weakseg_lightning.errors import UserError

__all__ = ["EqualKeysError", "compose_yaml", "counted", "load_yaml", "read_text", "read_yaml", "walk_yaml"]

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one that jsonargparse reads recipes with


class EqualKeysError(ValueError):
    """A key that stands twice in one mapping."""


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, with or without a byte order mark.

    Raises:
        ValueError: if it is in another encoding; names the file.
    """
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path} is not UTF-8 text ({error.reason} in line {line}): save it as UTF-8") from error
    if "\0" in text:  # UTF-16 without a byte order mark
        raise UserError(f"{path} is not UTF-8 text (it holds zero bytes): save it as UTF-8")
    return text


def counted(number: int, thing: str, things: str | None = None) -> str:
    """A number of things in words.

    Args:
        number: how many there are.
        thing: one of them.
        things: several; by default with an s.

    Example:
        >>> counted(1, "image"), counted(3, "class", "classes")
        ('1 image', '3 classes')
    """
    return f"{number} {thing if number == 1 else things or f'{thing}s'}"


def read_yaml(path: Path) -> Any:
    """Read a YAML file in UTF-8.

    Raises:
        ValueError: if it is not valid, or has a key twice; one line that names the file and the lines.
    """
    return load_yaml(read_text(path), str(path))


def load_yaml(text: str, source: str) -> Any:
    """Read YAML.

    Args:
        text: the YAML.
        source: where it comes from, for messages.

    Raises:
        ValueError: if it is not valid, or has a key twice; one line that names the source and the lines.
    """
    root = compose_yaml(text, source)
    try:
        return None if root is None else SafeConstructor().construct_document(root)
    except yaml.MarkedYAMLError as error:
        raise UserError(f"{source}{_problem(error, text)}") from error
    except ValueError as error:  # there is no 31st of February
        raise UserError(f"{source}: not YAML: {error}") from error


def compose_yaml(text: str, source: str) -> yaml.Node | None:
    """Read YAML as nodes, of which :func:`load_yaml` makes values; None if there is nothing.

    Raises:
        EqualKeysError: if a key stands twice in a mapping.
        ValueError: if it is not valid.
    """
    try:
        root: yaml.Node | None = yaml.compose(text, _LOADER)
        for mapping in walk_yaml(root):
            if isinstance(mapping, yaml.MappingNode):
                _check_keys(mapping, source)
    except yaml.MarkedYAMLError as error:
        raise UserError(f"{source}{_problem(error, text)}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UserError(f"{source}, line {line}: not YAML: {error.reason}") from error
    return root


def walk_yaml(root: yaml.Node | None) -> Iterator[yaml.Node]:
    """All nodes in their order, each once, however often an alias names it."""
    seen: set[int] = set()
    waiting = [] if root is None else [root]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if isinstance(node, yaml.MappingNode):
            waiting += [part for pair in reversed(node.value) for part in reversed(pair)]
        elif isinstance(node, yaml.SequenceNode):
            waiting += reversed(node.value)


def _check_keys(mapping: yaml.MappingNode, source: str) -> None:
    """Raise at equal keys; YAML's own loaders let the last one win. Keys that are merged (`<<`) may be overridden."""
    equal: dict[Hashable, list[yaml.ScalarNode]] = {}
    for node, _ in mapping.value:
        if isinstance(node, yaml.ScalarNode):
            equal.setdefault(_key(node), []).append(node)
    for nodes in equal.values():
        if len(nodes) > 1:
            *first, last = dict.fromkeys(str(node.start_mark.line + 1) for node in nodes)
            where = f"in lines {', '.join(first)} and {last}" if first else f"{len(nodes)} times in line {last}"
            raise EqualKeysError(f"{source}: the key `{nodes[0].value}` stands {where}: keep one of them")


def _key(node: yaml.ScalarNode) -> Hashable:
    """The value that Python compares: `yes` and `true` are one key, `"1"` and `1` are two."""
    if node.tag == "tag:yaml.org,2002:merge":
        return node.tag
    try:
        key: Hashable = SafeConstructor().construct_object(node)
    except ValueError:
        return str(node.value)
    return key


def _problem(error: yaml.MarkedYAMLError, text: str) -> str:
    """`, line 3: not YAML: ...`, with the line where the part began in which the reader lost its way."""
    place, start = error.problem_mark, error.context_mark
    if place is None:
        return f": not YAML: {error.problem}"
    line = text.split("\n")[place.line] if place.line <= text.count("\n") else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return f", line {place.line + 1}: not YAML: indented with a tab, use spaces"
    context = f"{error.context}, " if error.context else ""
    if context and start is not None and start.line != place.line:
        context = f"{error.context} from line {start.line + 1}, "
    return f", line {place.line + 1}: not YAML: {context}{error.problem}"
