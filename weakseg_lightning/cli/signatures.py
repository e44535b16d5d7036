"""What classes accept, and how to say it."""

import inspect
import typing
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from importlib import import_module
from types import NoneType, UnionType
from typing import Any

_LISTED = 15
_WORDS = {"int": "an integer", "float": "a number", "str": "a text", "bool": "true or false", "Path": "a path"}


def did_you_mean(word: str, known: Iterable[str], *, listed: bool = True) -> str:
    """Suggest the closest known word.

    Args:
        word: the wrong word.
        known: the right ones.
        listed: whether to name them all if none is close, as far as they are few.

    Returns:
        The end of a sentence, possibly empty.

    Example:
        >>> did_you_mean("max_sweps", ["max_sweeps", "start"])
        '; did you mean `max_sweeps`?'
    """
    known = list(known)
    # Of two letters in the wrong order the half agree.
    close = get_close_matches(word, known, 1, 0.6 if len(word) > 3 else 0.5)
    if close:
        return f"; did you mean `{close[0]}`?"
    return f" (there are {', '.join(known)})" if listed and 0 < len(known) <= _LISTED else ""


def imported(path: str) -> type | None:
    """The class of an import path, None if there is none."""
    module, _, name = path.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        return None
    return found if inspect.isclass(found) else None


def options_of(cls: type | None) -> list[str]:
    """Names of the arguments of a class's constructor, those of its bases included where it passes them on."""
    names: dict[str, None] = {}
    for constructor in _constructors(cls):
        parameters = list(inspect.signature(constructor).parameters.values())[1:]
        names |= {p.name: None for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    return list(names)


def annotation(cls: type | None, key: str) -> Any:
    """Type of a constructor's argument, also of `group.argument`; None if unknown."""
    found: Any = None
    for part in key.split("."):
        hints: dict[str, Any] = {}
        for constructor in reversed(_constructors(cls)):
            hints |= typing.get_type_hints(constructor)
        found = hints.get(part)
        cls = next(_classes_in(found), None)
    return found


def annotated_class(cls: type | None, key: str) -> type | None:
    """First class in the type of a constructor's argument."""
    return next(_classes_in(annotation(cls, key)), None)


def known_classes(base: type | None) -> list[str]:
    """Short names of the concrete classes below a base class."""
    found: set[str] = set()
    for cls in [base, *base.__subclasses__()] if base else []:
        if not inspect.isabstract(cls) and not cls.__name__.startswith("_"):
            found.add(cls.__name__)
        if cls is not base:
            found.update(known_classes(cls))
    return sorted(found)


def in_words(expected: Any) -> str:
    """A type as it would be said of a value.

    Example:
        >>> in_words(float | None), in_words(typing.Literal["argmin", "zeros"])
        ('a number or null', 'argmin or zeros')
    """
    options = list(_said(expected))
    return " or ".join([", ".join(options[:-1]), options[-1]]) if len(options) > 1 else options[0]


def _said(expected: Any) -> Iterator[str]:
    if isinstance(expected, str):  # as jsonargparse writes it
        expected = expected.removeprefix("<class '").removesuffix("'>")
    if expected is NoneType:
        yield "null"
    elif typing.get_origin(expected) is typing.Literal:
        yield from map(str, typing.get_args(expected))
    elif typing.get_origin(expected) in (typing.Union, UnionType):
        for inner in typing.get_args(expected):
            yield from _said(inner)
    elif typing.get_origin(expected) is list:
        yield f"a list (each {in_words(*typing.get_args(expected))})"
    else:
        name = expected.__name__ if inspect.isclass(expected) else str(expected)
        yield _WORDS.get(name, f"a {name}")


def _constructors(cls: type | None) -> list[Any]:
    """The constructors whose arguments a class takes: its own, and those that it passes arguments on to."""
    found: list[Any] = []
    for base in cls.__mro__[:-1] if cls else ():
        if (constructor := vars(base).get("__init__")) is None:
            continue
        found.append(constructor)
        kinds = {parameter.kind for parameter in inspect.signature(constructor).parameters.values()}
        if not kinds & {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}:
            break
    return found


def _classes_in(expected: Any) -> Iterator[type]:
    if inspect.isclass(expected) and not typing.get_args(expected):
        yield expected
    for inner in typing.get_args(expected):
        if inner is not NoneType:
            yield from _classes_in(inner)
