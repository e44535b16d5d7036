"""Potts weights of volumes: those of their slices, and of edges between neighboring slices."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from weakseg_lightning.checks import finite_at_least
from weakseg_lightning.energies.potts import GridPotts, double_sum

__all__ = ["VolumePotts"]


@dataclass(frozen=True)
class VolumePotts:
    """Potts weights on the grid of a volume, in which each pixel also has a neighbor in either neighboring slice.

    Within a slice they are those of ``within``. Between the pixels p and q of neighboring slices

        ``w_pq = between * within.weight * exp(-||I_p - I_q||^2 / (2 sigma^2)) * (pixel spacing / slice spacing)``,

    ``sigma^2`` the mean of ``||I_p - I_q||^2`` over all edges between the slices of the volume (1 where that is 0): the
    further apart slices are, the less one tells of the next. The pixel spacing is the mean of rows and columns.

    Args:
        within: the weights in each slice; 4 neighbors make 6, 8 make 10.
        between: factor of the edges between slices, >= 0; 0 leaves the slices to themselves.

    Raises:
        ValueError: if ``between`` is negative or not finite, or ``within`` takes edges from maps or normalizes them.

    References:
        Boykov, Jolly: Interactive Graph Cuts for Optimal Boundary and Region Segmentation of Objects in N-D Images,
        ICCV 2001, for contrast and distance; the factor is ours.

    Example:
        >>> potts = VolumePotts(GridPotts(weight=2.0, connectivity=4), between=1.0)
        >>> potts.edge_weights(torch.zeros(2, 1, 1, 2), spacing=(10.0, 1.0, 1.0))[:, :, 0].tolist()
        [[[2.0, 0.0], [0.0, 0.0], [0.20000000298023224, 0.20000000298023224]], [[2.0, 0.0], [0.0, 0.0], [0.0, 0.0]]]
    """

    within: GridPotts = GridPotts(weight=10.0)  # noqa: RUF009 (frozen)
    between: float = 1.0

    def __post_init__(self) -> None:
        """Check the arguments."""
        finite_at_least("between", self.between, 0)
        if self.within.needs_guide or self.within.normalize_edges:
            raise ValueError("`within` must have `edges` from contrast, and not normalize them")

    def edge_weights(self, image: Tensor, spacing: Sequence[float], valid: Tensor | None = None) -> Tensor:
        """Weights of all edges of one volume.

        Args:
            image: the slices in their order, RGB in 0..1 or any number of channels, float ``(S, C, H, W)``.
            spacing: distance of neighboring slices, rows and columns, in any unit, all above 0.
            valid: bool ``(S, H, W)``, False on padding; None = no padding.

        Returns:
            float32 ``(S, E + 1, H, W)`` on the image's device: the planes of `GridPotts.edge_weights`, and in the last
            one the edge of each pixel to that of the next slice; 0 where there is none. `potts_energy` does not take
            them; `VolumeExpansion` gives the energy.

        Raises:
            ValueError: if ``image``, ``spacing`` or ``valid`` are not of this form.
        """
        if len(spacing) != 3 or not all(0 < side < float("inf") for side in spacing):
            raise ValueError(f"`spacing` must be three lengths above 0 (slices, rows, columns), got {spacing}")
        inside = self.within.edge_weights(image, valid)
        deeper = inside.new_zeros(len(image), 1, *image.shape[2:])
        contrast = (image[1:].float() - image[:-1].float()).square().sum(1)
        exists = torch.ones_like(contrast, dtype=torch.bool) if valid is None else valid[1:] & valid[:-1]
        contrast = torch.where(exists, contrast, 0.0)
        mean = double_sum(contrast[None])[0].to(contrast) / exists.sum().clamp(min=1)
        sigma2 = torch.where(mean > 0, mean, 1.0)
        factor = self.between * self.within.weight * (spacing[1] + spacing[2]) / 2 / spacing[0]
        deeper[:-1, 0] = torch.where(exists, torch.exp(-contrast / (2 * sigma2)) * factor, 0.0)
        return torch.cat([inside, deeper], 1)
