"""Files that are written whole, or not at all."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from weakseg_lightning.errors import FileError

_CANNOT_RESERVE = (errno.EINVAL, errno.EOPNOTSUPP)  # file systems without that operation


@contextmanager
def replacing(path: Path, durable: bool = False) -> Iterator[Path]:
    """Write to a file next to ``path``, then put it in its place: no reader and no other process meets half a file.

    Args:
        path: the file to write or replace; where it is a link, what it leads to.
        durable: wait until the content is on the disk, so that not even a power cut leaves half of it.

    Yields:
        The file to write to.

    Raises:
        FileError: if the file cannot be written; names it.
    """
    path = path.resolve()
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield unfinished
        if durable:
            with unfinished.open("rb+") as stream:
                os.fsync(stream.fileno())
        unfinished.replace(path)
    except FileError:
        raise  # it says all
    except OSError as error:
        if error.filename not in (None, str(unfinished)):
            raise  # of another file, read meanwhile
        raise FileError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def reserve(file: IO[Any]) -> None:
    """Take the room on the disk that the size of a file promises, before it is written to as memory.

    Where the disk is full, writing to the memory would end the process without a message.

    Raises:
        OSError: if there is no room.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
    except OSError as error:
        if error.errno not in _CANNOT_RESERVE:
            raise
