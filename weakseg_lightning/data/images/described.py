"""The bands of an image file by what its header says: how many, their names, and whether they are gray or RGB alone."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from weakseg_lightning.data.images.bands import ARRAY_SUFFIX, array_bands
from weakseg_lightning.data.images.jpeg2000 import is_deep_jpeg2000
from weakseg_lightning.data.images.png import read_png_header
from weakseg_lightning.data.images.reading import reading
from weakseg_lightning.data.images.tiff import TiffHeader, read_tiff_pages

__all__ = ["DescribedBands", "band_names", "describe_bands"]

_GDAL_METADATA, _PHOTOMETRIC, _PAGE_NAME = 42112, 262, 285  # tags of a TIFF
_RGB = 2
_COLORS = ("red", "green", "blue")


@dataclass(frozen=True)
class DescribedBands:
    """The bands of a file.

    Attributes:
        count: number of them, those of all pages.
        names: their names; empty where the file does not say them.
        is_picture: whether they are gray or RGB, with or without transparency, and nothing else.
        depth: type of their samples, in words.
        has_alpha: whether the last one is marked as transparency.
    """

    count: int
    names: tuple[str, ...] = ()
    is_picture: bool = False
    depth: str = "8-bit"
    has_alpha: bool = False

    @property
    def names_or_numbers(self) -> tuple[str, ...]:
        """Their names: ``band_1`` and so on where they have none."""
        return self.names or tuple(f"band_{number}" for number in range(1, self.count + 1))


def describe_bands(path: Path) -> DescribedBands:
    """Read what the header of a file says about its bands.

    Raises:
        BadSampleError: if the file is missing or no image.
    """
    with reading(path) as file:
        if path.suffix.lower() == ARRAY_SUFFIX:
            bands = array_bands(path)
            return DescribedBands(bands.shape[-1], depth=_depth(bands.dtype))
        if (pages := read_tiff_pages(file)) is None:
            return _described_by_pillow(file)
        count, depth = sum(page.bands for page in pages), _depth(pages[0].dtype)
        if _is_picture(pages):
            has_alpha = pages[0].has_gray_or_rgb and pages[0].layout.alpha
            return DescribedBands(count, is_picture=True, depth=depth, has_alpha=has_alpha)
        return DescribedBands(count, band_names(path, count) or _colors_first(pages, count), depth=depth)


def _described_by_pillow(file: BinaryIO) -> DescribedBands:
    png, is_deep = read_png_header(file), is_deep_jpeg2000(file)
    with Image.open(file) as image:
        bands = image.getbands()
        # Pillow opens colors of 16 bits as if they had 8.
        is_deep = is_deep or image.mode[:1] == "I" or (png is not None and png.depth == 16)
        return DescribedBands(
            len(bands), is_picture=True, depth="16-bit" if is_deep else "8-bit", has_alpha="A" in bands
        )


def _depth(dtype: np.dtype[Any]) -> str:
    return f"{8 * dtype.itemsize}-bit{' float' if dtype.kind == 'f' else ''}"


def _is_picture(pages: Sequence[TiffHeader]) -> bool:
    header = pages[0]
    if len(pages) > 1 or header.bands > 4:
        return False
    return header.has_palette or not header.has_gray_or_rgb or header.bands in (1, 3) or header.layout.alpha


def _colors_first(pages: Sequence[TiffHeader], count: int) -> tuple[str, ...]:
    """Names where the first three bands are said to be red, green and blue."""
    if len(pages) > 1 or pages[0].first(_PHOTOMETRIC, 0) != _RGB:
        return ()
    return (*_COLORS, *(f"band_{number}" for number in range(4, count + 1)))


def band_names(path: Path, count: int) -> tuple[str, ...]:
    """Names that a TIFF gives its bands, of which there are ``count``; empty unless each has one of its own."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        return ()
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it says names no file: headers are examined here
    with suppress(Exception), tifffile.TiffFile(path) as file:  # descriptions are damaged in all ways: then it has none
        for found in _descriptions(file):
            names = tuple(" ".join(str(name).split()) for name in found)
            if len(names) == count == len(set(names)) and all(names):
                return names
    return ()


def _descriptions(file: Any) -> Iterator[list[str]]:
    """Names by GDAL, OME, ImageJ, or the pages."""
    from defusedxml.ElementTree import fromstring

    first = file.pages[0]
    if (tag := first.tags.get(_GDAL_METADATA)) is not None:
        items = fromstring(str(tag.value)).iter("Item")
        named = [(int(item.get("sample", 0)), item.text or "") for item in items if item.get("role") == "description"]
        yield [name for _, name in sorted(named)]
    if file.ome_metadata:
        parts = fromstring(str(file.ome_metadata)).iter()
        yield [part.get("Name", "") for part in parts if str(part.tag).rpartition("}")[2] == "Channel"]
    yield [*((file.imagej_metadata or {}).get("Labels") or ())]
    yield [page.tags[_PAGE_NAME].value for page in file.pages if _PAGE_NAME in page.tags]
