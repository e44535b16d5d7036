"""The graph cut's labeling of an image from its annotation and a model's scores, fast enough to follow the pen."""

import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from weakseg_lightning.checks import between
from weakseg_lightning.energies.potts import VOID, GridPotts
from weakseg_lightning.painting.document import ImageAnnotation
from weakseg_lightning.painting.pictures import reduced
from weakseg_lightning.solvers import AlphaExpansion, GrabCut

__all__ = ["Labeling", "Preview", "accepted_labels"]

LONGEST_SIDE = 320
"""Pixels to which an image is reduced: a cut then takes about a tenth of a second."""

_LEAST_SHARE = 1e-3  # of the grid: each class costs milliseconds, and the specks of twenty would take too long
_FROM_COLORS = GrabCut(max_rounds=1)
# Measured on kept-out photographs. Where objects are thin, twice the score weight is better. Two more Gaussians help
# little and take a fifth of the time.
_FROM_SCORES = GrabCut(AlphaExpansion(GridPotts(30.0)), components=3, max_rounds=1, score_weight=2.0)


@dataclass(frozen=True)
class Labeling:
    """A labeling of an image.

    Attributes:
        labels: classes, uint8 ``(h, w)``, of the reduced image.
        seconds: how long it took.
        confidence: 255 times the probability, by the scores, of the class that each pixel got, uint8 ``(h, w)``; None
            where there were no scores.
    """

    labels: NDArray[np.uint8]
    seconds: float
    confidence: NDArray[np.uint8] | None = None


def accepted_labels(labeling: Labeling, threshold: float, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Take a labeling for an image's labels wherever the scores agree with it.

    Args:
        labeling: one found with scores.
        threshold: least probability, in 0..1, of the class that a pixel got.
        size: height and width of the image in pixels.

    Returns:
        Classes, uint8 ``(H, W)``, 255 where the probability is lower.

    Raises:
        ValueError: if the threshold is out of its range, or the labeling was found without scores.
    """
    between("threshold", threshold, 0, 1)
    if labeling.confidence is None:
        raise ValueError("a labeling without scores has no confidence: accept one that was found with scores")
    labels = np.where(labeling.confidence >= 255 * threshold, labeling.labels, VOID).astype(np.uint8)
    return np.array(Image.fromarray(labels).resize(size[::-1], Image.Resampling.NEAREST))


class Preview:
    """Labels one image from whatever is drawn on it and known about its classes.

    Color models of the classes come from the annotated pixels, of classes that are not drawn from the pixels that the
    scores give them, and one graph cut follows, see :class:`~weakseg_lightning.solvers.GrabCut`; further rounds take
    time and do not help.

    Args:
        image: RGB, uint8 ``(3, H, W)``.
    """

    def __init__(self, image: Tensor) -> None:
        self.image = torch.from_numpy(np.array(reduced(image, LONGEST_SIDE))).permute(2, 0, 1)[None].float() / 255

    def solve(self, annotation: ImageAnnotation, scores: NDArray[np.float16] | None = None) -> Labeling | None:
        """Find the labeling.

        Args:
            annotation: scribbles and clicks, of the full size; what was accepted before has no influence.
            scores: log-probabilities of the classes on a grid over the whole image, ``(K, h, w)`` of any ``h``, ``w``;
                None = the image's own colors alone. A class that is not drawn and the most probable on less than a
                thousandth of the grid does not occur.

        Returns:
            The labeling; None where there are no scores and fewer than two classes are drawn.
        """
        began = time.perf_counter()
        seeds = self._seeds(annotation)
        classes = _classes(seeds, scores)
        if scores is None and len(classes) < 2:
            return None
        known = None if scores is None else _enlarged(scores, seeds.shape)
        # Other classes cost nothing: these get the numbers 0, 1, ...
        numbers = np.full(VOID + 1, VOID)
        numbers[classes] = np.arange(len(classes))
        given = torch.zeros(len(classes), *seeds.shape) if known is None else known[torch.from_numpy(classes).long()]
        solver = _FROM_COLORS if known is None else _FROM_SCORES
        result = solver.solve(given[None], self.image, seeds=torch.from_numpy(numbers[seeds])[None])
        if result.message[0]:
            return None
        labels = classes[result.labels[0].numpy()]
        return Labeling(labels, time.perf_counter() - began, None if known is None else _confidence(known, labels))

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


def _enlarged(scores: NDArray[np.float16], size: tuple[int, ...]) -> Tensor:
    """Scores on the pixels of the reduced image, float32 ``(K, h, w)``."""
    grid = torch.from_numpy(scores).float()[None]
    return F.interpolate(grid, size=size, mode="bilinear", align_corners=False)[0].log_softmax(0)


def _classes(seeds: NDArray[np.uint8], scores: NDArray[np.float16] | None) -> NDArray[np.uint8]:
    """Classes that the labeling may have: those drawn, and those that are the most probable on enough of the grid."""
    drawn = np.unique(seeds[seeds != VOID])
    if scores is None:
        return drawn
    cells = np.bincount(scores.argmax(0).ravel())
    likely = np.flatnonzero(cells >= _LEAST_SHARE * cells.sum())
    return np.union1d(drawn, likely).astype(np.uint8)


def _confidence(scores: Tensor, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    own = scores.gather(0, torch.from_numpy(labels).long()[None])[0]
    return (255 * own.exp()).round().to(torch.uint8).numpy()
