"""Annotations as files state them, before it is known if they make sense."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation
from skimage.draw import polygon
from skimage.measure import points_in_poly

from weakseg_lightning.data.folder.names import ImageRef
from weakseg_lightning.energies.potts import VOID

__all__ = [
    "Annotation",
    "AnnotationKind",
    "Bitmap",
    "LabeledAnnotation",
    "LeftOut",
    "Problem",
    "Reading",
    "covers_nothing",
    "find_fault",
    "finder",
]

AnnotationKind = Literal["click", "stroke", "box", "region", "nothing", "tag", "size"]

Points = NDArray[np.float64]

_NEAR = 3
"""Pixels beside an area that clicks and strokes of it may have."""

_OUTSIDE = 1.0
"""Pixels by which shapes of annotation tools may stick out of their image: they round."""


@dataclass(frozen=True)
class Problem:
    """Something that keeps a file, or a line of it, from being used.

    Attributes:
        file: path from the root of the data.
        text: what is wrong, and what to do.
        image: id of the image that is concerned; None if it is not known.
        about: the image that is concerned as the file names it, for readers, which know no ids.
    """

    file: str
    text: str
    image: str | None = None
    about: ImageRef | None = None

    def __str__(self) -> str:
        return f"{self.file}: {self.text}"


@dataclass(frozen=True)
class LeftOut:
    """Something in a file that is no fault, but is not used: told once for all of a kind.

    Attributes:
        file: path from the root of the data.
        kind: what it is, in the plural: ``relations``.
        example: one of them, as the file writes it.
        about: the image that a part of an annotation tool's file is about which says nothing of it.
        entry: that part, as of annotations.
    """

    file: str
    kind: str
    example: str = ""
    about: ImageRef | None = None
    entry: str = ""


@dataclass(frozen=True)
class Bitmap:
    """A region as pixels.

    Attributes:
        left: column of its left edge.
        top: row of its upper edge.
        read: decodes it, bool ``(h, w)``.
    """

    left: int
    top: int
    read: Callable[[], NDArray[np.bool_]]


@dataclass(frozen=True)
class Annotation:
    """One annotation of one image.

    Attributes:
        kind: ``click``, ``stroke`` (a polyline), ``box`` (two corners), ``region`` (a polygon or a bitmap),
            ``nothing`` (the annotator says that the image shows background alone), ``tag`` or ``size`` (the fraction of
            the image that a class covers).
        image: the image as the file names it.
        label: the class as the file names it.
        file: path of the file from the root of the data.
        where: where in the file, such as ``line 7``.
        points: vertices x, y in pixels ``(n, 2)``; the upper left pixel spans 0 to 1.
        bitmap: the region's pixels, where it is no polygon.
        fraction: of a size: 0..1, or the words ``small`` and ``large``.
        stated: width and height of the image, as the file states them.
        meaning: the class that the tool itself gives to this label: 0 for background, 255 for void; None if none.
        optional: of a tag: whether it may be an attribute that is no class, as the flags of a tool.
        by_index: whether the label may be the index of a class; in the files of tools, labels are names.
        entry: the part of an annotation tool's file that is about one image, such as ``task 12``, and belongs to no
            other image: two entries must not be about one. Empty for tables and for files of a single image.
    """

    kind: AnnotationKind
    image: ImageRef
    label: str
    file: str
    where: str = ""
    points: Points = field(default_factory=lambda: np.zeros((0, 2)))
    bitmap: Bitmap | None = None
    fraction: float | Literal["small", "large"] | None = None
    stated: tuple[int, int] | None = None
    meaning: int | None = None
    optional: bool = False
    by_index: bool = False
    entry: str = ""

    def problem(self, text: str, image: str | None = None) -> Problem:
        """Say what is wrong with it."""
        return Problem(self.file, f"{self.where} {text}".strip(), image, self.image)


@dataclass(frozen=True)
class LabeledAnnotation:
    """An annotation whose class is known.

    Attributes:
        annotation: the annotation.
        label: the class; 255 is void, None for what says "no class at all".
    """

    annotation: Annotation
    label: int | None

    @property
    def kind(self) -> AnnotationKind:
        """Kind of the annotation."""
        return self.annotation.kind

    @property
    def names_class(self) -> bool:
        """Whether it says that a class other than background is in the image; a size of 0 says that it is not."""
        return self.label not in (None, 0, VOID) and self.annotation.fraction != 0


Reading = Annotation | Problem | LeftOut
"""One thing that a reader yields."""

_NEEDED = {"click": 1, "stroke": 1, "box": 2, "region": 3}


def find_fault(annotation: Annotation, size: tuple[int, int]) -> str | None:
    """Look for what is wrong with the shape of an annotation.

    Args:
        annotation: the annotation.
        size: width and height of its image in pixels.
    """
    if annotation.stated is not None and annotation.stated != size:
        turned = " (upright: its EXIF data turn it)" if annotation.stated == size[::-1] else ""
        width, height = annotation.stated
        return (
            f"was drawn on an image of {width} x {height} pixels, its image has {size[0]} x {size[1]}{turned}: "
            "annotate the image as it is now"
        )
    kind, points = annotation.kind, annotation.points
    if annotation.bitmap is not None or kind in ("nothing", "tag", "size"):
        return None
    if len(points) < (needed := _NEEDED[kind]):
        return f"is a {kind} of {len(points)} points, expected {needed} at least: draw it again or remove it"
    if not np.isfinite(points).all():
        return f"has a {kind} with coordinates that are no numbers: write pixels"
    if kind == "box" and not (points[1] > points[0]).all():
        left, top, right, bottom = points[:2].flatten().tolist()
        return f"has an empty box ({left:g}, {top:g}, {right:g}, {bottom:g}): x1 < x2 and y1 < y2 are needed"
    if kind != "click" and (points <= 1).all() and (points % 1).any():
        x, y = points[-1].tolist()
        return f"has a {kind} with a corner at {x:g}, {y:g}, fractions of the image by the look of them: write pixels"
    allowed = 0.0 if kind == "click" else _OUTSIDE
    outside = (points < -allowed) | (points > np.array(size) + allowed)
    if outside.any():
        x, y = points[outside.any(1)][0].tolist()
        return f"reaches ({x:g}, {y:g}), outside its image of {size[0]} x {size[1]} pixels: correct or remove it"
    return None


def finder(areas: Sequence[Annotation]) -> Callable[[Annotation], bool]:
    """Make the test whether an annotation is about some regions and boxes, by its place.

    At least half of a click or of the length of a stroke has to lie in them, or next to them; of a box or region, the
    middle within the limits of one, or the middle of one within its own limits.

    Args:
        areas: regions and boxes of one class in one image; those with a fault are left out.
    """
    sound = [area for area in areas if area.bitmap is not None or len(area.points) >= _NEEDED[area.kind]]
    pixels = [None if area.bitmap is None else _pixels(area.bitmap) for area in sound]
    limits = np.stack([np.zeros((2, 2)), *map(_limits, sound, pixels)])[1:]
    low, high = limits[:, 0] - _NEAR, limits[:, 1] + _NEAR
    near: dict[int, NDArray[np.bool_]] = {}

    def holds(index: int, points: Points) -> NDArray[np.bool_]:
        area, drawn = sound[index], pixels[index]
        if drawn is None:
            inside = ((low[index] <= points) & (points <= high[index])).all(1)
            if area.kind == "region":
                inside[inside] = _in_polygon(area.points, points[inside])
            return np.asarray(inside)
        if index not in near:
            near[index] = binary_dilation(np.pad(drawn, _NEAR + 1), iterations=_NEAR)
        assert area.bitmap is not None
        rows, columns = (np.floor(points).astype(int) - (area.bitmap.left, area.bitmap.top)).T[::-1] + _NEAR + 1
        height, width = near[index].shape
        return np.asarray(near[index][rows.clip(0, height - 1), columns.clip(0, width - 1)])

    def is_about(other: Annotation) -> bool:
        if not len(sound) or (other.bitmap is None and len(other.points) < _NEEDED[other.kind]):
            return False  # a fault that is reported
        if other.kind not in ("click", "stroke"):
            own = _limits(other, None if other.bitmap is None else _pixels(other.bitmap))
            middles, middle = limits.mean(1), own.mean(0)
            around = (limits[:, 0] <= middle) & (middle <= limits[:, 1]), (own[0] <= middles) & (middles <= own[1])
            return any(bool(each.all(1).any()) for each in around)
        points = _along(other.points)
        inside = np.zeros(len(points), dtype=bool)
        for index in np.flatnonzero(((low <= points.max(0)) & (points.min(0) <= high)).all(1)).tolist():
            inside |= holds(index, points)
        return bool(inside.mean() >= 0.5)

    return is_about


def covers_nothing(annotation: Annotation, size: tuple[int, int]) -> bool:
    """Tell if a polygon covers no pixel of an image of this width and height."""
    if annotation.kind != "region" or annotation.bitmap is not None:
        return False
    columns, rows = annotation.points.T - 0.5
    return not len(polygon(rows, columns, size[::-1])[0])


def _along(points: Points) -> Points:
    """Points along a stroke, a pixel apart."""
    pieces = [
        np.linspace(start, end, int(np.abs(end - start).max()) + 1, endpoint=False)
        for start, end in itertools.pairwise(points)
    ]
    return np.concatenate([*pieces, points[-1:]])


def _in_polygon(corners: Points, points: Points) -> NDArray[np.bool_]:
    """Tell which points lie in a polygon, or near its outline."""
    starts, edges = corners, np.roll(corners, -1, axis=0) - corners
    offsets = points[:, None] - starts
    along = (offsets * edges).sum(-1) / np.maximum((edges**2).sum(-1), 1e-12)
    distances = np.linalg.norm(offsets - along.clip(0, 1)[..., None] * edges, axis=-1)
    return np.asarray(points_in_poly(points, corners) | (distances.min(1) <= _NEAR))


def _limits(area: Annotation, pixels: NDArray[np.bool_] | None) -> Points:
    """Left and upper, right and lower edge, ``(2, 2)``."""
    if area.bitmap is None or pixels is None:
        return np.stack([area.points.min(0), area.points.max(0)])
    corner = np.array([area.bitmap.left, area.bitmap.top], dtype=np.float64)
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    if not len(rows):
        return np.stack([corner, corner])
    return np.asarray(corner + np.array([[columns[0], rows[0]], [columns[-1] + 1, rows[-1] + 1]]))


def _pixels(bitmap: Bitmap) -> NDArray[np.bool_]:
    """The pixels of a region; none where it is damaged, which is a fault that is reported."""
    try:
        return bitmap.read()
    except Exception:  # of a foreign file anything may be damaged
        return np.zeros((1, 1), dtype=bool)


def relative(path: Path, root: Path) -> str:
    """A path as messages show it: from the root of the data."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
