"""The checkpoint that a command reads."""

import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

from weakseg_lightning.callbacks.checkpoints import PREVIOUS
from weakseg_lightning.errors import MissingFileError, UserError
from weakseg_lightning.modules.core.resuming import read_checkpoint


def find_checkpoint(command: str, path: str | None, root: Path, configs: Sequence[Path] = ()) -> str | None:
    """Find the checkpoint that the user means, before anything is built.

    Args:
        command: ``fit``, ``validate``, ``test`` or ``predict``.
        path: what ``--ckpt_path`` says.
        root: folder of all runs, to suggest from.
        configs: files of `--config`, whose own runs are suggested from first.

    Returns:
        The checkpoint to read: the path itself, or the one before it where a ``last.ckpt`` is damaged (warns).

    Raises:
        UserError: if the command needs a checkpoint and has none, or one that cannot be read.
        MissingFileError: if the file does not exist.
    """
    own = [*([Path(path).parent] if path else []), *(config.parent / "checkpoints" for config in configs)]
    hint = _suggestion(own, root)
    if path is None:
        if command in {"test", "predict"}:
            raise UserError(f"`weakseg {command}` needs a trained network: add --ckpt_path FILE{hint}")
        return None
    if path in {"best", "last"}:
        raise UserError(f"`--ckpt_path {path}` names no file, and a new process has no {path} checkpoint yet{hint}")
    if path == "hpc" or "://" in path or path.startswith("registry:") or Path(path).is_dir():  # folders are sharded
        return path
    return _readable(Path(path), hint)


def _readable(path: Path, hint: str) -> str:
    """The checkpoint, or the one before it where a crash left a ``last.ckpt`` broken or between two names."""
    try:
        if not path.exists():
            raise MissingFileError(f"no checkpoint `{path}` (looked in {path.resolve().parent}){hint}")
        read_checkpoint(path)
    except (FileNotFoundError, ValueError) as error:
        previous = path.with_name(PREVIOUS)
        if path.name != "last.ckpt" or not previous.is_file():
            raise
        read_checkpoint(previous)
        warnings.warn(f"{error}: going on from the checkpoint before it, `{previous}`", stacklevel=2)
        return str(previous)
    return str(path)


def _suggestion(own: Sequence[Path], root: Path) -> str:
    """The newest checkpoint in the first of some folders that has one, else the newest of all runs."""
    for folder in own:
        if (newest := _newest(folder.glob("*.ckpt"))) is not None:
            return f"; the newest of this run is {newest}"
    newest = _newest(root.glob("*/*/checkpoints/*.ckpt"))
    return f"; the newest of all runs is {newest}" if newest else ""


def _newest(found: Iterable[Path]) -> Path | None:
    return max(found, key=lambda path: path.stat().st_mtime, default=None)
