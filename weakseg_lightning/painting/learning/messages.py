"""Messages between the page and its learner: small, whole, never changed after they were sent."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.painting.document import ImageAnnotation
from weakseg_lightning.painting.image_reader import ImageReader

__all__ = [
    "Annotated",
    "Answer",
    "Failed",
    "Learned",
    "LearningSettings",
    "Message",
    "Scores",
    "Shown",
    "UseNetwork",
    "reduced_seeds",
    "reduced_size",
]

LONGEST_SIDE = 384
"""Pixels to which images and annotations are reduced before anything is learned from them."""


@dataclass(frozen=True)
class LearningSettings:
    """Settings of what learns from the strokes.

    Args:
        encoder: name of an encoder of timm, see :class:`~weakseg_lightning.networks.FrozenFeatures`.
        encoder_weights: "imagenet" to download them, the path of a file, or null for random ones.
        memory: gigabytes of features to keep.
        reader: reads the images.
    """

    encoder: str = "tf_efficientnet_lite0"
    encoder_weights: str | None = "imagenet"
    memory: float = 1.0
    reader: ImageReader = field(default_factory=ImageReader)


# ---- to the learner -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shown:
    """The images whose scores are wanted: those that are open first, then their neighbors."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Annotated:
    """The present annotation of an image, on a reduced grid.

    Attributes:
        name: of the image.
        version: of its annotation, as the page counts.
        size: height and width of the grid.
        cells: cells of a class, int32 ``(N,)``: row * width + column.
        labels: their classes, uint8 ``(N,)``.
    """

    name: str
    version: int
    size: tuple[int, int]
    cells: NDArray[np.int32]
    labels: NDArray[np.uint8]


@dataclass(frozen=True)
class UseNetwork:
    """Scores come from the network of this checkpoint, or from the head again."""

    checkpoint: Path | None


Message = Shown | Annotated | UseNetwork

# ---- from the learner ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scores:
    """Scores of an image.

    Attributes:
        name: of the image.
        version: of the annotation of that image that they were learned from; -1 if it had none.
        values: log-probabilities, float16 ``(K, h, w)``, of the whole image at a coarser grid.
        source: what gave them.
    """

    name: str
    version: int
    values: NDArray[np.float16]
    source: Literal["head", "network"] = "head"


@dataclass(frozen=True)
class Learned:
    """Progress of the learner.

    Attributes:
        cached: images whose features are known.
        full: whether the memory has no room for the features of the others.
        learned: annotated images that the head has learned from.
        held_out: mean over classes of the fraction of held-out pixels that are labeled correctly, in [0, 1]; None
            where no class has a stroke to hold out.
        held_out_strokes: how many strokes were held out.
        order: images without annotation, the one where a stroke helps most first.
    """

    cached: int = 0
    full: bool = False
    learned: int = 0
    held_out: float | None = None
    held_out_strokes: int = 0
    order: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failed:
    """A failure that users can mend.

    Attributes:
        text: one line: what, and what to do.
        what: "learning", which is then off, or the "network" of a checkpoint: the head gives the scores again.
    """

    text: str
    what: Literal["learning", "network"] = "learning"


Answer = Scores | Learned | Failed


def reduced_size(height: int, width: int) -> tuple[int, int]:
    """Size of an image whose longest side is reduced to :data:`LONGEST_SIDE`."""
    factor = min(LONGEST_SIDE / max(height, width), 1)
    return max(round(height * factor), 1), max(round(width * factor), 1)


def reduced_seeds(name: str, version: int, annotation: ImageAnnotation) -> Annotated:
    """Reduce the strokes and clicks of an image: no stroke is too thin to be seen there, a click fills 3 x 3 cells."""
    full_height, full_width = annotation.labels.shape
    height, width = reduced_size(full_height, full_width)
    seeds = np.full((height, width), VOID, dtype=np.uint8)
    rows, columns = np.nonzero(annotation.labels != VOID)
    seeds[rows * height // full_height, columns * width // full_width] = annotation.labels[rows, columns]
    for click in annotation.clicks:
        row = min(max(int(click.y * height / full_height), 0), height - 1)
        column = min(max(int(click.x * width / full_width), 0), width - 1)
        seeds[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = click.label
    cells = np.flatnonzero(seeds != VOID)
    return Annotated(name, version, (height, width), cells.astype(np.int32), seeds.reshape(-1)[cells])
