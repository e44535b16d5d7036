"""Annotations of CVAT: `annotations.xml` in the format "CVAT for images 1.1"."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from xml.etree.ElementTree import Element

import defusedxml.ElementTree
import numpy as np
from numpy.typing import NDArray

from weakseg_lightning.data.folder.annotations import Bitmap, LeftOut, Mark, Problem, Reading, whole_number
from weakseg_lightning.data.folder.names import ImageRef, task_ref
from weakseg_lightning.data.folder.tools.shapes import (
    as_points,
    covering,
    distinct_corners,
    ellipse,
    enclosing_box,
    turn,
)

__all__ = ["read_cvat"]

Size = tuple[int, int]

_FORMAT = "`CVAT for images 1.1`"
_NO_SUBSET = "default"
_READ = ("tag", "points", "box", "polygon", "polyline", "ellipse", "mask")


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
    for image, ref, entry in zip(images, refs, _entries(refs), strict=True):
        yield from _read_image(image, ref, file, entry)


def _fault(root: Element) -> str | None:
    """What keeps a file from being read; None if nothing does."""
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
    """Which image is meant: exports of projects have a folder for each subset, also for what is in none."""
    name, subset = image.get("name", ""), image.get("subset", subset).strip()
    ref = task_ref(name, subset)
    return replace(ref, given=name) if subset == _NO_SUBSET else ref


def _entries(refs: Sequence[ImageRef]) -> Iterator[str]:
    """Names of the parts of a file that are about one image each, all of them different."""
    counts = Counter(ref.given for ref in refs)
    for number, ref in enumerate(refs, start=1):
        yield f"image {ref.given!r}" + (f" (number {number})" if counts[ref.given] > 1 else "")


def _read_image(image: Element, ref: ImageRef, file: str, entry: str) -> Iterator[Reading]:
    sides = (whole_number(image.get("width")), whole_number(image.get("height")))
    stated = (sides[0], sides[1]) if sides[0] is not None and sides[1] is not None else None
    if not len(image):
        yield LeftOut(file, "images without a shape", entry, ref, entry)
    try:  # shapes with a higher `z_order` lie above the others
        shapes = sorted(enumerate(image, start=1), key=lambda numbered: float(numbered[1].get("z_order") or 0))
    except ValueError as error:
        yield Problem(file, f"{entry} has a `z_order` that is no number ({error}): export it again", about=ref)
        return
    for number, shape in shapes:
        where = f"{entry}, {shape.tag} {number}"
        mark = partial(
            Mark, image=ref, label=shape.get("label", ""), file=file, where=where, stated=stated, entry=entry
        )
        try:
            yield from _read_shape(shape, mark, stated)
        except Exception as error:  # of a foreign file anything may be missing or of another type
            cause = str(error) if isinstance(error, ValueError) else repr(error)
            yield mark("region").problem(f"is not as CVAT writes it ({cause}): draw it again or remove it")


def _read_shape(shape: Element, mark: Callable[..., Mark], size: Size | None) -> Iterator[Reading]:
    kind = shape.tag
    if kind not in _READ:
        yield mark("region").problem("is of a type that is not read: draw it as a polygon or a polyline")
    elif shape.get("outside") == "1":
        this = mark("region")
        yield LeftOut(this.file, "shapes outside of their image", this.where)
    elif kind == "tag":
        yield mark("tag", optional=True)
    elif kind == "points":
        yield from (mark("click", points=point[None]) for point in _points(shape))
    elif kind == "box":
        yield mark("box", points=_box(shape, size))
    elif kind == "polyline":
        yield mark("stroke", points=_points(shape))
    elif kind == "polygon":
        yield mark("region", points=distinct_corners(_points(shape)))
    elif kind == "ellipse":
        x, y, across, down = (float(shape.attrib[name]) for name in ("cx", "cy", "rx", "ry"))
        yield mark("region", bitmap=ellipse((x, y), (across, down), _rotation(shape), size))
    else:
        left, top, width, height = (int(shape.attrib[name]) for name in ("left", "top", "width", "height"))
        yield mark("region", bitmap=Bitmap(left, top, partial(_decode, shape.attrib["rle"], height, width)))


def _rotation(shape: Element) -> float:
    return float(shape.get("rotation") or 0)


def _points(shape: Element) -> NDArray[np.float64]:
    return as_points([pair.split(",") for pair in shape.attrib["points"].split(";") if pair.strip()])


def _box(shape: Element, size: Size | None) -> NDArray[np.float64]:
    """Corners of the box; of a turned one, those of the upright box around it."""
    left, top, right, bottom = (float(shape.attrib[name]) for name in ("xtl", "ytl", "xbr", "ybr"))
    if not (angle := _rotation(shape)):
        return np.array([[left, top], [right, bottom]])
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    return enclosing_box(turn(corners, angle, about=corners.mean(axis=0)), size)


def _decode(rle: str, height: int, width: int) -> NDArray[np.bool_]:
    """Pixels of a mask: lengths of runs that are outside and inside in turn, outside first."""
    runs = np.array(rle.split(","), dtype=np.int64)
    if (runs < 0).any() or runs.sum() != height * width:
        raise ValueError(f"its runs cover {runs.sum()} pixels, expected {height * width}")
    return covering(np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width))
