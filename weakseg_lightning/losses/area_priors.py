"""Volumetric priors: the fraction of its image that each class is believed to take."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor
from typing_extensions import override

from weakseg_lightning.checks import between
from weakseg_lightning.constraints import AreaTable, ImageFacts
from weakseg_lightning.errors import UserError

__all__ = ["ActivationAreas", "AreaPrior", "EqualAreas", "FileAreas"]


class AreaPrior(ABC):
    """A belief about the fraction of its image that each class takes; to bring your own, write :meth:`areas`."""

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

    def check(self, class_names: Sequence[str]) -> None:
        """Compare the prior with the classes, once, before training. Most have nothing to compare.

        Args:
            class_names: names of the K classes, background first.

        Raises:
            ValueError: if they do not fit together.
        """
        return


@dataclass(frozen=True)
class EqualAreas(AreaPrior):
    """The background takes a fixed fraction, the classes of the image share the rest equally.

    Args:
        background: fraction of the background where there is another class, in 0..1.

    Example:
        >>> tags = torch.tensor([[True, True, False], [True, False, False]])
        >>> EqualAreas(0.75).areas(["a", "b"], ["background", "cat", "dog"], tags, torch.zeros(2, 2, 1, 1)).tolist()
        [[0.75, 0.25, 0.0], [1.0, 0.0, 0.0]]
    """

    background: float = 0.5

    def __post_init__(self) -> None:
        """Check the argument."""
        between("background", self.background, 0, 1)

    @override
    def areas(self, ids: Sequence[str], class_names: Sequence[str], tags: Tensor, activation: Tensor) -> Tensor:
        foreground = tags[:, 1:].float()
        shared = (1 - self.background) * foreground / foreground.sum(1, keepdim=True).clamp(min=1)
        return _with_background(shared)


@dataclass(frozen=True)
class ActivationAreas(AreaPrior):
    """Estimates areas from the classifier's class activation maps: the cells above a fraction of the map's maximum.

    Where the maps of several classes are above it, a cell counts for the one that is highest.

    Args:
        threshold: fraction of the maximum, in 0..1.
        least: smallest area of a class that is there, in 0..1.
    """

    threshold: float = 0.4
    least: float = 0.02

    def __post_init__(self) -> None:
        """Check the arguments."""
        between("threshold", self.threshold, 0, 1)
        between("least", self.least, 0, 1)

    @override
    def areas(self, ids: Sequence[str], class_names: Sequence[str], tags: Tensor, activation: Tensor) -> Tensor:
        there = tags[:, 1:, None, None]
        ranked = torch.where(there, activation, -1.0)
        found = (ranked == ranked.amax(1, keepdim=True)) & (ranked >= self.threshold)
        foreground = found.float().mean((2, 3)).clamp(min=self.least) * tags[:, 1:]
        # rounded up, small classes could take more than there is
        return _with_background(foreground / foreground.sum(1, keepdim=True).clamp(min=1))


@dataclass(frozen=True)
class FileAreas(AreaPrior):
    """Areas from a CSV file with the columns ``image,class,area``, as :class:`weakseg_lightning.AreaTable` reads it.

    Classes of an image that the file leaves out share what is left equally, the background among them. Areas of
    classes that are not in the image do not count, and what adds up to more than the image is scaled down to it.

    Args:
        path: the file; classes are named or given by index, areas are fractions of the image.

    Raises:
        ValueError: before training, if the file has bounds in place of areas.
    """

    path: str | Path

    @override
    def check(self, class_names: Sequence[str]) -> None:
        """Read the file."""
        if not self._table.has_areas:
            raise UserError(f"{self.path} needs rows with the columns image,class,area: bounds are no prior")
        count = len(class_names)
        self.areas([], class_names, torch.zeros(0, count, dtype=torch.bool), torch.zeros(0, count - 1, 1, 1))

    @cached_property
    def _table(self) -> AreaTable:
        return AreaTable(self.path, tolerance=0.0)

    @override
    def areas(self, ids: Sequence[str], class_names: Sequence[str], tags: Tensor, activation: Tensor) -> Tensor:
        valid = torch.ones(len(tags), 1, 1, dtype=torch.bool, device=tags.device)
        lower, upper = self._table.compile(ImageFacts(list(ids), list(class_names), tags, valid)).rows
        areas, most = torch.as_tensor(lower.bounds), -torch.as_tensor(upper.bounds)
        stated = (areas == most) & tags  # without a row: at least 0, at most 1
        return _fill(torch.where(stated, areas, 0.0), stated, tags)


def _fill(areas: Tensor, stated: Tensor, tags: Tensor) -> Tensor:
    """Share out what the stated areas leave to the classes that are there and not stated."""
    open_ = tags & ~stated
    areas = areas / areas.sum(1, keepdim=True).clamp(min=1)
    left = (1 - areas.sum(1, keepdim=True)).clamp(min=0)
    return areas + open_ * left / open_.sum(1, keepdim=True).clamp(min=1)


def _with_background(foreground: Tensor) -> Tensor:
    return torch.cat([(1 - foreground.sum(1, keepdim=True)).clamp(min=0), foreground], 1)
