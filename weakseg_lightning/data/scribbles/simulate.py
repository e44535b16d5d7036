"""Scribbles that an annotator might have drawn, from full masks, for data sets that have no scribbles."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from weakseg_lightning.checks import between
from weakseg_lightning.data.sampling import derive_seed
from weakseg_lightning.data.scribbles.centerlines import Flags, middle_path, simplified, thickness
from weakseg_lightning.data.scribbles.strokes import Stroke, connected_parts, draw_strokes, shorten
from weakseg_lightning.energies.potts import VOID

__all__ = ["simulate_scribbles"]

Labels = NDArray[np.uint8]

_LIMBS = (0.35, 0.65)
"""Range of how thick a place must be to be reached by a stroke, relative to the part's thickest place."""


def simulate_scribbles(
    mask: Labels, name: str = "", seed: int = 0, length: float = 1.0, minimum_area: int = 24, stroke_area: int = 400
) -> Labels:
    """Draw a stroke through the middle of each connected part (8 neighbors) of each class, background included.

    A stroke is 3 pixels wide and follows the longest path through the part's skeleton where the part is thick: at least
    35 to 65 % of its thickest place, drawn at random for each part, as annotators go into limbs more or less far. It
    never leaves its part, and touches the part's outline only where the part is too thin for anything else.

    Args:
        mask: classes, uint8 ``(H, W)``, 255 = void, which is never touched.
        name: name of the image; with ``seed`` it decides what is drawn at random, so that the order and the number of
            the images do not matter.
        seed: names one annotator.
        length: fraction of each stroke that is kept, about its middle, by arc length; 0 leaves clicks of 3 x 3 pixels.
        minimum_area: smaller parts, in pixels, get nothing, but for the largest part of each class.
        stroke_area: smaller parts, in pixels, get a click.

    Returns:
        uint8 ``(H, W)``: the class at labelled pixels, 255 elsewhere; every class of the mask has labelled pixels.

    Raises:
        ValueError: if ``length`` is out of range.

    Example:
        >>> mask = np.zeros((40, 60), np.uint8)
        >>> mask[:, 30:] = 5
        >>> scribbles = simulate_scribbles(mask, "an image")
        >>> np.unique(scribbles).tolist(), bool((scribbles == mask)[scribbles != 255].all())
        ([0, 5, 255], True)
    """
    between("length", length, 0, 1)
    random = np.random.default_rng(derive_seed(seed, *name.encode()))
    scribbles = np.full_like(mask, VOID)
    for label, part, (x, y) in _visible_parts(mask, minimum_area):
        share = random.uniform(*_LIMBS)
        kept = length if part.sum() >= stroke_area else 0
        line = shorten(simplified(middle_path(part, share)), kept)
        drawn = (draw_strokes([Stroke(line, label)], *part.shape) == label) & part
        inner = drawn & (thickness(part) > 1)
        scribbles[y : y + part.shape[0], x : x + part.shape[1]][inner if inner.any() else drawn] = label
    return scribbles


def _visible_parts(mask: Labels, minimum_area: int) -> Iterator[tuple[int, Flags, tuple[int, int]]]:
    """The connected parts of a mask that are large enough, or the largest of their class."""
    parts = list(connected_parts(mask))
    largest: dict[int, int] = {}
    for label, part, _ in parts:
        largest[label] = max(largest.get(label, 0), int(part.sum()))
    yield from (found for found in parts if found[1].sum() >= min(minimum_area, largest[found[0]]))
