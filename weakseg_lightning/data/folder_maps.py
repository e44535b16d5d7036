"""Label maps that people draw: indexed, grey or coloured PNGs, turned into class indices."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from weakseg_lightning.data.files import opened
from weakseg_lightning.data.folder_classes import Classes, Color
from weakseg_lightning.data.samples import BadSampleError
from weakseg_lightning.data.transforms import VOID

__all__ = ["map_values", "read_map"]

_GREY = ("1", "L", "LA", "I;16", "I;16B", "I")
_SHOWN = 3

Values = NDArray[np.integer]
Labels = NDArray[np.uint8]


def read_map(path: Path, classes: Classes, scribbles: bool) -> Labels:
    """Read a label map.

    Grey: the value is the class. Indexed: the index is, unless `classes.yaml` gives colours and all colours in use are
    those of classes: then the colour is, since drawing programs renumber palettes. Colours: those of the classes; what
    is transparent has no label; a picture whose pixels are all grey counts as a grey one.

    Args:
        path: PNG.
        classes: names, colours, and the value without a label.
        scribbles: whether ``classes.unlabelled`` means no label here; in masks it is a class like any other.

    Returns:
        uint8 ``(H, W)``, 255 = no label.

    Raises:
        BadSampleError: if it cannot be read, or holds values or colours that are no class.
    """
    with opened(path) as image:
        mode = image.mode
        if mode == "P":
            labels = _from_palette(path, image, classes)
        elif mode in _GREY:
            labels = _from_values(path, image, classes)
        elif mode in ("RGB", "RGBA"):
            labels = _from_colors(path, np.array(image), classes)
        else:
            raise BadSampleError(f"{path} has pixels of type {mode}, expected indexed, grey or RGB: save it so")
    if scribbles and isinstance(classes.unlabelled, int):
        labels[labels == classes.unlabelled] = VOID
    _refuse_unknown(path, labels, len(classes.names))
    return labels


def map_values(path: Path) -> list[int] | None:
    """List the pixel values of a grey or indexed PNG; None for one in colours.

    Raises:
        BadSampleError: if it cannot be read.
    """
    with opened(path) as image:
        if image.mode not in ("P", *_GREY):
            pixels = np.array(image.convert("RGB")).reshape(-1, 3)
            if (pixels != pixels[:, :1]).any():
                return None
            return [int(value) for value in np.unique(pixels[:, 0])]
        return [int(value) for value in np.unique(np.array(image.getchannel(0) if image.mode == "LA" else image))]


def _from_values(path: Path, image: Image.Image, classes: Classes) -> Labels:
    if image.mode == "LA":
        values, opacity = (np.array(channel) for channel in image.split())
        return np.where(opacity > 0, values, VOID).astype(np.uint8)
    values = np.array(image).astype(np.int64)
    if values.min() < 0 or values.max() > VOID:
        worst = int(values.max() if values.max() > VOID else values.min())
        raise BadSampleError(
            f"{path} holds the value {worst}, expected 0 to {len(classes.names) - 1}, or 255: write class indices"
        )
    return values.astype(np.uint8)


def _from_palette(path: Path, image: Image.Image, classes: Classes) -> Labels:
    indices = np.array(image)
    used = np.unique(indices).tolist()
    flat = image.getpalette() or []
    colors = {index: _at(flat, index) for index in used}
    known = {index: classes.index_of_color.get(color) for index, color in colors.items() if color is not None}
    by_color = {index: label for index, label in known.items() if label is not None}
    # 255 has no label, whatever its colour.
    complete = set(by_color) | {VOID} >= set(used) and len(set(by_color.values())) == len(by_color)
    if complete and classes.given_colors:
        table = np.full(256, VOID, dtype=np.uint8)
        table[list(by_color)] = list(by_color.values())
        table[VOID] = by_color.get(VOID, VOID)
        labels: Labels = table[indices]
        return labels
    renumbered = {index: label for index, label in by_color.items() if label not in (index, 0, VOID)}
    if renumbered and classes.given_colors:
        index, label = next(iter(renumbered.items()))
        raise BadSampleError(
            f"{path}: its palette was renumbered, value {index} has the colour of {classes.names[label]!r} (class "
            f"{label}), but other values have colours of no class: save it as RGB, or with the palette of the classes"
        )
    return indices.astype(np.uint8)


def _at(palette: list[int], index: int) -> Color | None:
    found = palette[3 * index : 3 * index + 3]
    return (found[0], found[1], found[2]) if len(found) == 3 else None


def _from_colors(path: Path, pixels: NDArray[np.uint8], classes: Classes) -> Labels:
    opaque = pixels[..., 3] > 0 if pixels.shape[-1] == 4 else np.ones(pixels.shape[:2], dtype=bool)
    packed = (pixels[..., :3].astype(np.int64) * (65536, 256, 1)).sum(-1)
    found, where = np.unique(packed[opaque], return_inverse=True)
    colors = [(int(code) >> 16, int(code) >> 8 & 255, int(code) & 255) for code in found]
    table = [classes.index_of_color.get(color) for color in colors]
    if unknown := [color for color, label in zip(colors, table, strict=True) if label is None]:
        if any(red != green or green != blue for red, green, blue in colors):
            counts = dict(zip(colors, np.bincount(where.ravel()).tolist(), strict=True))
            raise BadSampleError(f"{path} {_in_words(unknown, counts)}")
        table = [color[0] for color in colors]
    labels = np.full(pixels.shape[:2], VOID, dtype=np.uint8)
    labels[opaque] = np.array(table, dtype=np.uint8)[where.ravel()]
    return labels


def _in_words(unknown: list[Color], counts: dict[Color, int]) -> str:
    ordered = sorted(unknown, key=lambda color: -counts[color])
    shown = ", ".join(f"#{bytes(color).hex()} ({counts[color]} pixels)" for color in ordered[:_SHOWN])
    more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
    hint = "switch off the smoothing of edges when drawing" if len(unknown) > _SHOWN else "name them in classes.yaml"
    return f"has colours of no class, {shown}{more}: {hint}, or use the colours of the classes"


def _refuse_unknown(path: Path, labels: Labels, num_classes: int) -> None:
    counts = np.bincount(labels.ravel(), minlength=256)[num_classes:VOID]
    if (unknown := np.flatnonzero(counts) + num_classes).size:
        shown = ", ".join(map(str, unknown[:_SHOWN]))
        raise BadSampleError(
            f"{path} holds the values {shown}{' ...' if unknown.size > _SHOWN else ''}, expected 0 to "
            f"{num_classes - 1}, or 255 for none: name more classes in classes.yaml, or correct them"
        )
