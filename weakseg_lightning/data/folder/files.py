"""The files of a folder of images: images, label maps, exports, and what is none of these."""

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from weakseg_lightning.data.folder.annotations import Problem, relative
from weakseg_lightning.data.folder.classes import CLASSES_FILE
from weakseg_lightning.data.folder.names import IMAGES
from weakseg_lightning.data.folder.tables.annotations import TABLES
from weakseg_lightning.data.folder.tables.cases import CASES_FILE
from weakseg_lightning.data.images.bands import ARRAY_SUFFIX, bands_size, picture_valid
from weakseg_lightning.data.images.channels import ChannelFiles, Planes
from weakseg_lightning.data.images.nifti import VOLUME_SUFFIXES, is_volume, volume_name
from weakseg_lightning.data.images.nodata import Flags
from weakseg_lightning.data.images.png import StoredLabels
from weakseg_lightning.data.images.reading import (
    IMAGE_SUFFIXES,
    files_below,
    image_size,
    is_image,
    read_image,
    read_label_map,
)
from weakseg_lightning.data.images.volumes import VolumeReader, as_image, as_stored
from weakseg_lightning.data.samples import BadSampleError
from weakseg_lightning.errors import MissingFileError, closest

__all__ = ["Files", "Slice", "find_files", "hint_at", "purpose", "two_folders"]

SCRIBBLES, ACCEPTED, MASKS, EXPORTS = "scribbles", "accepted", "masks", "annotations"
POSITIVE, NEGATIVE = "positive", "negative"
SHEET = "contact_sheet.jpg"

_EXPORT_SUFFIXES = (".json", ".xml")
_SHOWN = 3


class Slice(NamedTuple):
    """An image that is a slice of a volume.

    Attributes:
        volume: the name of the volume: its path below ``images/`` without suffix.
        number: of the slice, from 0.
    """

    volume: str
    number: int


@dataclass
class Files:
    """The files of a folder.

    Attributes:
        root: the folder.
        images: files of the images by id: their path below ``images/`` without suffix, of a slice of a volume with
            ``_slice_`` and its number.
        scribbles: files of the scribbles by id.
        accepted: files of the accepted labels by id.
        masks: files of the masks by id.
        guides: files of the maps of regions or boundaries by id; None where none are used.
        exports: files of annotation tools.
        problems: what cannot be used.
        notes: what is left out, or read in a way that one should know.
        channels: the channels of the images and their files; None for gray and RGB.
        volumes: reads the slices of volumes; None where the images are no volumes.
        slices: the images that are slices of volumes.
        volume_slices: ids of the slices of each volume by its name; none where its header cannot be read.
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
    volumes: VolumeReader | None = None
    slices: dict[str, Slice] = field(default_factory=dict)
    volume_slices: dict[str, list[str]] = field(default_factory=dict)

    def size_of(self, name: str) -> tuple[int, int]:
        """Read the width and the height of an image; raises ``BadSampleError`` if its file is missing or no image."""
        path = self.images[name]
        if self.volumes is not None:
            return self.volumes.header(path).size
        return image_size(path) if self.channels is None else self.channels.size(path)

    def read_image(self, name: str) -> Tensor:
        """Read an image as RGB of 8 bits, uint8 ``(3, H, W)``; raises ``BadSampleError`` if it cannot be used."""
        path = self.images[name]
        return read_image(path) if self.volumes is None else as_image(self.volumes.gray(path, self.slices[name].number))

    def read_planes(self, name: str, neighbors: int | None = None) -> Planes:
        """Read the channels of an image, in their order; raises ``BadSampleError`` if one cannot be used.

        Args:
            name: its id.
            neighbors: of volumes, the slices on each side that are channels as well; by default as many as are set.
        """
        if self.volumes is not None:
            return self.volumes.planes(self.images[name], self.slices[name].number, neighbors)
        assert self.channels is not None
        return self.channels.read(self.images[name])

    def read_valid_planes(self, name: str) -> Planes:
        """Read the pixels that have data of each channel of an image, without neighbors; raises as above."""
        if self.volumes is not None or self.channels is None:
            return self.read_planes(name, 0)
        planes, valid = self.channels.read_valid(self.images[name])
        return planes if valid is None else [plane[valid] for plane in planes]

    def valid_of(self, name: str) -> Flags | None:
        """Tell which pixels have data, ``(H, W)``, by the nodata that TIFFs declare, None for all; raises as above."""
        if self.volumes is not None:
            return None
        path = self.images[name]
        return picture_valid(path) if self.channels is None else self.channels.valid(path)

    def read_stored(self, name: str, path: Path) -> StoredLabels:
        """Read a label map of an image as it is stored; raises ``BadSampleError`` if it cannot be read."""
        if self.volumes is None or not is_volume(path):
            return read_label_map(path)
        return as_stored(self.volumes.labels(path, self.slices[name].number, self.images[name]))

    def require_readable(self, name: str) -> NDArray[np.float64] | None:
        """Lowest and highest values of the channels ``(2, C)``, None without; raises ``BadSampleError`` as above."""
        if not (self.channels is not None if self.volumes is None else self.volumes.has_channels):
            self.read_image(name)
            return None
        planes = self.read_planes(name, 0)
        return np.array([[plane.min() for plane in planes], [plane.max() for plane in planes]], dtype=np.float64)

    def report(self, path: Path, text: str, image: str | None = None) -> None:
        """Note what is wrong with a file."""
        file = relative(path, self.root)
        self.problems.append(Problem(file, f"{text}{purpose(file)}", image))


def find_files(
    root: Path,
    guides: Path | None = None,
    channels: ChannelFiles | None = None,
    volumes: VolumeReader | None = None,
) -> Files:
    """Find the files of a folder; links are followed.

    Args:
        root: the folder.
        guides: folder of the maps of regions or boundaries, if they are used.
        channels: the channels of the images; None for gray and RGB.
        volumes: reads volumes, if there are any; None for slices along the axis of the largest spacing.

    Raises:
        FileNotFoundError: if there are no images at all.
    """
    files = Files(root, channels=channels, volumes=volumes or VolumeReader(channels=channels))
    _find_images(files)
    files.scribbles = _find_maps(files, SCRIBBLES)
    files.accepted = _find_maps(files, ACCEPTED)
    files.masks = _find_maps(files, MASKS)
    files.guides = None if guides is None else _find_maps(files, guides, volumes=False)
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
        hint = f"did you mean {root.parent}?" if root.name == IMAGES else f"put the images into {base}"
        raise MissingFileError(f"no folder `images` in {root} (working directory: {Path.cwd()}): {hint}")
    by_name: dict[str, Path] = {}
    channels, companions = files.channels, list[Path]()
    found = [path for folder in folders for path in files_below(folder)]
    if base == root or not any(map(is_volume, found)):
        files.volumes = None
    for path in found:
        if path.suffix.lower() == ".json" and base != root:
            continue  # LabelMe puts its files next to the images
        if not path.exists():
            files.report(path, "is a link to nothing: restore what it links to, or remove it")
            continue
        if channels is not None and channels.is_companion(path):
            companions.append(path)
            continue
        if (fault := _unsuitable(path, files)) is not None:
            files.report(path, fault)
            continue
        name = _id(path, base, channels)
        if (other := by_name.get(name.casefold())) is not None:
            same = f"has the name of {relative(other, root)}: annotations could mean either; rename or remove one"
            files.report(path, same, _id(other, base, channels))
            continue
        by_name[name.casefold()] = path
        _add_image(files, name, path)
    for path in companions:
        if not any(channels and channels.belongs(path, image) for image in by_name.values()):
            files.report(path, "is a channel of an image that is not there: add the image, or remove it")
    if not by_name:
        for path in (path for path in found if path.suffix.lower() == ARRAY_SUFFIX):
            bands_size(path)  # raises and says why no channels were found in it
        kinds = ", ".join((*IMAGE_SUFFIXES, ARRAY_SUFFIX, *VOLUME_SUFFIXES))
        raise MissingFileError(f"no image in {base}: put images there ({kinds})")


def _unsuitable(path: Path, files: Files) -> str | None:
    """The fault of a file that is no image."""
    if files.volumes is not None:
        suffixes = ", ".join(VOLUME_SUFFIXES)
        wrong = not is_volume(path) or not (files.channels is None or files.channels.is_image(path))
        return f"is no volume that is read ({suffixes}), as others here are: convert or remove it" if wrong else None
    if is_image(path) if files.channels is None else files.channels.is_image(path):
        return None
    return f"is no image that is read ({', '.join(IMAGE_SUFFIXES)}): convert or remove it"


def _add_image(files: Files, name: str, path: Path) -> None:
    """Add an image, or the slices of a volume if its header can be read."""
    if files.volumes is None:
        files.images[name] = path
        return
    slices = files.volume_slices[name] = list[str]()
    try:
        depth = files.volumes.header(path).depth
    except BadSampleError as error:
        files.report(path, str(error).removeprefix(str(path)).lstrip())
        return
    for index in range(depth):
        slices.append(one := f"{name}_slice_{index}")
        files.images[one], files.slices[one] = path, Slice(name, index)


def _find_maps(files: Files, folder: str | Path, volumes: bool = True) -> dict[str, Path]:
    """Label maps, or others of pixels, in a folder, by the ids of their images; also as volumes."""
    found: dict[str, Path] = {}
    orphans: list[Path] = []
    base = files.root / folder
    for path in files_below(base) if base.is_dir() else ():
        name, of_slices = _id(path, base), files.volumes is not None and volumes and is_volume(path)
        image = name if name in files.images else None
        about = files.volume_slices.get(name) if of_slices else None if image is None else [image]
        if not of_slices and path.suffix.lower() != ".png":
            files.report(path, "is no PNG: save it as PNG, which keeps the values of pixels", image)
        elif about is None:
            orphans.append(path)
        elif twice := [one for one in about if one in found]:
            files.report(path, f"has the name of {relative(found[twice[0]], files.root)}: remove one", twice[0])
        elif not of_slices or _fits(files, path, about):
            found |= dict.fromkeys(about, path)
    _report_orphans(files, base, orphans)
    return found


def _fits(files: Files, path: Path, slices: list[str]) -> bool:
    """Compare the header of labels with that of their volume, and report what differs."""
    assert files.volumes is not None
    try:
        for image in {files.images[name] for name in slices}:
            files.volumes.header_like(path, image)
    except BadSampleError as error:
        files.report(path, str(error).removeprefix(str(path)).lstrip())
        return False
    return True


def _report_orphans(files: Files, base: Path, orphans: list[Path]) -> None:
    """Name label maps that belong to no image, many of them in one line."""
    if len(orphans) > _SHOWN:
        shown = ", ".join(path.relative_to(base).as_posix() for path in orphans[:_SHOWN])
        text = f"{len(orphans)} files belong to no image, as {shown}: there are no images of these names"
        files.report(base, f"{text}; rename or remove them")
        return
    for path in orphans:
        name = _id(path, base)
        hint = hint_at(name, files.volume_slices or files.images)
        files.report(path, f"belongs to no image: there is no images/{name}.*{hint}; rename or remove it")


def _id(path: Path, base: Path, channels: ChannelFiles | None = None) -> str:
    """Path from the folder of images without suffix; accents joined to their letters, as not all systems do."""
    plain = volume_name(path) if is_volume(path) else path.stem
    stem = plain if channels is None else channels.stem(path)
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
        shown = ", ".join(f"{relative(path, root)}{hint_at(path.name, known)}" for path in others[:_SHOWN])
        yield f"not read ({len(others)}): {shown}{', ...' if len(others) > _SHOWN else ''}"


def hint_at(given: str, known: Mapping[str, object]) -> str:
    """A hint at what may have been meant, to be put behind a name."""
    close = closest(given, known)
    return "" if close is None else f" (did you mean {close!r}?)"
