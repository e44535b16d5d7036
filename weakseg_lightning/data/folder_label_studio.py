"""Annotations of Label Studio: its JSON export, one file for many images."""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import PureWindowsPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from weakseg_lightning.data.folder_marks import Bitmap, Mark, Problem, Reading, whole_number

__all__ = ["decode_brush", "is_label_studio", "read_label_studio"]

_UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # what Label Studio puts before the names of uploaded files
_CORNERS = 72  # of the polygon that stands for an ellipse


def is_label_studio(content: Any) -> bool:
    """Whether the content of a JSON file is Label Studio's."""
    return isinstance(content, list) and all(isinstance(task, dict) for task in content)


def read_label_studio(content: Any, file: str) -> Iterator[Reading]:
    """Read the content of a file: polygons, ellipses and brushes are regions; key points clicks, choices tags.

    Of several annotations of an image the last one counts that was not cancelled.

    Args:
        content: what the JSON holds.
        file: its path, for messages.
    """
    for number, task in enumerate(content, start=1):
        if not isinstance(task.get("data"), dict) or not isinstance(task.get("annotations"), list):
            where = f"task {task.get('id', number)}"
            yield Problem(file, f"{where} has no `data` and `annotations`: export it as JSON (not JSON-MIN)")
            continue
        done = [one for one in task["annotations"] if isinstance(one, dict) and not one.get("was_cancelled")]
        for result in (done[-1].get("result") or []) if done else []:
            yield from _read_result(result, task, file, f"task {task.get('id', number)}")


def _read_result(result: Any, task: dict[str, Any], file: str, where: str) -> Iterator[Reading]:
    try:
        kind, value = str(result["type"]), result["value"]
        where = f"{where}, result {result.get('id', '')} ({kind})".replace("  ", " ")
        if kind in ("textarea", "rating", "number", "relation", "taxonomy", "pairwise", "ranker"):
            return  # says nothing about pixels
        image = _image_name(task, result.get("to_name"))
        if kind == "choices":
            for label in value["choices"]:
                yield Mark("tag", image, str(label), file, where)
            return
        sides = (whole_number(result.get("original_width")), whole_number(result.get("original_height")))
        if sides[0] is None or sides[1] is None:
            raise ValueError("the size of its image is missing")
        if result.get("image_rotation"):
            yield Problem(file, f"{where} is on an image that was turned in Label Studio: turn it back there")
            return
        for label in value.get(kind) or ():
            yield from _read_shape(
                kind,
                value,
                partial(Mark, image=image, label=str(label), file=file, where=where, stated=(sides[0], sides[1])),
                (sides[0], sides[1]),
            )
        if not value.get(kind):
            yield Problem(file, f"{where} has no label, or is of a type that is not read: draw it again or remove it")
    except Exception as error:  # of a foreign file anything may be missing or of another type
        yield Problem(file, f"{where} is not as Label Studio writes it ({error!r}): draw it again or remove it")


def _read_shape(kind: str, value: dict[str, Any], mark: "partial[Mark]", size: tuple[int, int]) -> Iterator[Mark]:
    unit = np.array(size) / 100  # coordinates are percentages
    if kind == "keypointlabels":
        yield mark("click", points=np.array([[value["x"], value["y"]]]) * unit)
    elif kind == "rectanglelabels":
        corners = _corners(value) * unit
        if value.get("rotation"):
            corners = corners[0] + (corners - corners[0]) @ _rotation(value["rotation"])
        yield mark("box", points=np.stack([corners.min(axis=0), corners.max(axis=0)]))
    elif kind == "polygonlabels":
        yield mark("region", points=np.array(value["points"], dtype=np.float64).reshape(-1, 2) * unit)
    elif kind == "ellipselabels":
        yield mark("region", points=_ellipse(value, unit))
    elif kind == "vectorlabels":
        vertices = [[vertex["x"], vertex["y"]] for vertex in value["vertices"]]
        shape = "region" if value.get("closed") else "stroke"
        yield mark(shape, points=np.array(vertices, dtype=np.float64).reshape(-1, 2) * unit)
    elif kind == "brushlabels":
        bitmap = Bitmap(0, 0, partial(_brush, value["rle"], size))
        yield mark("region", bitmap=bitmap)
    else:
        raise ValueError(f"the type {kind!r} is not read")


def _corners(value: dict[str, Any]) -> NDArray[np.float64]:
    x, y, width, height = (float(value[name]) for name in ("x", "y", "width", "height"))
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])


def _ellipse(value: dict[str, Any], unit: NDArray[np.float64]) -> NDArray[np.float64]:
    angles = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
    radii = np.array([value["radiusX"], value["radiusY"]]) * unit
    rim: NDArray[np.float64] = radii * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    center: NDArray[np.float64] = np.array([value["x"], value["y"]]) * unit
    return center + rim @ _rotation(value.get("rotation") or 0)


def _rotation(degrees: float) -> NDArray[np.float64]:
    """What turns rows x, y clockwise, as seen on a screen."""
    angle = np.deg2rad(degrees)
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def _image_name(task: dict[str, Any], object_name: str | None) -> str:
    """The name of a task's image: that of the file which was uploaded, or of the address."""
    data = task["data"]
    address = str(data.get(object_name) or data.get("image") or next(iter(data.values())))
    parts = urlsplit(address)
    local = parse_qs(parts.query).get("d", [parts.path])[0]  # of local storage: `...?d=folder/cat.jpg`
    return _UPLOADED.sub("", PureWindowsPath(unquote(local)).name)


# ---- brushes ------------------------------------------------------------------------------------------------


def _brush(rle: Sequence[int], size: tuple[int, int]) -> NDArray[np.bool_]:
    width, height = size
    values = decode_brush(rle)
    if values.size != 4 * width * height:
        raise ValueError(f"it has {values.size // 4} pixels, expected {width * height}")
    return values.reshape(height, width, 4)[..., 3] > 0


def decode_brush(packed: Sequence[int]) -> NDArray[np.uint8]:
    """Unpack the run-length code of brushes, a stream of bits.

    It begins with the number of values (32 bits), the bits of a value less one (5), and four widths of run lengths
    less one (4 each). Runs follow: a bit that is set for one value repeated, two bits that choose the width, the run's
    length less one in that width, then the value, or all values of the run.

    Args:
        packed: the code's bytes.

    Returns:
        uint8 values: red, green, blue and opacity of one pixel after the other.

    Raises:
        ValueError: if the code ends too early.

    References:
        The format of the library rle-pack (thi.ng/umbrella), which Label Studio uses.
    """
    bits = _Bits(packed)
    count, word = bits.take(32), bits.take(5) + 1
    widths = [bits.take(4) + 1 for _ in range(4)]
    if count > 2**33:
        raise ValueError(f"it claims {count} values")
    runs: list[NDArray[np.uint8]] = []
    done = 0
    while done < count:
        repeated = bits.take(1)
        length = bits.take(widths[bits.take(2)]) + 1
        if repeated:
            runs.append(np.full(min(length, count - done), bits.take(word) & 255, dtype=np.uint8))
        else:
            runs.append(np.array([bits.take(word) & 255 for _ in range(length)], dtype=np.uint8))
        done += length
    return np.concatenate(runs)[:count] if runs else np.zeros(0, dtype=np.uint8)


class _Bits:
    """Reads bytes as a stream of bits, the highest first."""

    def __init__(self, packed: Sequence[int]) -> None:
        self.bits = np.unpackbits(np.array(packed, dtype=np.uint8))
        self.position = 0

    def take(self, count: int) -> int:
        """The next bits as a number."""
        taken = self.bits[self.position : self.position + count]
        if len(taken) < count:
            raise ValueError("its code ends too early")
        self.position += count
        return int("".join(map(str, taken.tolist())), 2)
