"""Where callbacks write, and how."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning.pytorch import Trainer


def run_folder(trainer: Trainer) -> Path:
    """Folder of the run, to be asked for on every rank: that of a logger is broadcast."""
    return Path(trainer.log_dir or trainer.default_root_dir)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write to a file next to ``path``, then put it in its place: no reader and no other rank meets half a file."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield unfinished
        unfinished.replace(path)
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        unfinished.unlink(missing_ok=True)
