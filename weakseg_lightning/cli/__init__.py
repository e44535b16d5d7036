"""The `weakseg` command."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from weakseg_lightning import __version__
from weakseg_lightning.cli.recipes import check_configs, known_recipes, place_configs
from weakseg_lightning.cli.subcommands import SUBCOMMANDS, find_subcommand, group_help, run_subcommand, subcommand_lines
from weakseg_lightning.errors import raise_as_users

__all__ = ["main"]

HELP = """\
usage: weakseg COMMAND [--config RECIPE] [--config OVERLAY] [--OPTION VALUE]

Weakly supervised semantic segmentation with strong latent solvers.

  fit        train; the results go to runs/<name>/version_<n>/
  validate   evaluate on the validation images
  test       evaluate a checkpoint on the test images
  predict    write the labels of a checkpoint's network as images; of IMAGES, if files or folders are named
{subcommands}
  weakseg fit --config recipes/adm/adm_grid.yaml --config recipes/data/scenes.yaml
  weakseg test --config runs/<name>/version_0/config.yaml --ckpt_path FILE
  weakseg fit --help                              all options
  weakseg fit --model.help ADMModule              the options of a class
  weakseg fit --config RECIPE --print_config      what would run

A later --config overrides an earlier one, and the command line overrides both.
Recipes, those of methods also without their folder: {recipes}
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the `weakseg` command.

    Args:
        argv: its arguments; those of the process by default.

    Returns:
        The exit status: 0, 1 if a subcommand could not do all it should, 2 after an error of the user's, 130 after an
        interruption, 141 where nobody reads what it prints any more, as after ``weakseg check DATA | head``.

    Raises:
        Exception: an internal error, with its traceback; any error if ``WEAKSEG_TRACEBACK=1``.
    """
    try:
        try:
            return _main(list(sys.argv[1:] if argv is None else argv))
        finally:
            print(end="", flush=True)  # also where standard output is closed, and None
    except KeyboardInterrupt:
        print("weakseg: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        if _is_read():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python still writes when it ends
        return 141


def _main(args: list[str]) -> int:
    if "--version" in args[:2]:
        print(f"weakseg {__version__}")
        return 0
    if not args or args[0] in {"-h", "--help", "help"}:
        lines = subcommand_lines()
        listed = f"\n{lines}" if lines else ""
        print(HELP.format(recipes=", ".join(known_recipes()), subcommands=listed), end="")
        return 0
    if (text := group_help(args)) is not None:
        print(text, end="")
        return 0
    # Last, so that a file of the user's cannot shadow a module of the standard library.
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    return _run(args)


def _run(args: list[str]) -> int:
    # Only now, since --version and --help need no torch.
    from weakseg_lightning.cli.errors.given import Arguments

    arguments = Arguments(args, subcommands=SUBCOMMANDS)
    started = False
    try:
        if (found := find_subcommand(args)) is not None:
            return run_subcommand(found, arguments)
        from weakseg_lightning.cli.command import WeakSegCLI
        from weakseg_lightning.cli.commands.predict.files import split_images
        from weakseg_lightning.cli.runs import BatchReached

        with raise_as_users():
            if args[0] == "predict":
                args, arguments.images = split_images(args)
            arguments.given = place_configs(args)
            check_configs(arguments.given)
        callback = BatchReached()
        try:
            return WeakSegCLI(arguments, callback).status
        except BaseException:
            started = callback.yes
            callback.undo()
            raise
    except Exception as error:
        if isinstance(error, BrokenPipeError) and not _is_read():
            raise
        from weakseg_lightning.cli.errors.explain import explain  # not before: it loads all of Lightning

        message = explain(error, arguments, started=started)
        if message is None or os.environ.get("WEAKSEG_TRACEBACK", "0") not in {"", "0"}:
            raise
        print(f"weakseg: error: {message}", file=sys.stderr)
        return 2


def _is_read() -> bool:
    """Tell whether anybody still reads what is printed, by an empty line."""
    try:
        print(flush=True)
    except BrokenPipeError:
        return False
    return True
