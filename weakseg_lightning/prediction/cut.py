"""Labels of images and volumes by graph cuts, from a network's probabilities and what people have drawn."""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from weakseg_lightning.data.samples import BadSampleError
from weakseg_lightning.energies import VOID, GridPotts, VolumePotts
from weakseg_lightning.solvers import VolumeExpansion

__all__ = ["GraphCut", "SlicesToCut", "TooLargeError"]

_LEAST = 1e-7  # probability
_BYTES, _BYTES_OF_CLASS = 200, 14  # of a pixel, measured
_MOST_BYTES = 16e9


class TooLargeError(BadSampleError):
    """More memory is needed than may be used."""


class SlicesToCut:
    """The slices of a volume, or an image alone, that are labeled together.

    Args:
        spacing: distance of neighboring slices, rows and columns.

    Attributes:
        scores: probabilities of each slice, float32 ``(K, H, W)``.
    """

    def __init__(self, spacing: Sequence[float] = (1.0, 1.0, 1.0)) -> None:
        self.spacing = spacing
        self.places: list[int] = []
        self.scores: list[NDArray[np.float32]] = []
        self._pictures: list[Tensor] = []
        self._seeds: list[Tensor] = []
        self._valid: list[Tensor] = []

    def add(
        self,
        scores: NDArray[np.float32],
        picture: NDArray[np.uint8],
        seeds: Tensor | None = None,
        invalid: NDArray[np.bool_] | None = None,
        place: int | None = None,
    ) -> None:
        """Add the next slice.

        Args:
            scores: probabilities ``(K, H, W)``.
            picture: the slice as RGB, ``(H, W, 3)``.
            seeds: what is drawn on it, ``(H, W)``, 255 where nothing is; None for nothing.
            invalid: pixels without data; None for none.
            place: its number in the order of the slices; None for the next one. Where some are missing, their
                neighbors have no edges.
        """
        self.places.append((self.places[-1] + 1 if self.places else 0) if place is None else place)
        size = picture.shape[:2]
        self.scores.append(scores)
        self._pictures.append(torch.from_numpy(picture).permute(2, 0, 1))
        self._seeds.append(torch.full(size, VOID, dtype=torch.uint8) if seeds is None else seeds)
        inside = np.ones(size, dtype=np.bool_) if invalid is None else ~invalid
        self._valid.append(torch.from_numpy(inside))

    def require_alike(self, what: str) -> None:
        """Raise ``BadSampleError`` if slices have several sizes, so that they are not one volume."""
        sizes = sorted({(picture.shape[2], picture.shape[1]) for picture in self._pictures})
        if len(sizes) > 1:
            shown = " and ".join(f"{width} x {height}" for width, height in sizes[:2])
            raise BadSampleError(f"{what} has several sizes, {shown}: they cannot be cut as one volume")

    def arguments(self) -> tuple[dict[str, Any], list[int]]:
        """Arguments of `VolumeExpansion.solve`, and the places of the slices in them: missing ones are invalid.

        One invalid slice stands for all that are missing between two.
        """
        gaps = [0, *(after - before > 1 for before, after in pairwise(self.places))]
        at = [index + gap for index, gap in enumerate(accumulate(gaps))]
        depth, (_, height, width) = at[-1] + 1, self._pictures[0].shape
        scores = torch.zeros(depth, len(self.scores[0]), height, width)
        image = torch.zeros(depth, 3, height, width)
        seeds = torch.full((depth, height, width), VOID, dtype=torch.uint8)
        valid = torch.zeros(depth, height, width, dtype=torch.bool)
        for index, place in enumerate(at):
            torch.clamp(torch.from_numpy(self.scores[index]), min=_LEAST, out=scores[place]).log_()
            torch.div(self._pictures[index], 255, out=image[place])
            seeds[place], valid[place] = self._seeds[index], self._valid[index]
        return {"logits": scores, "image": image, "spacing": self.spacing, "seeds": seeds, "valid": valid}, at


class GraphCut:
    """Finds the labels of images, and of volumes as wholes, that follow their contrast and keep what is drawn.

    Args:
        weight: of the Potts edges within images and slices, with 8 neighbors; the probabilities' logarithms are the
            unary terms.
        between: factor of the edges between slices, see `VolumePotts`.

    Raises:
        ValueError: if an argument is negative or not finite.
    """

    def __init__(self, weight: float, between: float) -> None:
        self.solver = VolumeExpansion(VolumePotts(GridPotts(weight), between))

    def require_fits(self, what: object, pixels: int, classes: int) -> None:
        """Raise `TooLargeError` if an image, or all slices of a volume, are too large to be labeled as a whole."""
        needed = pixels * (_BYTES + classes * _BYTES_OF_CLASS)
        if needed > _MOST_BYTES:
            raise TooLargeError(
                f"{what}: cutting its {pixels} pixels as a whole would take {needed / 1e9:.0f} GB of memory, more than "
                f"the limit of {_MOST_BYTES / 1e9:.0f} GB: predict it without `--images.cut`"
            )

    def labels(self, slices: SlicesToCut, what: str) -> NDArray[np.uint8]:
        """Find the labels of slices.

        Args:
            slices: at least one.
            what: what they are, in messages.

        Returns:
            uint8 ``(S, H, W)``, one after the other; 255 where they are invalid.

        Raises:
            BadSampleError: if they have several sizes, or the solver fails.
        """
        slices.require_alike(what)
        arguments, places = slices.arguments()
        result = self.solver.solve(**arguments)
        if result.message[0]:
            raise BadSampleError(f"{what} cannot be cut: {result.message[0]}")
        labels: NDArray[np.uint8] = result.labels.numpy()[places]
        return labels
