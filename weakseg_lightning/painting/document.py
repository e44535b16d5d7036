"""The annotation of one image and the changes to it, with undo and redo."""

from dataclasses import dataclass, field, replace
from math import floor, isfinite

import numpy as np
from numpy.typing import NDArray

from weakseg_lightning.energies.potts import VOID

__all__ = ["AddClick", "Change", "Clear", "Click", "Document", "ImageAnnotation", "Stroke", "Tag"]

Labels = NDArray[np.uint8]
Point = tuple[float, float]

_LEAST_RADIUS = 0.71
"""Pixels: wherever a pen of this radius is set down, it covers the center of a pixel."""
_MAX_CHANGES = 500
"""Older changes can no longer be undone."""


@dataclass(frozen=True, order=True)
class Click:
    """A point of a class.

    Attributes:
        x: from the left edge, in pixels; the upper left pixel spans 0 to 1.
        y: from the upper edge, in pixels.
        label: class.
    """

    x: float
    y: float
    label: int


@dataclass(frozen=True)
class ImageAnnotation:
    """The annotation of one image. Never changed in place.

    Attributes:
        labels: scribbles, uint8 ``(H, W)``, 255 = unlabelled.
        clicks: points of a class.
        tags: classes of the whole image; None where nobody has said.
    """

    labels: Labels
    clicks: tuple[Click, ...] = ()
    tags: frozenset[int] | None = None

    @classmethod
    def empty(cls, height: int, width: int) -> "ImageAnnotation":
        """Know nothing about an image of this size."""
        return cls(np.full((height, width), VOID, dtype=np.uint8))

    def same_as(self, other: "ImageAnnotation") -> bool:
        """True if both say the same."""
        return (
            np.array_equal(self.labels, other.labels)
            and sorted(self.clicks) == sorted(other.clicks)
            and self.tags == other.tags
        )

    @property
    def is_empty(self) -> bool:
        """True if it says nothing."""
        return self.tags is None and not self.clicks and bool((self.labels == VOID).all())


@dataclass(frozen=True)
class Stroke:
    """A polyline drawn with a round pen.

    Attributes:
        points: x, y, at least one of them, in the coordinates of :class:`Click`.
        width: of the pen, in pixels.
        label: class; 255 erases, scribbles and clicks alike.
    """

    points: tuple[Point, ...]
    width: float
    label: int

    def __post_init__(self) -> None:
        if not self.points or not all(isfinite(value) for point in self.points for value in point):
            raise ValueError("`points` must be at least one pair of finite numbers")
        if not (isfinite(self.width) and self.width > 0):
            raise ValueError(f"`width` must be above 0, got {self.width!r}")

    def applied_to(self, before: ImageAnnotation) -> ImageAnnotation:
        """Draw it."""
        labels = before.labels.copy()
        rows, columns, pixels = self._covered(*labels.shape)
        labels[rows, columns][pixels] = self.label
        clicks = before.clicks
        if self.label == VOID:
            erased = np.zeros(labels.shape, dtype=bool)
            erased[rows, columns] = pixels
            clicks = tuple(click for click in clicks if not erased[_pixel(click, *labels.shape)])
        return replace(before, labels=labels, clicks=clicks)

    def _covered(self, height: int, width: int) -> tuple[slice, slice, NDArray[np.bool_]]:
        """Pixels whose centers are under the pen: a window of the image (rows, columns), and which of its pixels."""
        radius = max(self.width / 2, _LEAST_RADIUS)
        points = np.array(self.points)
        rows, columns = _window(points, radius, height, width)
        pixels = np.zeros((rows.stop - rows.start, columns.stop - columns.start), dtype=bool)
        for first, last in zip(points, [*points[1:], points[-1]], strict=True):
            own_rows, own_columns = _window(np.stack([first, last]), radius, height, width)
            part = pixels[_shifted(own_rows, rows.start), _shifted(own_columns, columns.start)]
            part |= _near(first, last, radius, own_rows, own_columns)
        return rows, columns, pixels


def _shifted(part: slice, start: int) -> slice:
    return slice(part.start - start, part.stop - start)


def _window(points: NDArray[np.float64], radius: float, height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns that a pen may reach, within the image."""
    low = np.floor(points.min(0) - radius).clip(0, (width, height)).astype(int)
    high = np.ceil(points.max(0) + radius).clip(low, (width, height)).astype(int)
    return slice(low[1], high[1]), slice(low[0], high[0])


def _near(
    first: NDArray[np.float64], last: NDArray[np.float64], radius: float, rows: slice, columns: slice
) -> NDArray[np.bool_]:
    """Pixels of a window whose center is within a distance of a segment."""
    across = np.arange(columns.start, columns.stop) + 0.5 - first[0]
    down = np.arange(rows.start, rows.stop)[:, None] + 0.5 - first[1]
    along = last - first
    share = np.clip((across * along[0] + down * along[1]) / max(along @ along, 1e-12), 0, 1)
    near: NDArray[np.bool_] = (across - share * along[0]) ** 2 + (down - share * along[1]) ** 2 <= radius**2
    return near


def _pixel(click: Click, height: int, width: int) -> tuple[int, int]:
    """Row and column of the pixel; that of the border for a click outside."""
    return min(max(floor(click.y), 0), height - 1), min(max(floor(click.x), 0), width - 1)


@dataclass(frozen=True)
class AddClick:
    """A click is set."""

    click: Click

    def applied_to(self, before: ImageAnnotation) -> ImageAnnotation:
        """Add it, once however often it is said."""
        others = tuple(click for click in before.clicks if click != self.click)
        return replace(before, clicks=(*others, self.click))


@dataclass(frozen=True)
class Tag:
    """The image is said to show a class, or not to; a statement about one class leaves the others as they are."""

    label: int
    present: bool

    def applied_to(self, before: ImageAnnotation) -> ImageAnnotation:
        """Set or remove it. An image without any tag counts as one that nobody has tagged."""
        others = (before.tags or frozenset()) - {self.label}
        return replace(before, tags=(others | {self.label} if self.present else others) or None)


@dataclass(frozen=True)
class Clear:
    """All scribbles and clicks are removed."""

    def applied_to(self, before: ImageAnnotation) -> ImageAnnotation:
        """Remove them."""
        return replace(before, labels=np.full_like(before.labels, VOID), clicks=())


Change = Stroke | AddClick | Tag | Clear


@dataclass
class Document:
    """The annotation of one image and how it came about.

    Args:
        base: what there was at the beginning.
    """

    base: ImageAnnotation
    done: list[Change] = field(default_factory=list)
    undone: list[Change] = field(default_factory=list)
    version: int = 0

    def __post_init__(self) -> None:
        self.current = self.base

    def apply(self, change: Change) -> None:
        """Make a change."""
        self.current = change.applied_to(self.current)
        self.done.append(change)
        self.undone.clear()
        self.version += 1
        if len(self.done) > _MAX_CHANGES:
            self.base = self.done.pop(0).applied_to(self.base)

    def undo(self) -> bool:
        """Take the last change back; False if there is none."""
        return self._move_last(self.done, self.undone)

    def redo(self) -> bool:
        """Make the change again that was taken back last; False if there is none."""
        return self._move_last(self.undone, self.done)

    def rebase(self, base: ImageAnnotation) -> None:
        """Make the same changes to another annotation, as another program may have written it meanwhile.

        Raises:
            ValueError: if it has another size.
        """
        if base.labels.shape != self.base.labels.shape:
            raise ValueError(f"the scribbles have become {base.labels.shape}, they were {self.base.labels.shape}")
        self.base = base
        self._replay()

    def _move_last(self, source: list[Change], target: list[Change]) -> bool:
        if source:
            target.append(source.pop())
            self._replay()
            return True
        return False

    def _replay(self) -> None:
        self.current = self.base
        for change in self.done:
            self.current = change.applied_to(self.current)
        self.version += 1
