"""Values that the parser lets pass although nothing can be done with them."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch.accelerators import AcceleratorRegistry
from lightning.pytorch.strategies import StrategyRegistry

from weakseg_lightning.cli.errors.signatures import annotation, classes_in, imported
from weakseg_lightning.errors import UserError, closest

__all__ = ["check_settings", "explain_setting"]

_LISTED = 15
_DIVISORS = ("accumulate_grad_batches", "check_val_every_n_epoch")
_DEVICES = "a number (1 or more), -1 or auto for all, or, of GPUs, a list of their indices"


def check_settings(config: Mapping[str, Any], types: Mapping[str, Any]) -> None:
    """Raise for values that would stop the command later, in words that do not name the option.

    These are empty texts where paths are meant, as an unset variable of the shell leaves (`Path("")` is the working
    directory), and counts that Lightning divides by.

    Args:
        config: the parsed options of a command, nested.
        types: their types, those of the classes' own options left out.

    Raises:
        UserError: if there is one; names the option.
    """
    for name in _empty_paths(config, types.get):
        raise UserError(f"`{name}` must be a path, got ''")
    for name in _DIVISORS:
        if (count := config["trainer"][name]) is not None and count < 1:
            raise UserError(f"`trainer.{name}` must be at least 1, got {count}")


def _empty_paths(
    options: Mapping[str, Any], expected: Callable[[str], Any], shown: str = "", group: str = ""
) -> Iterator[str]:
    for name, value in options.items():
        if isinstance(value, Mapping) and "class_path" in value:
            of_class = partial(annotation, imported(value["class_path"]))
            yield from _empty_paths(value.get("init_args") or {}, of_class, f"{shown}{name}.")
        elif isinstance(value, Mapping):
            yield from _empty_paths(value, expected, f"{shown}{name}.", f"{group}{name}.")
        elif value == "" and Path in classes_in(expected(f"{group}{name}")):
            yield f"{shown}{name}"


def explain_setting(text: str) -> str | None:
    """Say which setting of the trainer is wrong, and what may stand there.

    Args:
        text: the message of Lightning.

    Returns:
        One line; None if it says something else.
    """
    if match := re.search(r"invalid (accelerator|strategy) name: `\w+='([^']*)'`", text):
        return f"`trainer.{match[1]}` {_unknown_name(match[2], _NAMES[match[1]]())}"
    if match := re.search(r"`profiler` parameter.* one of \[(.*)\]", text):
        return f"`trainer.profiler` must be one of {match[1].replace(chr(39), '')}"
    if match := re.search(r"(-?\d+) is not in bounds, numpy accepts from (\d+) to (\d+)", text):
        return f"`seed_everything` must be an integer from {match[2]} to {match[3]}, got {match[1]}"
    if re.search(r"Trainer\(devices=.* is not a valid input|`devices` selected with ", text):
        return f"`trainer.devices` must be {_DEVICES}: {' '.join(text.split())}"
    return None


def _unknown_name(name: str, known: Collection[str]) -> str:
    close = closest(name, known)
    hint = "" if close is None else f"; did you mean `{close}`?"
    listed = f" (known: {', '.join(sorted(known))})" if close is None or len(known) < _LISTED else ""
    return f"{name!r} is unknown{hint}{listed}"


_NAMES: dict[str, Callable[[], set[str]]] = {
    "accelerator": lambda: {"auto", "gpu", *AcceleratorRegistry.available_accelerators()},
    "strategy": lambda: {"auto", *StrategyRegistry.available_strategies()},
}
