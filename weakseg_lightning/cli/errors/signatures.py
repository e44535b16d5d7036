"""Arguments of classes and their types, in words."""

import inspect
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from importlib import import_module
from types import NoneType, UnionType
from typing import Any

_PLAIN_MODULES = ("builtins", "collections.abc", "datetime", "os", "pathlib", "typing")
_WORDS = {"int": "an integer", "float": "a number", "str": "a text", "Path": "a path", "Any": "anything"}
_LISTS = (list, tuple, set, frozenset, Iterable, Sequence)


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
    return list(_parameters(cls))


def _parameters(cls: type | None) -> dict[str, Any]:
    """Types of the arguments of a class's constructor by their names."""
    from jsonargparse._parameter_resolvers import get_signature_parameters  # `weakseg --help` needs none of it

    return {one.name: one.annotation for one in get_signature_parameters(cls, logger=False)} if cls else {}


def annotation(cls: type | None, key: str) -> Any:
    """Type of a constructor's argument, also of `group.argument`; None if unknown."""
    found: Any = None
    for part in key.split("."):
        found = _parameters(cls).get(part)
        cls = next(classes_in(found), None)
    return found


def is_group(cls: type | None) -> bool:
    """Tell if a class is a group of settings: a dataclass that implements no base class."""
    return cls is not None and is_dataclass(cls) and cls.__bases__ == (object,)


def annotated_class(cls: type | None, key: str) -> type | None:
    """First class in the type of a constructor's argument."""
    return next(classes_in(annotation(cls, key)), None)


def annotated_classes(expected: Any) -> list[type]:
    """The classes in a type whose values are objects with options of their own."""
    return [cls for cls in dict.fromkeys(classes_in(expected)) if cls.__module__ not in _PLAIN_MODULES]


def class_named(path: str, base: type) -> type | None:
    """The class that a recipe means: an import path, or the name of a class below a base class."""
    below = [base]
    for cls in below:  # grows on the way
        below += cls.__subclasses__()
    return imported(path) or next((cls for cls in below if cls.__name__ == path), None)


def known_classes(*bases: type | None) -> list[str]:
    """Short names of the concrete classes below base classes."""
    found: set[str] = set()
    for base in bases:
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
        >>> in_words(tuple[float, float]), in_words(bool | int)
        ('a list of 2 (a number, a number)', 'true, false or an integer')
    """
    options = list(dict.fromkeys(_said(expected)))
    return " or ".join([", ".join(options[:-1]), options[-1]]) if len(options) > 1 else options[0]


def _said(expected: Any) -> Iterator[str]:
    origin, inner = typing.get_origin(expected), typing.get_args(expected)
    if isinstance(expected, str):  # as jsonargparse writes it
        expected = expected.removeprefix("<class '").removesuffix("'>")
    if expected in (NoneType, None, "NoneType"):
        yield "null"
    elif expected in (bool, "bool"):
        yield from ("true", "false")
    elif origin is typing.Literal:
        yield from map(str, inner)
    elif origin in (typing.Union, UnionType):
        for option in inner:
            yield from _said(option)
    elif origin in _LISTS:
        yield f"a list{_elements(inner)}"
    elif origin in (dict, Mapping):
        yield f"a mapping (each {in_words(inner[1])})"
    else:
        name = getattr(expected, "__name__", str(expected))
        yield _WORDS.get(name, f"{'an' if name[:1] in 'AEIOUaeiou' else 'a'} {name}")


def _elements(inner: tuple[Any, ...]) -> str:
    """The elements of a list in words; tuples have a number of them."""
    if not inner:
        return ""
    if len(inner) == 1 or inner[1] is Ellipsis:
        return f" (each {in_words(inner[0])})"
    return f" of {len(inner)} ({', '.join(map(in_words, inner))})"


def classes_in(expected: Any) -> Iterator[type]:
    """The classes that a type is made of."""
    if inspect.isclass(expected) and not typing.get_args(expected):
        yield expected
    for inner in typing.get_args(expected):
        if inner is not NoneType:
            yield from classes_in(inner)
