"""Annotations as files state them, before it is known if they make sense."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from weakseg_lightning.data.folder.names import ImageRef

__all__ = [
    "Annotation",
    "AnnotationKind",
    "Bitmap",
    "LabeledAnnotation",
    "LeftOut",
    "Problem",
    "Reading",
    "find_fault",
]

AnnotationKind = Literal["click", "stroke", "box", "region", "nothing", "tag", "size"]

Points = NDArray[np.float64]

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
    allowed = 0.0 if kind == "click" else _OUTSIDE
    outside = (points < -allowed) | (points > np.array(size) + allowed)
    if outside.any():
        x, y = points[outside.any(1)][0].tolist()
        return f"reaches ({x:g}, {y:g}), outside its image of {size[0]} x {size[1]} pixels: correct or remove it"
    return None


def relative(path: Path, root: Path) -> str:
    """A path as messages show it: from the root of the data."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
