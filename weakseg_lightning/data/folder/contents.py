"""Contents of a folder of images: images, their annotations, and what is wrong with them."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from weakseg_lightning.data.folder.annotations import (
    Annotation,
    AnnotationKind,
    LabeledAnnotation,
    Problem,
    Reading,
    finder,
    relative,
)
from weakseg_lightning.data.folder.assignment import Assignment
from weakseg_lightning.data.folder.classes import CLASSES_FILE, Classes, guess_classes, read_classes
from weakseg_lightning.data.folder.files import NEGATIVE, POSITIVE, Files, find_files, two_folders
from weakseg_lightning.data.folder.images.volumes import (
    cases_of_volumes,
    doubts,
    named_volume,
    orientations,
    partial_maps,
)
from weakseg_lightning.data.folder.label_maps import values_of
from weakseg_lightning.data.folder.names import ImageNames, ImageRef, row_ref
from weakseg_lightning.data.folder.tables.annotations import TABLES, read_table
from weakseg_lightning.data.folder.tables.cases import CaseRule, find_cases, unassigned
from weakseg_lightning.data.folder.tools.cvat import read_cvat
from weakseg_lightning.data.folder.tools.label_studio import is_label_studio, read_label_studio
from weakseg_lightning.data.folder.tools.labelme import is_labelme, read_labelme
from weakseg_lightning.data.images.channels import ChannelFiles
from weakseg_lightning.data.images.volumes import VolumeReader
from weakseg_lightning.data.samples import BadSampleError, CaseSlice
from weakseg_lightning.data.text import read_text
from weakseg_lightning.data.weak_labels import Supervision
from weakseg_lightning.energies.potts import VOID

__all__ = ["NEGATIVE", "POSITIVE", "FolderContents", "read_folder", "two_folders"]

_SHOWN = 3


@dataclass
class FolderContents(Files):
    """The files of a folder and what they say, before any pixel is read.

    Attributes:
        classes: the classes of ``classes.yaml``, or as the annotations let one guess.
        classes_given: whether there is a ``classes.yaml``.
        annotations: what CSV files and exports say about each image.
        cases: the case that an image is a slice of.
    """

    classes: Classes = field(default_factory=lambda: Classes(["background"]))
    classes_given: bool = False
    annotations: dict[str, list[LabeledAnnotation]] = field(default_factory=dict)
    cases: dict[str, CaseSlice] = field(default_factory=dict)
    _more: dict[tuple[str, tuple[AnnotationKind, ...]], bool] = field(default_factory=dict)

    def about(self, name: str, *kinds: AnnotationKind) -> list[LabeledAnnotation]:
        """List the annotations of an image that are of these kinds; by default all."""
        return [one for one in self.annotations.get(name, ()) if not kinds or one.kind in kinds]

    def has(self, name: str, *kinds: AnnotationKind) -> bool:
        """Tell if an image has annotations of these kinds that are not void; by default of any."""
        return any(one.label != VOID for one in self.about(name, *kinds))

    def has_mask(self, name: str) -> bool:
        """Tell if the class of every pixel of an image is known."""
        return name in self.masks or (self.has(name, "region", "nothing") and not self.is_partly_drawn(name))

    def is_partly_drawn(self, name: str) -> bool:
        """Tell if an image has regions, and shows more than these: it is not known where that ends."""
        return bool(self.about(name, "region")) and self._shows_more(name, "region")

    def is_partly_boxed(self, name: str) -> bool:
        """Tell if an image has boxes, and shows more than these and its regions: what they leave is not background."""
        return self.has(name, "box") and self._shows_more(name, "region", "box")

    def _shows_more(self, name: str, *kinds: AnnotationKind) -> bool:
        """Tell if something is drawn in an image where no area of its class is, or a class is named that has none."""
        if (known := self._more.get((name, kinds))) is None:
            rest = [one for one in self.about(name) if one.kind not in kinds and one.names_class]
            areas: dict[int | None, list[Annotation]] = {one.label: [] for one in rest}
            for area in self.about(name, *kinds) if rest else ():
                areas.get(area.label, []).append(area.annotation)
            known = self._more[name, kinds] = not all(_lie_in(areas[label], rest, label) for label in areas)
        return known

    def can_train(self, name: str, supervision: Supervision) -> bool:
        """Tell if an image has the labels that a kind of supervision needs."""
        if supervision == "full":
            return self.has_mask(name)
        if supervision == "scribble":
            return name in self.scribbles or name in self.accepted or self.has(name, "stroke", "click")
        if supervision == "point":
            return self.has(name, "click")
        if supervision == "box":
            return self.has_mask(name) or (self.has(name, "box") and not self.is_partly_boxed(name))
        return name in self.scribbles or name in self.masks or self.has(name)

    def has_any(self, name: str) -> bool:
        """Tell if anything is known about an image."""
        return name in self.accepted or self.can_train(name, "tags")

    def unit(self, name: str) -> str:
        """The case that an image is a slice of, or else the image: what training and validation do not share."""
        return self.cases[name].case if name in self.cases else name

    def find(self, given: str) -> str | None:
        """The id of an image that is named with or without folder and suffix; None if there is none, or several."""
        return ImageNames(self.images).find(row_ref(given)).name

    def find_all(self, given: str) -> list[str]:
        """Ids of the images that a name in a list means: an image, or the slices of a volume; none if there is none."""
        if slices := named_volume(self, given):
            return slices
        name = self.find(given)
        return [] if name is None else [name]

    @property
    def lacks_spacing(self) -> bool:
        """True if images are slices of cases and all distances are 1, as they are where nobody has said any."""
        slices = list(self.cases.values())
        several = len({one.case for one in slices}) < len(slices)
        return self.volumes is None and several and {one.spacing for one in slices} == {(1.0, 1.0, 1.0)}

    def of(self, supervision: Supervision) -> list[str]:
        """Ids of the images that have the labels for a kind of supervision."""
        return [name for name in self.images if self.can_train(name, supervision)]


def read_folder(
    root: Path,
    guides: Path | None = None,
    rule: CaseRule = CaseRule(),  # noqa: B008 - frozen
    channels: ChannelFiles | None = None,
    volumes: VolumeReader | None = None,
) -> FolderContents:
    """Find images and annotations, and read the files that are no pictures.

    Args:
        root: the folder.
        guides: folder of the maps of regions or boundaries, if they are used.
        rule: how the cases are told.
        channels: the channels of the images; None for gray and RGB.
        volumes: reads volumes, if there are any; None for slices along the axis of the largest spacing.

    Raises:
        FileNotFoundError: if there are no images at all.
    """
    files = find_files(root, guides, channels, volumes)
    contents = FolderContents(**vars(files))
    readings = list(_readings(files))
    _find_classes(contents, [reading for reading in readings if isinstance(reading, Annotation)])
    if contents.volumes is not None:
        contents.scribbles = partial_maps(contents, contents.classes, contents.scribbles, drawn=True)
        contents.accepted = partial_maps(contents, contents.classes, contents.accepted, drawn=False)
        contents.notes += [*orientations(contents), *doubts(contents)]
    assignment = Assignment(contents.images, contents.classes)
    for reading in readings:
        assignment.add(reading)
    contents.annotations = assignment.annotations
    contents.problems += [*assignment.problems, *assignment.conflicts()]
    contents.notes += [*assignment.notes(), *_no_background(contents), *_incomplete(contents)]
    contents.problems += [*_fractions(contents), *_find_cases(contents, rule)]
    return contents


def _lie_in(areas: Sequence[Annotation], others: Sequence[LabeledAnnotation], label: int | None) -> bool:
    """Tell if all that is said of a class is about areas of it."""
    places = [one.annotation for one in others if one.label == label and one.kind not in ("tag", "size")]
    return bool(areas) and (not places or all(map(finder(areas), places)))


def _incomplete(contents: FolderContents) -> Iterator[str]:
    """Tell of images of which not all is drawn as regions, or as boxes."""
    bare = [name for name in contents.images if name not in contents.masks]
    masks = [name for name in bare if contents.is_partly_drawn(name)]
    boxes = [name for name in bare if contents.is_partly_boxed(name) and not contents.has_mask(name)]
    more = "since more is drawn as boxes, lines or points, or tagged"
    if masks:
        yield f"regions that make no mask, {more} ({len(masks)}), as in {masks[0]}"
    if boxes:
        more = "since more is drawn as lines or points, or tagged: what they leave would be background"
        yield f"boxes that are not trained from, {more} ({len(boxes)}), as in {boxes[0]}"


def _find_cases(contents: FolderContents, rule: CaseRule) -> list[Problem]:
    """Find the cases, and what is wrong with them."""
    if contents.volumes is not None:
        contents.cases, faults = cases_of_volumes(contents, rule)
        return faults
    contents.cases, faults = find_cases(contents.root, contents.images, rule)
    masked = [name for name in contents.images if contents.has_mask(name)]
    return [*faults, *unassigned(contents.cases, masked, rule)]


def _fractions(contents: FolderContents) -> Iterator[Problem]:
    """Report clicks whose coordinates look like fractions of the image: all of an image, if not a single one."""
    clicks = {name: [one.annotation for one in contents.about(name, "click")] for name in contents.annotations}
    clicks = {name: of_image for name, of_image in clicks.items() if of_image}
    small = [name for name, of_image in clicks.items() if _are_fractions(of_image)]
    places = {tuple(one.points[0].tolist()) for name in small for one in clicks[name]}
    for name in small:
        first = clicks[name][0]
        if len(clicks[name]) > 1 or (len(small) == len(clicks) and len(places) > 1):
            x, y = first.points[0].tolist()
            text = f"has a click at {x:g}, {y:g}, fractions of the image by the look of them: write pixels"
            yield first.problem(text, name)


def _are_fractions(clicks: Sequence[Annotation]) -> bool:
    points = np.concatenate([one.points for one in clicks])
    return bool((points <= 1).all() and (points % 1).any())


def _no_background(contents: FolderContents) -> Iterator[str]:
    """Tell of scribbles that have no value for background."""
    classes = contents.classes
    if contents.scribbles and classes.unlabelled == 0 and not classes.background:
        free = len(classes.names)
        yield (
            f"scribbles have no value for background, as `unlabelled` is 0: draw it as {free}, and write "
            f"`background: {free}` into {CLASSES_FILE}"
        )


# ---- annotations --------------------------------------------------------------------------------------------


def _readings(files: Files) -> Iterator[Reading]:
    root = files.root
    if two_folders(root):
        for name in files.images:
            label = "1" if name.startswith(POSITIVE) else ""
            yield Annotation("tag", ImageRef(name, ((name,),)), label, name, by_index=True)
    for path in (root / name for name in TABLES):
        if path.is_file():
            yield from read_table(path, root)
    size_of = partial(_size_of, files, ImageNames(files.images))
    for path in files.exports:
        yield from _read_export(path, relative(path, root), size_of)


def _size_of(files: Files, names: ImageNames, image: ImageRef) -> tuple[int, int] | None:
    """Width and height of an image; None if it is not there, or broken."""
    name = names.find(image).name
    try:
        return None if name is None else files.size_of(name)
    except BadSampleError:
        return None  # reported when the image is


def _read_export(path: Path, file: str, size_of: Callable[[ImageRef], tuple[int, int] | None]) -> Iterator[Reading]:
    try:
        if path.suffix.lower() == ".xml":
            yield from read_cvat(path.read_bytes(), file)
            return
        content = json.loads(read_text(path))
    except (OSError, json.JSONDecodeError, RecursionError) as error:
        yield Problem(file, f"is no JSON that can be read ({error}): export it again, or remove it")
        return
    except ValueError as error:  # another encoding
        yield Problem(file, str(error).removeprefix(str(path)).lstrip())
        return
    if is_labelme(content):
        yield from read_labelme(content, file)
    elif is_label_studio(content):
        yield from read_label_studio(content, file, size_of)
    else:
        yield Problem(file, "is JSON of neither LabelMe nor Label Studio: remove it, or export it from one of these")


# ---- classes ------------------------------------------------------------------------------------------------


def _find_classes(contents: FolderContents, annotations: Sequence[Annotation]) -> None:
    path = contents.root / CLASSES_FILE
    if path.is_file():
        try:
            contents.classes, contents.classes_given = read_classes(path), True
            return
        except ValueError as error:
            text = str(error).removeprefix(str(path)).lstrip(": ")
            contents.problems.append(Problem(CLASSES_FILE, text))
    contents.classes = _guess(contents, [one for one in annotations if one.meaning is None and one.label])
    if len(contents.classes.names) < 2:
        text = "is missing, and the annotations hold no class but background: name the classes in it, as `classes: "
        contents.problems.append(Problem(CLASSES_FILE, f"{text}[background, cat, dog]`"))


def _guess(contents: FolderContents, annotations: Sequence[Annotation]) -> Classes:
    values = list(_values(contents))
    certain = [one for one in annotations if not one.optional]
    # Where nothing is drawn, what is said of whole images can only be classes; elsewhere it may be anything.
    named = certain if certain or any(values) else annotations
    words = [one.label for one in named if one.by_index]
    classes = guess_classes(words, values, [one.label for one in named if not one.by_index])
    contents.notes += _numbered(classes, values, named)
    return classes


def _numbered(classes: Classes, values: Sequence[int], annotations: Sequence[Annotation]) -> Iterator[str]:
    """Say which class a number was taken for, where the order of the classes is a guess."""
    words = {annotation.label.strip() for annotation in annotations}
    if not any(classes.find_name(word) not in (None, 0, VOID) for word in words):
        return  # all are numbers
    numbers = {int(word) for word in words if word.isdecimal() and classes.find_name(word) is None}
    if used := sorted({*numbers, *values} & set(range(1, len(classes.names)))):
        meant = ", ".join(f"{index} is {classes.names[index]}" for index in used[:_SHOWN])
        more = ", ..." if len(used) > _SHOWN else ""
        yield f"numbers count the names by alphabet ({meant}{more}): name the classes in their order in {CLASSES_FILE}"


def _values(contents: FolderContents) -> Iterator[int]:
    maps = (contents.scribbles, contents.accepted, contents.masks)
    for name, path in (pair for files in maps for pair in files.items()):
        try:
            yield from (value for value in values_of(contents.read_stored(name, path)) or () if 0 <= value < 255)
        except BadSampleError:
            continue  # reported when its image is
