"""Annotations of CVAT: `annotations.xml` in the format "CVAT for images 1.1"."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from xml.etree.ElementTree import Element

import defusedxml.ElementTree
import numpy as np
from numpy.typing import NDArray

from weakseg_lightning.data.folder.annotations import Annotation, AnnotationKind, Bitmap, LeftOut, Problem, Reading
from weakseg_lightning.data.folder.names import ImageRef, task_ref
from weakseg_lightning.data.folder.tools.shapes import (
    Points,
    ShapeError,
    Size,
    as_points,
    covering,
    ellipse,
    entry_names,
    explaining,
    from_points,
    stated_size,
    upright_box,
)

_FORMAT = "`CVAT for images 1.1`"
_NO_SUBSET = "default"
_KINDS: dict[str, AnnotationKind] = {"points": "click", "polyline": "stroke", "polygon": "region"}
_READ = (*_KINDS, "tag", "box", "ellipse", "mask")


def read_cvat(text: bytes, file: str) -> Iterator[Reading]:
    """Read an XML file: polygons, ellipses and masks are regions; polylines are strokes; tags may be tags.

    The subset of an image is a folder of its name.

    Args:
        text: content of the file.
        file: its path, for messages.
    """
    try:
        root = defusedxml.ElementTree.fromstring(text)
    except Exception as error:  # no XML, or what an attacker might write
        yield Problem(file, f"is not XML that can be read ({' '.join(str(error).split())}): export it again")
        return
    if (fault := _fault(root)) is not None:
        yield Problem(file, fault)
        return
    images = list(root.iter("image"))
    if not images:
        yield LeftOut(file, "exports without an image")
    subset = _subset(root)
    refs = [_ref(image, subset) for image in images]
    entries = entry_names([f"image {ref.given!r}" for ref in refs])
    for image, ref, entry in zip(images, refs, entries, strict=True):
        yield from _read_image(image, ref, file, entry)


def _fault(root: Element) -> str | None:
    """The fault that keeps a file from being read; None if there is none."""
    if root.tag == "annotation":
        return f"is of PASCAL VOC or of LabelMe's web page, which is not read: take it to CVAT, export it as {_FORMAT}"
    if root.tag != "annotations":
        return f"is no export of CVAT: export it as {_FORMAT}"
    if next(root.iter("track"), None) is not None:
        return f"holds tracks of a video: export it as {_FORMAT}, which has their shapes for each image"
    return None


def _subset(root: Element) -> str:
    """The subset of a task or job; in a project each image has one."""
    subset = root.findtext("meta/task/subset") or root.findtext("meta/job/subset") or ""
    return "" if subset.strip() == _NO_SUBSET else subset


def _ref(image: Element, subset: str) -> ImageRef:
    """The image that is meant: exports of projects have a folder for each subset, also for what is in none."""
    name, subset = image.get("name", ""), image.get("subset", subset).strip()
    ref = task_ref(name, subset)
    return replace(ref, given=name) if subset == _NO_SUBSET else ref


def _read_image(image: Element, ref: ImageRef, file: str, entry: str) -> Iterator[Reading]:
    stated = stated_size(image.get("width"), image.get("height"))
    if not len(image):
        yield LeftOut(file, "images without a shape", entry, ref, entry)
    try:  # shapes with a higher `z_order` lie above the others
        shapes = sorted(enumerate(image, start=1), key=lambda numbered: float(numbered[1].get("z_order") or 0))
    except ValueError as error:
        yield Problem(file, f"{entry} has a `z_order` that is no number ({error}): export it again", about=ref)
        return
    for number, shape in shapes:
        where = f"{entry}, {shape.tag} {number}"
        annotation = partial(
            Annotation, image=ref, label=shape.get("label", ""), file=file, where=where, stated=stated, entry=entry
        )
        yield from explaining(partial(_read_shape, shape, annotation, stated), "CVAT", annotation("region").problem)


def _read_shape(shape: Element, annotation: Callable[..., Annotation], size: Size | None) -> Iterator[Reading]:
    kind = shape.tag
    if kind not in _READ:
        raise ShapeError("is of a type that is not read: draw it as a polygon or a polyline")
    if shape.get("outside") == "1":
        this = annotation("region")
        yield LeftOut(this.file, "shapes outside of their image", this.where)
    elif kind in _KINDS:
        pairs = [pair.split(",") for pair in shape.attrib["points"].split(";") if pair.strip()]
        yield from from_points(_KINDS[kind], as_points(pairs), annotation)
    elif kind == "tag":
        yield annotation("tag", optional=True)
    elif kind == "box":
        yield annotation(
            "box", points=upright_box(_pairs(shape, "xtl", "ytl", "xbr", "ybr"), _rotation(shape), size=size)
        )
    elif kind == "ellipse":
        center, radii = _pairs(shape, "cx", "cy", "rx", "ry")
        yield annotation("region", bitmap=ellipse(center, radii, _rotation(shape), size))
    else:
        left, top, width, height = (int(shape.attrib[name]) for name in ("left", "top", "width", "height"))
        yield annotation("region", bitmap=Bitmap(left, top, partial(_decode, shape.attrib["rle"], height, width)))


def _rotation(shape: Element) -> float:
    return float(shape.get("rotation") or 0)


def _pairs(shape: Element, *names: str) -> Points:
    """Four numbers as two of x and y."""
    return np.array([float(shape.attrib[name]) for name in names]).reshape(2, 2)


def _decode(rle: str, height: int, width: int) -> NDArray[np.bool_]:
    """Pixels of a mask: lengths of runs that are outside and inside in turn, outside first."""
    runs = np.array(rle.split(","), dtype=np.int64)
    if (runs < 0).any() or runs.sum() != height * width:
        raise ValueError(f"its runs cover {runs.sum()} pixels, expected {height * width}")
    return covering(np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width))
