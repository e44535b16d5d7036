"""The graph cut's labeling of an image from its scribbles and clicks, fast enough to follow the pen."""

import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.painting.document import ImageAnnotation
from weakseg_lightning.painting.pictures import reduced
from weakseg_lightning.solvers import GrabCut

__all__ = ["Labeling", "Preview"]

LONGEST_SIDE = 320
"""Pixels to which an image is reduced: a cut then takes about a tenth of a second."""


@dataclass(frozen=True)
class Labeling:
    """A labeling of an image.

    Attributes:
        labels: classes, uint8 ``(h, w)``, of the reduced image.
        seconds: how long it took.
    """

    labels: NDArray[np.uint8]
    seconds: float


class Preview:
    """Labels one image from whatever is drawn on it.

    Color models of the classes come from the annotated pixels and one graph cut follows, see
    :class:`~weakseg_lightning.solvers.GrabCut`; further turns take time and do not help.

    Args:
        image: RGB, uint8 ``(3, H, W)``.
    """

    def __init__(self, image: Tensor) -> None:
        self.image = torch.from_numpy(np.array(reduced(image, LONGEST_SIDE))).permute(2, 0, 1)[None].float() / 255
        self.solver = GrabCut(max_rounds=1)

    def solve(self, annotation: ImageAnnotation) -> Labeling | None:
        """Find the labeling; None where fewer than two classes are drawn."""
        began = time.perf_counter()
        seeds = self._seeds(annotation)
        classes = np.unique(seeds[seeds != VOID])
        if len(classes) < 2:
            return None
        # Classes that are not drawn cost nothing: those that are get the numbers 0, 1, ...
        numbers = np.full(VOID + 1, VOID)
        numbers[classes] = np.arange(len(classes))
        scores = torch.zeros(1, len(classes), *seeds.shape)
        result = self.solver.solve(scores, self.image, seeds=torch.from_numpy(numbers[seeds])[None])
        if result.message[0]:
            return None
        return Labeling(classes[result.labels[0].numpy()], time.perf_counter() - began)

    def _seeds(self, annotation: ImageAnnotation) -> NDArray[np.uint8]:
        """The annotation on the reduced grid: no stroke is too thin to be seen there."""
        height, width = self.image.shape[2:]
        seeds = np.full((height, width), VOID, dtype=np.uint8)
        rows, columns = np.nonzero(annotation.labels != VOID)
        full_height, full_width = annotation.labels.shape
        seeds[rows * height // full_height, columns * width // full_width] = annotation.labels[rows, columns]
        for click in annotation.clicks:
            row, column = int(click.y * height / full_height), int(click.x * width / full_width)
            row, column = min(max(row, 0), height - 1), min(max(column, 0), width - 1)
            seeds[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = click.label
        return seeds
