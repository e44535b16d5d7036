"""The IMAGES of `weakseg predict`: which words of the command line they are, and which files."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from weakseg_lightning.data.folder.classes import CLASSES_FILE
from weakseg_lightning.data.folder.files import ACCEPTED, MASKS, SCRIBBLES
from weakseg_lightning.data.folder.names import IMAGES
from weakseg_lightning.data.images.channels import ChannelFiles
from weakseg_lightning.data.images.nifti import VOLUME_SUFFIXES, is_volume, volume_name
from weakseg_lightning.data.images.reading import IMAGE_SUFFIXES, files_below, is_image
from weakseg_lightning.data.maps.places import is_mosaic
from weakseg_lightning.errors import MissingFileError

__all__ = ["find_images", "split_images"]

_WITHOUT_VALUE = {"-h", "--help", "--print_config", "--print_shtab"}
_PARTS_OF_DATA = (SCRIBBLES, ACCEPTED, MASKS, "points.csv", "boxes.csv", "tags.csv")
_SHOWN = 3
_SLICE = re.compile(r"(.+)_slice_\d+")  # names of overlays of slices


def split_images(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part the arguments of `weakseg predict` into options and IMAGES.

    Every option has one value, except those that only print something.

    Example:
        >>> split_images(["predict", "--config", "a.yaml", "photos", "--images.tile=512", "b.jpg"])
        (['predict', '--config', 'a.yaml', '--images.tile=512'], ['photos', 'b.jpg'])
    """
    options, images = list(args[:1]), list[str]()
    for before, word in pairwise(args):
        is_value = before.startswith("-") and "=" not in before and before not in _WITHOUT_VALUE
        (options if is_value or word.startswith("-") else images).append(word)
    return options, images


def find_images(words: Sequence[str], channels: ChannelFiles | None = None) -> dict[str, Path]:
    """Find image files, and say which files of the folders are none.

    Args:
        words: files, and folders, which are searched with all that is below them; links are followed.
        channels: the channels of the images and their files; None for RGB.

    Returns:
        Files by names that are all different, in order: the path below the given folder, without the suffix where it
        tells nothing.

    Raises:
        MissingFileError: if a file is not there or a folder has no images.
    """
    found: dict[Path, tuple[str, str, str]] = {}  # by the absolute path: see `_told_apart`
    others: dict[Path, Path] = {}
    for word in words:
        given = _images_of(Path(word))
        images, rest = _files_of(given, channels)
        others |= {path.absolute(): path for path in rest}
        for path in images:
            inside = path.relative_to(given) if given.is_dir() else Path(path.name)
            plain = volume_name(path) if is_volume(path) else inside.stem
            stem = plain if channels is None else channels.stem(path)
            found.setdefault(path.absolute(), (inside.with_name(stem).as_posix(), inside.as_posix(), path.as_posix()))
    known = found.keys() | {file for image in found for file in _companions(image, channels)}
    left_out = [path for whole, path in others.items() if whole not in known]
    if not found:
        names = ", ".join(map(str, left_out[:_SHOWN]))
        raise MissingFileError(f"`{names}` holds channels of images that are not there: name the files of the images")
    if left_out:
        more = ", ..." if len(left_out) > _SHOWN else ""
        print(f"Not read, as they are no images ({len(left_out)}): {', '.join(map(str, left_out[:_SHOWN]))}{more}")
    return dict(zip(_told_apart(found), found, strict=True))


def _images_of(given: Path) -> Path:
    """The images of a folder of data, which has other files besides; any other folder as it is."""
    images = given / IMAGES
    if not images.is_dir() or not any((given / name).exists() for name in (CLASSES_FILE, *_PARTS_OF_DATA)):
        return given
    print(f"{given} is a folder of data: its {IMAGES}/ alone are labeled")
    return images


def _files_of(given: Path, channels: ChannelFiles | None) -> tuple[list[Path], list[Path]]:
    """The images in a folder, or a given file whatever its name, and the files that are no images."""
    if given.is_file():
        return ([], [given]) if channels is not None and channels.is_companion(given) else ([given], [])
    if not given.is_dir():
        raise MissingFileError(f"no file and no folder `{given}` (working directory: {Path.cwd()})")
    recognized = _is_read if channels is None else lambda path: channels.is_image(path) or is_mosaic(path, channels)
    files = files_below(given)
    if not (found := [path for path in files if recognized(path)]):
        suffixes = ", ".join((*IMAGE_SUFFIXES, *VOLUME_SUFFIXES, ".vrt"))
        wanted = suffixes if channels is None else f"of the channels {', '.join(channels.names)}"
        raise MissingFileError(f"`{given}` holds no images ({wanted})")
    return found, [path for path in files if not recognized(path)]


def _is_read(path: Path) -> bool:
    return is_image(path) or is_volume(path) or is_mosaic(path)


def _companions(image: Path, channels: ChannelFiles | None) -> list[Path]:
    """Files that hold channels of an image, its own among them."""
    sources = [] if channels is None else channels.sources
    return [image.with_name(channels.stem(image) + source.ending) for source in sources if channels and source.ending]


def _told_apart(files: Mapping[Path, tuple[str, str, str]]) -> list[str]:
    """Shorten names as far as they stay different: without suffix, with it, the whole path."""
    forms = dict.fromkeys(files, 0)
    while unclear := _unclear(files, forms):
        for file in unclear:
            forms[file] += 1
    return [names[forms[file]] for file, names in files.items()]


def _unclear(files: Mapping[Path, tuple[str, str, str]], forms: Mapping[Path, int]) -> list[Path]:
    """Files that need a longer name, and have one.

    No name may be that of another file, with or without its suffix, nor that of the overlay of a volume's slice.
    """
    names = {file: known[forms[file]] for file, known in files.items()}
    with_suffix = {file: known[max(forms[file], 1)] for file, known in files.items()}
    taken = Counter(name for file in files for name in {names[file], with_suffix[file]})
    volumes = {name for file, name in names.items() if is_volume(file)}
    unclear = []
    for file, name in names.items():
        shared = taken[name] > 1 or taken[with_suffix[file]] > 1
        of_slice = (found := _SLICE.fullmatch(name)) is not None and found[1] in volumes
        if forms[file] < 2 and (shared or of_slice):
            unclear.append(file)
    return unclear
