"""A contact sheet: many images with their annotations on one picture."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import grey_dilation

from weakseg_lightning.data.folder.contents import FolderContents
from weakseg_lightning.data.folder.labels import accepted_of, read_drawn, read_mask
from weakseg_lightning.data.images.statistics import picture, places_of
from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.visualization.panels import INK, PAPER, draw_legend, voc_palette

__all__ = ["contact_sheet"]

_TILE, _GAP, _CAPTION, _COLUMNS = 220, 8, 18, 5
_MOST = 40
_WEAK, _STRONG = 0.45, 1.0  # opacity of masks and of strokes


def contact_sheet(contents: FolderContents, names: Sequence[str]) -> Image.Image:
    """Draw images with masks, accepted labels, strokes, clicks and boxes in the colors of the classes.

    Args:
        contents: the folder.
        names: ids of images without problems; of many some are chosen, evenly spread.

    Returns:
        RGB image: tiles with the names of the images, and a legend.
    """
    chosen = [names[index] for index in np.unique(np.linspace(0, len(names) - 1, min(len(names), _MOST)).astype(int))]
    columns = min(_COLUMNS, len(chosen))
    rows = -(-len(chosen) // columns)
    width, step = columns * (_TILE + _GAP) + _GAP, _TILE + _CAPTION + _GAP
    used: set[int] = set()
    sheet = Image.new("RGB", (width, rows * step + _GAP), PAPER)
    for place, name in enumerate(chosen):
        tile = _tile(contents, name, used)
        left, top = _GAP + place % columns * (_TILE + _GAP), _GAP + place // columns * step
        sheet.paste(tile, (left + (_TILE - tile.width) // 2, top + (_TILE - tile.height) // 2))
        caption = ImageDraw.Draw(sheet)
        caption.text((left + _TILE // 2, top + _TILE + 2), _short(name), fill=INK, font=_font(), anchor="ma")
    legend = draw_legend(sorted(used), contents.classes.names, _palette(contents), width)
    whole = Image.new("RGB", (width, sheet.height + legend.height), PAPER)
    whole.paste(sheet, (0, 0))
    whole.paste(legend, (0, sheet.height))
    return whole


def _tile(contents: FolderContents, name: str, used: set[int]) -> Image.Image:
    """One image with its annotations; notes the classes that are drawn."""
    image = Image.fromarray(_pixels(contents, name))
    size = image.size
    scale = _TILE / max(size)
    tile = image.resize((max(1, round(scale * size[0])), max(1, round(scale * size[1]))))
    areas = ((read(contents, name, size), _WEAK) for read in (read_mask, accepted_of))
    for labels, opacity in (*areas, (read_drawn(contents, name, size), _STRONG)):
        if labels is not None:
            tile = _painted(tile, _shrunk(labels, tile.size), opacity, _palette(contents), used)
    drawing = ImageDraw.Draw(tile)
    for known in contents.about(name, "box"):
        if known.label not in (None, VOID):
            corners = (known.annotation.points[:2] * (tile.width / size[0], tile.height / size[1])).flatten().tolist()
            drawing.rectangle(corners, outline=tuple(_palette(contents)[known.label].tolist()), width=2)
            used.add(known.label)
    return tile


def _shrunk(labels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Reduce a label map so that thin strokes stay visible: a label wins over none, the rarest over the others."""
    small = np.full(size[::-1], VOID, dtype=np.uint8)
    found, counts = np.unique(labels[labels != VOID], return_counts=True)
    for label in found[np.argsort(-counts)]:
        where = Image.fromarray((labels == label).astype(np.float32))
        share = np.asarray(where.resize(size, Image.Resampling.BOX))
        small[share >= min(0.5, float(share.max()))] = label
        small[grey_dilation(share, (3, 3)) * (counts.sum() < labels.size / 4) > 1e-3] = label
    return small


def _painted(
    tile: Image.Image, labels: NDArray[np.uint8], opacity: float, palette: NDArray[np.uint8], used: set[int]
) -> Image.Image:
    used.update(np.unique(labels[labels != VOID]).tolist())
    alpha = np.where(labels == VOID, 0, np.where(labels == 0, opacity / 2, opacity) if opacity < 1 else 1)[..., None]
    mixed = (1 - alpha) * np.asarray(tile) + alpha * palette[labels]
    return Image.fromarray(mixed.round().astype(np.uint8))


def _palette(contents: FolderContents) -> NDArray[np.uint8]:
    """Colors of the classes, then those of PASCAL VOC, 256 in all."""
    colors = voc_palette().copy()
    colors[: len(contents.classes.names)] = contents.classes.palette
    return colors


def _short(name: str) -> str:
    return name if len(name) <= 32 else f"{name[:14]}...{name[-14:]}"


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(12)


def _pixels(contents: FolderContents, name: str) -> NDArray[np.uint8]:
    channels = contents.channels
    if channels is None:
        pixels: NDArray[np.uint8] = contents.read_image(name).permute(1, 2, 0).numpy()
        return pixels
    return picture(contents.read_planes(name, neighbors=0), places_of(channels.names, None))
