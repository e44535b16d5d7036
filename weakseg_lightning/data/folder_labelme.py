"""Annotations of LabelMe: one JSON file an image."""

import base64
import io
from collections.abc import Iterator
from functools import partial
from pathlib import PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from weakseg_lightning.data.folder_marks import Bitmap, Mark, Problem, Reading, whole_number

__all__ = ["is_labelme", "read_labelme"]

_KINDS = {"polygon": "region", "rectangle": "box", "line": "stroke", "linestrip": "stroke"}
_CIRCLE_CORNERS = 72


def is_labelme(content: Any) -> bool:
    """Whether the content of a JSON file is LabelMe's."""
    return isinstance(content, dict) and "shapes" in content


def read_labelme(content: Any, file: str) -> Iterator[Reading]:
    """Read the content of a file: polygons, circles and masks are regions; lines and line strips are strokes.

    Flags of the image that are set are tags.

    Args:
        content: what the JSON holds.
        file: its path, for messages; its stem names the image unless ``imagePath`` does.
    """
    image = PureWindowsPath(str(content.get("imagePath") or file)).name  # knows both kinds of slashes
    sides = (whole_number(content.get("imageWidth")), whole_number(content.get("imageHeight")))
    stated = (sides[0], sides[1]) if sides[0] is not None and sides[1] is not None else None
    shapes, flags = content["shapes"], content.get("flags") or {}
    if not isinstance(shapes, list) or not isinstance(flags, dict):
        yield Problem(file, "has no list `shapes`: save it again with LabelMe")
        return
    for name, is_set in flags.items():
        if is_set:
            yield Mark("tag", image, str(name), file, "flags", stated=stated)
    for number, shape in enumerate(shapes, start=1):
        where = f"shape {number}"
        try:
            yield from _read_shape(shape, image, file, where, stated)
        except Exception as error:  # of a foreign file anything may be missing or of another type
            yield Problem(file, f"{where} is not as LabelMe writes it ({error!r}): draw it again or remove it")


def _read_shape(shape: Any, image: str, file: str, where: str, stated: tuple[int, int] | None) -> Iterator[Reading]:
    kind, label = str(shape.get("shape_type") or "polygon"), str(shape["label"])
    points = np.array(shape["points"], dtype=np.float64).reshape(-1, 2)
    if kind in _KINDS:
        if kind == "rectangle" and len(points) == 2:
            points = np.sort(points, axis=0)
        yield Mark(_KINDS[kind], image, label, file, where, points, stated=stated)  # type: ignore[arg-type]
    elif kind in ("point", "points"):
        for point in points:
            yield Mark("click", image, label, file, where, point[None], stated=stated)
    elif kind == "circle":
        yield Mark("region", image, label, file, where, _circle(*points), stated=stated)
    elif kind == "mask":
        left, top = points.min(axis=0).round().astype(int).tolist()
        bitmap = Bitmap(left, top, partial(_decode, str(shape["mask"])))
        yield Mark("region", image, label, file, where, bitmap=bitmap, stated=stated)
    else:
        yield Problem(file, f"{where} is of the type {kind!r}, which is not read: draw it as a polygon or a line")


def _circle(center: NDArray[np.float64], edge: NDArray[np.float64]) -> NDArray[np.float64]:
    angles = np.linspace(0, 2 * np.pi, _CIRCLE_CORNERS, endpoint=False)
    rim: NDArray[np.float64] = np.hypot(*(edge - center)) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return center + rim


def _decode(text: str) -> NDArray[np.bool_]:
    with Image.open(io.BytesIO(base64.b64decode(text))) as picture:
        return np.asarray(picture.convert("L")) > 0
