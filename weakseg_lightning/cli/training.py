"""The process in which `weakseg paint` trains: `weakseg init`, but for recipes of the users', then `weakseg fit`."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from shlex import quote

import yaml

from weakseg_lightning.cli import main as weakseg
from weakseg_lightning.cli.commands.places import shown
from weakseg_lightning.data.folder.recipe import is_users_own, remember_as_written, runs_of
from weakseg_lightning.files import replacing

__all__ = ["main"]

# Workers that load data hold the lock of a process that was killed until they notice, which takes them five seconds.
_WAIT_FOR_LOCK = 10.0
_OF_INIT = ("--channels=", "--guide=")


def main(arguments: Sequence[str]) -> int:
    """Train in the working directory, unless another such process does.

    Args:
        arguments: the folder with the images, the recipe, the encoder's weights for `weakseg init`, its `--channels=`
            and `--guide=` if the images have any, and options for `weakseg fit`.

    Returns:
        The exit status of the command that failed, or 0.
    """
    from filelock import FileLock, Timeout

    data, recipe, weights, *given = arguments
    of_init = [word for word in given if word.startswith(_OF_INIT)]
    options = given[len(of_init) :]
    if "LOCAL_RANK" in os.environ:  # by this very command Lightning starts the ranks of further devices
        return _fit(recipe, options)
    runs = runs_of(Path(recipe))
    runs.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(runs / "training.lock", timeout=_WAIT_FOR_LOCK):
            with replacing(runs / "training.pid") as unfinished:  # another process may read it at any moment
                unfinished.write_text(str(os.getpid()))
            if hasattr(os, "nice"):
                os.nice(5)  # the page that is being painted on comes first
            return _make_recipe(Path(data), Path(recipe), weights, of_init) or _fit(recipe, options)
    except Timeout:
        other = (runs / "training.pid").read_text()
        return _fail(f"{recipe} is being trained already: wait for its end, or end it with `kill {other}`")


def _make_recipe(data: Path, recipe: Path, weights: str, options: Sequence[str]) -> int:
    """Write the recipe, again where nobody has changed it: annotations may be of other kinds since, images larger."""
    if recipe.is_file() and (root := _root_in(recipe)) is not None and root.resolve() != data.resolve():
        return _fail(f"{recipe} is the recipe of another folder ({root}): rename it, or work in another directory")
    if is_users_own(recipe):
        return 0
    status = weakseg(
        ["init", shown(data), "--output", str(recipe), "--encoder_weights", weights, "--overwrite", *options]
    )
    if status in (0, 1):
        remember_as_written(recipe)
    if status == 1:
        return _fail(f"problems in {data} would stop training: `weakseg check {quote(shown(data))}` lists them")
    return status


def _root_in(recipe: Path) -> Path | None:
    """The folder that a recipe names; None where it is no such recipe, of which `weakseg fit` says what is wrong."""
    try:
        return Path(yaml.safe_load(recipe.read_text(encoding="utf-8"))["data"]["init_args"]["root"]).expanduser()
    except (KeyError, TypeError, ValueError, yaml.YAMLError):
        return None


def _fit(recipe: str, options: Sequence[str]) -> int:
    name = ["--name", Path(recipe).stem, "--trainer.default_root_dir", "runs"]  # where the page looks for the run
    return weakseg(["fit", "--config", recipe, *name, *options])


def _fail(text: str) -> int:
    print(f"weakseg: error: {text}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
