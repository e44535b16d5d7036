"""Arguments of a command, the options that it accepts, and the place of a mistake."""

from argparse import ArgumentParser
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from weakseg_lightning.cli.errors.signatures import imported

__all__ = ["COMMANDS", "Arguments", "Finding", "Place"]

COMMANDS = ("fit", "validate", "test", "predict")


@dataclass
class Arguments:
    """Arguments of a command, and the options that it accepts.

    Args:
        given: the arguments.
        options: names of all options of the subcommand, as far as they are known.
        types: their types, those of the classes' own options left out: ``{"model": WeakSegModule | None, ...}``.
        subcommands: names of the commands that are functions.
        images: images to predict that stand among the arguments.
    """

    given: list[str]
    options: list[str] = field(default_factory=list)
    types: dict[str, Any] = field(default_factory=dict)
    subcommands: Collection[str] = ()
    images: list[str] = field(default_factory=list)

    def learn(self, parser: ArgumentParser) -> None:
        """Note the options of a parser and their types."""
        names = (name for action in parser._actions for name in action.option_strings)
        self.options = [name.removeprefix("--") for name in names if name.startswith("--") and "+" not in name]
        typed = {action.dest: getattr(action, "_typehint", None) for action in parser._actions}
        self.types = {name: kind for name, kind in typed.items() if kind is not None and not name.endswith(".help")}

    @property
    def takes_recipes(self) -> bool:
        """True if the command trains or evaluates, as the recipes say, and is no function."""
        return self.given[:1] != [] and self.given[0] in COMMANDS


@dataclass
class Place:
    """The place of a mistake in the configuration.

    Args:
        names: what encloses it, as a user would call it: ``["ADMModule", "AlphaExpansion"]``.
        owner: import path of the innermost class, empty at the top.
        key: name of the argument there, if the parser told it.
        wanted: import path that was given as its value, where there is no such class.
    """

    names: list[str]
    owner: str
    key: str
    wanted: str = ""

    @property
    def cls(self) -> type | None:
        """The innermost class."""
        return imported(self.owner) if self.owner else None


@dataclass
class Finding:
    """The message, what to look for in the recipes, and one more name on the way down."""

    message: str
    key: str = ""
    value: str = ""
    group: str = ""
