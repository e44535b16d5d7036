"""Recipes as text: an overlay is laid over a recipe, and the comments of both stay."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

__all__ = ["merged"]


@dataclass
class _Entry:
    """A key of a mapping: the comments above it, its line, and what belongs to it."""

    key: str
    comments: list[str]
    line: str
    body: list[str] = field(default_factory=list)

    @property
    def children(self) -> list["_Entry"] | None:
        """The entries of the mapping that it holds; None if it holds a value or a list."""
        first = next((line for line in self.body if not _is_comment(line)), "- ")
        return None if first.lstrip().startswith("- ") else _entries(self.body)

    def child(self, key: str) -> "_Entry | None":
        return next((entry for entry in self.children or () if entry.key == key), None)

    def lines(self) -> Iterator[str]:
        yield from (*self.comments, self.line, *self.body)


def merged(recipe: str, overlay: str) -> str:
    r"""Lay an overlay over a recipe, as two `--config` would be, and keep the comments.

    Args:
        recipe: YAML of mappings in block style, two spaces a level.
        overlay: the same; a class with another ``class_path`` replaces the recipe's with all its arguments. Comments at
            its head replace those of the recipe.

    Returns:
        The result.

    Example:
        >>> print(merged("a:\n  b: 1   # one\n  c: 2\n", "a:\n  c: 3   # three\n"), end="")
        a:
          b: 1   # one
          c: 3   # three
    """
    below = _entries(recipe.splitlines())
    above = _entries(overlay.splitlines())
    head = _head(overlay.splitlines()) or _head(recipe.splitlines())
    text = "\n".join([*head, *_merge(below, above, top=True)])
    return text.strip("\n") + "\n"


def _merge(below: Sequence[_Entry], above: Sequence[_Entry], top: bool = False) -> Iterator[str]:
    new = {entry.key: entry for entry in above}
    for number, entry in enumerate(below):
        if top and number:
            yield ""
        over = new.pop(entry.key, None)
        if over is None:
            comments = [line for line in entry.comments if line.strip()]
            yield from (*(comments if not (top and not number) else []), entry.line, *_stripped(entry.body))
        elif over.children is None or entry.children is None or _other_class(entry, over):
            yield from (over.line, *_stripped(over.body))
        else:
            yield from (over.line, *_merge(entry.children, over.children))
    for entry in new.values():
        yield from (*([""] if top else []), entry.line, *_stripped(entry.body))


def _other_class(entry: _Entry, over: _Entry) -> bool:
    theirs, ours = over.child("class_path"), entry.child("class_path")
    return theirs is not None and (ours is None or _value(theirs.line) != _value(ours.line))


def _value(line: str) -> str:
    return line.split("#", 1)[0].strip()


def _entries(lines: Sequence[str]) -> list[_Entry]:
    """Part the lines of one mapping into its entries."""
    level = next((_level(line) for line in lines if not _is_comment(line)), 0)
    entries: list[_Entry] = []
    comments: list[str] = []
    for line in lines:
        if not _is_comment(line) and _level(line) == level and not line.lstrip().startswith("- "):
            entries.append(_Entry(line.strip().split(":", 1)[0], comments, line))
            comments = []
        elif _is_comment(line) and (not line.strip() or _level(line) <= level):
            comments.append(line)
        elif entries:
            entries[-1].body += [*comments, line]
            comments = []
    return entries


def _head(lines: Sequence[str]) -> list[str]:
    """The comments and empty lines at the beginning."""
    end = next((number for number, line in enumerate(lines) if not _is_comment(line)), len(lines))
    return list(lines[:end])


def _stripped(lines: Sequence[str]) -> list[str]:
    return [line for line in lines if line.strip()]


def _is_comment(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


def _level(line: str) -> int:
    return len(line) - len(line.lstrip())
