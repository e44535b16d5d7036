"""Files and folders that users name: those that must be there, those that must not be replaced, and in commands."""

import os
from pathlib import Path
from shlex import quote

from weakseg_lightning.errors import FileError, MissingFileError


def existing_folder(folder: Path, argument: str = "data") -> Path:
    """Require a folder to exist.

    Args:
        folder: the folder.
        argument: the option that names it.

    Returns:
        Its absolute path.

    Raises:
        MissingFileError: if there is none.
    """
    found = folder.expanduser().absolute()
    if not found.is_dir():
        raise MissingFileError(f"`{argument}`: there is no folder {folder} (working directory: {Path.cwd()})")
    return found


def file_of_run(path: Path, argument: str = "run", named: str = "the folder of a run") -> Path:
    """Require a file that a run writes to exist, see :func:`existing_folder`."""
    if not path.is_file():
        raise MissingFileError(f"`{argument}`: no file {path} (working directory: {Path.cwd()}): name {named}")
    return path


def require_new(path: Path, overwrite: bool) -> None:
    """Raise :class:`FileError` if a file is there that may not be replaced."""
    if path.exists() and not overwrite:
        raise FileError(f"{path} is there already: choose another `output`, or replace it with --overwrite")


def options(**values: object) -> str:
    """Options as one would append them to a command, without those that were not given."""
    return "".join(f" --{name} {quote(str(value))}" for name, value in values.items() if value is not None)


def shown(path: Path) -> str:
    """A path as one would type it."""
    return os.path.relpath(path) if path.absolute().is_relative_to(Path.cwd()) else str(path)
