"""Annotated pixels of the images: what a head learns from."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.painting.learning.held_out import held_out_strokes, strokes_of
from weakseg_lightning.painting.learning.messages import Annotated

__all__ = ["Chosen", "Pixels", "choose_pixels", "gathered", "split_held_out"]

STROKE_PIXELS = 200
"""Pixels by which a held-out stroke counts at most."""


@dataclass(frozen=True)
class Chosen:
    """Cells of an annotation in an order of which every beginning is fair to all strokes.

    Attributes:
        cells: row * width + column, int64 ``(N,)``.
        labels: classes, int64 ``(N,)``.
        strokes: number of the stroke of each ``(N,)``.
        ranks: place of each among the cells of its stroke ``(N,)``.
        classes: of the strokes.
    """

    cells: NDArray[np.int64]
    labels: NDArray[np.int64]
    strokes: NDArray[np.int32]
    ranks: NDArray[np.int64]
    classes: NDArray[np.int64]

    def some(self, index: NDArray[np.int64]) -> "Chosen":
        """Those of the cells with these numbers."""
        return Chosen(self.cells[index], self.labels[index], self.strokes[index], self.ranks[index], self.classes)


@dataclass(frozen=True)
class Pixels:
    """Annotated pixels with their joined features ``(N, C)``, in half precision."""

    chosen: Chosen
    features: Tensor

    def beginning(self, count: int) -> "Pixels":
        """The first pixels alone."""
        return self if len(self.features) <= count else self._some(torch.arange(count))

    def sample(self, count: int) -> "Pixels":
        """Some of the pixels at random."""
        return self._some(torch.randperm(len(self.features))[:count])

    def _some(self, index: Tensor) -> "Pixels":
        return Pixels(self.chosen.some(index.numpy()), self.features[index])


def choose_pixels(annotated: Annotated, generator: np.random.Generator) -> Chosen:
    """Order the annotated cells of an image: at random, those of all strokes alternately."""
    labels = np.full(annotated.size, VOID, dtype=np.uint8)
    labels.reshape(-1)[annotated.cells] = annotated.labels
    strokes = strokes_of(labels).reshape(-1)
    cells = generator.permutation(annotated.cells.astype(np.int64))
    classes = np.zeros(strokes.max(initial=-1) + 1, dtype=np.int64)
    classes[strokes[cells]] = labels.reshape(-1)[cells]
    ranks = _ranks(strokes[cells])
    drawn = Chosen(cells, classes[strokes[cells]], strokes[cells], ranks, classes)
    return drawn.some(np.argsort(ranks, kind="stable"))


def _ranks(groups: NDArray[np.int32]) -> NDArray[np.int64]:
    """Place of each item among those of its group."""
    order = np.argsort(groups, kind="stable")
    starts = np.searchsorted(groups[order], groups[order])
    ranks = np.empty(len(groups), dtype=np.int64)
    ranks[order] = np.arange(len(groups)) - starts
    return ranks


def gathered(
    pixels: Mapping[str, Pixels], kept: Mapping[str, NDArray[np.bool_]] | None = None
) -> tuple[Tensor, Tensor]:
    """Features ``(N, C)`` and classes ``(N,)`` of images together, by name: all of their pixels, or some."""
    features, labels = [], []
    for name, found in sorted(pixels.items()):
        own = torch.from_numpy(found.chosen.labels)
        some = ... if kept is None else torch.from_numpy(kept[name])
        features.append(found.features[some])
        labels.append(own[some])
    return torch.cat(features), torch.cat(labels)


def split_held_out(
    pixels: Mapping[str, Pixels],
) -> tuple[dict[str, NDArray[np.bool_]], dict[str, NDArray[np.bool_]], int]:
    """Split pixels by whether their stroke is held out.

    Returns:
        Of each image, which pixels may be learned from, and which count for held-out strokes; how many strokes are
        held out.
    """
    strokes = held_out_strokes({name: found.chosen.classes for name, found in pixels.items()})
    learned, counted = {}, {}
    for name, found in pixels.items():
        held_out = strokes[name][found.chosen.strokes]
        learned[name], counted[name] = ~held_out, held_out & (found.chosen.ranks < STROKE_PIXELS)
    return learned, counted, sum(int(chosen.sum()) for chosen in strokes.values())
