"""Errors as a user reads them: one or two lines that name the innermost cause."""

import argparse
import pickle
import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

from weakseg_lightning.cli.arguments import Arguments, Place, explain_argument, imported

_PACKAGE = Path(__file__).resolve().parents[1]
_FOREIGN = ("weakseg_lightning.cli", "lightning", "jsonargparse", "argparse", "torch")
# What jsonargparse wraps around the cause, on its way up from the innermost argument.
_WRAPPERS = ("Does not validate against any of", "Problem with given class_path", "Call to compute_fn of link")
_PARSER_KEY = re.compile(r'^Parser key "([^"]+)"(?: element \d+)?:')
_CLASS_PATH = re.compile(r"^Problem with given class_path '([^']+)'")
_WORKER_MESSAGE = re.compile(r"^[\w.]*(?:Error|Exception|Interrupt|Exit): ", re.MULTILINE)
_TRACEBACK_FILE = re.compile(r'^\s*File "([^"]+)", line', re.MULTILINE)


def explain(error: Exception, arguments: Arguments, *, started: bool) -> str | None:
    """Say what a user did wrong.

    Args:
        error: the exception that ended the command.
        arguments: what the command was given and what it accepts.
        started: whether the first batch had been reached: from then on only the package's own
            complaints about its input are a user's errors, before that all bad values and missing files are.

    Returns:
        One or two lines, or None for an internal error, which deserves its traceback.
    """
    cause = _unwrapped(error)
    if isinstance(error, argparse.ArgumentError):
        place, owner, key = _place(error)
        return explain_argument(_own_text(cause), Place(place, owner, key), arguments)
    ours = _raised_in(_PACKAGE, cause)
    if not (_of_users(cause) if not started else ours and isinstance(cause, ValueError | OSError)):
        return None
    text = _own_text(cause)
    if not ours:
        text = f"{' '.join(text.split())} (WEAKSEG_TRACEBACK=1 shows where)"
    return ": ".join([*_classes_under_construction(cause), text])


def _unwrapped(error: BaseException) -> BaseException:
    """The first exception of the chain that says more than where the next one happened."""
    while error.__cause__ is not None and (
        isinstance(error, argparse.ArgumentError) or str(error).startswith(_WRAPPERS) or _PARSER_KEY.match(str(error))
    ):
        error = error.__cause__
    return error


def _place(error: BaseException) -> tuple[list[str], str, str]:
    """Where in the configuration: names on the way down, import path of the last class, name of its argument."""
    names: list[str] = []
    owner = key = ""
    for link in _chain(error):
        first_line = str(link).split("\n", 1)[0]
        if match := _PARSER_KEY.match(first_line):
            key = match[1]
        elif (match := _CLASS_PATH.match(first_line)) and match[1] != owner:
            owner = match[1]
            # Of several equal parts (the optimisers' settings) the argument says which, not the class.
            names.append(key if is_dataclass(imported(owner)) else owner.rsplit(".", 1)[-1])
            key = ""
    return names, owner, key


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__


def _own_text(error: BaseException) -> str:
    """The message, without what a worker process or jsonargparse's KeyError puts around it."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if _is_from_worker(text) and (starts := list(_WORKER_MESSAGE.finditer(text))):
        text = text[starts[-1].end() :]
    return _PARSER_KEY.sub("", text).strip() or type(error).__name__


def _is_from_worker(text: str) -> bool:
    return text.startswith("Caught ") and "Original Traceback" in text


def _of_users(error: BaseException) -> bool:
    """Whether an error before the first batch is of the user's making: values, files, modules, trainer settings."""
    if isinstance(error, ValueError | OSError | ImportError | pickle.UnpicklingError):
        return True
    if type(error).__name__ == "MisconfigurationException":
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
