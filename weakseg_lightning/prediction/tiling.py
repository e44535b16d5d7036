"""Images in tiles: where they lie, and how what was computed for each becomes one whole."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


@dataclass(frozen=True)
class Span:
    """Rows or columns of an image, ``start`` up to but without ``stop``."""

    start: int
    stop: int

    @property
    def size(self) -> int:
        """Number of rows or columns."""
        return self.stop - self.start


@dataclass(frozen=True)
class Block:
    """A finished part of an image: its rows, its columns, and scores ``(K, h, w)``."""

    rows: Span
    columns: Span
    scores: Tensor

    @property
    def place(self) -> tuple[slice, slice]:
        """Index of the part in an image ``(H, W)``."""
        return slice(self.rows.start, self.rows.stop), slice(self.columns.start, self.columns.stop)


class Rows(Protocol):
    """An image whose rows are asked for from the top: ``(height, width)``, and some rows as uint8 ``(h, W, 3)``."""

    height: int
    width: int

    def read(self, rows: Span) -> npt.NDArray[np.uint8]:
        """Read rows; those of a later call begin no earlier."""
        ...

    def invalid(self, rows: Span) -> npt.NDArray[np.bool_] | None:
        """Tell which pixels have no data, ``(h, W)``, of rows that were read last; None where all have."""
        ...


class MemoryRows:
    """The rows of an array, which may be a file that is mapped into memory.

    Args:
        pixels: uint8 ``(H, W, 3)``, or channels, float32 ``(H, W, C)``.
        valid: pixels that have data, ``(H, W)``; None = all.
    """

    def __init__(self, pixels: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None = None) -> None:
        self.pixels = pixels
        self.valid = valid
        self.height, self.width = pixels.shape[:2]

    def read(self, rows: Span) -> npt.NDArray[Any]:
        """Read rows, ``(h, W, channels)``."""
        return self.pixels[rows.start : rows.stop]

    def invalid(self, rows: Span) -> npt.NDArray[np.bool_] | None:
        """Tell which pixels have no data, ``(h, W)``; None where all have."""
        return None if self.valid is None else ~self.valid[rows.start : rows.stop]


def spans(length: int, size: int, overlap: int, alignment: int = 1) -> list[Span]:
    """Cover a length with spans that overlap their neighbors.

    Args:
        length: what is covered, 1 or more.
        size: of each span; the last one is shorter where the length ends.
        overlap: what neighbors share, at least.
        alignment: spans begin at multiples of it, so that neighbors may share more.

    Returns:
        Spans in order, no more than two over any place.

    Raises:
        ValueError: if the overlap is negative or, with the alignment, more than half of the size.

    Example:
        >>> spans(10, size=6, overlap=2)
        [Span(start=0, stop=6), Span(start=4, stop=10)]
    """
    if length <= size:
        return [Span(0, length)]
    step = (size - overlap) // alignment * alignment
    if overlap < 0 or 2 * step < size:
        raise ValueError(
            f"`overlap` must be 0 to half of the tile, got {overlap} of {size} (tiles of this network begin at "
            f"multiples of {alignment}): take a larger tile or a smaller overlap"
        )
    starts = range(0, length - size + step, step)
    return [Span(start, min(start + size, length)) for start in starts]


class Seam:
    """Joins pieces along an axis as they come; where two overlap, the weight goes over from one to the other.

    The weights of two pieces sum to one. They are linear in the place over the middle half of the overlap; in the
    quarter next to its own border, where a network sees least, a piece has none.

    Args:
        axis: axis of the pieces along which they follow each other.

    Attributes:
        difference: largest difference of two pieces in the middle of their overlap so far.
    """

    def __init__(self, axis: int) -> None:
        self.axis = axis
        self.difference = 0.0
        self._waiting: Tensor | None = None

    def join(self, piece: Tensor, shared: int) -> Tensor:
        """Add the next piece.

        Args:
            piece: the piece; it is changed.
            shared: how much of its end the piece after it shares, 0 for the last piece.

        Returns:
            What is finished: the piece from its beginning up to the shared end.
        """
        if self._waiting is not None:
            self._blend(self._waiting, piece)
        finished = piece.shape[self.axis] - shared
        self._waiting = piece.narrow(self.axis, finished, shared).clone() if shared else None
        return piece.narrow(self.axis, 0, finished)

    def _blend(self, before: Tensor, piece: Tensor) -> None:
        length = before.shape[self.axis]
        head = piece.narrow(self.axis, 0, length)
        middle = (head - before).narrow(self.axis, length // 2, 1)
        self.difference = max(self.difference, float(middle.abs().max()))
        shape = [-1 if axis == self.axis else 1 for axis in range(piece.ndim)]
        place = (torch.arange(length, dtype=piece.dtype) + 0.5) / length
        head.lerp_(before, (1.5 - 2 * place).clamp(0, 1).reshape(shape))


class Blend:
    """Scores tiles one after the other and gives the finished parts of the whole.

    What is kept in the meantime is the overlap with the row of tiles below: ``K x overlap x width`` numbers.

    Args:
        rows: of the tiles, as :func:`spans` makes them.
        columns: of the tiles.
        score: gives the scores ``(K, h, w)`` of a tile by its rows and columns; called row by row from the top.

    Attributes:
        difference: largest difference of two tiles' scores in the middle of their overlap so far. It tells whether
            tiles are large enough: a network that sees no further than half the overlap gives (nearly) 0.
    """

    def __init__(self, rows: Sequence[Span], columns: Sequence[Span], score: Callable[[Span, Span], Tensor]) -> None:
        self.rows = rows
        self.columns = columns
        self.score = score
        self.difference = 0.0

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)

    def __iter__(self) -> Iterator[Block]:
        below = [Seam(axis=1) for _ in self.columns]
        for row, shared_below in _with_shared(self.rows):
            beside = Seam(axis=2)
            for seam, (column, shared) in zip(below, _with_shared(self.columns), strict=True):
                strip = beside.join(self.score(row, column), shared)
                done = seam.join(strip, shared_below)
                self.difference = max(self.difference, beside.difference, seam.difference)
                height, width = done.shape[1:]
                yield Block(Span(row.start, row.start + height), Span(column.start, column.start + width), done)


def _with_shared(parts: Sequence[Span]) -> Iterator[tuple[Span, int]]:
    """Each span, and what it shares with the next one."""
    for number, part in enumerate(parts):
        following = parts[number + 1] if number + 1 < len(parts) else None
        yield part, part.stop - following.start if following else 0
