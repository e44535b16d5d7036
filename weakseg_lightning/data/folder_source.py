"""Samples of a folder of one's own images, and a close look at each of them."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.draw import polygon
from torch import Tensor
from typing_extensions import override

from weakseg_lightning.data.annotations import Supervision, boxes_from_mask, draw_clicks, seeds_from_boxes
from weakseg_lightning.data.files import image_size, read_image
from weakseg_lightning.data.folder_contents import FolderContents, LabelledMark
from weakseg_lightning.data.folder_maps import read_map
from weakseg_lightning.data.folder_marks import Problem, find_mark_fault, relative
from weakseg_lightning.data.samples import BadSampleError, Sample, SampleSource
from weakseg_lightning.data.scribbles import Stroke, draw_strokes
from weakseg_lightning.data.transforms import VOID

__all__ = ["FolderSource", "Inspection", "inspect_all", "inspect_image", "read_mask", "read_seeds"]

Labels = NDArray[np.uint8]
Size = tuple[int, int]
"""Width and height in pixels."""

_SHARES = {"small": 0.0, "large": 1.0}
"""What the words mean: beyond whatever thresholds part the sizes."""

_CHECKERS = 4
"""Images that are looked at together: each takes up to a gigabyte while it is decoded."""


class FolderSource(SampleSource):
    """Images of a folder with what is known about them.

    Args:
        contents: the folder.
        names: ids of the images.
        supervision: which annotations become seeds; None for no seeds.
    """

    def __init__(self, contents: FolderContents, names: Sequence[str], supervision: Supervision | None) -> None:
        self.contents = contents
        self.names = names
        self.supervision = supervision

    @property
    @override
    def ids(self) -> Sequence[str]:
        return self.names

    @override
    def __getitem__(self, index: int) -> Sample:
        name = self.names[index]
        image = read_image(self.contents.images[name])
        return self._sample(name, image)

    @override
    def labels(self, index: int) -> Sample:
        name = self.names[index]
        width, height = image_size(self.contents.images[name])
        return self._sample(name, torch.empty(3, height, width, dtype=torch.uint8, device="meta"))

    @override
    def has_mask(self, index: int) -> bool:
        return self.contents.has_mask(self.names[index])

    @override
    def origin(self, index: int, what: Literal["image", "seeds", "mask"]) -> str:
        name = self.names[index]
        maps = {"seeds": self.contents.scribbles, "mask": self.contents.masks}.get(what, {})
        return str(maps.get(name, self.contents.images[name]))

    @override
    def find_problems(self) -> dict[int, str]:
        """Read everything: images of one's own are few, and a fault is better found now than in the night."""
        looked = enumerate(inspect_all(self.contents, self.names))
        return {index: "; ".join(map(str, one.problems)) for index, one in looked if one.problems}

    def _sample(self, name: str, image: Tensor) -> Sample:
        contents, size = self.contents, (image.shape[2], image.shape[1])
        mask = _as_tensor(read_mask(contents, name, size))
        seeds = read_seeds(contents, name, size, self.supervision)
        boxes = _boxes(contents, name, mask) if self.supervision == "box" else None
        void = torch.full(image.shape[1:], VOID, dtype=torch.uint8)
        return Sample(
            id=name,
            image=image,
            seeds=void if seeds is None else torch.from_numpy(seeds),
            mask=mask,
            tags=self._tags(name, mask, seeds),
            boxes=boxes,
            shares=self._shares(name) if mask is None and contents.has(name, "size") else None,
        )

    def _tags(self, name: str, mask: Tensor | None, seeds: Labels | None) -> Tensor:
        """Classes that anything says are in the image."""
        tags = torch.zeros(len(self.contents.classes.names), dtype=torch.bool)
        tags[0] = True
        for labels in (mask, None if mask is not None else _drawn(self.contents, name, seeds)):
            if labels is not None:
                present = np.unique(np.asarray(labels))
                tags[present[present != VOID].astype(np.int64)] = True
        for known in self.contents.marks.get(name, ()):
            if known.label is not None:
                tags[known.label] = True
        return tags

    def _shares(self, name: str) -> Tensor:
        shares = torch.full((len(self.contents.classes.names),), float("nan"))
        for known in self.contents.marks.get(name, ()):
            share = known.mark.share
            if known.label is not None and share is not None:
                shares[known.label] = _SHARES[share] if isinstance(share, str) else share
        return shares


# ---- labels of one image --------------------------------------------------------------------------------------


def read_mask(contents: FolderContents, name: str, size: Size) -> Labels | None:
    """Read the mask of an image, from its PNG or its regions; None if it has neither.

    What no region covers is background; later regions cover earlier ones.

    Raises:
        BadSampleError: if it cannot be used.
    """
    if (path := contents.masks.get(name)) is not None:
        return read_map(path, contents.classes, scribbles=False)
    if not contents.has(name, "region"):
        return None
    mask = np.zeros(size[::-1], dtype=np.uint8)
    for known in contents.marks[name]:
        if known.mark.kind == "region" and known.label is not None:
            _paint(mask, known)
    return mask


def read_seeds(contents: FolderContents, name: str, size: Size, supervision: Supervision | None) -> Labels | None:
    """Draw the labelled pixels that an image has under a kind of supervision; None if that gives none.

    Raises:
        BadSampleError: if they cannot be used.
    """
    width, height = size
    marks = contents.marks.get(name, ())
    if supervision == "full":
        return read_mask(contents, name, size)
    if supervision == "box":
        mask = _as_tensor(read_mask(contents, name, size))
        return seeds_from_boxes(_boxes(contents, name, mask), height, width).numpy()
    if supervision not in ("scribble", "point"):
        return None
    pressed = [(k.mark.points[0], k.label) for k in marks if k.mark.kind == "click" and k.label is not None]
    clicks = draw_clicks([(float(x), float(y), label) for (x, y), label in pressed], height, width)
    if supervision == "point":
        return clicks
    path = contents.scribbles.get(name)
    seeds = np.full((height, width), VOID, np.uint8) if path is None else read_map(path, contents.classes, True)
    # Coordinates of marks count from the corner of the first pixel, those of strokes from its centre.
    strokes = [Stroke(k.mark.points - 0.5, k.label) for k in marks if k.mark.kind == "stroke" and k.label is not None]
    for layer in (draw_strokes(strokes, height, width), clicks):
        seeds[layer != VOID] = layer[layer != VOID]
    return seeds


def _paint(mask: Labels, known: LabelledMark) -> None:
    """Draw a region into a mask."""
    assert known.label is not None
    if (bitmap := known.mark.bitmap) is None:
        x, y = known.mark.points.T - 0.5
        rows, columns = polygon(y, x, mask.shape)
        mask[rows, columns] = known.label
        return
    pixels = bitmap.read()
    part = mask[bitmap.top : bitmap.top + pixels.shape[0], bitmap.left : bitmap.left + pixels.shape[1]]
    part[pixels[: part.shape[0], : part.shape[1]]] = known.label


def _boxes(contents: FolderContents, name: str, mask: Tensor | None) -> Tensor:
    """Boxes that were drawn, otherwise those around the parts of the mask: ``(n, 5)``."""
    drawn = [known for known in contents.marks.get(name, ()) if known.mark.kind == "box"]
    if not drawn and mask is not None:
        return boxes_from_mask(mask)
    rows = [[*known.mark.points[:2].flatten().tolist(), known.label] for known in drawn]
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)


def _drawn(contents: FolderContents, name: str, seeds: Labels | None) -> Labels | None:
    """Seeds, or the scribbles where another supervision leaves them aside."""
    if seeds is not None or name not in contents.scribbles:
        return seeds
    return read_map(contents.scribbles[name], contents.classes, scribbles=True)


def _as_tensor(labels: Labels | None) -> Tensor | None:
    return None if labels is None else torch.from_numpy(labels)


# ---- a close look -----------------------------------------------------------------------------------------------


@dataclass
class Inspection:
    """What was found when everything about an image was read.

    Attributes:
        name: id of the image.
        size: width and height in pixels; None if not even these can be read.
        seeds: how many pixels scribbles and clicks give each class, ``(256,)``, 255 = none.
        mask: how many pixels the mask gives each class; None without one.
        problems: what is wrong.
    """

    name: str
    size: Size | None = None
    seeds: NDArray[np.int64] | None = None
    mask: NDArray[np.int64] | None = None
    problems: list[Problem] = field(default_factory=list)


def inspect_all(contents: FolderContents, names: Sequence[str]) -> Iterator[Inspection]:
    """Read everything about some images, several at a time, in order."""
    with ThreadPoolExecutor(_CHECKERS) as pool:  # decoding releases the GIL
        yield from pool.map(partial(inspect_image, contents), names)


def inspect_image(contents: FolderContents, name: str) -> Inspection:
    """Read everything about an image, and collect what is wrong with it."""
    found = Inspection(name)
    # Of the files themselves: two files for one image, or a CSV row of it that cannot be read.
    found.problems += [problem for problem in contents.problems if problem.image == name]
    image = contents.images[name]
    try:
        found.size = image_size(image)
        read_image(image)
    except BadSampleError as error:
        found.problems.append(_problem(contents, image, error, name))
    if found.size is None:
        return found  # what the annotations must fit is not known
    faults = _faulty_marks(contents, name, found.size)
    found.problems += faults
    if (path := contents.masks.get(name)) is not None or (not faults and contents.has(name, "region")):
        found.mask = _counted(contents, found, path or image, partial(read_mask, contents, name, found.size))
    if (path := contents.scribbles.get(name)) is not None:
        found.seeds = _counted(contents, found, path, partial(read_map, path, contents.classes, True))
        _check_scribbles(contents, found, path)
    if not faults and contents.has(name, "click", "stroke") and not found.problems:
        drawn = partial(read_seeds, contents, name, found.size, "scribble")
        found.seeds = _counted(contents, found, path or image, drawn)
    _compare_with_tags(contents, found)
    return found


def _compare_with_tags(contents: FolderContents, found: Inspection) -> None:
    """Where tags are given, the classes that are drawn must be among them."""
    tags = [known for known in contents.marks.get(found.name, ()) if known.mark.kind == "tag"]
    drawn = {known.label for known in contents.marks.get(found.name, ()) if known.mark.kind != "tag"}
    for counts in (found.seeds, found.mask):
        drawn |= set(np.flatnonzero(counts[:VOID]).tolist()) if counts is not None else set()
    if tags and (untagged := sorted(label for label in drawn - {known.label for known in tags} if label)):
        names = ", ".join(contents.classes.names[label] for label in untagged)
        text = f"tags {found.name!r} without {names}, which other annotations of it have: correct one of them"
        found.problems.append(Problem(tags[0].mark.file, text, found.name))


def _faulty_marks(contents: FolderContents, name: str, size: Size) -> list[Problem]:
    found = []
    for known in contents.marks.get(name, ()):
        fault = find_mark_fault(known.mark, size) or _bitmap_fault(known, size)
        if fault is not None:
            found.append(known.mark.problem(fault, name))
    return list(dict.fromkeys(found))


def _bitmap_fault(known: LabelledMark, size: Size) -> str | None:
    if (bitmap := known.mark.bitmap) is None:
        return None
    try:
        height, width = bitmap.read().shape
    except Exception as error:  # of a foreign file anything may be damaged
        return f"is a mask that cannot be read ({error}): draw it again or remove it"
    if bitmap.left < 0 or bitmap.top < 0 or bitmap.left + width > size[0] + 1 or bitmap.top + height > size[1] + 1:
        return f"is a mask that reaches outside its image of {size[0]} x {size[1]} pixels: draw it again or remove it"
    return None


def _counted(
    contents: FolderContents, found: Inspection, path: Path, read: Callable[[], Labels | None]
) -> NDArray[np.int64] | None:
    """Count the pixels of each class in a label map, if it can be read and has the size of its image."""
    try:
        labels = read()
    except BadSampleError as error:
        found.problems.append(_problem(contents, path, error, found.name))
        return None
    assert labels is not None
    if (size := labels.shape[::-1]) != found.size:
        width, height = found.size or (0, 0)
        turned = " (upright: its EXIF data turn it)" if size == (height, width) else ""
        text = f"has {size[0]} x {size[1]} pixels, its image {width} x {height}{turned}: annotate the image at its size"
        found.problems.append(Problem(relative(path, contents.root), text, found.name))
        return None
    return np.bincount(labels.ravel(), minlength=256)


def _check_scribbles(contents: FolderContents, found: Inspection, path: Path) -> None:
    if found.seeds is None:
        return
    text, labelled = None, found.seeds[:VOID]
    if not labelled.any():
        text = "has no labelled pixel: draw a stroke, or remove the file"
    elif not found.seeds[VOID] and labelled.sum() > 1:
        text = (
            "labels every pixel: if another value than 255 means no label, write it into classes.yaml as `unlabelled`; "
            "whole masks belong into masks/"
        )
    if text is not None:
        found.problems.append(Problem(relative(path, contents.root), text, found.name))


def _problem(contents: FolderContents, path: Path, error: BadSampleError, name: str) -> Problem:
    return Problem(relative(path, contents.root), str(error).removeprefix(str(path)).lstrip(": "), name)
