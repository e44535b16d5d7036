"""What is drawn on one image, with undo and redo."""

from dataclasses import dataclass, field, replace
from math import ceil, floor, isfinite

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from weakseg_lightning.data.transforms import VOID

__all__ = ["AddClick", "Annotation", "Change", "Clear", "Click", "Document", "Stroke", "Tag"]

Labels = NDArray[np.uint8]
Point = tuple[float, float]

_MAX_CHANGES = 500
"""Older changes can no longer be undone."""


@dataclass(frozen=True)
class Click:
    """A labelled point.

    Attributes:
        x: from the left edge, in pixels; the upper left pixel spans 0 to 1.
        y: from the upper edge, likewise.
        label: class.
    """

    x: float
    y: float
    label: int


@dataclass(frozen=True)
class Annotation:
    """What is known about one image. Never changed in place.

    Attributes:
        labels: scribbles, uint8 ``(H, W)``, 255 = unlabelled.
        clicks: labelled points.
        tags: classes of the whole image; None where nobody has said.
    """

    labels: Labels
    clicks: tuple[Click, ...] = ()
    tags: frozenset[int] | None = None

    @classmethod
    def empty(cls, height: int, width: int) -> "Annotation":
        """Know nothing about an image of this size."""
        return cls(np.full((height, width), VOID, dtype=np.uint8))

    def same_as(self, other: "Annotation") -> bool:
        """Whether both say the same."""
        return (
            np.array_equal(self.labels, other.labels)
            and sorted(map(_key, self.clicks)) == sorted(map(_key, other.clicks))
            and self.tags == other.tags
        )

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing."""
        return self.tags is None and not self.clicks and bool((self.labels == VOID).all())


def _key(click: Click) -> tuple[float, float, int]:
    return click.x, click.y, click.label


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

    def applied_to(self, before: Annotation) -> Annotation:
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
        """The pixels under the pen: a window of the image (rows, columns), and which of its pixels."""
        radius = self.width / 2
        across, down = zip(*self.points, strict=True)
        left, right = _range(across, radius, width)
        top, bottom = _range(down, radius, height)
        window = Image.new("1", (right - left, bottom - top))
        if 0 not in window.size:
            # Pillow counts from the centre of the upper left pixel.
            shifted = [(x - left - 0.5, y - top - 0.5) for x, y in self.points]
            _draw(ImageDraw.Draw(window), shifted, radius)
        return slice(top, bottom), slice(left, right), np.array(window, dtype=bool)


def _range(values: tuple[float, ...], radius: float, size: int) -> tuple[int, int]:
    first, last = floor(max(min(values) - radius - 1, 0)), ceil(min(max(values) + radius + 1, size))
    return min(first, size), max(last, min(first, size))


def _draw(pen: ImageDraw.ImageDraw, points: list[Point], radius: float) -> None:
    pen.line(points, fill=1, width=max(round(2 * radius), 1))
    if radius < 1:
        pen.point(points, fill=1)
        return
    rim = radius - 0.5  # the centres of the outermost pixels
    for x, y in points:
        pen.ellipse((x - rim, y - rim, x + rim, y + rim), fill=1)


def _pixel(click: Click, height: int, width: int) -> tuple[int, int]:
    """Row and column of the pixel; that of the border for a click outside."""
    return min(max(floor(click.y), 0), height - 1), min(max(floor(click.x), 0), width - 1)


@dataclass(frozen=True)
class AddClick:
    """A click is set."""

    click: Click

    def applied_to(self, before: Annotation) -> Annotation:
        """Add it, once however often it is said."""
        others = tuple(click for click in before.clicks if click != self.click)
        return replace(before, clicks=(*others, self.click))


@dataclass(frozen=True)
class Tag:
    """The image is said to show a class, or not to; a statement about one class leaves the others as they are."""

    label: int
    present: bool

    def applied_to(self, before: Annotation) -> Annotation:
        """Set or remove it. An image without any tag counts as one that nobody has tagged."""
        others = (before.tags or frozenset()) - {self.label}
        return replace(before, tags=(others | {self.label} if self.present else others) or None)


@dataclass(frozen=True)
class Clear:
    """All scribbles and clicks are removed."""

    def applied_to(self, before: Annotation) -> Annotation:
        """Remove them."""
        return replace(before, labels=np.full_like(before.labels, VOID), clicks=())


Change = Stroke | AddClick | Tag | Clear


@dataclass
class Document:
    """The annotation of one image and how it came about.

    Args:
        base: what there was at the beginning.
    """

    base: Annotation
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
        if not self.done:
            return False
        self.undone.append(self.done.pop())
        self._replay()
        return True

    def redo(self) -> bool:
        """Make the change again that was taken back last; False if there is none."""
        if not self.undone:
            return False
        self.done.append(self.undone.pop())
        self._replay()
        return True

    def rebase(self, base: Annotation) -> None:
        """Make the same changes to another annotation, as another program may have written it meanwhile.

        Raises:
            ValueError: if it has another size.
        """
        if base.labels.shape != self.base.labels.shape:
            raise ValueError(f"the scribbles have become {base.labels.shape}, they were {self.base.labels.shape}")
        self.base = base
        self._replay()

    def _replay(self) -> None:
        self.current = self.base
        for change in self.done:
            self.current = change.applied_to(self.current)
        self.version += 1
