"""Reading images and label maps, with errors that name the file and what to do about it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from weakseg_lightning.data.images.jpeg2000 import is_deep_jpeg2000, read_deep_jpeg2000
from weakseg_lightning.data.images.nodata import filled, has_data, nodata_of
from weakseg_lightning.data.images.pixels import Bands, Layout, Pixels, UnsuitableError, find_range, to_rgb, upright
from weakseg_lightning.data.images.png import (
    StoredLabels,
    png_header_of,
    png_layout,
    read_orientation,
    read_png,
    read_png_header,
    read_stored_labels,
)
from weakseg_lightning.data.images.tiff import read_tiff_header
from weakseg_lightning.data.images.tiff_pixels import read_deep_tiff
from weakseg_lightning.data.samples import BadSampleError
from weakseg_lightning.energies.potts import VOID

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
_LOSSY = ("JPEG", "MPO", "JPEG2000", "WEBP", "AVIF")
_DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


@dataclass(frozen=True)
class ImageHeader:
    """Facts from the header of an image file.

    Attributes:
        width: in pixels, as stored.
        height: in pixels, as stored.
        orientation: EXIF orientation, 1 to 8.
        layout: what its bands mean, where that is known.
        has_palette: whether its values are indices of colors, where that is known.
    """

    width: int
    height: int
    orientation: int
    layout: Layout | None = None
    has_palette: bool = False

    @property
    def lies_sideways(self) -> bool:
        """True where width and height change places when it is turned upright."""
        return self.orientation in (5, 6, 7, 8)


def read_image(path: Path) -> Tensor:
    """Read an image, upright as its EXIF data say.

    Args:
        path: image file; grayscale and palette images become RGB, what is transparent becomes white; of an animation,
            the first frame. Images of more than 8 bits, gray and in color, of integers and floats, are stretched so
            that 99.8 % of their samples lie between black and white, with the same limits for all colors; nodata that a
            TIFF declares do not count, and become the darkest value.

    Returns:
        uint8 ``(3, H, W)``.

    Raises:
        BadSampleError: if the file is missing, unreadable or truncated, or no single image of 1 to 4 bands.
    """
    with reading(path) as file:
        bands = read_deep(path, file)
        if bands is None:
            with Image.open(file) as image:
                pixels = _rgb(turned_upright(image))
        else:
            pixels = _from_bands(bands)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def read_labels(path: Path) -> Tensor:
    """Read a label map: the value of a pixel is its class.

    Args:
        path: gray or palette PNG, of 1 to 16 bits.

    Returns:
        uint8 ``(H, W)``, at the values that are stored, whatever the number of bits; 255 where it is transparent.

    Raises:
        BadSampleError: if the file is missing, unreadable, truncated, a picture in colors, or has values above 255.
    """
    stored = read_label_map(path)
    if stored.values.shape[-1] > 1:
        raise BadSampleError(
            f"{path} has pixels of type RGB, expected gray or palette with one class index per pixel: "
            "convert the colors to class indices"
        )
    values = stored.with_void(stored.values[..., 0])
    if stored.depth == 16 and values.max() > VOID:
        raise BadSampleError(f"{path} holds the value {values.max()}, expected 0 to 255: write class indices")
    return torch.from_numpy(values.astype(np.uint8, copy=False))


def read_label_map(path: Path) -> StoredLabels:
    """Read a label map as it is stored.

    Args:
        path: PNG.

    Raises:
        BadSampleError: if the file is missing, unreadable, truncated, of other colors, or of a format for photographs.
    """
    with reading(path) as file:
        if (header := read_png_header(file)) is None:
            with Image.open(file) as image:  # another format under the name of a PNG
                header, kind, mode = png_header_of(image), image.format, image.mode
            if header is None:
                raise UnsuitableError(f"has pixels of type {mode}, expected indexed, gray or RGB: save it so, as PNG")
            if kind in _LOSSY:
                raise UnsuitableError(f"is a {kind} file, which does not keep the values of pixels: save it as PNG")
            file.seek(0)
        return read_stored_labels(file, header)


def image_size(path: Path) -> tuple[int, int]:
    """Read the size of an image when it stands upright, (width, height) in pixels, from the header of its file.

    Raises:
        BadSampleError: if the file is missing or no image.
    """
    header = read_header(path)
    return (header.height, header.width) if header.lies_sideways else (header.width, header.height)


def read_header(path: Path) -> ImageHeader:
    """Read the header of an image file of any size.

    Raises:
        BadSampleError: if the file is missing or no image.
    """
    with reading(path) as file:
        if (tiff := read_tiff_header(file)) is not None:
            layout = None if tiff.is_ordinary and not tiff.has_gray_or_rgb else tiff.layout
            return ImageHeader(*tiff.size, tiff.orientation, layout, tiff.has_palette)
        png, _ = read_png_header(file), is_deep_jpeg2000(file)  # which raises where Pillow says less
        with Image.open(file) as image:
            if png is not None:
                orientation = read_orientation(file, image)
                return ImageHeader(*image.size, orientation, png_layout(png, image), png.has_palette)
            return ImageHeader(*image.size, read_orientation(file, image))


def is_image(path: Path) -> bool:
    """Recognize images by the suffix of their file."""
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
def reading(path: Path) -> Iterator[BinaryIO]:
    """Open a file; whatever is wrong with it, then or while it is read, is a ``BadSampleError``."""
    try:
        with path.open("rb") as file:
            yield file
    except BadSampleError:
        raise
    except Exception as error:  # Pillow raises whatever the damage leads to: SyntaxError, struct.error, KeyError, ...
        raise _unreadable(path, error) from error


def read_deep(path: Path, file: BinaryIO) -> Bands | None:
    """Read an image that Pillow would not read at its depth; None for others."""
    if (png := read_png_header(file)) is not None:
        return read_png(file, png) if png.is_deep_or_packed else None
    if (tiff := read_tiff_header(file)) is not None:
        return None if tiff.is_ordinary else replace(read_deep_tiff(file, tiff), nodata=nodata_of(tiff))
    return read_deep_jpeg2000(path) if is_deep_jpeg2000(file) else None


def _from_bands(bands: Bands) -> Pixels:
    values = measured = bands.values
    if bands.nodata is not None:  # has no part in what becomes black and white
        valid = np.asarray(has_data(values[..., : bands.layout.colors], bands.nodata).any(-1))
        values = filled(values, valid)
        measured = values[valid][None] if valid.any() else values
    limits = find_range(measured, bands.layout)
    return np.ascontiguousarray(upright(to_rgb(values, bands.layout, limits), bands.orientation))


def turned_upright(image: Image.Image) -> Image.Image:
    """Turn an open image upright as its EXIF data say."""
    image.load()  # raises where its pixels are damaged, whose EXIF data Pillow may look for behind them
    try:
        image.getexif()
    except Exception:  # damaged EXIF data, which turn nothing
        return image
    return ImageOps.exif_transpose(image)


def _rgb(image: Image.Image) -> Pixels:
    if image.mode in _DEEP:
        return _from_bands(Bands(np.asarray(image)[..., None], Layout(1, deep=True)))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _unreadable(path: Path, error: Exception) -> BadSampleError:
    if isinstance(error, UnsuitableError):
        return BadSampleError(f"{path} {error}")
    if isinstance(error, FileNotFoundError):
        return BadSampleError(f"{path} is missing: {_UNREADABLE}")
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return BadSampleError(f"{path} claims to be larger than any image ({error}): {_UNREADABLE}")
    if isinstance(error, UnidentifiedImageError):
        return BadSampleError(f"{path} is not an image that can be read: {_UNREADABLE}")
    reason = " ".join(str(error).split()) or type(error).__name__
    return BadSampleError(f"{path} cannot be read ({reason}): {_UNREADABLE}")
