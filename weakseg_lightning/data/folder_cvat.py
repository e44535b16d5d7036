"""Annotations of CVAT: `annotations.xml` in the format "CVAT for images 1.1"."""

from collections.abc import Iterator
from functools import partial
from xml.etree.ElementTree import Element

import defusedxml.ElementTree
import numpy as np
from numpy.typing import NDArray

from weakseg_lightning.data.folder_marks import Bitmap, Mark, Problem, Reading, whole_number

__all__ = ["read_cvat"]

_CORNERS = 72  # of the polygon that stands for an ellipse


def read_cvat(text: bytes, file: str) -> Iterator[Reading]:
    """Read an XML file: polygons, ellipses and masks are regions; polylines are strokes.

    Args:
        text: content of the file.
        file: its path, for messages.
    """
    try:
        root = defusedxml.ElementTree.fromstring(text)
    except Exception as error:  # no XML, or what an attacker might write
        yield Problem(file, f"is not XML that can be read ({' '.join(str(error).split())}): export it again")
        return
    if root.tag != "annotations" or root.find("track") is not None or root.find("image") is None:
        yield Problem(file, "is no export of CVAT with images: export it as `CVAT for images 1.1`")
        return
    for image in root.iter("image"):
        yield from _read_image(image, file)


def _read_image(image: Element, file: str) -> Iterator[Reading]:
    name = image.get("name", "")
    sides = (whole_number(image.get("width")), whole_number(image.get("height")))
    stated = (sides[0], sides[1]) if sides[0] is not None and sides[1] is not None else None
    # Shapes with a higher `z_order` lie above the others.
    for number, shape in sorted(enumerate(image, start=1), key=lambda entry: _z_order(entry[1])):
        where = f"image {name!r}, {shape.tag} {number}"
        try:
            yield from _read_shape(shape, name, file, where, stated)
        except Exception as error:  # of a foreign file anything may be missing or of another type
            yield Problem(file, f"{where} is not as CVAT writes it ({error!r}): draw it again or remove it")


def _z_order(shape: Element) -> int:
    text = shape.get("z_order", "0")
    return int(text) if text.lstrip("-").isdecimal() else 0


def _read_shape(shape: Element, image: str, file: str, where: str, stated: tuple[int, int] | None) -> Iterator[Reading]:
    kind = shape.tag
    if kind not in ("tag", "points", "box", "polygon", "polyline", "ellipse", "mask"):
        yield Problem(file, f"{where} is of a type that is not read: draw it as a polygon or a polyline")
        return
    mark = partial(Mark, image=image, label=shape.attrib["label"], file=file, where=where, stated=stated)
    if kind == "tag":
        yield mark("tag")
    elif kind == "points":
        for point in _points(shape):
            yield mark("click", points=point[None])
    elif kind == "box":
        yield mark("box", points=_box(shape))
    elif kind == "ellipse":
        yield mark("region", points=_ellipse(shape))
    elif kind == "mask":
        left, top, width, height = (int(shape.attrib[name]) for name in ("left", "top", "width", "height"))
        decode = partial(_decode, shape.attrib["rle"], height, width)
        yield mark("region", bitmap=Bitmap(left, top, decode))
    else:
        yield mark("region" if kind == "polygon" else "stroke", points=_points(shape))


def _points(shape: Element) -> NDArray[np.float64]:
    pairs = [pair.split(",") for pair in shape.attrib["points"].split(";") if pair]
    return np.array(pairs, dtype=np.float64).reshape(-1, 2)


def _box(shape: Element) -> NDArray[np.float64]:
    """Corners of the box; of a turned one, those of the upright box around it."""
    left, top, right, bottom = (float(shape.attrib[name]) for name in ("xtl", "ytl", "xbr", "ybr"))
    if not (angle := np.deg2rad(float(shape.get("rotation", "0")))):
        return np.array([[left, top], [right, bottom]])
    center = np.array([left + right, top + bottom]) / 2
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    turned = center + (corners - center) @ _rotation(angle)
    return np.stack([turned.min(axis=0), turned.max(axis=0)])


def _ellipse(shape: Element) -> NDArray[np.float64]:
    x, y, across, down = (float(shape.attrib[name]) for name in ("cx", "cy", "rx", "ry"))
    angles = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
    rim = np.stack([across * np.cos(angles), down * np.sin(angles)], axis=1)
    return np.array([x, y]) + rim @ _rotation(np.deg2rad(float(shape.get("rotation", "0"))))


def _rotation(angle: float) -> NDArray[np.float64]:
    """What turns rows x, y clockwise, as seen on a screen."""
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def _decode(rle: str, height: int, width: int) -> NDArray[np.bool_]:
    """Pixels of a mask: lengths of runs that are outside and inside in turn, outside first."""
    runs = np.array(rle.split(","), dtype=np.int64)
    if (runs < 0).any() or runs.sum() != height * width:
        raise ValueError(f"its runs cover {runs.sum()} pixels, expected {height * width}")
    return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
