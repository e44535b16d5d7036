"""The files of a folder of images: images, label maps, exports, and what is none of these."""

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from weakseg_lightning.data.folder.annotations import Problem, relative
from weakseg_lightning.data.folder.classes import CLASSES_FILE
from weakseg_lightning.data.folder.names import IMAGES
from weakseg_lightning.data.folder.tables.annotations import TABLES
from weakseg_lightning.data.folder.tables.cases import CASES_FILE
from weakseg_lightning.data.images.channels import ChannelFiles
from weakseg_lightning.data.images.reading import IMAGE_SUFFIXES, files_below, image_size, is_image, read_image
from weakseg_lightning.errors import MissingFileError

__all__ = ["Files", "did_you_mean", "find_files", "purpose", "two_folders"]

SCRIBBLES, ACCEPTED, MASKS, EXPORTS = "scribbles", "accepted", "masks", "annotations"
POSITIVE, NEGATIVE = "positive", "negative"
SHEET = "contact_sheet.jpg"

_EXPORT_SUFFIXES = (".json", ".xml")
_SHOWN = 3


@dataclass
class Files:
    """The files of a folder.

    Attributes:
        root: the folder.
        images: files of the images by id: their path below ``images/`` without suffix.
        scribbles: files of the scribbles by id.
        accepted: files of the accepted labels by id.
        masks: files of the masks by id.
        guides: files of the maps of regions or boundaries by id; None where none are used.
        exports: files of annotation tools.
        problems: what cannot be used.
        notes: what is left out, or read in a way that one should know.
        channels: the channels of the images and their files; None for grey and RGB.
    """

    root: Path
    images: dict[str, Path] = field(default_factory=dict)
    scribbles: dict[str, Path] = field(default_factory=dict)
    accepted: dict[str, Path] = field(default_factory=dict)
    masks: dict[str, Path] = field(default_factory=dict)
    guides: dict[str, Path] | None = None
    exports: list[Path] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    channels: ChannelFiles | None = None

    def size_of(self, name: str) -> tuple[int, int]:
        """Read the width and the height of an image; raises ``BadSampleError`` if its file is missing or no image."""
        path = self.images[name]
        return image_size(path) if self.channels is None else self.channels.size(path)

    def require_readable(self, name: str) -> None:
        """Raise ``BadSampleError`` if an image cannot be read."""
        _ = read_image(self.images[name]) if self.channels is None else self.channels.read(self.images[name])

    def report(self, path: Path, text: str, image: str | None = None) -> None:
        """Note what is wrong with a file."""
        file = relative(path, self.root)
        self.problems.append(Problem(file, f"{text}{purpose(file)}", image))


def find_files(root: Path, guides: Path | None = None, channels: ChannelFiles | None = None) -> Files:
    """Find the files of a folder; links are followed.

    Args:
        root: the folder.
        guides: folder of the maps of regions or boundaries, if they are used.
        channels: the channels of the images; None for grey and RGB.

    Raises:
        FileNotFoundError: if there are no images at all.
    """
    files = Files(root, channels=channels)
    _find_images(files)
    files.scribbles = _find_maps(files, SCRIBBLES)
    files.accepted = _find_maps(files, ACCEPTED)
    files.masks = _find_maps(files, MASKS)
    files.guides = None if guides is None else _find_maps(files, guides)
    files.exports = _exports(root)
    files.notes += _unread(root, files.exports, guides)
    return files


def purpose(file: str) -> str:
    """Say what the folder of a file is for, behind what is wrong with it, where somebody may use it for other things.

    Args:
        file: path from the root of the data.
    """
    own = file == ACCEPTED or file.startswith(f"{ACCEPTED}/")
    return f" ({ACCEPTED}/ is for labels accepted in `weakseg paint`: move other files out of it)" if own else ""


def two_folders(root: Path) -> bool:
    """Tell if the data are two folders of images, with and without a class, and nothing else."""
    return not (root / IMAGES).is_dir() and all((root / name).is_dir() for name in (POSITIVE, NEGATIVE))


def _find_images(files: Files) -> None:
    root = files.root
    base = root if two_folders(root) else root / IMAGES
    folders = [root / POSITIVE, root / NEGATIVE] if base == root else [base]
    if not base.is_dir():
        raise MissingFileError(
            f"no folder `images` in {root} (working directory: {Path.cwd()}): put the images into {base}"
        )
    by_name: dict[str, Path] = {}
    channels, companions = files.channels, list[Path]()
    for path in (path for folder in folders for path in files_below(folder)):
        if path.suffix.lower() == ".json" and base != root:
            continue  # LabelMe puts its files next to the images
        if not path.exists():
            files.report(path, "is a link to nothing: restore what it links to, or remove it")
            continue
        if channels is not None and channels.is_companion(path):
            companions.append(path)
            continue
        if not (is_image(path) if channels is None else channels.is_image(path)):
            files.report(path, f"is no image that is read ({', '.join(IMAGE_SUFFIXES)}): convert or remove it")
            continue
        name = _id(path, base, channels)
        if (other := by_name.get(name.casefold())) is not None:
            same = f"has the name of {relative(other, root)}: annotations could mean either; rename or remove one"
            files.report(path, same, _id(other, base, channels))
            continue
        by_name[name.casefold()] = files.images[name] = path
    for path in companions:
        if not any(channels and channels.belongs(path, image) for image in files.images.values()):
            files.report(path, "is a channel of an image that is not there: add the image, or remove it")
    if not files.images:
        raise MissingFileError(f"no image in {base}: put images there ({', '.join(IMAGE_SUFFIXES)})")


def _find_maps(files: Files, folder: str | Path) -> dict[str, Path]:
    """Label maps, or others of pixels, in a folder, by the ids of their images."""
    found: dict[str, Path] = {}
    orphans: list[Path] = []
    base = files.root / folder
    for path in files_below(base) if base.is_dir() else ():
        name = _id(path, base)
        image = name if name in files.images else None
        if path.suffix.lower() != ".png":
            files.report(path, "is no PNG: save it as PNG, which keeps the values of pixels", image)
        elif image is None:
            orphans.append(path)
        elif name in found:
            files.report(path, f"has the name of {relative(found[name], files.root)}: remove one", name)
        else:
            found[name] = path
    _report_orphans(files, base, orphans)
    return found


def _report_orphans(files: Files, base: Path, orphans: list[Path]) -> None:
    """Name label maps that belong to no image, many of them in one line."""
    if len(orphans) > _SHOWN:
        shown = ", ".join(path.relative_to(base).as_posix() for path in orphans[:_SHOWN])
        text = f"{len(orphans)} files belong to no image, as {shown}: there are no images of these names"
        files.report(base, f"{text}; rename or remove them")
        return
    for path in orphans:
        name = _id(path, base)
        hint = did_you_mean(name, files.images)
        files.report(path, f"belongs to no image: there is no images/{name}.*{hint}; rename or remove it")


def _id(path: Path, base: Path, channels: ChannelFiles | None = None) -> str:
    """Path from the folder of images without suffix; accents joined to their letters, as not all systems do."""
    stem = path.stem if channels is None else channels.stem(path)
    return unicodedata.normalize("NFC", path.relative_to(base).with_name(stem).as_posix())


def _exports(root: Path) -> list[Path]:
    """Files of annotation tools: in the root, in `annotations/`, LabelMe's also next to the images."""
    above = [path for path in sorted(root.iterdir()) if path.is_file() and not path.name.startswith(".")]
    kept = files_below(root / EXPORTS) if (root / EXPORTS).is_dir() else []
    beside = files_below(root / IMAGES) if (root / IMAGES).is_dir() else []
    return [
        *(path for path in (*above, *kept) if path.suffix.lower() in _EXPORT_SUFFIXES),
        *(path for path in beside if path.suffix.lower() == ".json"),
    ]


def _unread(root: Path, exports: list[Path], guides: Path | None) -> Iterator[str]:
    """Say what of the folder is not read."""
    folders = (POSITIVE, NEGATIVE) if two_folders(root) else (IMAGES, SCRIBBLES, ACCEPTED, MASKS, EXPORTS)
    known = dict.fromkeys([*folders, *TABLES, CASES_FILE, CLASSES_FILE])
    read = {*exports, *(root / name for name in (*known, SHEET))}
    if guides is not None:
        read |= {guides, *guides.parents}
    others = [path for path in sorted(root.iterdir()) if path not in read and not path.name.startswith(".")]
    if (root / EXPORTS).is_dir():
        others += [path for path in files_below(root / EXPORTS) if path not in read]
    if others:
        shown = ", ".join(f"{relative(path, root)}{did_you_mean(path.name, known)}" for path in others[:_SHOWN])
        yield f"not read ({len(others)}): {shown}{', ...' if len(others) > _SHOWN else ''}"


def did_you_mean(given: str, known: Mapping[str, object]) -> str:
    """A hint at what may have been meant, to be put behind a name."""
    lowered = {name.casefold(): name for name in known}
    close = get_close_matches(given.casefold(), list(lowered), 1)
    return f" (did you mean {lowered[close[0]]!r}?)" if close else ""
