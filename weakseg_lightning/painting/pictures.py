"""Layers that the page shows of an image: the image itself, the scribbles, a labeling, the uncertainty."""

import io
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from torch import Tensor

from weakseg_lightning.energies.potts import VOID

__all__ = ["MAX_SIDE", "image_layer", "labeling_layer", "reduced", "scribble_layer", "uncertainty_layer"]

MAX_SIDE = 1600
"""Pixels of the longest side that the browser gets."""

Labels = NDArray[np.uint8]
Palette = NDArray[np.uint8]
_RIM = (255, 255, 255, 190)
_OPACITY = (110, 200)  # of the first class, which is the background, and of the others
_LEAST_LOGARITHM = -80.0
_UNCERTAIN = (255, 0, 160)  # photographs hardly have it, nor does VOC's palette


def image_layer(image: Tensor) -> bytes:
    """Encode an image, uint8 ``(3, H, W)``, reduced to what a browser shows, as JPEG."""
    return _encoded(reduced(image, MAX_SIDE), "JPEG", quality=90)


def reduced(image: Tensor, longest: int) -> Image.Image:
    """Reduce an image, uint8 ``(3, H, W)``, so that its longest side has at most so many pixels."""
    pixels = Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))
    scale = min(longest / max(pixels.size), 1)
    size = max(round(pixels.width * scale), 1), max(round(pixels.height * scale), 1)
    return pixels if size == pixels.size else pixels.resize(size, Image.Resampling.BOX)


def scribble_layer(labels: Labels, palette: Palette) -> bytes:
    """Paint scribbles in their colors with a white rim, everything else transparent: PNG of at most `MAX_SIDE`."""
    labels = _enlarged(_thinned(labels))
    drawn = labels != VOID
    pixels = np.zeros((*labels.shape, 4), dtype=np.uint8)
    pixels[ndimage.binary_dilation(drawn, np.ones((5, 5))) & ~drawn] = _RIM
    pixels[drawn, :3] = palette[labels[drawn]]
    pixels[drawn, 3] = 255
    return _encoded(Image.fromarray(pixels), "PNG", compress_level=1)


def labeling_layer(labels: Labels, palette: Palette) -> bytes:
    """Paint a labeling in the colors of its classes, the background fainter than the others: PNG."""
    opacity = np.full(VOID + 1, _OPACITY[1], dtype=np.uint8)
    opacity[0] = _OPACITY[0]
    opacity[VOID] = 0
    pixels = np.concatenate([palette[labels], opacity[labels][..., None]], axis=2)
    return _encoded(Image.fromarray(pixels), "PNG", compress_level=1)


def uncertainty_layer(scores: NDArray[np.float16]) -> bytes:
    """Paint where a model does not know: its entropy as opacity, PNG.

    Args:
        scores: log-probabilities ``(K, h, w)``.

    Returns:
        ``(h, w)`` pixels, transparent where one class is certain, opaque where all are equally probable.
    """
    logarithms = np.maximum(scores.astype(np.float32), _LEAST_LOGARITHM)  # 0 times infinity would be none
    entropy = -(np.exp(logarithms) * logarithms).sum(0) / max(np.log(len(scores)), 1e-6)
    pixels = np.empty((*entropy.shape, 4), dtype=np.uint8)
    pixels[..., :3] = _UNCERTAIN
    pixels[..., 3] = np.rint(255 * entropy.clip(0, 1))
    return _encoded(Image.fromarray(pixels), "PNG", compress_level=1)


def _thinned(labels: Labels) -> Labels:
    """Reduce a label map to `MAX_SIDE` without losing thin strokes: of several labels in a cell the least stays."""
    step = -(-max(labels.shape) // MAX_SIDE)
    if step == 1:
        return labels
    height, width = labels.shape
    padded = np.pad(labels, ((0, -height % step), (0, -width % step)), constant_values=VOID)
    cells = padded.reshape(padded.shape[0] // step, step, padded.shape[1] // step, step)
    least: Labels = cells.min(axis=(1, 3))
    return least


def _enlarged(labels: Labels) -> Labels:
    """Enlarge the label map of a small image, so that the rim is finer than its pixels."""
    times = max(MAX_SIDE // max(labels.shape), 1)
    return labels.repeat(times, axis=0).repeat(times, axis=1)


def _encoded(image: Image.Image, kind: Literal["JPEG", "PNG"], **options: int) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=kind, **options)
    return stream.getvalue()
