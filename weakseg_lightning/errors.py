"""Errors that users can mend: the command says them in one line, and leaves others their traceback."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches

_LISTED = 15


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


def did_you_mean(word: str, known: Iterable[str], *, listed: bool = True) -> str:
    """Suggest the closest known word.

    Args:
        word: the wrong word.
        known: the right ones.
        listed: whether to name them all if none is close, as far as they are few.

    Returns:
        The end of a sentence, possibly empty.

    Example:
        >>> did_you_mean("max_sweps", ["max_sweeps", "start"])
        '; did you mean `max_sweeps`?'
    """
    known = list(known)
    if (close := closest(word, known)) is not None:
        return f"; did you mean `{close}`?"
    return f" (there are {', '.join(known)})" if listed and 0 < len(known) <= _LISTED else ""


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that looks most like another one, or holds it; None if none does. Case does not count."""
    folded = {name.casefold(): name for name in known}
    # Of two letters in the wrong order the half agree.
    close = get_close_matches(word.casefold(), folded, 1, 0.6 if len(word) > 3 else 0.5)
    longer = sorted((name for name in folded if len(word) > 2 and word.casefold() in name), key=len)
    return next((folded[name] for name in [*close, *longer]), None)


def first_of(texts: Sequence[str], most: int, separator: str = "; ", of: int | None = None) -> str:
    """Name the first of many, and say how many more there are.

    Args:
        texts: what there is.
        most: how many to name.
        separator: stands between them.
        of: how many there are, where ``texts`` are the first ones alone.

    Example:
        >>> first_of(["a.png", "b.png", "c.png"], 2, ", ")
        'a.png, b.png, and 1 more'
    """
    more = (len(texts) if of is None else of) - most
    return separator.join([*texts[:most], *([f"and {more} more"] if more > 0 else [])])
