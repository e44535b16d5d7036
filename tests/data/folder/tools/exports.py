"""Annotation files of tools, written for tests, and what is read from them."""

import base64
import io
import json
from itertools import starmap
from pathlib import Path

import numpy as np
from matplotlib.path import Path as Outline
from PIL import Image

from weakseg_lightning.data.folder.contents import FolderContents, read_folder
from weakseg_lightning.data.folder.inspection import inspect_all
from weakseg_lightning.data.folder.labels import boxes_of, read_mask

SIZE = (48, 40)
SQUARE = [[8, 10], [28, 10], [28, 20], [8, 20]]


def shape(kind: str, points: object, label: object = "cat", **others: object) -> dict[str, object]:
    """One shape as LabelMe writes it."""
    return {"label": label, "shape_type": kind, "points": points, "group_id": None, "flags": {}, **others}


def labelme(root: Path, *shapes: object, file: str = "images/a.json", **others: object) -> None:
    """Write a file of LabelMe."""
    content = {"version": "5.4.1", "imagePath": "a.jpg", "imageWidth": 48, "imageHeight": 40, "flags": {}}
    (root / file).parent.mkdir(exist_ok=True)
    (root / file).write_text(json.dumps({**content, "shapes": shapes, **others}))


DRAWN = {
    "labelme": {"click": "point", "stroke": "linestrip", "box": "rectangle", "region": "polygon"},
    "cvat": {"click": "points", "stroke": "polyline", "box": "box", "region": "polygon"},
}
"""Names that the tools have for kinds of shapes."""


def annotate(root: Path, tool: str, *shapes: tuple[str, list, object], size: tuple[int, int] = SIZE) -> None:
    """Draw shapes of the image `a`, given by their kinds, points and labels, with a tool."""
    width, height = size
    if tool == "labelme":
        drawn = [shape(DRAWN[tool][kind], points, label) for kind, points, label in shapes]
        labelme(root, *drawn, imageWidth=str(width), imageHeight=str(height))
    elif tool == "cvat":
        cvat(root, cvat_image("".join(starmap(cvat_shape, shapes)), width=width, height=height))
    else:
        sides = {"original_width": width, "original_height": height}
        label_studio(root, task(*({**label_studio_shape(*shape), **sides} for shape in shapes)))


def cvat_shape(kind: str, points: list, label: object) -> str:
    """One shape as CVAT writes it."""
    text = ";".join(f"{x},{y}" for x, y in points)
    box = dict(zip(("xtl", "ytl", "xbr", "ybr"), np.ravel(points).tolist(), strict=False))
    place = " ".join(f'{key}="{value}"' for key, value in (box if kind == "box" else {"points": text}).items())
    return f'<{DRAWN["cvat"][kind]} label="{label}" {place} occluded="1" source="semi-auto"/>'


def label_studio_shape(kind: str, points: list, label: object) -> dict[str, object]:
    """One polygon or rectangle as Label Studio writes it."""
    if kind == "box":
        return rectangle(*np.ravel(points).tolist(), label)
    return region("polygonlabels", {"points": percent(points), "closed": True}, label)


def opened(root: Path) -> FolderContents:
    """Read a folder that must be sound."""
    contents = read_folder(root)
    assert contents.problems == []
    return contents


def mask_of(root: Path, name: str = "a") -> np.ndarray:
    """The mask of an image of a sound folder."""
    mask = read_mask(opened(root), name, SIZE)
    assert mask is not None
    return mask


def boxes(root: Path, name: str = "a") -> list[list[float]]:
    """The boxes of an image of a sound folder: corners and class."""
    return boxes_of(opened(root), name, None).tolist()


def annotations_of(root: Path, name: str = "a") -> list[tuple[str, int | None]]:
    """Kinds and classes of what is said of an image."""
    return [(known.annotation.kind, known.label) for known in read_folder(root).annotations.get(name, ())]


def problems(root: Path) -> str:
    """Problems of a folder."""
    return "; ".join(map(str, read_folder(root).problems))


def notes(root: Path) -> list[str]:
    """Notes on a folder."""
    return list(read_folder(root).notes)


def faults(root: Path, name: str = "a") -> str:
    """What `check` finds wrong with an image."""
    (looked,) = inspect_all(read_folder(root), [name])
    return "; ".join(map(str, looked.problems))


def png(pixels: np.ndarray | Image.Image) -> str:
    """A PNG as text."""
    file = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def filled(points: object) -> np.ndarray:
    """Pixels whose centers lie in a polygon, by another library."""
    rows, columns = np.mgrid[:40, :48] + 0.5
    return Outline(points).contains_points(np.stack([columns.ravel(), rows.ravel()], axis=1)).reshape(40, 48)


def cvat_image(inside: str = "", name: str = "a.jpg", **others: object) -> str:
    """One image of an export of CVAT, with the shapes inside."""
    attributes = {"id": 0, "name": name, "width": 48, "height": 40, **others}
    given = " ".join(f'{key}="{value}"' for key, value in attributes.items() if value is not None)
    return f"<image {given}>{inside}</image>"


def cvat(root: Path, *images: str, file: str = "annotations.xml", meta: str = "") -> None:
    """Write an export of CVAT."""
    (root / file).parent.mkdir(exist_ok=True)
    text = f"<annotations><version>1.1</version><meta>{meta}</meta>{''.join(images)}</annotations>"
    (root / file).write_text(text, "utf-8")


def percent(points: object) -> list[list[float]]:
    """Pixels as Label Studio writes them: percentages of the image."""
    return (np.array(points, dtype=np.float64).reshape(-1, 2) * 100 / SIZE).tolist()


def region(kind: str, value: dict[str, object], label: object = "cat", **others: object) -> dict[str, object]:
    """A result of Label Studio that is a shape with a label."""
    labelled = {**value, kind: label if isinstance(label, list) else [label]}
    sides = {"original_width": 48, "original_height": 40, "image_rotation": 0, "to_name": "image", "from_name": "label"}
    return {**sides, "id": f"{kind}-{len(str(value))}", "type": kind, "value": labelled, **others}


def rectangle(left: float, top: float, right: float, bottom: float, label: object = "cat", **others: object) -> dict:
    """A rectangle of Label Studio, given in pixels."""
    (x, y), (width, height) = percent([[left, top], [right - left, bottom - top]])
    return region("rectanglelabels", {"x": x, "y": y, "width": width, "height": height}, label, **others)


def task(*results: object, image: object = "/data/upload/1/0a1b2c3d-a.jpg", **others: object) -> dict[str, object]:
    """A task of Label Studio with one annotation."""
    return {"id": 1, "data": {"image": image}, "annotations": [{"id": 5, "result": list(results)}], **others}


def label_studio(root: Path, *tasks: object, file: str = "project.json") -> None:
    """Write an export of Label Studio."""
    (root / file).parent.mkdir(exist_ok=True)
    (root / file).write_text(json.dumps(tasks))
