"""Label maps that people draw: indexed, gray or colored PNGs, turned into class indices."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from weakseg_lightning.data.folder.classes import CLASSES_FILE, Classes, Color
from weakseg_lightning.data.images.png import StoredLabels
from weakseg_lightning.data.images.reading import read_header, read_label_map
from weakseg_lightning.data.samples import BadSampleError
from weakseg_lightning.data.text import counted
from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.errors import first_of

__all__ = ["Size", "labels_all", "map_values", "read_map", "require_size", "to_labels", "values_of"]

_SHOWN = 3
_MOST_OTHERS = 50
_AS_EIGHT_BITS = 257  # 16 bits hold each value of 8 bits as so many times it

Labels = NDArray[np.uint8]
Size = tuple[int, int]
"""Width and height in pixels."""


def read_map(path: Path, classes: Classes, scribbles: bool, size: Size | None = None) -> Labels:
    """Read a label map.

    Gray: the value is the class, as it is stored, whatever the number of bits (255 = no label has none in files of 1, 2
    and 4 bits), unless `classes.yaml` gives grays to classes and all values are such grays but no classes, or
    `unlabelled` is a gray: then the gray is. Indexed: the index is, unless `classes.yaml` gives colors and all colors
    in use are those of classes: then the color is, since drawing programs renumber palettes. Colors: those of the
    classes, also in 16 bits, where these hold values of 8; a picture whose pixels are all gray counts as a gray one.
    What is wholly transparent has no label, however the file says so: by opacity, or by a value, index or color that is
    transparent.

    Args:
        path: PNG, of 1 to 16 bits.
        classes: names, colors, and the value without a label.
        scribbles: whether ``classes.unlabelled`` means no label here; in masks it is a class like any other.
        size: that of its image, which it must have; None if that does not matter.

    Returns:
        uint8 ``(H, W)``, 255 = no label.

    Raises:
        BadSampleError: if it cannot be read, has another size, or holds values or colors that are no class.
    """
    return to_labels(path, read_label_map(path), classes, scribbles, size)


def to_labels(path: Path, stored: StoredLabels, classes: Classes, scribbles: bool, size: Size | None = None) -> Labels:
    """Turn a label map that was read into class indices, see :func:`read_map`."""
    if stored.palette is not None:
        labels = _from_palette(path, stored, classes)
    elif stored.values.shape[-1] == 1:
        labels = _from_values(path, stored, classes, scribbles)
    else:
        labels = _from_colors(path, stored, classes)
    if scribbles and isinstance(classes.unlabelled, int):
        labels[labels == classes.unlabelled] = VOID
        if classes.background:
            labels[labels == classes.background] = 0
    _require_known(path, labels, len(classes.names))
    if size is not None:
        require_size(path, labels.shape, size, "annotate the image at its size")
    return labels


def labels_all(counts: NDArray[np.int64], unit: Literal["pixel", "voxel"]) -> str:
    """Say what may be wrong with scribbles that leave nothing without a label.

    Args:
        counts: how many pixels each value has, ``(256,)``.
        unit: what they are called.
    """
    most = int(counts.argmax())
    return (
        f"labels every {unit}: if {most}, the value of most, means no label, write `unlabelled: {most}` into "
        f"{CLASSES_FILE}; whole masks belong into masks/"
    )


def require_size(path: Path, shape: tuple[int, ...], size: Size, remedy: str) -> None:
    """Raise :class:`BadSampleError` if a map of pixels is not of the size of its image.

    Args:
        path: the file.
        shape: height and width of the map.
        size: width and height of the image.
        remedy: what to do.
    """
    if (found := shape[::-1]) != size:
        turned = ""
        if found == size[::-1]:
            turned = " (which stands upright, as EXIF data or the axes of its volume have it)"
        if turned and path.suffix == ".png" and read_header(path).orientation != 1:
            turned, remedy = " (it was turned by EXIF data of its own)", "remove these, or annotate the image upright"
        has = f"{path} has {found[0]} x {found[1]} pixels, its image {size[0]} x {size[1]}{turned}"
        raise BadSampleError(f"{has}: {remedy}")


def map_values(path: Path) -> list[int] | None:
    """List the values of a gray or indexed PNG, where it is not transparent; None for one in colors.

    Raises:
        BadSampleError: if it cannot be read.
    """
    return values_of(read_label_map(path))


def values_of(stored: StoredLabels) -> list[int] | None:
    """List the values of a label map that was read, see :func:`map_values`."""
    values = stored.visible
    if values.shape[-1] == 3 and (eight := _as_eight_bits(values, stored.depth)) is not None:
        values = eight
    if (values != values[:, :1]).any():
        return None
    return [int(value) for value in np.unique(values[:, 0])]


def _from_values(path: Path, stored: StoredLabels, classes: Classes, scribbles: bool) -> Labels:
    if (of_gray := _by_gray(path, stored, classes, scribbles)) is not None:
        return stored.with_void(of_gray[stored.values[..., 0]])
    values, most = stored.with_void(stored.values[..., 0]), len(classes.names) - 1
    if (worst := int(values.max())) > VOID:
        raise BadSampleError(f"{path} holds the value {worst}, expected 0 to {most}, or 255: write class indices")
    return values.astype(np.uint8)


def _by_gray(path: Path, stored: StoredLabels, classes: Classes, scribbles: bool) -> Labels | None:
    """The label of each value, where values are grays that `classes.yaml` gives to classes; None where they are labels.

    Programs store a picture in black and white with one value per pixel, as they store indices of classes.
    """
    given = {index: color for color, index in classes.index_of_color.items() if index in (*classes.given_colors, VOID)}
    if not any(len(set(color)) == 1 for color in given.values()):
        return None
    coded = scribbles and isinstance(classes.unlabelled, tuple)
    known = _labels_of_grays(stored, classes)
    by_gray = {value: label for value, label in known.items() if label is not None}
    if len(by_gray) < len(known) or not set(given) & set(by_gray.values()):
        return None
    if scribbles and not coded and classes.unlabelled != VOID:
        return None  # `unlabelled` is a value, and so are the classes
    as_values = [value for value in known if value < len(classes.names) or value == VOID]
    other = [value for value in as_values if by_gray[value] != value]
    if other and not coded and len(as_values) == len(known):
        if _hold_values(path, classes):
            return None
        value = other[0]
        names = [classes.names[label] if label != VOID else "void" for label in (value, by_gray[value])]
        raise BadSampleError(
            f"{path} is gray: its value {value} means {names[0]}, its color {names[1]}: save it as RGB "
            f"if colors are meant, or give {names[1]} a color that is no gray"
        )
    table = np.full(2**stored.depth, VOID, dtype=np.uint8)
    table[list(by_gray)] = list(by_gray.values())
    return table


def _labels_of_grays(stored: StoredLabels, classes: Classes) -> dict[int, int | None]:
    """The class that has each gray of a map as its color, by value; None where none has."""
    grays = {value: value * VOID / (2**stored.depth - 1) for value in np.unique(stored.visible).tolist()}
    return {value: classes.index_of_color.get((gray, gray, gray)) for value, gray in grays.items()}


def _hold_values(path: Path, classes: Classes) -> bool:
    """Tell if another map of the folder has values that are classes and no grays of classes."""
    for other in sorted(path.parent.glob("*.png"))[:_MOST_OTHERS]:
        try:
            stored = read_label_map(other)
        except BadSampleError:
            continue
        if stored.palette is None and stored.values.shape[-1] == 1:
            known = _labels_of_grays(stored, classes)
            if any(label is None and value < len(classes.names) for value, label in known.items()):
                return True
    return False


def _from_palette(path: Path, stored: StoredLabels, classes: Classes) -> Labels:
    indices = stored.values[..., 0]
    used = [index for index in np.unique(stored.visible).tolist() if index != VOID]  # which has no label at any color
    colors = {index: _at(stored.palette or [], index) for index in used}
    known = {index: classes.index_of_color.get(color) for index, color in colors.items() if color is not None}
    by_color = {index: label for index, label in known.items() if label is not None}
    table = np.arange(256, dtype=np.uint8)
    complete = set(by_color) >= set(used) and len(set(by_color.values())) == len(by_color)
    if complete and classes.given_colors:
        table[list(by_color)] = list(by_color.values())
    elif classes.given_colors or (complete and any(by_color.values())):  # black alone says nothing
        # Where the palette is padded with black, that is not the color of the background.
        padded = classes.index_of_color.get(_at(stored.palette or [], 0) or (0, 0, 0)) == 0
        _require_same_numbers(path, by_color, classes, complete, padded)
    return stored.with_void(table[indices])


def _require_same_numbers(path: Path, by_color: dict[int, int], classes: Classes, complete: bool, padded: bool) -> None:
    same = (VOID, 0) if padded else (VOID,)
    if renumbered := {index: label for index, label in by_color.items() if label not in (index, *same)}:
        index, label = next(iter(renumbered.items()))
        others = f"and {CLASSES_FILE} names no colors" if complete else "but other values have colors of no class"
        raise BadSampleError(
            f"{path}: its palette was renumbered, value {index} has the color of {classes.names[label]!r} (class "
            f"{label}), {others}: save it as RGB, or with the palette of the classes"
        )


def _at(palette: list[int], index: int) -> Color | None:
    found = palette[3 * index : 3 * index + 3]
    return (found[0], found[1], found[2]) if len(found) == 3 else None


def _from_colors(path: Path, stored: StoredLabels, classes: Classes) -> Labels:
    pixels = stored.visible.astype(np.int64)
    if (eight := _as_eight_bits(pixels, stored.depth)) is None:
        label_of_pixel = _from_deep_gray(path, pixels)
    else:
        found, where = np.unique(eight @ (65536, 256, 1), return_inverse=True)
        colors = [(int(code) >> 16, int(code) >> 8 & 255, int(code) & 255) for code in found]
        label_of_pixel = _labels_of(path, colors, where, classes)[where]
    if stored.opaque is None:
        return label_of_pixel.reshape(stored.values.shape[:2])
    labels = np.full(stored.values.shape[:2], VOID, dtype=np.uint8)
    labels[stored.opaque] = label_of_pixel
    return labels


def _labels_of(path: Path, colors: list[Color], where: NDArray[np.intp], classes: Classes) -> Labels:
    """Labels of colors: of classes if all are, else their value if all are gray."""
    table = [classes.index_of_color.get(color) for color in colors]
    if unknown := [color for color, label in zip(colors, table, strict=True) if label is None]:
        if any(red != green or green != blue for red, green, blue in colors):
            counts = dict(zip(colors, np.bincount(where).tolist(), strict=True))
            raise BadSampleError(f"{path} {_in_words(unknown, counts)}")
        table = [color[0] for color in colors]
    return np.array(table, dtype=np.uint8)


def _as_eight_bits(pixels: NDArray[Any], depth: int) -> NDArray[Any] | None:
    """Colors in 8 bits; None if those of 16 bits are none."""
    if depth < 16:
        return pixels
    return None if (pixels % _AS_EIGHT_BITS).any() else pixels // _AS_EIGHT_BITS


def _from_deep_gray(path: Path, pixels: NDArray[Any]) -> Labels:
    """Labels of 16-bit colors that are none of 8 bits: their value if they are gray and this could be a class."""
    if (pixels != pixels[:, :1]).any() or pixels.max() > VOID:
        color = next(color for color in pixels if (color % _AS_EIGHT_BITS).any())
        raise BadSampleError(
            f"{path} has 16-bit colors that are none of 8 bits, as {tuple(color.tolist())}: save it with 8 bits per "
            "channel in the colors of the classes"
        )
    return np.asarray(pixels[:, 0], dtype=np.uint8)


def _in_words(unknown: list[Color], counts: dict[Color, int]) -> str:
    ordered = sorted(unknown, key=lambda color: -counts[color])
    named = [f"#{bytes(color).hex()} ({counted(counts[color], 'pixel')})" for color in ordered[:_SHOWN]]
    shown = first_of(named, _SHOWN, ", ", len(unknown))
    hint = "switch off the smoothing of edges when drawing" if len(unknown) > _SHOWN else "name them in classes.yaml"
    none = f'`unlabelled: "{named[0].partition(" ")[0]}"` there, if that is no label'
    return f"has colors of no class, {shown}: {hint} (or {none}), or use the colors of the classes"


def _require_known(path: Path, labels: Labels, num_classes: int) -> None:
    counts = np.bincount(labels.ravel(), minlength=256)[num_classes:VOID]
    if (unknown := np.flatnonzero(counts) + num_classes).size:
        shown = ", ".join(map(str, unknown[:_SHOWN]))
        remedy = "name more classes in classes.yaml, or correct them"
        zeros = (labels == 0).mean() if unknown.tolist() == [num_classes] else None
        if zeros == 0:
            remedy = "values seem to count from 1, subtract 1, or put a class of the value 0 first in classes.yaml"
        elif zeros is not None and zeros > 0.5:
            remedy = f"{remedy}; if 0 means no label and the classes count from 1, subtract 1 in 8 bits: 0 becomes 255"
        raise BadSampleError(
            f"{path} holds the values {shown}{' ...' if unknown.size > _SHOWN else ''}, expected 0 to "
            f"{num_classes - 1}, or 255 for none: {remedy}"
        )
