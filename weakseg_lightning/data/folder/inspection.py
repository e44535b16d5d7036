"""A close look at each image of a folder and at its annotations."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from weakseg_lightning.data.folder.annotations import LabeledAnnotation, Problem, covers_nothing, find_fault, relative
from weakseg_lightning.data.folder.classes import FIRST_IS_BACKGROUND
from weakseg_lightning.data.folder.contents import FolderContents
from weakseg_lightning.data.folder.files import MASKS, SCRIBBLES, purpose
from weakseg_lightning.data.folder.images.guides import read_guide
from weakseg_lightning.data.folder.label_maps import Size, labels_all
from weakseg_lightning.data.folder.labels import (
    Labels,
    accepted_of,
    cuts_into,
    leaves_pixels,
    read_drawn,
    read_mask,
    scribbles_of,
)
from weakseg_lightning.data.folder.names import IMAGES
from weakseg_lightning.data.images.nifti import is_volume
from weakseg_lightning.data.images.nodata import Flags
from weakseg_lightning.data.samples import BadSampleError
from weakseg_lightning.energies.potts import VOID

__all__ = ["Inspection", "inspect_all", "inspect_image", "nothing_labelled", "only_void"]

_CHECKERS = 4
"""Images that are looked at together: each takes up to a gigabyte while it is decoded."""

_ROUNDING = 0.005
"""Of sizes: half of a percent."""


@dataclass
class Inspection:
    """Findings when everything about an image was read.

    Attributes:
        name: id of the image.
        size: width and height in pixels; None if not even these can be read.
        seeds: how many pixels scribbles and clicks give each class, ``(256,)``, 255 = none.
        accepted: how many pixels the accepted labels give each class.
        mask: how many pixels the mask gives each class; None without one.
        ranges: lowest and highest value of each channel, ``(2, C)``; None without `channels`.
        valid: pixels that have data, ``(H, W)``; None where all have. Others are not counted.
        problems: what is wrong.
    """

    name: str
    size: Size | None = None
    seeds: NDArray[np.int64] | None = None
    accepted: NDArray[np.int64] | None = None
    mask: NDArray[np.int64] | None = None
    ranges: NDArray[np.float64] | None = None
    valid: Flags | None = None
    problems: list[Problem] = field(default_factory=list)

    @property
    def counts(self) -> list[NDArray[np.int64]]:
        """All counts of pixels that there are."""
        return [counts for counts in (self.seeds, self.accepted, self.mask) if counts is not None]


def inspect_all(contents: FolderContents, names: Sequence[str]) -> Iterator[Inspection]:
    """Read everything about some images, several at a time, in order."""
    with ThreadPoolExecutor(_CHECKERS) as pool:  # decoding releases the GIL
        yield from pool.map(partial(inspect_image, contents), names)


def nothing_labelled(contents: FolderContents, found: Sequence[Inspection]) -> list[Problem]:
    """Find out whether there are label maps, and none of them labels a pixel.

    Args:
        contents: the folder.
        found: what was found about its images.
    """
    counts = [counts for one in found for counts in one.counts]
    others = any(contents.has(one.name, "box", "tag", "size") for one in found)
    if not counts or others:
        return []
    if all(one.seeds is None and one.accepted is None and (one.mask is None or only_void(one.mask)) for one in found):
        text = "no mask has another class than background, all else is void (255): save classes as 1 to 254"
        return [Problem(MASKS, text)]
    if any(labels[:VOID].any() for labels in counts):
        return []
    text = "no pixel of any image has a class, all are void (255): there is nothing to learn; draw classes, 0 to 254"
    drawn = next((one.annotation.file for name in contents.annotations for one in contents.about(name)), SCRIBBLES)
    return [Problem(MASKS if contents.masks else SCRIBBLES if contents.scribbles else drawn, text)]


def only_void(counts: NDArray[np.int64]) -> bool:
    """Tell if a mask has background and void pixels, and no others."""
    return bool(counts[VOID] and counts[0] and not counts[1:VOID].any())


def constant_channels(contents: FolderContents, found: Sequence[Inspection]) -> list[Problem]:
    """Find channels that have one value in all images, which training could not bring to a scale."""
    ranges = [one.ranges for one in found if one.ranges is not None]
    if contents.channels is None or not ranges:
        return []
    low, high = np.min([low for low, _ in ranges], axis=0), np.max([high for _, high in ranges], axis=0)
    constant = [name for name, least, most in zip(contents.channels.names, low, high, strict=True) if least == most]
    return [Problem(IMAGES, f"have one value throughout in the channel {name!r}: leave it out") for name in constant]


def inspect_image(contents: FolderContents, name: str) -> Inspection:
    """Read everything about an image, and collect what is wrong with it."""
    found = Inspection(name)
    # Of the files themselves: two files for one image, or a CSV row of it that cannot be read.
    found.problems += [problem for problem in contents.problems if problem.image == name]
    image = contents.images[name]
    try:
        found.size = contents.size_of(name)
        found.ranges = contents.require_readable(name)
        found.valid = contents.valid_of(name)
    except BadSampleError as error:
        found.problems.append(_problem(contents, image, error, name))
    if found.size is None:
        return found  # what the annotations must fit is not known
    faults = _faulty_annotations(contents, name, found.size)
    found.problems += faults
    if (path := contents.masks.get(name)) is not None or (not faults and contents.has_mask(name)):
        found.mask = _counted(
            contents, found, path or image, partial(read_mask, contents, name, found.size), drawn=False
        )
    _look_at_seeds(contents, found, found.size)
    _look_at_guide(contents, found, found.size)
    _compare_with_tags(contents, found)
    _compare_masks(contents, found)
    _compare_sizes(contents, found)
    if not faults:
        _look_at_first_class(contents, found, found.size)
    return found


def _look_at_seeds(contents: FolderContents, found: Inspection, size: Size) -> None:
    """Count the labels of some pixels, drawn and accepted ones."""
    name = found.name
    if (path := contents.scribbles.get(name)) is not None:
        found.seeds = _counted(contents, found, path, partial(scribbles_of, contents, name, size))
        _check_labels(contents, found, path, found.seeds)
    if contents.has(name, "click", "stroke") and not found.problems:
        drawn = partial(read_drawn, contents, name, size)
        file = path or contents.root / contents.about(name, "click", "stroke")[0].annotation.file
        found.seeds = _counted(contents, found, file, drawn)
    if (path := contents.accepted.get(name)) is not None:
        found.accepted = _counted(contents, found, path, partial(accepted_of, contents, name, size))
        _check_labels(contents, found, path, found.accepted)


def _look_at_guide(contents: FolderContents, found: Inspection, size: Size) -> None:
    if (path := (contents.guides or {}).get(found.name)) is None:
        return
    try:
        read_guide(path, size)
    except BadSampleError as error:
        found.problems.append(_problem(contents, path, error, found.name))


def _compare_masks(contents: FolderContents, found: Inspection) -> None:
    """Report a mask beside regions, or the word that there are none, and one that lacks what others say is there."""
    path = contents.masks.get(found.name)
    regions = [one.annotation.file for one in contents.about(found.name, "region", "nothing") if one.label != VOID]
    if path is not None and regions:
        text = f"is a mask of an image that has regions in {regions[0]}, too: remove one of them"
        found.problems.append(Problem(relative(path, contents.root), text, found.name))
    if found.mask is None:
        return
    named: dict[int, str] = {}
    if found.seeds is not None and (scribbles := contents.scribbles.get(found.name)) is not None:
        drawn = np.flatnonzero(found.seeds[1:VOID]) + 1
        named = dict.fromkeys(drawn.tolist(), relative(scribbles, contents.root))
    named |= {one.label or 0: one.annotation.file for one in contents.about(found.name) if one.names_class}
    # Where a mask is void, anything may be.
    if lacking := [label for label in named if not found.mask[label] and not found.mask[VOID]]:
        name, file = contents.classes.names[lacking[0]], relative(path or contents.root / regions[0], contents.root)
        text = f"has no pixel of {name} for {found.name!r}, which {named[lacking[0]]} has: correct one of them"
        found.problems.append(Problem(file, text, found.name))


def _compare_sizes(contents: FolderContents, found: Inspection) -> None:
    """Report sizes of one image that cannot be true together."""
    sizes = contents.about(found.name, "size")
    known: dict[int | None, LabeledAnnotation] = {}
    for one in sizes:
        first = known.setdefault(one.label, one).annotation
        if first.fraction != one.annotation.fraction:
            text = f"gives {found.name!r} two sizes of {one.annotation.label}, as {first.where} does: correct one"
            found.problems.append(one.annotation.problem(text, found.name))
    fractions = [one.annotation.fraction for one in known.values() if isinstance(one.annotation.fraction, float)]
    if sum(fractions) > 1 + _ROUNDING * len(fractions):
        text = f"has sizes of {found.name!r} that make {sum(fractions):.0%} of the image together: correct them"
        found.problems.append(Problem(sizes[0].annotation.file, text, found.name))
    absent = {one.label for one in known.values() if one.annotation.fraction == 0}
    for one in contents.about(found.name):
        if one.names_class and one.label in absent:
            text = f"has {one.annotation.label} in {found.name!r}, of size 0 in {sizes[0].annotation.file}: correct one"
            found.problems.append(one.annotation.problem(text, found.name))
            break


def _look_at_first_class(contents: FolderContents, found: Inspection, size: Size) -> None:
    """Report areas of the first class in an image where it is also what they leave, though it is no background."""
    first, name = contents.classes.names[0], found.name
    areas = [one.annotation for one in contents.about(name, "region", "box") if one.label == 0]
    if not areas or contents.classes.begin_with_background or cuts_into(contents, name, size):
        return
    if leaves_pixels(contents, name, found.valid, size):
        text = f"has an area of {first!r}, the first class, which is what areas leave, too: {FIRST_IS_BACKGROUND}"
        found.problems.append(areas[0].problem(text, name))


def _compare_with_tags(contents: FolderContents, found: Inspection) -> None:
    """Find drawn classes that are not among the tags, where tags are given or nothing is said to be there."""
    tags = contents.about(found.name, "tag", "nothing")
    drawn = {one.label for one in contents.about(found.name) if one.label not in (None, 0, VOID)}
    drawn |= {label for counts in found.counts for label in np.flatnonzero(counts[:VOID]).tolist()}
    tagged = {known.label for known in tags}
    # Where one says that there is nothing, no other may name a class.
    if tags and (untagged := drawn - ({0} if None in tagged else {0} | tagged)):
        names = ", ".join(name for label, name in enumerate(contents.classes.names) if label in untagged)
        text = f"tags {found.name!r} without {names}, which other annotations of it have: correct one of them"
        if all(known.annotation.optional for known in tags):
            text += ", or list in classes.yaml which `tags` of the tool are classes of the image, as `tags: []`"
        found.problems.append(Problem(tags[0].annotation.file, text, found.name))


def _faulty_annotations(contents: FolderContents, name: str, size: Size) -> list[Problem]:
    found = []
    for known in contents.about(name):
        fault = find_fault(known.annotation, size) or _bitmap_fault(known, size)
        if fault is not None:
            found.append(known.annotation.problem(fault, name))
    if not found:  # a tiny polygon beside others of its class is nothing that is missed
        empty = {one.label: one for one in contents.about(name, "region") if covers_nothing(one.annotation, size)}
        others = {one.label for one in contents.about(name, "region") if not covers_nothing(one.annotation, size)}
        text = "has a region that covers no pixel: draw it again or remove it"
        found = [one.annotation.problem(text, name) for label, one in empty.items() if label not in others]
    return list(dict.fromkeys(found))


def _bitmap_fault(known: LabeledAnnotation, size: Size) -> str | None:
    if (bitmap := known.annotation.bitmap) is None:
        return None
    try:
        height, width = bitmap.read().shape
    except Exception as error:  # of a foreign file anything may be damaged
        return f"is a mask that cannot be read ({error}): draw it again or remove it"
    if bitmap.left < 0 or bitmap.top < 0 or bitmap.left + width > size[0] + 1 or bitmap.top + height > size[1] + 1:
        return f"is a mask that reaches outside its image of {size[0]} x {size[1]} pixels: draw it again or remove it"
    return None


def _counted(
    contents: FolderContents, found: Inspection, path: Path, read: Callable[[], Labels | None], drawn: bool = True
) -> NDArray[np.int64] | None:
    """Count the pixels of each class in a label map, if it can be used; what is drawn, not masks, has to hold some."""
    try:
        labels = read()
    except BadSampleError as error:
        found.problems.append(_problem(contents, path, error, found.name))
        return None
    assert labels is not None
    if found.valid is None:
        return np.bincount(labels.ravel(), minlength=256)
    counts = np.bincount(labels[found.valid], minlength=256)
    if drawn and not counts[:VOID].any() and (labels != VOID).any():
        text = "labels nothing but pixels without data, by the image's own nodata: annotate others, or remove it"
        found.problems.append(Problem(relative(path, contents.root), text, _image(path, found.name)))
        return None
    return counts


def _check_labels(contents: FolderContents, found: Inspection, path: Path, counts: NDArray[np.int64] | None) -> None:
    if counts is None:
        return
    text, labelled = None, counts[:VOID]
    accepted = counts is found.accepted
    if not labelled.any():
        text = f"has no labelled pixel: {'accept labels again' if accepted else 'draw a stroke'}, or remove the file"
    elif not counts[VOID] and labelled.sum() > 1 and not accepted and not is_volume(path):
        text = labels_all(counts, "pixel")  # of volumes, a slice may be whole: see `partial_maps`
    if text is not None:
        found.problems.append(Problem(relative(path, contents.root), text, _image(path, found.name)))


def _image(path: Path, name: str) -> str | None:
    """The image that a fault of a file is about; none of the slices in a volume, whose fault is told once."""
    return None if is_volume(path) else name


def _problem(contents: FolderContents, path: Path, error: BadSampleError, name: str) -> Problem:
    """Tell what is wrong with an image's file; where another one holds the channel at fault, with that."""
    text, files = str(error), contents.channels.files(path) if contents.channels else []
    path = next((file for file in files if text.startswith((f"{file} ", f"{file}:"))), path)
    file = relative(path, contents.root)
    return Problem(file, text.removeprefix(str(path)).lstrip(": ") + purpose(file), _image(path, name))
