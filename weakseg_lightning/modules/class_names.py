"""The names of the classes belong to the weights: other data must have the same ones, in the same order."""

from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

__all__ = ["OPTION", "names_in", "require_same_classes", "write_names"]

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
    """Refuse weights that were trained on classes of other names, or in another order.

    Letters' case and blanks do not count. Where the checkpoint does not say its names, a warning does.

    Args:
        saved: names in the checkpoint.
        here: names of the data; None where they are not known.
        source: the checkpoint, for messages.
        allowed: whether to go on all the same.

    Raises:
        ValueError: if they differ; prints both lists.
    """
    if here is None or allowed:
        return
    if saved is None:
        rank_zero_warn(f"{source} does not say the names of its classes: they are taken for {', '.join(here)}")
    elif list(map(_normal, saved)) != list(map(_normal, here)):
        raise ValueError(
            f"{source} was trained on the classes {', '.join(saved)}; the data here have {', '.join(here)}. Give them "
            f"the names and the order of the checkpoint, or, if they mean the same, go on with --{OPTION} true"
        )


def _normal(name: str) -> str:
    return " ".join(name.split()).casefold()
