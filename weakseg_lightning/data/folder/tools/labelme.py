"""Annotations of LabelMe and its forks, as X-AnyLabeling: one JSON file per image."""

import base64
import io
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from weakseg_lightning.data.folder.annotations import Annotation, AnnotationKind, Bitmap, LeftOut, Problem, Reading
from weakseg_lightning.data.folder.names import file_ref
from weakseg_lightning.data.folder.tools.shapes import (
    Points,
    ShapeError,
    Size,
    as_points,
    covering,
    cut_polygon,
    ellipse,
    enclosing_box,
    explaining,
    from_points,
    stated_size,
)
from weakseg_lightning.energies.potts import VOID

_MEANINGS = {"_background_": 0, "__ignore__": VOID}
"""Classes that LabelMe's own scripts, such as labelme2voc, make of these labels."""

_PROMPTS = ("AUTOLABEL_ADD", "AUTOLABEL_REMOVE")
_UNNAMED = "AUTOLABEL_OBJECT"
_KINDS: dict[str, AnnotationKind] = {
    "point": "click",
    "points": "click",
    "line": "stroke",
    "linestrip": "stroke",
    "polygon": "region",
    "quadrilateral": "region",
}
_TURNED_BOXES = ("rotation", "oriented_rectangle")


def is_labelme(content: Any) -> bool:
    """Recognize the content of LabelMe's JSON files."""
    return isinstance(content, dict) and "shapes" in content


def read_labelme(content: Any, file: str) -> Iterator[Reading]:
    """Read the content of a file: polygons, circles and masks are regions; lines and line strips are strokes.

    Flags of the image that are set, and X-AnyLabeling's tags, may be tags. An image that was checked in X-AnyLabeling
    and has neither shapes nor tags shows background alone.

    Args:
        content: what the JSON holds.
        file: its path from the root of the data, which says which image it is about, as `imagePath` does.
    """
    image = file_ref(file, str(content.get("imagePath") or ""))
    stated = stated_size(content.get("imageWidth"), content.get("imageHeight"))
    annotation = partial(Annotation, image=image, file=file, stated=stated)
    shapes = content["shapes"] if content["shapes"] is not None else []
    if not isinstance(shapes, list):
        yield Problem(file, "has no list `shapes`: save it again with LabelMe", about=image)
        return
    tags = list(_tags(content, file, annotation))
    yield from tags
    for number, shape in enumerate(shapes, start=1):
        drawn = partial(annotation, where=f"shape {number}")
        yield from explaining(partial(_read_shape, shape, drawn, stated), "LabelMe", drawn("region", label="").problem)
    if not shapes and not tags:
        checked = content.get("checked") is True
        yield annotation("nothing", label="") if checked else LeftOut(file, "files without a shape")


def _tags(content: dict[str, Any], file: str, annotation: Callable[..., Annotation]) -> Iterator[Reading]:
    """Read what is said of the whole image: the flags that are set, X-AnyLabeling's tags."""
    flags, tags = content.get("flags") or {}, content.get("tags") or []
    given = list(flags.items()) if isinstance(flags, dict) else [("flags", flags)]
    given += [(tag, True) for tag in tags] if isinstance(tags, list) else [("tags", tags)]
    for name, is_set in given:
        if isinstance(name, str) and name.strip() and is_set == 1:
            yield annotation("tag", label=name, where="flags", meaning=_MEANINGS.get(name.strip()), optional=True)
        elif is_set:
            yield LeftOut(file, "flags that are neither true nor false, or have no name", f"{name!r}: {is_set!r}")


def _read_shape(shape: Any, annotation: Callable[..., Annotation], size: Size | None) -> Iterator[Reading]:
    if not isinstance(shape, dict) or "label" not in shape:
        raise ValueError("it has no label")
    label = _label(shape["label"])
    if label in _PROMPTS:
        yield LeftOut(annotation("click", label=label).file, "prompts of automatic labeling", label)
        return
    annotation = partial(annotation, label=label, meaning=_MEANINGS.get(label.strip()))
    kind, points = str(shape.get("shape_type") or "polygon"), as_points(shape.get("points"))
    if kind == "quadrilateral" and size is not None:
        yield annotation("region", bitmap=cut_polygon(points, size))
    elif kind in _KINDS:
        yield from from_points(_KINDS[kind], points, annotation)
    elif kind == "rectangle" or kind in _TURNED_BOXES:
        yield annotation("box", points=enclosing_box(points, size if kind in _TURNED_BOXES else None))
    elif kind == "circle":
        yield annotation("region", bitmap=_circle(points, size))
    elif kind == "mask":
        yield annotation("region", bitmap=_mask(points, shape.get("mask"), size))
    else:
        raise ShapeError(f"is of the type {kind!r}, which is not read: draw it as a polygon or a line")


def _label(given: Any) -> str:
    """A label as text; empty if there is none."""
    if given is None or given == _UNNAMED or given != given:  # the last is NaN, as pandas writes what is missing
        return ""
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        raise ValueError(f"its label {given!r} is no text")
    return str(given)


def _circle(points: Points, size: Size | None) -> Bitmap:
    if len(points) != 2:
        raise ValueError(f"it has {len(points)} points, expected its center and one of its rim")
    radius = np.hypot(*(points[1] - points[0]))
    return ellipse(points[0], (radius, radius), size=size)


def _mask(points: Points, mask: Any, size: Size | None) -> Bitmap:
    if not isinstance(mask, str) or not np.isfinite(points).all():
        raise ValueError("it has no `mask`, or coordinates that are no numbers")
    (left, top), (right, bottom) = enclosing_box(points).round().astype(int).tolist()
    sides = (bottom - top + 1, right - left + 1) if len(points) > 1 else None
    return Bitmap(max(left, 0), max(top, 0), partial(_decode, mask, left, top, sides, size))


def _decode(text: str, left: int, top: int, sides: Size | None, size: Size | None) -> NDArray[np.bool_]:
    """Decode a mask, which LabelMe puts at the upper left corner of its box and cuts at the borders of the image."""
    data = text.rsplit(",", 1)[-1]  # what precedes it in a `data:` URL is no part of it
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        pixels: NDArray[np.bool_] = np.asarray(picture) != 0
    if pixels.ndim != 2:
        raise ValueError("it is in colors, expected one value per pixel")
    if sides is not None and np.abs(np.subtract(pixels.shape, sides)).max() > 1:  # boxes round
        height, width = pixels.shape
        raise ValueError(f"it has {width} x {height} pixels, its box {sides[1]} x {sides[0]}")
    width, height = size or (left + pixels.shape[1], top + pixels.shape[0])
    return covering(pixels[max(-top, 0) : max(height - top, 0), max(-left, 0) : max(width - left, 0)])
