"""Plain descriptions of configurable objects, so that a checkpoint can rebuild them without unpickling code.

Every class that can stand in a recipe keeps each constructor argument, unchanged, under an attribute of the same name
(the convention of scikit-learn). :func:`describe` relies on that and on nothing else.
"""

import dataclasses
import inspect
import sys
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jsonargparse._parameter_resolvers import get_signature_parameters
from torch import nn

_PATH_KEYS = ("class_path", "_class_path")


def describe(configured: object) -> dict[str, Any]:
    """Write an object as its class path and the plain values of its constructor arguments.

    Args:
        configured: an object that keeps its constructor arguments as attributes of the same names.

    Returns:
        ``{"class_path": "package.module.Class", "init_args": {...}}`` of plain values only, the form that recipes use.

    Raises:
        AttributeError: if a constructor argument was not kept.
        TypeError: if an argument cannot be written as plain values.

    Example:
        >>> from weakseg_lightning.networks import SMPNetwork
        >>> describe(SMPNetwork(architecture="unet", encoder="resnet18"))["init_args"]["encoder"]
        'resnet18'
    """
    return {"class_path": import_path(type(configured)), "init_args": init_args(configured)}


def import_path(cls: type) -> str:
    """Find the shortest path that a class can be imported by, as recipes have it: files may move, public names stay.

    Example:
        >>> from weakseg_lightning.solvers import AlphaExpansion
        >>> import_path(AlphaExpansion)
        'weakseg_lightning.AlphaExpansion'
    """
    parts, name = cls.__module__.split("."), cls.__qualname__
    modules = (".".join(parts[:count]) for count in range(1, len(parts)))
    found = (module for module in modules if getattr(sys.modules.get(module), name, None) is cls)
    return f"{next(found, cls.__module__)}.{name}"


def with_current_names(described: Any) -> Any:
    """Replace the names in a description, which may be of an earlier version, by those of today.

    Args:
        described: what :func:`describe` returned, or a part of it.
    """
    if isinstance(described, list):
        return [with_current_names(value) for value in described]
    if not isinstance(described, dict):
        return described
    current = {key: with_current_names(value) for key, value in described.items()}
    for key in _PATH_KEYS:
        if isinstance(path := current.get(key), str):
            current[key] = _public_path(path)
    return current


def _public_path(path: str) -> str:
    """The shortest path of a class of this package that has the name, wherever its file was."""
    package, parts = __name__.partition(".")[0], path.split(".")
    for count in range(1, len(parts) - 1) if parts[0] == package else ():
        public = ".".join(parts[:count])
        if find_spec(public) is None:
            break
        if hasattr(import_module(public), parts[-1]):
            return f"{public}.{parts[-1]}"
    return path


def init_args(configured: object) -> dict[str, Any]:
    """Read the constructor arguments of an object back from its attributes, as plain values.

    Args:
        configured: an object that keeps its constructor arguments as attributes of the same names.

    Returns:
        One entry per argument, nested objects written by :func:`describe`.

    Raises:
        AttributeError: if a constructor argument was not kept.
        TypeError: if an argument cannot be written as plain values.
    """
    names = _argument_names(type(configured))  # type: ignore[arg-type]  # for mypy, classes cannot be hashed
    return {name: _plain(_kept(configured, name)) for name in names}


@cache  # jsonargparse reads the source, which may be another one by the time a long run writes its checkpoints
def _argument_names(cls: type) -> list[str]:
    parameters = inspect.signature(cls).parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):  # handed to a base: as recipes see them, so do checkpoints
        return [p.name for p in get_signature_parameters(cls, logger=False)]
    return [p.name for p in parameters if p.kind is not p.VAR_POSITIONAL]


def _kept(configured: object, name: str) -> Any:
    try:
        return getattr(configured, name)
    except AttributeError:
        cls = type(configured).__name__
        message = f"{cls} does not keep its argument `{name}`: write `self.{name} = {name}` in {cls}.__init__"
        raise AttributeError(f"{message}, so that checkpoints can rebuild it") from None


def _is_group_of_options(cls: type) -> bool:
    """Tell dataclasses that are options, as `GridPotts`, from those that implement a base class, as solvers do."""
    return dataclasses.is_dataclass(cls) and all(map(dataclasses.is_dataclass, cls.__mro__[:-1]))


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if _is_group_of_options(type(value)):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if (callable(value) and not isinstance(value, nn.Module)) or not hasattr(value, "__dict__"):
        raise TypeError(f"{value!r} cannot be written to a checkpoint: pass plain values or configurable objects")
    return describe(value)
