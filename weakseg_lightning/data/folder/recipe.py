"""The recipe of a folder of users' images: its name, its runs, and who wrote it."""

import re
from pathlib import Path

from weakseg_lightning.files import replacing

__all__ = ["is_users_own", "recipe_of", "remember_as_written", "runs_of"]


def recipe_of(folder: Path) -> Path:
    """Name the recipe that `weakseg init` writes for a folder, in the working directory."""
    return Path(re.sub(r"[^\w.-]+", "_", folder.name) + ".yaml")


def runs_of(recipe: Path) -> Path:
    """Name the folder of the runs by a recipe: runs/NAME beside it."""
    return recipe.parent / "runs" / recipe.stem


def remember_as_written(recipe: Path) -> None:
    """Remember a recipe that `weakseg init` has written, to tell later if the users have changed it."""
    with replacing(_written(recipe)) as unfinished:
        unfinished.write_bytes(recipe.read_bytes())


def is_users_own(recipe: Path) -> bool:
    """True where a recipe is there that is not as it was remembered."""
    if not recipe.is_file():
        return False
    written = _written(recipe)
    return not written.is_file() or written.read_bytes() != recipe.read_bytes()


def _written(recipe: Path) -> Path:
    return runs_of(recipe) / "recipe_of_init.yaml"
