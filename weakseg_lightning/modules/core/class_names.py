"""The names of the classes belong to the weights: other data must have the same ones, in the same order."""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from weakseg_lightning.errors import UserError

__all__ = ["OPTION", "comparable", "names_in", "require_same_classes", "write_names"]

OPTION = "allow_other_classes"
_KEY = "class_names"


def write_names(checkpoint: dict[str, Any], names: Sequence[str] | None) -> None:
    """Keep the names of the classes in a checkpoint; None where they are not known."""
    checkpoint[_KEY] = None if names is None else list(map(str, names))


def names_in(checkpoint: Mapping[str, Any]) -> list[str] | None:
    """The names of the classes in a checkpoint; None in checkpoints of before they were kept."""
    names: list[str] | None = checkpoint.get(_KEY)
    return names


def require_same_classes(saved: Sequence[str] | None, here: Sequence[str] | None, source: str, allowed: bool) -> None:
    """Raise if weights were trained on classes of other names, or in another order.

    Letters' case and blanks do not count. Where the names of the weights are not known, or others are allowed, a
    warning says what is taken for what.

    Args:
        saved: names that the weights were trained on; None where they are not known.
        here: names of the data; None where they are not known.
        source: where the weights are from, for messages.
        allowed: whether to go on all the same.

    Raises:
        ValueError: if they differ; prints both lists.
    """
    if here is None or (saved is not None and comparable(saved) == comparable(here)):
        return
    if saved is None:
        rank_zero_warn(
            f"{source} does not say the names of its classes, so that they cannot be checked: they are taken for "
            f"{', '.join(here)}"
        )
        return
    problem = f"{source} was trained on the classes {', '.join(saved)}; the data here have {', '.join(here)}"
    if not allowed:
        raise UserError(f"{problem}. {_advice(len(saved) == len(here))}")
    rank_zero_warn(f"{problem}: going on, as `{OPTION}` is set")


def comparable(names: Sequence[str]) -> list[str]:
    """Names as they are compared: letters' case and blanks do not count, nor how an accent is encoded."""
    return [" ".join(unicodedata.normalize("NFC", name).casefold().split()) for name in names]


def _advice(same_number: bool) -> str:
    if not same_number:
        return "Use the data whose classes it was trained on, or train on these"
    return (
        "Give the data the names and the order of the weights, or, if they mean the same, go on with "
        f"--{OPTION} true (in Python: module.{OPTION} = True)"
    )
