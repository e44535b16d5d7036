"""A folder of images and its annotations, as the page reads and writes them."""

import os
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from weakseg_lightning.data.folder.annotations import LabeledAnnotation, Problem
from weakseg_lightning.data.folder.assignment import Assignment
from weakseg_lightning.data.folder.classes import CLASSES_FILE, Classes
from weakseg_lightning.data.folder.contents import FolderContents, read_folder
from weakseg_lightning.data.folder.files import ACCEPTED, SCRIBBLES
from weakseg_lightning.data.folder.label_maps import read_map
from weakseg_lightning.data.folder.names import IMAGES, ImageNames, row_ref
from weakseg_lightning.data.folder.tables.annotations import SEVERAL, read_table
from weakseg_lightning.data.folder.tables.rows import read_number
from weakseg_lightning.data.samples import BadSampleError
from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.errors import UserError
from weakseg_lightning.painting.document import Click, ImageAnnotation
from weakseg_lightning.painting.image_reader import ImageReader
from weakseg_lightning.painting.layout import (
    Row,
    named_classes,
    read_paintable,
    write_classes,
    write_labels,
    write_rows,
)

__all__ = ["Entry", "PaintFolder"]

_POINTS, _TAGS = "points.csv", "tags.csv"


@dataclass
class Entry:
    """One image of the folder.

    Attributes:
        path: its file.
        problem: why it cannot be annotated; None if nothing is known against it.
        row_name: what tables call it.
        otherwise: whether files that the page does not write annotate it.
        is_double: whether another image has its name, so that their annotations would be one.
        annotated: whether anybody has said anything about it: accepted labels do not count.
        accepted: whether labels of a preview were accepted.
    """

    path: Path
    problem: str | None = None
    row_name: str = ""
    otherwise: bool = False
    annotated: bool = False
    accepted: bool = False
    is_double: bool = False


def _is_no_text(letter: str) -> bool:
    """Tell if a letter stands for a byte of a file name that is no UTF-8."""
    return "\udc80" <= letter <= "\udcff"


class PaintFolder:
    """A folder with `images/`, and what is kept of them. Links are followed, as in training.

    Args:
        data: the folder.
        class_names: names of the classes, background first; by default those of its `classes.yaml`.
        reader: reads its images.

    Raises:
        FileNotFoundError: if there is no such folder, or no image in it.
        ValueError: if the classes are not known, or a file of the page's is of another format.
    """

    def __init__(
        self,
        data: Path,
        class_names: Sequence[str] | None = None,
        reader: ImageReader = ImageReader(),  # noqa: B008 - frozen
    ) -> None:
        if not data.is_dir():
            raise FileNotFoundError(f"`data`: there is no folder {data} (working directory: {Path.cwd()})")
        self.root = data.resolve()
        self.reader = reader
        channels = reader.files
        contents = read_folder(self.root, channels=channels)  # without images there is nothing to name the classes of
        self.classes = self._classes(class_names)
        contents = contents if contents.classes_given else read_folder(self.root, channels=channels)
        if contents.volumes is not None:
            raise UserError(
                f"`data`: {data / IMAGES} holds volumes, which the page does not show: save their slices as images"
            )
        self.names = ImageNames(contents.images)
        self.entries = self._entries(contents)
        known = contents.annotations.items()
        self.foreign = [name for name, several in known if not all(one.annotation.by_index for one in several)]
        for file in (_POINTS, _TAGS):
            write_rows(self.root, file, lambda _: False, [], lambda *_: None)  # raises if the file is no such table

    def _classes(self, names: Sequence[str] | None) -> Classes:
        path = self.root / CLASSES_FILE
        if not path.is_file():
            if names is None:
                raise ValueError(f"{path} is missing: name the classes, as `--classes background cat dog`")
            classes = named_classes(names)
            write_classes(path, classes)
            return classes
        classes = read_paintable(path)
        if names is not None and list(names) != list(classes.names):
            listed = ", ".join(classes.names)
            raise ValueError(f"`classes`: {path} has other ones ({listed}): leave the option out, or edit that file")
        return classes

    def _entries(self, contents: FolderContents) -> dict[str, Entry]:
        """The images by their path below `images/` without suffix; of equal ones the second with it, as a problem."""
        found = {name: self._entry(name, path, contents) for name, path in contents.images.items()}
        # What is no UTF-8 cannot be sent to a browser.
        entries = {os.fsencode(name).decode(errors="replace"): entry for name, entry in found.items()}
        folder, known = self.root / IMAGES, set(contents.images.values())
        for problem in contents.problems:
            path = self.root / problem.file
            if self.reader.recognizes(path) and path.is_relative_to(folder) and path not in known:
                entries[path.relative_to(folder).as_posix()] = Entry(path, self._in_full(problem), is_double=True)
        return dict(sorted(entries.items()))

    def _entry(self, name: str, path: Path, contents: FolderContents) -> Entry:
        relative = path.relative_to(self.root / IMAGES).as_posix()
        usable = [row for row in (relative, f"{IMAGES}/{relative}") if self._about(name)(row.strip())]
        if not usable or any(letter in "\r\n" or _is_no_text(letter) for letter in name):
            shown = os.fsencode(path).decode(errors="replace")
            return Entry(path, f"{shown!r} has a name that tables cannot hold: rename it")
        try:
            self.reader.size(path)
        except BadSampleError as error:
            return Entry(path, str(error))
        others = any(one.annotation.file not in (_POINTS, _TAGS) for one in contents.about(name))
        entry = Entry(path, row_name=usable[0], otherwise=others or name in contents.masks)
        entry.annotated, entry.accepted = contents.can_train(name, "tags"), name in contents.accepted
        return entry

    def _about(self, name: str) -> Callable[[str], bool]:
        """Tell whether what a table calls an image is this one."""
        return lambda given: self.names.find(row_ref(given)).name == name

    def _map(self, folder: str, name: str) -> Path:
        return self.root / folder / f"{name}.png"

    def read_image(self, name: str) -> Tensor:
        """Read what is shown of an image, uint8 ``(3, H, W)``.

        Raises:
            ValueError: if it cannot be used.
        """
        entry = self.entries[name]
        if entry.is_double:
            raise BadSampleError(entry.problem)
        return self.reader.picture(entry.path)

    def size(self, name: str) -> tuple[int, int]:
        """Read height and width of an image; raises ``BadSampleError`` if its file is missing or no image."""
        width, height = self.reader.size(self.entries[name].path)
        return height, width

    def read(self, name: str, size: tuple[int, int]) -> ImageAnnotation:
        """Read what is known about an image of this height and width.

        Raises:
            ValueError: if the files cannot be used, or the image is there no longer.
        """
        self._require(name)
        empty = ImageAnnotation.empty(*size).labels
        labels, accepted = (
            read_map(path, self.classes, scribbles=True, size=size[::-1]) if path.is_file() else empty
            for path in (self._map(SCRIBBLES, name), self._map(ACCEPTED, name))
        )
        clicks = tuple(self._click(one) for one in self._rows(_POINTS, name))
        tags = self._rows(_TAGS, name)
        # A row without a class says that the image shows nothing.
        known = frozenset(one.label for one in tags if one.label is not None) if tags else None
        return ImageAnnotation(labels, clicks, known).accepting(accepted)

    def _require(self, name: str) -> None:
        """Raise where an image is gone: with it may be its labels, which would not have been removed by anybody."""
        if not (path := self.entries[name].path).is_file():
            raise BadSampleError(f"{path} is not there: put the folder back where it was")

    def _click(self, known: LabeledAnnotation) -> Click:
        x, y = known.annotation.points[0].tolist()
        assert known.label is not None
        return Click(x, y, known.label)

    def _rows(self, file: str, name: str) -> list[LabeledAnnotation]:
        """Rows of a table about an image."""
        if not (self.root / file).is_file():
            return []
        assignment = Assignment(self.names.exact, self.classes)
        for reading in read_table(self.root / file, self.root):
            assignment.add(reading)
        if wrong := [problem for problem in assignment.problems if problem.image == name]:
            raise BadSampleError(self._in_full(wrong[0]))
        return assignment.annotations.get(name, [])

    def _in_full(self, problem: Problem) -> str:
        return f"{self.root / problem.file}: {problem.text}"

    def write(self, name: str, annotation: ImageAnnotation) -> None:
        """Write what is known about an image, each file whole or not at all.

        Raises:
            OSError: if that fails.
            ValueError: if a file is of another format, or the image is there no longer.
        """
        self._require(name)
        image = self.entries[name].row_name
        write_labels(self._map(SCRIBBLES, name), annotation.labels, self.classes)
        write_labels(self._map(ACCEPTED, name), annotation.accepted_map, self.classes)
        names = self.classes.names
        clicks = [
            {"image": image, "x": str(click.x), "y": str(click.y), "class": names[click.label]}
            for click in annotation.clicks
        ]
        write_rows(self.root, _POINTS, self._about(name), clicks, self._meaning_of_click)
        tags = None if annotation.tags is None else [names[label] for label in sorted(annotation.tags)] or [""]
        rows = [{"image": image, "class": tag} for tag in tags or ()]
        write_rows(self.root, _TAGS, self._about(name), rows, self._meanings_of_tags)
        self.note(name, annotation)

    def note(self, name: str, annotation: ImageAnnotation) -> None:
        """Keep in the list of images what is known about one."""
        self.entries[name].annotated = annotation.is_drawn or self.entries[name].otherwise
        self.entries[name].accepted = annotation.accepted is not None

    def needed(self, order: Sequence[str]) -> list[str]:
        """Images about which nothing is known, in this order, then the others."""
        bare = {name: one for name, one in self.entries.items() if not (one.problem or one.annotated or one.accepted)}
        return list(dict.fromkeys([*filter(bare.__contains__, order), *bare]))

    def _meaning_of_click(self, row: Row, delimiter: str) -> list[Hashable] | None:
        """The click that a row of a table is; None if it is none that the page shows."""
        label = self.classes.find(row["class"])
        try:
            x, y = (read_number(row[column], column, delimiter) for column in "xy")
        except ValueError:
            return None
        return None if label in (None, VOID) else [(x, y, label)]

    def _meanings_of_tags(self, row: Row, delimiter: str) -> list[Hashable] | None:
        """The tags that a row of a table is; None if it is none that the page shows."""
        labels = [self.classes.find(tag) if tag.strip() else "" for tag in row["class"].split(SEVERAL)]
        return None if {None, VOID} & set(labels) else list(labels)
