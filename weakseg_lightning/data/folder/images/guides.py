"""Guides: maps of regions or boundaries, one for each image, that pairwise terms look at in place of the image."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from weakseg_lightning.data.folder.annotations import Problem, relative
from weakseg_lightning.data.folder.files import Files
from weakseg_lightning.data.folder.label_maps import Size, require_size
from weakseg_lightning.data.images.reading import read_label_map
from weakseg_lightning.data.samples import BadSampleError
from weakseg_lightning.errors import MissingFileError

__all__ = ["guides_folder", "lacking_guides", "read_guide"]

_COLORS = np.array([65536, 256, 1])


def guides_folder(root: Path, given: str | Path | None) -> Path | None:
    """Find the folder of the guides.

    Args:
        root: absolute path of the folder of the data.
        given: the folder of the guides, from there; None if none are used.

    Raises:
        MissingFileError: if there is none.
    """
    if given is None:
        return None
    found = root / Path(given).expanduser()
    if not found.is_dir():
        raise MissingFileError(f"`guides`: there is no folder {found}; `weakseg superpixels {root}` can make one")
    return found


def read_guide(path: Path, size: Size) -> NDArray[np.int32]:
    """Read a guide.

    Args:
        path: PNG: gray of 1 to 16 bits or indexed, whose values count; or colors of 8 bits, of which each is a number.
        size: width and height of its image, which it must have.

    Returns:
        int32 ``(H, W)``, at least 0 and below 2^24; 0 is black, in colors too.

    Raises:
        BadSampleError: if it cannot be read, or has another size.
    """
    stored = read_label_map(path)
    if stored.values.shape[-1] == 3 and stored.depth > 8:
        raise BadSampleError(f"{path} has colors of {stored.depth} bits: save it as gray of 16 bits, or colors of 8")
    values = stored.values.astype(np.int64)
    numbers = values[..., 0] if values.shape[-1] == 1 else values @ _COLORS
    require_size(path, numbers.shape, size, "make it of the image at its size")
    return numbers.astype(np.int32)


def lacking_guides(files: Files, names: Iterable[str]) -> Iterator[Problem]:
    """Name the images without a guide, where guides are used.

    Args:
        files: the files of the folder.
        names: ids of the images that need one.
    """
    if files.guides is None:
        return
    for name in names:
        if name not in files.guides:
            text = "has no map of regions or boundaries among the `guides`: add one of its name, PNG"
            yield Problem(relative(files.images[name], files.root), text, name)
