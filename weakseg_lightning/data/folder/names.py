"""The image that an annotation file is about."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from posixpath import normpath

from weakseg_lightning.data.images.reading import IMAGE_SUFFIXES

__all__ = ["Found", "ImageNames", "ImageRef", "address_ref", "file_ref", "row_ref", "task_ref"]

IMAGES = "images"


@dataclass(frozen=True)
class ImageRef:
    """A reference of a file to the image that it means.

    Attributes:
        given: the name as the file writes it, for messages.
        exact: groups of paths below ``images/``; those of the first group with an image count, and must agree.
        loose: paths on another computer or server, looked up after these: their first folders need not match, if
            only one image has the name.
        renamed: whether a name other than the given one is worth a note.
        subset: where the images have such a folder, the image is in it.
        uploaded: name that a server stored the image by, without blanks and signs; looked up last.
    """

    given: str
    exact: tuple[tuple[str, ...], ...] = ()
    loose: tuple[str, ...] = ()
    renamed: bool = False
    subset: str = ""
    uploaded: str = ""

    @property
    def key(self) -> str:
        """The same for all spellings of a path: with or without suffix and ``images/``, in small letters."""
        return _below_images(_path(self.given)).casefold()


@dataclass(frozen=True)
class Found:
    """The image that is meant.

    Attributes:
        name: its id; None if there is none.
        fault: why there is none, and what to do.
        several: whether more than one could be meant.
        note: what a user should know about how it was found; empty if there is nothing.
    """

    name: str | None
    fault: str = ""
    note: str = ""
    several: bool = False


# ---- what the files say ---------------------------------------------------------------------------------------


def row_ref(given: str) -> ImageRef:
    """Read a name in a CSV file or a list: a path below ``images/``, or on another computer, or a file's name alone."""
    path = _path(given)
    other_folder = "/" in path and not _is_absolute(given)
    return ImageRef(given, ((path,), (_below_images(path),)), () if other_folder else (path,))


def task_ref(given: str, subset: str = "") -> ImageRef:
    """Read the name of an image in a task of an annotation tool, which knows no more than where it was uploaded.

    Args:
        given: its path in the task.
        subset: the subset that it belongs to: a folder of its own, unless there is none.
    """
    whole = f"{subset}/{given}" if subset else given
    return ImageRef(whole, ((_path(whole),), (_path(given),)), (_path(whole),), subset=subset)


def address_ref(given: str, *paths: str, uploaded: str = "") -> ImageRef:
    """Read the address of an image on a server.

    Args:
        given: the address, for messages.
        paths: what may be its path, the most likely first.
        uploaded: the name that the server stored an upload by: without blanks and signs.
    """
    below = tuple(_path(path) for path in paths)
    return ImageRef(given, tuple((path,) for path in below), below, uploaded=_path(uploaded) if uploaded else "")


def file_ref(file: str, given: str) -> ImageRef:
    """Read what a file of a single image says, as LabelMe writes them.

    An image in another folder that the path in the file leads to, as seen from the file's folder, comes first. Beside
    it, the image that has the file's own name does: that is where the tool looks for it, and both may have been
    renamed. A file outside of ``images/`` is about the image in the same folder below ``images/``, unless the folders
    of the path in it name another.

    Args:
        file: path of the annotation file from the root of the data.
        given: the image's path as the file gives it.
    """
    folder, stem = PurePosixPath(file).parent, PurePosixPath(file).stem
    given = given.strip() or stem
    named = _slashes(given)
    seen = normpath((folder / named).as_posix())
    if folder.parts[:1] == (IMAGES,):
        beside = (_whole_name(f"{folder}/{stem}"), _path(f"{folder}/{stem}"))
        elsewhere = PurePosixPath(seen).parent != folder
        return ImageRef(given, ((_path(seen),), beside) if elsewhere else (beside, (_path(seen),)), renamed=True)
    inside = "/".join((IMAGES, *folder.parts[1:]))
    own = (_path(f"{inside}/{named}"), _path(f"{inside}/{PurePosixPath(named).name}"), _path(f"{inside}/{stem}"))
    known = ((_path(seen),),) if seen.startswith(f"{IMAGES}/") else ()
    return ImageRef(given, (*known, (*_tails(given), *own, _whole_name(f"{inside}/{stem}"))), renamed=True)


# ---- which image that is --------------------------------------------------------------------------------------


class ImageNames:
    """Finds images by what files call them.

    Args:
        images: ids: paths below ``images/`` without suffix.
    """

    def __init__(self, images: Iterable[str]) -> None:
        self.exact = set(images)
        parents = {parent.as_posix().casefold() for name in self.exact for parent in PurePosixPath(name).parents}
        self.folders = parents - {"."}
        self.by_path: dict[str, list[str]] = {}
        self.by_name: dict[str, list[str]] = {}
        self.by_stored: dict[str, list[str]] = {}
        for name in sorted(self.exact):
            self.by_path.setdefault(name.casefold(), []).append(name)
            self.by_name.setdefault(name.rsplit("/", 1)[-1].casefold(), []).append(name)
            self.by_stored.setdefault(_stored(name), []).append(name)

    def find(self, ref: ImageRef) -> Found:
        """Find the image that is meant, never another of the same name."""
        for group in ref.exact[:1] if ref.subset.casefold() in self.folders else ref.exact:
            names = list(dict.fromkeys(name for path in group if (name := self._whole(path)) is not None))
            if len(names) > 1:
                text = f"could be about {' or '.join(names)}: {ref.given!r} and its own place and name differ"
                return Found(None, f"{text}; put it beside its image", several=True)
            if names:
                return Found(names[0], note=self._renamed(ref, names[0]))
        for path in ref.loose:
            if (name := self._below(path)) is not None:
                dropped = not _is_absolute(ref.given) and _path(ref.given).casefold() != name.casefold()
                return Found(name, note=f"names {ref.given!r}, is read as of {name}" if dropped else "")
        if ref.uploaded and len(stored := self.by_stored.get(_stored(ref.uploaded), [])) == 1:
            return Found(stored[0], note=f"names {ref.given!r}, is read as of {stored[0]}")
        return Found(None, f"is about the image {ref.given!r}, which is not there")

    def _whole(self, path: str) -> str | None:
        """The image with this path."""
        if path in self.exact:
            return path
        found = self.by_path.get(path.casefold(), [])
        return found[0] if len(found) == 1 else None

    def _below(self, path: str) -> str | None:
        """The image with the last folders of this path, or, where no folder contradicts, with its name alone."""
        parts = path.split("/")
        for start in range(1, len(parts) - 1):
            if (name := self._whole("/".join(parts[start:]))) is not None:
                return name
        if any("/".join(parts[start:-1]).casefold() in self.folders for start in range(len(parts) - 1)):
            return None
        if parts[-2:-1] == [IMAGES] and (name := self._whole(parts[-1])) is not None:
            return name
        named = self.by_name.get(parts[-1].casefold(), [])
        return named[0] if len(named) == 1 else None

    def _renamed(self, ref: ImageRef, name: str) -> str:
        """A note where the image is called otherwise, or the folders of the name lead to another one."""
        given, found = (path.rsplit("/", 1)[-1].casefold() for path in (_path(ref.given), name))
        others = {self._whole(path) for path in _tails(ref.given)} - {None, name}
        return f"names {ref.given!r}, is read as of {name}" if ref.renamed and (given != found or others) else ""


def _slashes(path: str) -> str:
    return PureWindowsPath(path).as_posix()  # knows both kinds of slashes


def _is_absolute(path: str) -> bool:
    windows = PureWindowsPath(path)
    return bool(windows.drive or windows.root) or "://" in path


def _path(given: str) -> str:
    """A path as ids are written: forward slashes, no suffix, not beginning with ``images/``."""
    path = PureWindowsPath(unicodedata.normalize("NFC", given.strip()))
    if path.suffix.lower() in IMAGE_SUFFIXES or path.suffix.lower() == ".json":
        path = path.with_suffix("")
    return normpath(path.as_posix()).removeprefix(f"{IMAGES}/").lstrip("/")


def _tails(given: str) -> list[str]:
    """The ends of a path that have a folder, the longest first; what follows ``images/`` among them."""
    path = _path(given)
    parts = path.split("/")
    ends = ["/".join(parts[start:]) for start in range(len(parts) - 1)]
    return [*ends, *([_below_images(path)] if f"/{IMAGES}/" in path else [])]


def _whole_name(path: str) -> str:
    """The path of an image below ``images/`` whose suffix is off already: what looks like one is part of its name."""
    return unicodedata.normalize("NFC", path).removeprefix(f"{IMAGES}/")


def _stored(name: str) -> str:
    """A file's name as Django stores uploads, in small letters: blanks are underscores, signs are left out."""
    return re.sub(r"[^-\w.]", "", name.rsplit("/", 1)[-1].strip().replace(" ", "_")).casefold()


def _below_images(path: str) -> str:
    """The part of a path after its last folder ``images``; all of it if there is none."""
    return path.rsplit(f"/{IMAGES}/", 1)[-1]
