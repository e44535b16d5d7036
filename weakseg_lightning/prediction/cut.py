"""Labels of images and volumes by graph cuts, from a network's probabilities and what people have drawn."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from weakseg_lightning.data.samples import BadSampleError
from weakseg_lightning.energies import VOID, GridPotts, VolumePotts
from weakseg_lightning.solvers import VolumeExpansion

__all__ = ["GraphCut", "SlicesToCut"]

_LEAST = 1e-7  # probability
_MOST_PIXELS = 2**25  # 100 bytes each, and 12 more for each class


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
        self.places.append(len(self.places) if place is None else place)
        size = picture.shape[:2]
        self.scores.append(scores)
        self._pictures.append(torch.from_numpy(picture).permute(2, 0, 1).float() / 255)
        self._seeds.append(torch.full(size, VOID, dtype=torch.uint8) if seeds is None else seeds)
        inside = np.ones(size, dtype=np.bool_) if invalid is None else ~invalid
        self._valid.append(torch.from_numpy(inside))

    def require_alike(self, what: str) -> None:
        """Raise ``BadSampleError`` if slices have several sizes, so that they are not one volume."""
        sizes = sorted({(picture.shape[2], picture.shape[1]) for picture in self._pictures})
        if len(sizes) > 1:
            shown = " and ".join(f"{width} x {height}" for width, height in sizes[:2])
            raise BadSampleError(f"{what} has slices of several sizes, {shown}: they cannot be cut as one volume")

    def arguments(self) -> dict[str, Any]:
        """What `VolumeExpansion.solve` takes: slices that are missing are invalid."""
        depth = self.places[-1] - self.places[0] + 1
        at = torch.tensor(self.places) - self.places[0]
        _, height, width = self._pictures[0].shape
        scores = torch.zeros(depth, len(self.scores[0]), height, width)
        for place, one in zip(at.tolist(), self.scores, strict=True):
            torch.clamp(torch.from_numpy(one), min=_LEAST, out=scores[place]).log_()
        image = torch.zeros(depth, 3, height, width).index_copy_(0, at, torch.stack(self._pictures))
        seeds = torch.full((depth, height, width), VOID, dtype=torch.uint8)
        seeds.index_copy_(0, at, torch.stack(self._seeds))
        valid = torch.zeros(depth, height, width, dtype=torch.bool).index_copy_(0, at, torch.stack(self._valid))
        return {"logits": scores, "image": image, "spacing": self.spacing, "seeds": seeds, "valid": valid}


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

    def require_fits(self, what: object, pixels: int) -> None:
        """Raise ``BadSampleError`` if an image or a volume is too large to be labeled as a whole."""
        if pixels > _MOST_PIXELS:
            raise BadSampleError(
                f"{what} has {pixels} pixels, and at most {_MOST_PIXELS} are cut as a whole: predict it without "
                "`--images.cut`"
            )

    def labels(self, slices: SlicesToCut, what: str) -> NDArray[np.uint8]:
        """Find the labels of slices.

        Args:
            slices: at least one.
            what: what they are, in messages.

        Returns:
            uint8 ``(S, H, W)``, one after the other; 255 where they are invalid.

        Raises:
            BadSampleError: if they have several sizes.
        """
        slices.require_alike(what)
        result = self.solver.solve(**slices.arguments())
        assert result.message == ("",), result.message  # probabilities and pictures are finite
        labels: NDArray[np.uint8] = result.labels.numpy()[np.array(slices.places) - slices.places[0]]
        return labels
