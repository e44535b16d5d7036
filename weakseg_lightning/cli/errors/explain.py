"""Errors as a user reads them: one or two lines that name the innermost cause."""

import argparse
import pickle
import re
from collections.abc import Iterable, Iterator
from textwrap import dedent

from lightning.fabric.utilities.exceptions import MisconfigurationException

from weakseg_lightning.cli.errors.cases import explain_argument
from weakseg_lightning.cli.errors.given import Arguments, Place
from weakseg_lightning.cli.errors.settings import explain_setting
from weakseg_lightning.cli.errors.signatures import imported, is_group
from weakseg_lightning.errors import UserError

# Before the first batch: values, files, modules. Later they are as likely an error of the program.
_BEFORE_TRAINING = (ValueError, OSError, ImportError, pickle.UnpicklingError)
# What jsonargparse wraps around the cause, on its way up from the innermost argument.
_WRAPPERS = (
    "- Expected a path but",
    "Does not validate against any of",
    "Problem with given class_path",
    "Call to compute_fn of link",
)
_TELLING = ("Problem with given class_path", "Expected a dot import path string")
_PARSER_KEY = re.compile(r'^(?:Parser key "([^"]+)"(?: element \d+)?|--([\w.]+)\.help):')
_CLASS_PATH = re.compile(r"^Problem with given class_path '([^']+)'")
_WORKER_MESSAGE = re.compile(r"^[\w.]*(?:Error|Exception|Interrupt|Exit): ", re.MULTILINE)


def explain(error: Exception, arguments: Arguments, *, started: bool) -> str | None:
    """Say what a user did wrong.

    While arguments are parsed this is whatever the parser says; while objects are built, all bad values and missing
    files; from the first batch on, only what the package raises as :class:`UserError`, and what Lightning says of its
    settings.

    Args:
        error: the exception that ended the command.
        arguments: what the command was given and what it accepts.
        started: whether the first batch had been reached.

    Returns:
        One or two lines, or None for an internal error, which deserves its traceback.
    """
    if isinstance(error, argparse.ArgumentError):
        messages = list(_messages(error))
        innermost = next((text for text in messages if not _wraps(text)), messages[-1])
        return explain_argument(_PARSER_KEY.sub("", innermost).strip(), _place(messages), arguments)
    cause = _unwrapped(error)
    text = _own_text(cause)
    if isinstance(cause, UserError):
        return text
    if not isinstance(cause, MisconfigurationException) and (started or not isinstance(cause, _BEFORE_TRAINING)):
        return None
    return f"{explain_setting(text) or ' '.join(text.split())} (WEAKSEG_TRACEBACK=1 shows where)"


def _unwrapped(error: BaseException) -> BaseException:
    """The first exception of the chain that says more than where the next one happened."""
    while error.__cause__ is not None and _wraps(str(error)):
        error = error.__cause__
    return error


def _wraps(text: str) -> bool:
    return text.lstrip().startswith(_WRAPPERS) or _PARSER_KEY.match(text) is not None


# ---- what the parser says -----------------------------------------------------------------------------------


def _messages(error: BaseException) -> Iterator[str]:
    """Messages of the exceptions of a chain, from the outermost on."""
    link: BaseException | None = error
    while link is not None:
        text = _own_text(link)
        if text.startswith("Config file loop detected") and link.__context__ is not None:
            # The parser has found the content of the file wrong, and then tried its name as a value.
            before = list(_messages(link.__context__))
            if any(message.startswith(_TELLING) for message in before):
                yield from before
                return
        yield text
        if (told := _most_telling(text)) is not None:
            yield from _unfolded(told)
            return
        link = link.__cause__


def _most_telling(text: str) -> str | None:
    """The parser's finding where a value can be of several types; None if the chain goes on with that itself."""
    if not text.startswith("Does not validate against any of"):
        return None
    found = [dedent(f"    {part}") for part in re.split(r"\n  - ", text.split("\nGiven value type:")[0])[1:]]
    at = next((i for i, part in enumerate(found) if part.startswith(_TELLING)), 0)
    return found[at] if at > 0 else None


def _unfolded(text: str) -> Iterator[str]:
    """A message and those within it, each by itself."""
    first, _, inner = text.partition("\n")
    yield first if _wraps(first) else text
    if _wraps(first):
        yield from _unfolded(dedent(inner))


def _place(messages: Iterable[str]) -> Place:
    """The place in the configuration: names on the way down, import path of the last class, name of its argument."""
    place = Place([], "", "")
    for text in messages:
        first_line = text.split("\n", 1)[0]
        if match := _PARSER_KEY.match(first_line):
            place.key = match[1] or match[2]
        elif (match := _CLASS_PATH.match(first_line)) and match[1] != place.owner:
            cls = imported(match[1])
            if cls is None:
                place.wanted = match[1]
                continue
            # Of several equal parts (the optimizers' settings) the argument says which, not the class.
            place.names.append(place.key if is_group(cls) else cls.__name__)
            place.owner, place.key = match[1], ""
    return place


# ---- its own words -------------------------------------------------------------------------------------------


def _own_text(error: BaseException) -> str:
    """The message, without what a worker process or jsonargparse's KeyError puts around it."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if text.startswith("Caught ") and (starts := list(_WORKER_MESSAGE.finditer(text))):
        text = text[starts[-1].end() :]
    return text.strip() or type(error).__name__
