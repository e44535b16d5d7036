"""Errors as a user reads them: one or two lines that name the innermost cause."""

import argparse
import pickle
import re
from collections.abc import Iterable, Iterator
from dataclasses import is_dataclass
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent
from types import TracebackType

from weakseg_lightning.cli.errors.cases import explain_argument
from weakseg_lightning.cli.errors.given import Arguments, Place
from weakseg_lightning.cli.errors.settings import explain_setting
from weakseg_lightning.cli.errors.signatures import imported

_PACKAGE = Path(__file__).resolve().parents[2]
_FOREIGN = ("weakseg_lightning.cli", "lightning", "jsonargparse", "argparse", "torch")
# What jsonargparse wraps around the cause, on its way up from the innermost argument.
_WRAPPERS = (
    "- Expected a path but",
    "Does not validate against any of",
    "Problem with given class_path",
    "Call to compute_fn of link",
)
_TELLING = ("Problem with given class_path", "Expected a dot import path string")
_PARSER_KEY = re.compile(r'^Parser key "([^"]+)"(?: element \d+)?:')
_CLASS_PATH = re.compile(r"^Problem with given class_path '([^']+)'")
_WORKER_MESSAGE = re.compile(r"^[\w.]*(?:Error|Exception|Interrupt|Exit): ", re.MULTILINE)
_TRACEBACK_FILE = re.compile(r'^\s*File "([^"]+)", line', re.MULTILINE)


def explain(error: Exception, arguments: Arguments, *, started: bool) -> str | None:
    """Say what a user did wrong.

    Args:
        error: the exception that ended the command.
        arguments: what the command was given and what it accepts.
        started: whether the first batch had been reached: from then on only the package's own complaints about its
            input and Lightning's about its settings are a user's errors, before that all bad values and missing files.

    Returns:
        One or two lines, or None for an internal error, which deserves its traceback.
    """
    if isinstance(error, argparse.ArgumentError):
        messages = list(_messages(error))
        innermost = next((text for text in messages if not _wraps(text)), messages[-1])
        return explain_argument(_PARSER_KEY.sub("", innermost).strip(), _place(messages), arguments)
    cause = _unwrapped(error)
    ours = _raised_in(_PACKAGE, cause)
    of_users = ours and isinstance(cause, ValueError | OSError) if started else _of_users(cause)
    if not of_users and type(cause).__name__ != "MisconfigurationException":
        return None
    text = _own_text(cause)
    if not ours:
        text = f"{explain_setting(text) or ' '.join(text.split())} (WEAKSEG_TRACEBACK=1 shows where)"
    return ": ".join([*_classes_under_construction(cause), text])


def _unwrapped(error: BaseException) -> BaseException:
    """The first exception of the chain that says more than where the next one happened."""
    while error.__cause__ is not None and _wraps(str(error)):
        error = error.__cause__
    return error


def _wraps(text: str) -> bool:
    return text.lstrip().startswith(_WRAPPERS) or _PARSER_KEY.match(text) is not None


# ---- what the parser says -----------------------------------------------------------------------------------


def _messages(error: BaseException) -> Iterator[str]:
    """What the exceptions of a chain say, from the outermost on."""
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
    """What the parser found where a value can be of several types; None if the chain goes on with that itself."""
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
    """Where in the configuration: names on the way down, import path of the last class, name of its argument."""
    place = Place([], "", "")
    for text in messages:
        first_line = text.split("\n", 1)[0]
        if match := _PARSER_KEY.match(first_line):
            place.key = match[1]
        elif (match := _CLASS_PATH.match(first_line)) and match[1] != place.owner:
            cls = imported(match[1])
            if cls is None:
                place.wanted = match[1]
                continue
            # Of several equal parts (the optimizers' settings) the argument says which, not the class.
            place.names.append(place.key if is_dataclass(cls) else cls.__name__)
            place.owner, place.key = match[1], ""
    return place


# ---- where it happened --------------------------------------------------------------------------------------


def _own_text(error: BaseException) -> str:
    """The message, without what a worker process or jsonargparse's KeyError puts around it."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if _is_from_worker(text) and (starts := list(_WORKER_MESSAGE.finditer(text))):
        text = text[starts[-1].end() :]
    return text.strip() or type(error).__name__


def _is_from_worker(text: str) -> bool:
    return text.startswith("Caught ") and "Original Traceback" in text


def _of_users(error: BaseException) -> bool:
    """Whether an error before the first batch is of the user's making: values, files, modules, trainer settings."""
    if isinstance(error, ValueError | OSError | ImportError | pickle.UnpicklingError):
        return True
    lightning = find_spec("lightning")
    folder = Path(lightning.origin).parent if lightning and lightning.origin else _PACKAGE
    return isinstance(error, TypeError) and _raised_in(folder, error)


def _raised_in(folder: Path, error: BaseException) -> bool:
    """Whether the exception was raised by a statement in this folder, not by a library that one called."""
    if _is_from_worker(text := str(error)):
        files = _TRACEBACK_FILE.findall(text)
        return bool(files) and Path(files[-1]).is_relative_to(folder)
    innermost = error.__traceback__
    if innermost is None:
        return False
    while innermost.tb_next is not None:
        innermost = innermost.tb_next
    return Path(innermost.tb_frame.f_code.co_filename).is_relative_to(folder)


def _classes_under_construction(error: BaseException) -> list[str]:
    """`["ADMModule > AlphaExpansion"]` if their constructors were running, `[]` if none was."""
    names: dict[int, str] = {}
    frame: TracebackType | None = error.__traceback__
    while frame is not None:
        built = frame.tb_frame.f_locals.get("self")
        constructing = frame.tb_frame.f_code.co_name in {"__init__", "__post_init__"} and built is not None
        if constructing and not type(built).__module__.startswith(_FOREIGN):
            names[id(built)] = type(built).__name__
        frame = frame.tb_next
    return [" > ".join(names.values())] if names else []
