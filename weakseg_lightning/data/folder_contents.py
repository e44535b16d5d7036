"""What a folder of one's own images holds: images, their annotations, and what is wrong with them."""

import json
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path, PureWindowsPath

from weakseg_lightning.data.annotations import Supervision
from weakseg_lightning.data.folder_classes import CLASSES_FILE, Classes, guess_classes, read_classes
from weakseg_lightning.data.folder_cvat import read_cvat
from weakseg_lightning.data.folder_label_studio import is_label_studio, read_label_studio
from weakseg_lightning.data.folder_labelme import is_labelme, read_labelme
from weakseg_lightning.data.folder_maps import map_values
from weakseg_lightning.data.folder_marks import Mark, MarkKind, Problem, Reading, relative
from weakseg_lightning.data.folder_tables import TABLES, read_table
from weakseg_lightning.data.samples import BadSampleError

__all__ = ["FolderContents", "LabelledMark", "read_folder"]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")
IMAGES, SCRIBBLES, MASKS, EXPORTS = "images", "scribbles", "masks", "annotations"
POSITIVE, NEGATIVE = "positive", "negative"

_IGNORED = ("thumbs.db", "desktop.ini")
_SHOWN_CLASSES = 8


@dataclass(frozen=True)
class LabelledMark:
    """A mark whose class is known; ``label`` is None for a tag that says "no class at all"."""

    mark: Mark
    label: int | None


@dataclass
class FolderContents:
    """The files of a folder and what they say, before any pixel is read.

    Attributes:
        root: the folder.
        classes: the classes of ``classes.yaml``, or as the annotations let one guess.
        classes_given: whether there is a ``classes.yaml``.
        images: files of the images by id: their path below ``images/`` without suffix.
        scribbles: files of the scribbles by id.
        masks: files of the masks by id.
        marks: what CSV files and exports say about each image.
        problems: what cannot be used.
    """

    root: Path
    classes: Classes = field(default_factory=lambda: Classes(["background"]))
    classes_given: bool = False
    images: dict[str, Path] = field(default_factory=dict)
    scribbles: dict[str, Path] = field(default_factory=dict)
    masks: dict[str, Path] = field(default_factory=dict)
    marks: dict[str, list[LabelledMark]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def has(self, name: str, *kinds: MarkKind) -> bool:
        """Whether an image has marks of one of these kinds."""
        return any(known.mark.kind in kinds for known in self.marks.get(name, ()))

    def has_mask(self, name: str) -> bool:
        """Whether the class of every pixel of an image is known."""
        return name in self.masks or self.has(name, "region")

    def can_train(self, name: str, supervision: Supervision) -> bool:
        """Whether an image has the labels that a kind of supervision needs."""
        if supervision == "full":
            return self.has_mask(name)
        if supervision == "scribble":
            return name in self.scribbles or self.has(name, "stroke", "click")
        if supervision == "point":
            return self.has(name, "click")
        if supervision == "box":
            return self.has(name, "box") or self.has_mask(name)
        return name in self.scribbles or name in self.masks or bool(self.marks.get(name))

    def find(self, given: str) -> str | None:
        """The id of an image that is named with or without folder and suffix; None if there is none, or several."""
        return _Names(self.images).find(given)

    def of(self, supervision: Supervision) -> list[str]:
        """Ids of the images that have the labels for a kind of supervision."""
        return [name for name in self.images if self.can_train(name, supervision)]


def read_folder(root: Path) -> FolderContents:
    """Find images and annotations, and read the files that are no pictures.

    Raises:
        FileNotFoundError: if there are no images at all.
    """
    contents = FolderContents(root)
    _find_images(contents)
    contents.scribbles = _find_maps(contents, SCRIBBLES)
    contents.masks = _find_maps(contents, MASKS)
    marks: list[Mark] = []
    for reading in _readings(contents):
        if isinstance(reading, Mark):
            marks.append(reading)
        else:
            contents.problems.append(reading)
    _find_classes(contents, marks)
    _assign(contents, marks)
    return contents


# ---- files --------------------------------------------------------------------------------------------------


def two_folders(root: Path) -> bool:
    """Whether the data are two folders of images, with and without a class, and nothing else."""
    return not (root / IMAGES).is_dir() and all((root / name).is_dir() for name in (POSITIVE, NEGATIVE))


def _find_images(contents: FolderContents) -> None:
    root = contents.root
    base = root if two_folders(root) else root / IMAGES
    folders = [root / POSITIVE, root / NEGATIVE] if base == root else [base]
    if not base.is_dir():
        raise FileNotFoundError(
            f"no folder `images` in {root} (working directory: {Path.cwd()}): put the photographs into {base}"
        )
    by_name: dict[str, Path] = {}
    for path in (path for folder in folders for path in _files(folder)):
        if path.suffix.lower() == ".json" and base != root:
            continue  # LabelMe puts its files next to the images
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            _report(contents, path, f"is no image that is read ({', '.join(IMAGE_SUFFIXES)}): convert or remove it")
            continue
        name = _id(path, base)
        if (other := by_name.get(name.casefold())) is not None:
            same = f"has the name of {relative(other, root)}: annotations could mean either; rename or remove one"
            _report(contents, path, same, _id(other, base))
            continue
        by_name[name.casefold()] = contents.images[name] = path
    if not contents.images:
        raise FileNotFoundError(f"no image in {base}: put photographs there ({', '.join(IMAGE_SUFFIXES)})")


def _find_maps(contents: FolderContents, folder: str) -> dict[str, Path]:
    """Label maps in a folder, by the ids of their images."""
    found: dict[str, Path] = {}
    base = contents.root / folder
    for path in _files(base) if base.is_dir() else ():
        name = _id(path, base)
        if path.suffix.lower() != ".png":
            _report(
                contents, path, "is no PNG: save it as PNG, which keeps the values of pixels", _image(contents, name)
            )
        elif name not in contents.images:
            hint = _did_you_mean(name, contents.images)
            _report(contents, path, f"belongs to no image: there is no images/{name}.*{hint}; rename or remove it")
        elif name in found:
            _report(contents, path, f"has the name of {relative(found[name], contents.root)}: remove one", name)
        else:
            found[name] = path
    return found


def _files(folder: Path) -> list[Path]:
    """Files in a folder and below, by name; hidden ones and those that systems leave behind are left out."""
    found = [path for path in folder.rglob("*") if path.is_file() and path.name.lower() not in _IGNORED]
    return sorted(path for path in found if not any(part[0] == "." for part in path.relative_to(folder).parts))


def _id(path: Path, base: Path) -> str:
    """Path from the folder of images without suffix; accents joined to their letters, as not all systems do."""
    return unicodedata.normalize("NFC", path.relative_to(base).with_suffix("").as_posix())


def _image(contents: FolderContents, name: str) -> str | None:
    return name if name in contents.images else None


def _report(contents: FolderContents, path: Path, text: str, image: str | None = None) -> None:
    contents.problems.append(Problem(relative(path, contents.root), text, image))


# ---- annotations --------------------------------------------------------------------------------------------


def _readings(contents: FolderContents) -> Iterator[Reading]:
    root = contents.root
    if two_folders(root):
        for name in contents.images:
            yield Mark("tag", name, "1" if name.startswith(POSITIVE) else "", name)
    for path in (root / name for name in TABLES):
        if path.is_file():
            yield from read_table(path, root)
    for path in _exports(root):
        yield from _read_export(path, relative(path, root))


def _exports(root: Path) -> list[Path]:
    """Files of annotation tools: in the root, in `annotations/`, LabelMe's also next to the images."""
    suffixes = (".json", ".xml")
    beside = (
        [path for path in _files(root / IMAGES) if path.suffix.lower() == ".json"] if (root / IMAGES).is_dir() else []
    )
    kept = (
        [path for path in _files(root / EXPORTS) if path.suffix.lower() in suffixes]
        if (root / EXPORTS).is_dir()
        else []
    )
    above = [path for path in sorted(root.iterdir()) if path.is_file() and path.suffix.lower() in suffixes]
    return [*(path for path in above if not path.name.startswith(".")), *kept, *beside]


def _read_export(path: Path, file: str) -> Iterator[Reading]:
    try:
        text = path.read_bytes()
        if path.suffix.lower() == ".xml":
            yield from read_cvat(text, file)
            return
        content = json.loads(text.decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        yield Problem(file, f"is no JSON that can be read ({error}): export it again, or remove it")
        return
    if is_labelme(content):
        yield from read_labelme(content, file)
    elif is_label_studio(content):
        yield from read_label_studio(content, file)
    else:
        yield Problem(file, "is JSON of neither LabelMe nor Label Studio: remove it, or export it from one of these")


# ---- classes and names --------------------------------------------------------------------------------------


def _find_classes(contents: FolderContents, marks: Sequence[Mark]) -> None:
    path = contents.root / CLASSES_FILE
    if path.is_file():
        try:
            contents.classes, contents.classes_given = read_classes(path), True
            return
        except ValueError as error:
            _report(contents, path, str(error).removeprefix(str(path)).lstrip(": "))
    names = [mark.label for mark in marks]
    contents.classes = guess_classes(names, _values(contents))
    if len(contents.classes.names) < 2:
        text = "is missing, and the annotations hold no class but background: name the classes in it, as `classes: "
        _report(contents, path, f"{text}[background, cat, dog]`")


def _values(contents: FolderContents) -> Iterator[int]:
    for path in (*contents.scribbles.values(), *contents.masks.values()):
        try:
            yield from (value for value in map_values(path) or () if 0 <= value < 255)
        except BadSampleError:
            continue  # reported when its image is


def _assign(contents: FolderContents, marks: Iterable[Mark]) -> None:
    """Give each mark to its image, its class known."""
    names = _Names(contents.images)
    for mark in marks:
        name, label = names.find(mark.image), contents.classes.find(mark.label)
        nothing = mark.kind == "tag" and not mark.label
        if name is None:
            hint = _did_you_mean(Path(mark.image).stem, contents.images)
            contents.problems.append(mark.problem(f"is about the image {mark.image!r}, which is not there{hint}"))
        elif label is None and not nothing:
            known = contents.classes.names
            shown = ", ".join(known[:_SHOWN_CLASSES]) + (" ..." if len(known) > _SHOWN_CLASSES else "")
            hint = _did_you_mean(mark.label, known)
            text = f"names the class {mark.label!r}{hint}: expected one of {shown}"
            contents.problems.append(mark.problem(text, name))
        else:
            contents.marks.setdefault(name, []).append(LabelledMark(mark, label))


class _Names:
    """Finds images by what annotation files call them: with or without folder and suffix, whatever their case."""

    def __init__(self, images: Iterable[str]) -> None:
        self.exact = set(images)
        self.loose: dict[str, list[str]] = {}
        for name in self.exact:
            for key in {name.casefold(), name.rsplit("/", 1)[-1].casefold()}:
                self.loose.setdefault(key, []).append(name)

    def find(self, given: str) -> str | None:
        """The id of an image, None if there is none or more than one."""
        path = PureWindowsPath(unicodedata.normalize("NFC", given))  # knows both kinds of slashes
        if path.suffix.lower() in IMAGE_SUFFIXES or path.suffix.lower() == ".json":
            path = path.with_suffix("")
        whole = path.as_posix()
        for name in (whole, whole.removeprefix(f"{IMAGES}/")):
            if name in self.exact:
                return name
        for key in (whole.casefold(), path.name.casefold()):
            if len(found := self.loose.get(key, [])) == 1:
                return found[0]
        return None


def _did_you_mean(given: str, known: Iterable[str]) -> str:
    close = get_close_matches(given, list(known), 1)
    return f" (did you mean {close[0]!r}?)" if close else ""
