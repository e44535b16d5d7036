"""A folder of images and its annotations, out of which nothing leads."""

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from torch import Tensor

from weakseg_lightning.data.files import image_size, read_image
from weakseg_lightning.data.folder_classes import Classes
from weakseg_lightning.data.folder_maps import read_map
from weakseg_lightning.data.samples import BadSampleError
from weakseg_lightning.painting.document import Annotation, Click
from weakseg_lightning.painting.layout import (
    POINTS,
    TAGS,
    Row,
    Table,
    named_classes,
    read_paintable,
    write_classes,
    write_scribbles,
)

__all__ = ["Entry", "PaintFolder"]

_SUFFIXES = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp"}


@dataclass
class Entry:
    """One image of the folder.

    Attributes:
        path: its file.
        problem: why it cannot be annotated; None if nothing is known against it.
        annotated: whether anything is known about it.
    """

    path: Path
    problem: str | None = None
    annotated: bool = False


class PaintFolder:
    """A folder with `images/`, and what is kept of them.

    Files that lead out of the folder, as links can, are neither read nor written.

    Args:
        data: the folder.
        class_names: names of the classes, background first; by default those of its `classes.yaml`.

    Raises:
        FileNotFoundError: if there is no such folder, or no image in it.
        ValueError: if the classes are not known or something leads out of the folder.
    """

    def __init__(self, data: Path, class_names: Sequence[str] | None = None) -> None:
        if not data.is_dir():
            raise FileNotFoundError(f"`data`: there is no folder {data} (working directory: {Path.cwd()})")
        self.root = data.resolve()
        for name in ("images", "scribbles", "classes.yaml", POINTS.file, TAGS.file):
            self.inside(self.root / name)
        self.entries = self._scanned()
        self.classes = self._classes(class_names)
        self._names = self._named()
        for given in POINTS.images(self.root) | TAGS.images(self.root):
            if (found := self._find(given)) is not None:
                self.entries[found].annotated = True

    def inside(self, path: Path) -> Path:
        """Return a path of the folder.

        Raises:
            ValueError: if it leads out of it.
        """
        if not path.resolve().is_relative_to(self.root):
            raise ValueError(f"{path} leads out of {self.root}: copy what it links to into the folder")
        return path

    def _scanned(self) -> dict[str, Entry]:
        """The images by their path below `images/` without suffix; of equal ones the second with it, as a problem."""
        folder = self.root / "images"
        entries: dict[str, Entry] = {}
        taken: dict[str, Path] = {}
        for path in _images(folder):
            name = unicodedata.normalize("NFC", path.relative_to(folder).with_suffix("").as_posix())
            if (other := taken.setdefault(name.casefold(), path)) is path:
                entries[name] = self._entry(name, path)
            else:
                problem = f"{path} has the name of {other.name}: rename one, annotations could mean either"
                entries[f"{name}{path.suffix}"] = Entry(path, problem)
        if not entries:
            raise FileNotFoundError(f"`data`: {folder} holds no images: put the photographs there")
        return entries

    def _entry(self, name: str, path: Path) -> Entry:
        try:
            image_size(self.inside(path))
            scribbles = self.inside(self._scribbles(name))
        except ValueError as error:
            return Entry(path, str(error))
        return Entry(path, annotated=scribbles.is_file())

    def _about(self, name: str) -> Callable[[str], bool]:
        """Tell whether what a table calls an image is this one."""
        return lambda given: self._find(given) == name

    def _find(self, given: str) -> str | None:
        """Find an image by its path below `images/` or its file's name, with or without suffix."""
        path = PureWindowsPath(unicodedata.normalize("NFC", given.strip()))  # knows both kinds of slashes
        if path.suffix.lower() in _SUFFIXES:
            path = path.with_suffix("")
        whole = path.as_posix().removeprefix("images/").casefold()
        return self._names.get(whole) or self._names.get(path.name.casefold())

    def _classes(self, names: Sequence[str] | None) -> Classes:
        path = self.root / "classes.yaml"
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

    def _named(self) -> dict[str, str]:
        """Images by what tables may call them: their path, or its last part where no other has the same."""
        usable = [name for name, entry in self.entries.items() if entry.problem is None]
        last = [name.rsplit("/", 1)[-1].casefold() for name in usable]
        times = Counter(last)
        short = {part: name for part, name in zip(last, usable, strict=True) if times[part] == 1}
        return short | {name.casefold(): name for name in usable}

    def _scribbles(self, name: str) -> Path:
        return self.root / "scribbles" / f"{name}.png"

    def read_image(self, name: str) -> Tensor:
        """Read an image, uint8 ``(3, H, W)``.

        Raises:
            ValueError: if it cannot be used.
        """
        entry = self.entries[name]
        if entry.problem is not None:
            raise BadSampleError(entry.problem)
        return read_image(self.inside(entry.path))

    def read(self, name: str, size: tuple[int, int]) -> Annotation:
        """Read what is known about an image of this height and width.

        Raises:
            ValueError: if the files cannot be used.
        """
        annotation = Annotation.empty(*size)
        scribbles = self.inside(self._scribbles(name))
        labels = read_map(scribbles, self.classes, scribbles=True) if scribbles.is_file() else annotation.labels
        if labels.shape != size:
            found, expected = (f"{shape[1]} x {shape[0]}" for shape in (labels.shape, size))
            raise BadSampleError(f"{scribbles} has {found} pixels, its image {expected}: remove or replace it")
        clicks = tuple(self._click(row) for row in POINTS.read(self.root, self._about(name)))
        tags = TAGS.read(self.root, self._about(name))
        # A row without a class says that the image shows nothing.
        known = frozenset(self._class(TAGS, row) for row in tags if row["class"].strip()) if tags else None
        return Annotation(labels, clicks, known)

    def _click(self, row: Row) -> Click:
        try:
            return Click(float(row["x"]), float(row["y"]), self._class(POINTS, row))
        except (KeyError, ValueError) as error:
            raise BadSampleError(f"{self.root / POINTS.file}: a row of {row['image']!r} is wrong ({error})") from error

    def _class(self, table: Table, row: Row) -> int:
        if (found := self.classes.find(row["class"])) is None:
            raise BadSampleError(
                f"{self.root / table.file}: {row['image']!r} has the class {row['class']!r}, expected one of "
                f"{', '.join(self.classes.names)}"
            )
        return found

    def write(self, name: str, annotation: Annotation) -> None:
        """Write what is known about an image, each file whole or not at all.

        Raises:
            OSError: if that fails.
            ValueError: if a file leads out of the folder, or is of another format.
        """
        image = self.entries[name].path.relative_to(self.root / "images").as_posix()
        for path in (self._scribbles(name), self.root / POINTS.file, self.root / TAGS.file):
            self.inside(path)
        write_scribbles(self._scribbles(name), annotation.labels, self.classes)
        names = self.classes.names
        clicks = [
            {"image": image, "x": str(click.x), "y": str(click.y), "class": names[click.label]}
            for click in annotation.clicks
        ]
        POINTS.write(self.root, self._about(name), clicks)
        tags = None if annotation.tags is None else [names[label] for label in sorted(annotation.tags)] or [""]
        TAGS.write(self.root, self._about(name), [{"image": image, "class": tag} for tag in tags or ()])
        self.entries[name].annotated = not annotation.is_empty


def _images(folder: Path) -> Iterator[Path]:
    """Image files in a folder and below, by name, without hidden ones. Linked folders are not entered."""
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if Path(name).suffix.lower() in _SUFFIXES and not name.startswith("."):
                yield Path(here, name)
