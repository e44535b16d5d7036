"""Pictures of label maps: colors, overlays, palette PNGs, and panels that put the stages of training side by side.

Everything takes tensors or arrays and returns Pillow images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from weakseg_lightning.checks import between
from weakseg_lightning.energies.potts import VOID

Labels = Tensor | npt.NDArray[np.integer]
Pixels = Tensor | npt.NDArray[np.floating] | npt.NDArray[np.uint8]
Colors = npt.NDArray[np.uint8]

Palette = Sequence[Sequence[int]] | npt.NDArray[np.integer]

INK, FAINT, PAPER = (38, 38, 38), (120, 120, 120), (255, 255, 255)
GAP, TEXT, RIM = 10, 14, 1.5  # of the panels, in pixels
MAPS = {"seeds": "seeds", "latent": "latent labeling", "prediction": "prediction", "truth": "ground truth"}


def voc_palette(num_colors: int = 256) -> Colors:
    """Generate the colors of PASCAL VOC: the bits of the class index, dealt in turn to red, green and blue.

    Args:
        num_colors: number of colors, 1 to 256; color 255 is that of void.

    Returns:
        uint8 ``(num_colors, 3)``.

    Raises:
        ValueError: if ``num_colors`` is out of range.

    Example:
        >>> voc_palette(3).tolist(), voc_palette()[255].tolist()
        ([[0, 0, 0], [128, 0, 0], [0, 128, 0]], [224, 224, 192])
    """
    between("num_colors", num_colors, 1, 256)
    index = np.arange(num_colors)[:, None]
    channel = np.arange(3)
    # Bits 0, 3 and 6 of the index are the first, second and third bit of red from the top; green and blue follow.
    bits = [((index >> (3 * turn + channel)) & 1) << (7 - turn) for turn in range(3)]
    colors: Colors = np.sum(bits, axis=0).astype(np.uint8)
    return colors


def colorize(labels: Labels, palette: Palette | None = None) -> Image.Image:
    """Paint a label map.

    Args:
        labels: classes ``(H, W)``, 255 = void.
        palette: one RGB color (0..255) per class; that of PASCAL VOC by default, and beyond the last given class.

    Returns:
        RGB image of the same size.

    Raises:
        ValueError: if ``labels`` is not a map of integers in 0..255.

    Example:
        >>> colorize(np.array([[0, 1, 255]])).getpixel((2, 0))
        (224, 224, 192)
    """
    return Image.fromarray(full_palette(palette)[_label_map(labels)])


def overlay(image: Pixels, labels: Labels, palette: Palette | None = None, alpha: float = 0.65) -> Image.Image:
    """Lay a label map over its image, with class borders drawn in white and void hatched.

    Args:
        image: RGB in 0..1 ``(3, H, W)``, or uint8 ``(H, W, 3)``.
        labels: classes ``(H, W)``, 255 = void.
        palette: one RGB color (0..255) per class; that of PASCAL VOC by default.
        alpha: opacity of the colors, 0..1; background (class 0) gets half of it.

    Returns:
        RGB image of the same size.

    Raises:
        ValueError: if the sizes differ or ``alpha`` is out of range.

    Example:
        >>> overlay(np.ones((3, 4, 6)), np.zeros((4, 6), dtype=int)).size
        (6, 4)
    """
    between("alpha", alpha, 0, 1)
    pixels, classes = _rgb(image), _label_map(labels)
    if pixels.shape[:2] != classes.shape:
        got = f"{pixels.shape[:2]} and {classes.shape}"
        raise ValueError(f"`image` and `labels` must have the same height and width, got {got}")
    opacity = np.where(classes == 0, alpha / 2, alpha)[..., None]
    color = full_palette(palette)[classes].astype(np.float64)
    color[_hatch(classes)] = PAPER
    mixed = (1 - opacity) * pixels + opacity * color
    mixed[_borders(classes)] = PAPER
    return Image.fromarray(mixed.round().astype(np.uint8))


def save_palette_png(path: str | Path, labels: Labels, palette: Palette | None = None) -> None:
    """Write a label map as an indexed PNG, the format of PASCAL VOC masks: the pixel value is the class.

    Args:
        path: file to write.
        labels: classes ``(H, W)``, 255 = void.
        palette: one RGB color (0..255) per class; that of PASCAL VOC by default.

    Raises:
        ValueError: if ``labels`` is not a map of integers in 0..255.
    """
    indexed = Image.fromarray(_label_map(labels))
    indexed.putpalette(full_palette(palette).tobytes())
    indexed.save(path, format="PNG")


@dataclass(frozen=True)
class PanelRow:
    """One row of a panel picture: an image and label maps of it, all of one size; None leaves a cell empty.

    Args:
        image: RGB in 0..1 ``(3, H, W)``, or uint8 ``(H, W, 3)``.
        seeds: labelled pixels ``(H, W)``, 255 elsewhere.
        latent: labeling found by the solver ``(H, W)``.
        prediction: labeling of the network ``(H, W)``.
        truth: ground truth ``(H, W)``, 255 = void.
    """

    image: Pixels
    seeds: Labels | None = None
    latent: Labels | None = None
    prediction: Labels | None = None
    truth: Labels | None = None


def draw_panels(
    rows: Sequence[PanelRow],
    class_names: Sequence[str] | None = None,
    palette: Palette | None = None,
    tile: int = 240,
    title: str = "",
) -> Image.Image:
    """Draw images, seeds, latent labelings, predictions and truths side by side, with titles and a legend.

    Thin seeds are drawn thicker than they are. Columns that are empty in every row are left out.

    Args:
        rows: at least one row.
        class_names: names for the legend; numbers by default.
        palette: one RGB color (0..255) per class; that of PASCAL VOC by default.
        tile: longer side of a drawn image, in pixels.
        title: a line above the picture.

    Returns:
        RGB image.

    Raises:
        ValueError: if there are no rows.

    Example:
        >>> row = PanelRow(image=np.zeros((3, 8, 8)), prediction=np.zeros((8, 8), dtype=int))
        >>> draw_panels([row], tile=100).width
        230
    """
    if not rows:
        raise ValueError("`rows` must hold at least one row, got none")
    columns = [name for name in MAPS if any(getattr(row, name) is not None for row in rows)]
    cells = [[_cell(row, name, palette, tile) for name in ("image", *columns)] for row in rows]
    titles = ["image", *(MAPS[name] for name in columns)]
    width = len(titles) * (tile + GAP) + GAP
    centers = [GAP + column * (tile + GAP) + tile // 2 for column in range(len(titles))]
    parts = [_written({GAP: title}, TEXT + GAP // 2, width, FAINT, "lm")] if title else []
    parts += [_written(dict(zip(centers, titles, strict=True)), TEXT, width, INK, "mm")]
    parts += [_strip(row, tile, width) for row in cells]
    parts += [draw_legend(_used_classes(rows, columns), class_names, full_palette(palette), width)]
    return _stack(parts, width)


# ---- label maps and pixels as arrays --------------------------------------------------------------------------


def _array(values: Labels | Pixels) -> npt.NDArray[np.generic]:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _label_map(labels: Labels) -> npt.NDArray[np.uint8]:
    classes = _array(labels)
    if classes.ndim != 2 or not np.issubdtype(classes.dtype, np.integer):
        raise ValueError(f"`labels` must be integers (H, W), got {classes.dtype} {classes.shape}")
    if classes.size and not 0 <= int(classes.min()) <= int(classes.max()) <= VOID:
        raise ValueError(f"`labels` must be 0 to 255 (255 = void), got {classes.min()} to {classes.max()}")
    return classes.astype(np.uint8)


def _rgb(image: Pixels) -> npt.NDArray[np.uint8]:
    pixels = _array(image.float() if isinstance(image, Tensor) and image.is_floating_point() else image)
    if pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3:
        return pixels.astype(np.uint8)
    if not np.issubdtype(pixels.dtype, np.floating) or pixels.ndim != 3 or pixels.shape[0] != 3:
        expected = "floats (3, H, W) in 0..1 or uint8 (H, W, 3)"
        raise ValueError(f"`image` must be {expected}, got {pixels.dtype} {pixels.shape}")
    return (pixels.transpose(1, 2, 0).clip(0, 1) * 255).round().astype(np.uint8)


def full_palette(palette: Palette | None) -> Colors:
    """Colors of all pixel values, uint8 ``(256, 3)``: those given, then those of PASCAL VOC.

    Raises:
        ValueError: if ``palette`` is no list of up to 256 colors.
    """
    full = voc_palette()
    if palette is not None:
        given = np.asarray(palette)
        if given.ndim != 2 or given.shape[1] != 3 or len(given) > len(full):
            raise ValueError(f"`palette` must be at most 256 colors (N, 3), got shape {given.shape}")
        full[: len(given)] = given
    return full


def _borders(classes: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Mark the pixels whose right or lower neighbor has another class."""
    border = np.zeros(classes.shape, dtype=np.bool_)
    border[:, :-1] |= classes[:, :-1] != classes[:, 1:]
    border[:-1] |= classes[:-1] != classes[1:]
    return border


def _hatch(classes: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Mark diagonal stripes of the void pixels."""
    diagonal = np.add.outer(np.arange(classes.shape[0]), np.arange(classes.shape[1]))
    stripes: npt.NDArray[np.bool_] = (classes == VOID) & (diagonal % 8 < 3)
    return stripes


def _thicken(
    seeds: npt.NDArray[np.uint8], radius: float, rim: float
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Grow seeds by ``radius`` pixels; mark a rim around them, so that they show on any background."""
    if not (seeds != VOID).any():
        return seeds, np.zeros(seeds.shape, dtype=np.bool_)
    distance, nearest = distance_transform_edt(seeds == VOID, return_indices=True)
    grown = np.where(distance <= radius, seeds[tuple(nearest)], VOID).astype(np.uint8)
    return grown, (distance > radius) & (distance <= radius + rim)


def _used_classes(rows: Sequence[PanelRow], columns: Sequence[str]) -> list[int]:
    used: set[int] = set()
    for name in columns:
        maps = [getattr(row, name) for row in rows if getattr(row, name) is not None]
        found = {int(k) for labels in maps for k in np.unique(_label_map(labels))}
        used |= found - {VOID} if name == "seeds" else found
    return sorted(used)


# ---- drawing --------------------------------------------------------------------------------------------------


def _cell(row: PanelRow, name: str, palette: Palette | None, tile: int) -> Image.Image | None:
    """Draw one cell at the panel's resolution, None where the row has no such map."""
    if (labels := getattr(row, name)) is None:
        return None
    image = Image.fromarray(_rgb(row.image))
    if name == "image":
        return _fit(image, tile, Image.Resampling.LANCZOS)
    classes = Image.fromarray(_label_map(labels))
    if name == "seeds":
        return _draw_seeds(image, classes, full_palette(palette), tile)
    classes = _fit(classes, tile, Image.Resampling.NEAREST)
    return overlay(np.asarray(_fit(image, tile, Image.Resampling.LANCZOS)), np.asarray(classes), palette)


def _draw_seeds(image: Image.Image, seeds: Image.Image, palette: Colors, tile: int) -> Image.Image:
    """Paint thick strokes at the higher of the two resolutions: reduced first, a stroke of one pixel may vanish."""
    side = max(*seeds.size, tile)
    pixels = np.asarray(_fit(image, side, Image.Resampling.LANCZOS))
    classes = np.asarray(_fit(seeds, side, Image.Resampling.NEAREST))
    unit = side / tile
    grown, rim = _thicken(classes, unit * max(1.5, tile / 100), unit * RIM)
    drawn = np.where((grown == VOID)[..., None], 0.55 * pixels + 0.45 * 255, palette[grown])
    drawn[rim] = PAPER
    return _fit(Image.fromarray(drawn.round().astype(np.uint8)), tile, Image.Resampling.BILINEAR)


def _fit(picture: Image.Image, tile: int, resampling: Image.Resampling) -> Image.Image:
    scale = tile / max(picture.size)
    width, height = (max(1, round(scale * side)) for side in picture.size)
    return picture.resize((width, height), resampling)


def _strip(cells: Sequence[Image.Image | None], tile: int, width: int) -> Image.Image:
    """Put the cells of one row side by side; its height is that of the tallest cell."""
    strip = Image.new("RGB", (width, max(cell.height for cell in cells if cell) + GAP), PAPER)
    for column, cell in enumerate(cells):
        if cell:
            strip.paste(cell, (GAP + column * (tile + GAP) + (tile - cell.width) // 2, 0))
    return strip


def _written(texts: Mapping[int, str], y: int, width: int, ink: tuple[int, int, int], anchor: str) -> Image.Image:
    """A line of texts by their places from the left."""
    strip = Image.new("RGB", (width, 2 * TEXT), PAPER)
    draw = ImageDraw.Draw(strip)
    for x, text in texts.items():
        draw.text((x, y), text, fill=ink, font=_font(), anchor=anchor)
    return strip


def draw_legend(used: Sequence[int], names: Sequence[str] | None, palette: Colors, width: int) -> Image.Image:
    """Draw a swatch and a name for each class that is used, in as many lines as they need; ``palette`` has them all."""
    entries = [(k, _class_name(k, names)) for k in used]
    placed, x, y = [], GAP, GAP
    for k, name in entries:
        extent = int(2.5 * TEXT + _font().getlength(name))
        if x > GAP and x + extent > width:
            x, y = GAP, y + 3 * TEXT // 2
        placed.append((k, name, x, y))
        x += extent
    strip = Image.new("RGB", (width, y + 2 * TEXT if entries else 1), PAPER)
    draw = ImageDraw.Draw(strip)
    for k, name, left, top in placed:
        draw.rectangle((left, top, left + TEXT, top + TEXT), fill=tuple(palette[k].tolist()), outline=FAINT)
        draw.text((left + 3 * TEXT // 2, top + TEXT // 2 + 1), name, fill=INK, font=_font(), anchor="lm")
    return strip


def _class_name(index: int, names: Sequence[str] | None) -> str:
    if index == VOID:
        return "void"
    return names[index] if names and index < len(names) else str(index)


def _stack(parts: Sequence[Image.Image], width: int) -> Image.Image:
    sheet = Image.new("RGB", (width, sum(part.height for part in parts)), PAPER)
    top = 0
    for part in parts:
        sheet.paste(part, (0, top))
        top += part.height
    return sheet


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(TEXT)
