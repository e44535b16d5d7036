"""PNG files at the depth of the file: Pillow cuts 16-bit colors to 8 bits, and scales gray of 2 and 4 bits to 8."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from weakseg_lightning.data.images.pixels import Bands, Layout, upright
from weakseg_lightning.energies.potts import VOID

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GRAY, _RGB, _PALETTE, _GRAY_ALPHA, _RGB_ALPHA = 0, 2, 3, 4, 6
_DEPTHS_AND_KINDS = {
    "1": (1, _GRAY),
    "L": (8, _GRAY),
    "I;16": (16, _GRAY),
    "I;16B": (16, _GRAY),
    "P": (8, _PALETTE),
    "LA": (8, _GRAY_ALPHA),
    "RGB": (8, _RGB),
    "RGBA": (8, _RGB_ALPHA),
}


@dataclass(frozen=True)
class PngHeader:
    """Facts from the header of a PNG.

    Attributes:
        depth: bits of a sample: 1, 2, 4, 8 or 16.
        kind: type of its colors, as the format numbers them.
        interlaced: 1 if its rows are stored in seven passes.
    """

    depth: int
    kind: int
    interlaced: int

    @property
    def layout(self) -> Layout:
        """The meaning of its bands, but for a color that is transparent."""
        colors = 3 if self.kind in (_RGB, _RGB_ALPHA) else 1
        alpha = self.kind in (_GRAY_ALPHA, _RGB_ALPHA)
        return Layout(colors, alpha, bits=self.depth, deep=self.depth == 16)

    @property
    def is_deep_or_packed(self) -> bool:
        """Colors of 16 bits, and gray of 2 and 4 with transparency: Pillow would not read these as they are."""
        return self.depth == 16 or (self.depth < 8 and self.kind == _GRAY)

    @property
    def has_palette(self) -> bool:
        """Values that are indices of colors."""
        return self.kind == _PALETTE


@dataclass(frozen=True)
class StoredLabels:
    """A label map as it is stored, but upright as its EXIF data say.

    Attributes:
        values: integers ``(H, W, bands)``: one band of gray or indices, or three of colors.
        opaque: where it is not wholly transparent, ``(H, W)``; None if this is everywhere.
        palette: red, green and blue of all indices, one after the other; None without a palette.
        depth: bits of a sample.
    """

    values: NDArray[Any]
    opaque: NDArray[np.bool_] | None
    palette: list[int] | None
    depth: int

    @property
    def visible(self) -> NDArray[Any]:
        """The values that are not transparent, ``(N, bands)``."""
        return self.values.reshape(-1, self.values.shape[-1]) if self.opaque is None else self.values[self.opaque]

    def with_void(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Labels ``(H, W)``, 255 where the map is transparent."""
        return labels if self.opaque is None else np.where(self.opaque, labels, labels.dtype.type(VOID))


def read_png_header(file: BinaryIO) -> PngHeader | None:
    """Read the header of a PNG; None if the file is none. The file is put back to its start."""
    header = file.read(29)
    file.seek(0)
    if len(header) < 29 or header[:8] != _SIGNATURE or header[12:16] != b"IHDR":
        return None
    return PngHeader(depth=header[24], kind=header[25], interlaced=header[28])


def png_header_of(image: Image.Image) -> PngHeader | None:
    """The header that a PNG of an image would have, as Pillow has opened it; None if there is none of its kind."""
    found = _DEPTHS_AND_KINDS.get(image.mode)
    return None if found is None else PngHeader(*found, interlaced=0)


def read_png(file: BinaryIO, header: PngHeader) -> Bands:
    """Read a PNG without a palette at the depth of its file.

    Raises:
        Exception: whatever Pillow raises for files that are damaged.
    """
    with Image.open(file) as image:
        return Bands(_stored(file, header, image), png_layout(header, image), read_orientation(file, image))


def read_stored_labels(file: BinaryIO, header: PngHeader) -> StoredLabels:
    """Read a PNG as a label map.

    Args:
        file: the file, at its start; also of another format that Pillow reads in the same way.
        header: its header, or the one that it would have.

    Raises:
        Exception: whatever Pillow raises for files that are damaged.
    """
    with Image.open(file) as image:
        stored = np.ascontiguousarray(upright(_stored(file, header, image), read_orientation(file, image)))
        if header.has_palette:
            return StoredLabels(stored, _opaque_indices(stored, image), image.getpalette() or [], header.depth)
        layout = png_layout(header, image)
        return StoredLabels(stored[..., : layout.colors], _opaque(stored, layout), None, header.depth)


def png_layout(header: PngHeader, image: Image.Image) -> Layout:
    """The meaning of the bands of an open PNG, its transparent color with them, at the depth of the file."""
    layout, transparent = header.layout, image.info.get("transparency")
    if transparent is None or header.kind not in (_GRAY, _RGB):
        return layout
    given = (transparent,) if isinstance(transparent, int) else tuple(transparent)
    # Of one bit, Pillow says 255 for 1.
    colors = tuple(min(value, 1) for value in given) if header.depth == 1 else given
    return Layout(layout.colors, bits=layout.bits, deep=layout.deep, transparent=colors)


def read_orientation(file: BinaryIO, image: Image.Image) -> int:
    """EXIF orientation of an open image, of a PNG also where EXIF data stand at the end, without decoding it."""
    if image.format == "PNG" and "exif" not in image.info:
        image.info["exif"] = b"".join(_chunks(file, b"eXIf")) or None
    with suppress(Exception):  # damaged EXIF data turn nothing: browsers show the image as it lies
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    return 1


def _stored(file: BinaryIO, header: PngHeader, image: Image.Image) -> NDArray[Any]:
    """Samples of an open PNG, ``(H, W, bands)``."""
    if header.depth == 16 and header.kind != _GRAY:
        return _deep_samples(image.size, b"".join(_chunks(file, b"IDAT")), header)
    values = np.atleast_3d(np.array(image, dtype=np.uint16 if header.depth == 16 else np.uint8))
    if header.kind == _GRAY and header.depth in (2, 4):
        values //= np.uint8(255 // (2**header.depth - 1))  # as Pillow has scaled it
    return values


def _deep_samples(size: tuple[int, int], data: bytes, header: PngHeader) -> NDArray[Any]:
    """Samples of 16 bits from image data, ``(H, W, bands)``; Pillow can be asked for the upper or the lower bytes."""
    if header.kind == _GRAY_ALPHA:  # the two bytes of two samples are four samples of a byte
        single = np.array(Image.frombytes("RGBA", size, data, "zip", "RGBA", header.interlaced))
        return single.view(">u2").astype(np.uint16)
    mode = "RGB" if header.kind == _RGB else "RGBA"
    upper, lower = (
        np.asarray(Image.frombytes(mode, size, data, "zip", f"{mode};16{order}", header.interlaced)) for order in "BL"
    )
    samples: NDArray[Any] = upper.astype(np.uint16) << 8 | lower
    return samples


def _chunks(file: BinaryIO, wanted: bytes) -> Iterator[bytes]:
    """The content of all chunks of a type."""
    place = len(_SIGNATURE)
    while file.seek(place) and len(header := file.read(8)) == 8 and header[4:] != b"IEND":
        length = int.from_bytes(header[:4])
        if header[4:] == wanted:
            yield file.read(length)
        place += length + 12


def _opaque(values: NDArray[Any], layout: Layout) -> NDArray[np.bool_] | None:
    if layout.transparent is not None:
        return np.asarray((values[..., : layout.colors] != layout.transparent).any(-1))
    return values[..., -1] > 0 if layout.alpha else None


def _opaque_indices(indices: NDArray[Any], image: Image.Image) -> NDArray[np.bool_] | None:
    """Pixels whose index is not transparent; Pillow gives the one that is, or the opacity of the first ones."""
    given, opaque = image.info.get("transparency"), np.ones(256, dtype=np.bool_)
    if given is None:
        return None
    if isinstance(given, int):
        opaque[given] = False
    else:
        opaque[: len(given)] = np.frombuffer(given, dtype=np.uint8) > 0
    return np.asarray(opaque[indices[..., 0]])
