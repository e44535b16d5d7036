"""Volumetric priors: which fraction of its image each class is believed to take."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from typing_extensions import override

from weakseg_lightning.constraints import AreaTable, ImageFacts

__all__ = ["ActivationAreas", "AreaPrior", "EqualAreas", "FileAreas"]


class AreaPrior(ABC):
    """Says of each image which share each class takes; to bring your own, write :meth:`areas`."""

    @abstractmethod
    def areas(self, ids: Sequence[str], class_names: Sequence[str], tags: Tensor, activation: Tensor) -> Tensor:
        """Estimate the areas of the classes of some images.

        Args:
            ids: names of the B images.
            class_names: names of the K classes, background first.
            tags: the classes of each image, bool ``(B, K)``.
            activation: class activation maps of the classifier, each in 0..1 with maximum 1 (or 0 everywhere),
                ``(B, K - 1, h, w)``.

        Returns:
            Fractions of the image in 0..1, float ``(B, K)``, 0 for absent classes.
        """


class EqualAreas(AreaPrior):
    """The background takes a fixed share, the classes of the image share the rest equally.

    Args:
        background: fraction of the background where there is another class, in 0..1.

    Example:
        >>> tags = torch.tensor([[True, True, False], [True, False, False]])
        >>> EqualAreas(0.75).areas(["a", "b"], ["background", "cat", "dog"], tags, torch.zeros(2, 2, 1, 1)).tolist()
        [[0.75, 0.25, 0.0], [1.0, 0.0, 0.0]]
    """

    def __init__(self, background: float = 0.5) -> None:
        if not 0 <= background <= 1:
            raise ValueError(f"`background` must be between 0 and 1, got {background}")
        self.background = background

    @override
    def areas(self, ids: Sequence[str], class_names: Sequence[str], tags: Tensor, activation: Tensor) -> Tensor:
        foreground = tags[:, 1:].float()
        shared = (1 - self.background) * foreground / foreground.sum(1, keepdim=True).clamp(min=1)
        return _with_background(shared)


class ActivationAreas(AreaPrior):
    """Estimates areas from the classifier's class activation maps: the cells above a fraction of the map's maximum.

    Where the maps of several classes are above it, a cell counts for the one that is highest.

    Args:
        threshold: fraction of the maximum, in 0..1.
        least: smallest area of a class that is there, in 0..1.
    """

    def __init__(self, threshold: float = 0.4, least: float = 0.02) -> None:
        for name, value in (("threshold", threshold), ("least", least)):
            if not 0 <= value <= 1:
                raise ValueError(f"`{name}` must be between 0 and 1, got {value}")
        self.threshold = threshold
        self.least = least

    @override
    def areas(self, ids: Sequence[str], class_names: Sequence[str], tags: Tensor, activation: Tensor) -> Tensor:
        there = tags[:, 1:, None, None]
        ranked = torch.where(there, activation, -1.0)
        found = (ranked == ranked.amax(1, keepdim=True)) & (ranked >= self.threshold)
        foreground = found.float().mean((2, 3)).clamp(min=self.least) * tags[:, 1:]
        # rounded up, small classes could take more than there is
        return _with_background(foreground / foreground.sum(1, keepdim=True).clamp(min=1))


class FileAreas(AreaPrior):
    """Areas from a CSV file with the columns ``image,class,area``, as :class:`weakseg_lightning.AreaTable` reads it.

    Classes of an image that the file leaves out share what is left equally, the background among them.

    Args:
        path: the file; classes are named or given by index, areas are fractions of the image.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path
        self._table = AreaTable(path, tolerance=0.0)

    @override
    def areas(self, ids: Sequence[str], class_names: Sequence[str], tags: Tensor, activation: Tensor) -> Tensor:
        valid = torch.ones(len(tags), 1, 1, dtype=torch.bool, device=tags.device)
        known = ImageFacts(list(ids), list(class_names), tags, valid)
        lower, upper = self._table.compile(known).rows
        said, stated = (
            torch.as_tensor(lower.bounds),
            torch.as_tensor(lower.bounds == -upper.bounds),
        )  # without a row: at least 0, at most 1
        return _fill(torch.where(stated, said, 0.0), stated, tags)


def _fill(areas: Tensor, stated: Tensor, tags: Tensor) -> Tensor:
    """Share out what the stated areas leave to the classes that are there and not stated."""
    open_ = tags & ~stated
    left = (1 - areas.sum(1, keepdim=True)).clamp(min=0)
    return areas + open_ * left / open_.sum(1, keepdim=True).clamp(min=1)


def _with_background(foreground: Tensor) -> Tensor:
    return torch.cat([(1 - foreground.sum(1, keepdim=True)).clamp(min=0), foreground], 1)
