"""Files that are written whole, or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path, durable: bool = False) -> Iterator[Path]:
    """Write to a file next to ``path``, then put it in its place: no reader and no other process meets half a file.

    Args:
        path: the file to write or replace; where it is a link, what it leads to.
        durable: wait until the content is on the disk, so that not even a power cut leaves half of it.

    Yields:
        The file to write to.

    Raises:
        OSError: if the file cannot be written; names it.
    """
    path = path.resolve()
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield unfinished
        if durable:
            with unfinished.open("rb+") as stream:
                os.fsync(stream.fileno())
        unfinished.replace(path)
    except OSError as error:
        if error.filename not in (None, str(unfinished)):
            raise  # of another file, read meanwhile
        raise OSError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        unfinished.unlink(missing_ok=True)
