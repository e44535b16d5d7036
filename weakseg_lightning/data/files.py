"""Reading photographs and label maps, with errors that name the file and what to do about it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from weakseg_lightning.data.samples import BadSampleError

__all__ = [
    "IMAGE_SUFFIXES",
    "files_below",
    "files_in",
    "folders_below",
    "image_files",
    "image_size",
    "is_image",
    "opened",
    "read_image",
    "read_labels",
]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".jp2")
"""Suffixes of image files, in small letters; Pillow reads these without a plugin."""

_LEFT_BEHIND = frozenset((
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "picasa.ini", "zbthumbnail.info"),
    *("@eadir", "@__thumb", "@recycle", "@recently-snapshot", "#recycle", "#snapshot"),
    *("__macosx", "network trash folder", "temporary items"),
    *("$recycle.bin", "recycler", "system volume information", "lost+found"),
))  # fmt: skip
"""Files and folders that cameras, systems and network drives leave behind, in small letters."""

_UNREADABLE = "restore the file, or leave its image out of the data set"
_TURNED_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap width and height
_DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_STRETCH = (0.1, 99.9)
"""Percentiles of a 16-bit image that become black and white: sensors use a part of the range alone."""


def read_image(path: Path) -> Tensor:
    """Read a photograph, upright as its EXIF data say.

    Args:
        path: image file; greyscale and palette images become RGB, what is transparent becomes white. Grey images of
            more than 8 bits are stretched so that 99.8 % of their pixels lie between black and white.

    Returns:
        uint8 ``(3, H, W)``.

    Raises:
        BadSampleError: if the file is missing, unreadable or truncated.
    """
    with opened(path) as image:
        if image.format == "TIFF" and (pages := getattr(image, "n_frames", 1)) > 1:
            raise ValueError(f"it has {pages} pages, expected one image")
        pixels = _rgb(ImageOps.exif_transpose(image))
    return torch.from_numpy(pixels).permute(2, 0, 1)


def read_labels(path: Path) -> Tensor:
    """Read a label map: the value of a pixel is its class.

    Args:
        path: greyscale or palette PNG of 8 bits.

    Returns:
        uint8 ``(H, W)``.

    Raises:
        BadSampleError: if the file is missing, unreadable, truncated, or a picture in colours.
    """
    with opened(path) as image:
        mode, labels = image.mode, np.array(image)
    if mode not in ("L", "P"):
        raise BadSampleError(
            f"{path} has pixels of type {mode}, expected 8-bit grey or palette with one class index a pixel: "
            "convert the colours to class indices"
        )
    return torch.from_numpy(labels)


def image_size(path: Path) -> tuple[int, int]:
    """Read the size of an image when it stands upright, (width, height) in pixels, from the head of its file.

    Raises:
        BadSampleError: if the file is missing or no image.
    """
    with opened(path) as image:
        width, height = image.size
        # Of a PNG that has none at its head, Pillow would decode the whole image to look for EXIF data at its end.
        exif = image.getexif() if image.format != "PNG" or "exif" in image.info else {}
        sideways = exif.get(ExifTags.Base.Orientation) in _TURNED_SIDEWAYS
    return (height, width) if sideways else (width, height)


def is_image(path: Path) -> bool:
    """Whether a file is an image, by its suffix."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def image_files(folder: Path) -> list[Path]:
    """List the images in a folder and below, see :func:`files_below`."""
    return [path for path in files_below(folder) if is_image(path)]


def files_below(folder: Path) -> list[Path]:
    """List the files in a folder and below, sorted; links to files and to folders are followed.

    Hidden files and folders and those that systems leave behind (thumbnails, waste baskets) are left out, below the
    folder, not above it. A link to nothing is listed, so that reading it tells what is missing.

    Raises:
        OSError: if the folder or one below it cannot be listed.
    """
    return sorted(path for inner in folders_below(folder) for path in files_in(inner))


def folders_below(folder: Path) -> Iterator[Path]:
    """List a folder and all below it; links are followed, but not into a folder that holds the link.

    Raises:
        OSError: if one cannot be listed.
    """
    yield from _folders(folder, frozenset((os.path.realpath(folder),)))


def files_in(folder: Path) -> list[Path]:
    """List the files of one folder, in the order of the system, see :func:`files_below`.

    Raises:
        OSError: if it cannot be listed.
    """
    entries = [entry for entry in _entries(folder) if not _is_folder(entry)]
    return [Path(entry.path) for entry in entries if entry.is_symlink() or entry.is_file()]


def _folders(folder: Path, above: frozenset[str]) -> Iterator[Path]:
    yield folder
    for entry in _entries(folder):
        if _is_folder(entry) and (real := os.path.realpath(entry.path)) not in above:
            yield from _folders(Path(entry.path), above | {real})


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return [entry for entry in entries if entry.name[0] != "." and entry.name.lower() not in _LEFT_BEHIND]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    # Of a link to itself, DirEntry raises an error.
    return Path(entry.path).is_dir() if entry.is_symlink() else entry.is_dir()


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open an image file; whatever is wrong with it, then or while it is read, is a ``BadSampleError``."""
    try:
        with Image.open(path) as image:
            yield image
    except BadSampleError:
        raise
    except Exception as error:  # Pillow raises whatever the damage leads to: SyntaxError, struct.error, KeyError, ...
        raise _unreadable(path, error) from error


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode in _DEEP:
        image = Image.fromarray(_stretched(np.asarray(image)))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _stretched(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    numbers = values.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError("it holds pixels that are no numbers")
    dark, bright = np.percentile(numbers, _STRETCH)
    stretched: NDArray[np.float64] = 255 * np.clip((numbers - dark) / max(bright - dark, 1e-12), 0, 1)
    return stretched.round().astype(np.uint8)


def _unreadable(path: Path, error: Exception) -> BadSampleError:
    if isinstance(error, FileNotFoundError):
        return BadSampleError(f"{path} is missing: {_UNREADABLE}")
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return BadSampleError(f"{path} claims to be larger than any photograph ({error}): {_UNREADABLE}")
    if isinstance(error, UnidentifiedImageError):
        return BadSampleError(f"{path} is not an image that can be read: {_UNREADABLE}")
    reason = " ".join(str(error).split()) or type(error).__name__
    return BadSampleError(f"{path} cannot be read ({reason}): {_UNREADABLE}")
