"""Ranges of arguments, checked with one message: what, its bounds, and what was given."""

from collections.abc import Iterable
from math import inf
from typing import Any

from weakseg_lightning.errors import UserError


def at_least(name: str, value: Any, least: float, hint: str = "") -> None:
    """Raise if a number is below a bound, or is nan.

    Args:
        name: the argument, as users write it.
        value: what was given.
        least: the smallest number allowed.
        hint: what to do, appended to the message.

    Raises:
        ValueError: says so.
    """
    _require(value >= least, name, f"at least {least}", value, hint)


def above(name: str, value: Any, bound: float, hint: str = "") -> None:
    """Raise if a number is not above a bound, see :func:`at_least`."""
    _require(value > bound, name, f"above {bound}", value, hint)


def finite_at_least(name: str, value: Any, least: float, hint: str = "") -> None:
    """Raise if a number is below a bound, infinite or nan, see :func:`at_least`."""
    _require(least <= value < inf, name, f"finite and at least {least}", value, hint)


def finite_above(name: str, value: Any, bound: float, hint: str = "") -> None:
    """Raise if a number is not above a bound, infinite or nan, see :func:`at_least`."""
    _require(bound < value < inf, name, f"finite and above {bound}", value, hint)


def between(name: str, value: Any, low: float, high: float, hint: str = "") -> None:
    """Raise if a number is not in ``[low, high]``, see :func:`at_least`."""
    _require(low <= value <= high, name, f"between {low} and {high}", value, hint)


def above_and_at_most(name: str, value: Any, low: float, high: float, hint: str = "") -> None:
    """Raise if a number is not in ``(low, high]``, see :func:`at_least`."""
    _require(low < value <= high, name, f"above {low} and at most {high}", value, hint)


def at_least_and_below(name: str, value: Any, low: float, high: float, hint: str = "") -> None:
    """Raise if a number is not in ``[low, high)``, see :func:`at_least`."""
    _require(low <= value < high, name, f"at least {low} and below {high}", value, hint)


def one_of(name: str, value: Any, choices: Iterable[Any], hint: str = "") -> None:
    """Raise if a value is none of the choices, see :func:`at_least`."""
    choices = list(choices)
    _require(value in choices, name, f"one of {', '.join(map(repr, choices))}", value, hint)


def _require(holds: bool, name: str, condition: str, value: Any, hint: str) -> None:
    if not holds:
        raise UserError(f"`{name}` must be {condition}, got {value!r}" + (f"; {hint}" if hint else ""))
