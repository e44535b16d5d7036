"""The annotation of one image and the changes to it."""

import zlib
from dataclasses import dataclass, replace
from math import floor, isfinite
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from weakseg_lightning.energies.potts import VOID

__all__ = [
    "Accept",
    "AddClick",
    "Change",
    "Clear",
    "Click",
    "ImageAnnotation",
    "Step",
    "Stroke",
    "Tag",
    "Unaccept",
]

Labels = NDArray[np.uint8]
Point = tuple[float, float]

_LEAST_RADIUS = 0.71
"""Pixels: wherever a pen of this radius is set down, it covers the center of a pixel."""


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
        accepted: labels of a preview that was accepted, uint8 ``(H, W)``, 255 = none; None where nothing is accepted.
            They lie beneath scribbles and clicks.
    """

    labels: Labels
    clicks: tuple[Click, ...] = ()
    tags: frozenset[int] | None = None
    accepted: Labels | None = None

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
            and np.array_equal(self.accepted_map, other.accepted_map)
        )

    @property
    def summary(self) -> int:
        """A number that differs where annotations do, but for rare coincidences."""
        scribbles = zlib.crc32(self.labels.tobytes())
        accepted = None if self.accepted is None else zlib.crc32(self.accepted.tobytes())
        return hash((scribbles, accepted, frozenset(self.clicks), self.tags))

    @property
    def is_drawn(self) -> bool:
        """True if there are scribbles, clicks or tags."""
        return self.tags is not None or bool(self.clicks) or bool((self.labels != VOID).any())

    @property
    def is_empty(self) -> bool:
        """True if it says nothing."""
        return not self.is_drawn and self.accepted is None

    @property
    def accepted_map(self) -> Labels:
        """The accepted labels, uint8 ``(H, W)``, 255 all over where nothing is accepted."""
        return np.full_like(self.labels, VOID) if self.accepted is None else self.accepted

    def accepting(self, labels: Labels) -> "ImageAnnotation":
        """The same with these accepted labels, of which there may be none."""
        return replace(self, accepted=labels if (labels != VOID).any() else None)


@dataclass(frozen=True)
class Stroke:
    """A polyline drawn with a round pen.

    Attributes:
        points: x, y, at least one of them, in the coordinates of :class:`Click`.
        width: of the pen, in pixels.
        label: class; 255 erases scribbles, clicks and accepted labels alike.
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
        drawn = replace(before, labels=labels)
        if self.label != VOID:
            return drawn
        erased = np.zeros(labels.shape, dtype=bool)
        erased[rows, columns] = pixels
        clicks = tuple(click for click in before.clicks if not erased[_pixel(click, *labels.shape)])
        return replace(drawn, clicks=clicks).accepting(np.where(erased, VOID, before.accepted_map))

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
    """All scribbles and clicks are removed; accepted labels stay."""

    def applied_to(self, before: ImageAnnotation) -> ImageAnnotation:
        """Remove them."""
        return replace(before, labels=np.full_like(before.labels, VOID), clicks=())


@dataclass(frozen=True, eq=False)
class Accept:
    """A labeling is accepted, in place of what was accepted before.

    Attributes:
        labels: uint8 ``(H, W)``, 255 where none is accepted.
    """

    labels: Labels

    def applied_to(self, before: ImageAnnotation) -> ImageAnnotation:
        """Accept it.

        Raises:
            ValueError: if it has another size than the image.
        """
        if self.labels.shape != before.labels.shape:
            raise ValueError(f"the accepted labels are {self.labels.shape}, their image is {before.labels.shape}")
        return before.accepting(self.labels)


@dataclass(frozen=True)
class Unaccept:
    """All accepted labels are removed."""

    def applied_to(self, before: ImageAnnotation) -> ImageAnnotation:
        """Remove them."""
        return replace(before, accepted=None)


Change = Stroke | AddClick | Tag | Clear | Accept | Unaccept
Step = Literal["undo", "redo"]
