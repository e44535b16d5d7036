"""Errors that users can mend: the command says them in one line, and leaves others their traceback."""

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """An error that users can mend; the message names what is wrong, where, and the remedy."""


class FileError(UserError, OSError):
    """A file or folder of the users that cannot be used, or for which there is no room."""


class MissingFileError(FileError, FileNotFoundError):
    """A file or folder that users named and that does not exist."""


@contextmanager
def raise_as_users(name: str = "") -> Iterator[None]:
    """Raise bad values, missing files and missing packages found within as errors of the user's.

    What the operating system says of a file, and Python of a module, is passed on as it is: it tells neither which
    option named them, nor what to do.

    Args:
        name: what is being built, to begin the message with.

    Raises:
        UserError: from the ``ValueError``, ``OSError`` or ``ImportError`` raised within.
    """
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        of_system = getattr(error, "errno", None) is not None or getattr(error, "name", None) is not None
        if of_system or (isinstance(error, UserError) and not name):
            raise
        raise UserError(f"{name}: {error}" if name else str(error)) from error
