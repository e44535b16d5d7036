"""Commands besides training and evaluation: plain functions that run from the command line.

To add one, write a function whose arguments are typed and documented, and enter it in :data:`SUBCOMMANDS`: arguments
become options (none may be called ``config``, which is the file of options), its docstring their help; a number that it
returns is the exit status. What users can mend it raises as ``UserError``, which ends in one line.
"""

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import takewhile
from pathlib import Path
from typing import Any, get_args, get_origin

from weakseg_lightning.cli.errors.given import Arguments
from weakseg_lightning.cli.recipes import check_configs, place_configs, recipes_folder
from weakseg_lightning.errors import MissingFileError, UserError, did_you_mean, raise_as_users

__all__ = ["SUBCOMMANDS", "Subcommand", "find_subcommand", "group_help", "run_subcommand", "subcommand_lines"]


@dataclass(frozen=True)
class Subcommand:
    """A function that is a command.

    Attributes:
        path: import path of the function, imported only when the command is run.
        summary: what it does, for ``weakseg --help``.
        first: the argument that a word without an option gives, as DATA in ``weakseg check DATA``.
    """

    path: str
    summary: str
    first: str = ""


SUBCOMMANDS: dict[str, Subcommand] = {
    "check": Subcommand(
        "weakseg_lightning.cli.commands.check.check",
        "read a folder of your own images and name what is wrong",
        first="data",
    ),
    "crf-search": Subcommand(
        "weakseg_lightning.cli.commands.crf.search.crf_search",
        "find a dense CRF's parameters on some validation images",
    ),
    "experiment ccnn-bounds": Subcommand(
        "weakseg_lightning.cli.commands.experiment.ccnn_bounds.ccnn_bounds",
        "train constrained CNNs with each bound changed in turn",
    ),
    "experiment grid-energy": Subcommand(
        "weakseg_lightning.cli.commands.experiment.grid_energy.grid_energy",
        "compare runs by the grid CRF's energy of their labels",
    ),
    "experiment label-noise": Subcommand(
        "weakseg_lightning.cli.commands.experiment.label_noise.label_noise",
        "accuracy under wrong labels, with the robust loss at several eps",
    ),
    "experiment sample-grid": Subcommand(
        "weakseg_lightning.cli.commands.experiment.sample_grid.sample_grid",
        "draw what a network labels in images with and without a class",
    ),
    "export": Subcommand(
        "weakseg_lightning.cli.commands.export.export",
        "write a trained network as ONNX or torch.export file",
        first="ckpt_path",
    ),
    "init": Subcommand(
        "weakseg_lightning.cli.commands.init.command.init",
        "write a recipe for a folder of your own images",
        first="data",
    ),
    "paint": Subcommand(
        "weakseg_lightning.cli.commands.paint.paint", "draw scribbles, clicks and tags on your own images", first="data"
    ),
    "report": Subcommand("weakseg_lightning.cli.commands.report.report", "make one page of HTML of a run", first="run"),
    "scribbles convert": Subcommand(
        "weakseg_lightning.cli.commands.scribbles.convert", "draw the XML scribbles of ScribbleSup as PNG"
    ),
    "scribbles shorten": Subcommand(
        "weakseg_lightning.cli.commands.scribbles.shorten", "shorten scribbles, XML or PNG"
    ),
    "scribbles simulate": Subcommand(
        "weakseg_lightning.cli.commands.scribbles.simulate", "make scribbles from full masks"
    ),
    "superpixels": Subcommand(
        "weakseg_lightning.cli.commands.superpixels.superpixels",
        "divide your own images into regions, for edges from maps",
        first="data",
    ),
    "voc-submission": Subcommand(
        "weakseg_lightning.cli.commands.voc_submission.voc_submission", "pack predictions for VOC's evaluation server"
    ),
}
"""The subcommands by name: one word, or two where several belong together (``weakseg scribbles shorten``)."""


def find_subcommand(args: Sequence[str]) -> str | None:
    """Find which subcommand is meant.

    Args:
        args: arguments of the command.

    Returns:
        Its name, None if none is meant.

    Raises:
        UserError: if the first word is that of subcommands, the second of none.
    """
    names = [" ".join(args[:2]), args[0]]
    if (found := next((name for name in names if name in SUBCOMMANDS), None)) is not None:
        return found
    if not (group := _group(args[0])):
        return None
    if len(args) < 2 or args[1].startswith("-"):
        raise UserError(f"`weakseg {args[0]}` needs to know what to do: one of {', '.join(group)}")
    raise UserError(f"`{names[0]}` is not a command{did_you_mean(names[0], group)}")


def subcommand_lines(first: str = "") -> str:
    """List the subcommands for a help text, all or those that begin with a word."""
    chosen = {
        name: subcommand.summary for name, subcommand in SUBCOMMANDS.items() if not first or name.split()[0] == first
    }
    width = max(map(len, chosen), default=0)
    return "".join(f"  {name:{width}}  {summary}\n" for name, summary in chosen.items())


def group_help(args: Sequence[str]) -> str | None:
    """Answer `weakseg scribbles` and `weakseg scribbles --help`; None for other arguments."""
    if not _group(args[0]) or args[0] in SUBCOMMANDS or not set(args[1:]) <= {"-h", "--help", "help"}:
        return None
    choices = ",".join(name.split()[1] for name in _group(args[0]))
    usage = f"usage: weakseg {args[0]} {{{choices}}} [--config FILE] [--OPTION VALUE]"
    return f"{usage}\n\n{subcommand_lines(args[0])}\n  weakseg {args[0]} NAME --help    its options\n"


def run_subcommand(name: str, arguments: Arguments) -> int:
    """Run a subcommand.

    Args:
        name: its name.
        arguments: what the command was given; what it accepts is added, for error messages.

    Returns:
        The exit status.

    Raises:
        ArgumentError: if an argument is wrong.
    """
    from jsonargparse import auto_cli, auto_parser
    from jsonargparse.typing import register_type

    register_type(Path, str, _path, type_check=isinstance)
    function = _function(SUBCOMMANDS[name].path)
    options: dict[str, Any] = {
        "as_positional": False,
        "prog": f"weakseg {name} {SUBCOMMANDS[name].first.upper()}".strip(),
        "description": _description(function),
        "exit_on_error": False,
        "allow_abbrev": False,
    }
    arguments.learn(auto_parser(function, **options))
    words = _spelt_out(_named(arguments.given[len(name.split()) :], SUBCOMMANDS[name].first), arguments.types)
    with raise_as_users():
        arguments.given = place_configs([name, *words], find=_existing)
        check_configs(arguments.given, parts=False)
        status = auto_cli(function, args=arguments.given[1:], **options)
    return status if isinstance(status, int) else 0


def _path(text: str) -> Path:
    """A path; an empty text, as an unset variable of the shell leaves, is none."""
    if not text:
        raise ValueError("Expected a Path. Got value: ")
    return Path(text)


def _group(first: str) -> list[str]:
    """The subcommands of two words that begin with this one."""
    return [name for name in SUBCOMMANDS if name.startswith(f"{first} ")]


def _function(path: str) -> Callable[..., Any]:
    module, _, name = path.rpartition(".")
    function: Callable[..., Any] = getattr(import_module(module), name)
    return function


def _description(function: Callable[..., Any]) -> str:
    """The docstring up to its first section."""
    return (inspect.getdoc(function) or "").split("\n\nArgs:", 1)[0].strip()


def _existing(name: str) -> str:
    for path in (Path(name), recipes_folder() / Path(name).as_posix().removeprefix("recipes/")):
        if path.is_file():
            return str(path)
    raise MissingFileError(f"no file `{name}` (working directory: {Path.cwd()}): --config takes a YAML file of options")


def _named(words: Sequence[str], first: str) -> list[str]:
    """Write a first word that is no option as the value of its argument."""
    bare = first and words and not words[0].startswith("-")
    return [f"--{first}={words[0]}", *words[1:]] if bare else list(words)


def _spelt_out(words: Sequence[str], types: Mapping[str, Any]) -> list[str]:
    """Write `--overwrite` as `--overwrite=true` and `--lengths 0.5 0.3` as `--lengths=[0.5, 0.3]`, as the parser needs.

    A name may have dashes for its underscores.

    Args:
        words: options of the command.
        types: their types.
    """
    spelt: list[str] = []
    remaining = list(words)
    while remaining:
        word = _with_underscores(remaining.pop(0), types)
        expected = types.get(word.removeprefix("--")) if word.startswith("--") else None
        following = list(takewhile(lambda other: not other.startswith("--"), remaining))
        if expected is bool and not following:
            spelt.append(f"{word}=true")
        elif (element := _element_type(expected)) and following and not following[0].startswith(("[", "{")):
            values = following if element in (int, float) else map(json.dumps, following)
            spelt.append(f"{word}=[{', '.join(values)}]")
            del remaining[: len(following)]
        else:
            spelt.append(word)
    return spelt


def _with_underscores(word: str, types: Mapping[str, Any]) -> str:
    option, equals, value = word.partition("=")
    name = option.removeprefix("--").replace("-", "_")
    return f"--{name}{equals}{value}" if option.startswith("--") and name in types else word


def _element_type(expected: Any) -> Any:
    """`int` of `list[int]` and of `list[int] | None`, None of what is no list."""
    for option in (expected, *get_args(expected)):
        if get_origin(option) is list:
            return get_args(option)[0]
    return None
