"""Reading photographs and label maps, with errors that name the file and what to do about it."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from weakseg_lightning.data.samples import BadSampleError

__all__ = ["image_size", "read_image", "read_labels"]

_UNREADABLE = "restore the file from the archive, or take its name out of the split's list"


def read_image(path: Path) -> Tensor:
    """Read a photograph.

    Args:
        path: image file; greyscale and palette images become RGB.

    Returns:
        uint8 ``(3, H, W)``.

    Raises:
        BadSampleError: if the file is missing, unreadable or truncated.
    """
    try:
        with Image.open(path) as image:
            pixels = np.array(image if image.mode == "RGB" else image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise _unreadable(path, error) from error
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
    try:
        with Image.open(path) as image:
            mode, labels = image.mode, np.array(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise _unreadable(path, error) from error
    if mode not in ("L", "P"):
        raise BadSampleError(
            f"{path} has pixels of type {mode}, expected 8-bit grey or palette with one class index a pixel: "
            "convert the colours to class indices"
        )
    return torch.from_numpy(labels)


def image_size(path: Path) -> tuple[int, int]:
    """Read the size of an image, (width, height) in pixels, from the head of its file.

    Raises:
        BadSampleError: if the file is missing or no image.
    """
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, SyntaxError, ValueError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> BadSampleError:
    if isinstance(error, FileNotFoundError):
        return BadSampleError(f"{path} is missing: {_UNREADABLE}")
    reason = (
        "is not an image that can be read" if isinstance(error, UnidentifiedImageError) else f"cannot be read ({error})"
    )
    return BadSampleError(f"{path} {reason}: {_UNREADABLE}")
