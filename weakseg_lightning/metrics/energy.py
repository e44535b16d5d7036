"""Energy of label maps under the grid Potts model."""

import torch
from torch import Tensor
from typing_extensions import override

from weakseg_lightning.energies.grid import count_edges
from weakseg_lightning.energies.potts import GridPotts, potts_energy
from weakseg_lightning.metrics.precise import PreciseMetric


def grid_energy(labels: Tensor, image: Tensor, potts: GridPotts, valid: Tensor | None = None) -> Tensor:
    """Compute the pairwise energy of label maps per edge of the grid.

    ``(sum over edges pq of w_pq [x_p != x_q]) / (number of edges)``; edges that touch padding are left out of both.

    Args:
        labels: classes ``(B, H, W)``.
        image: RGB in 0..1, ``(B, 3, H, W)``.
        potts: weights and neighborhood.
        valid: bool ``(B, H, W)``, False on padding; by default every pixel is valid.

    Returns:
        ``(B,)``, in the unit of ``potts.weight``; 0 for an image without edges.

    Raises:
        ValueError: if the shapes do not fit together.

    Example:
        >>> labels, image = torch.tensor([[[0, 1]]]), torch.full((1, 3, 1, 2), 0.5)
        >>> grid_energy(labels, image, GridPotts(weight=80.0)).tolist()
        [80.0]
    """
    _check_image(labels, image, valid)
    if valid is None:
        valid = torch.ones_like(labels, dtype=torch.bool)
    cut = potts_energy(labels, potts.edge_weights(image.float(), valid))
    return cut / count_edges(valid, potts.connectivity).to(cut.device).clamp(min=1)


class MeanGridEnergy(PreciseMetric):
    """Mean over images of the grid Potts energy per edge, see :func:`grid_energy`.

    Args:
        potts: weights and neighborhood.

    Example:
        >>> metric = MeanGridEnergy(GridPotts(weight=80.0))
        >>> metric.update(torch.tensor([[[0, 1]]]), torch.full((1, 3, 1, 2), 0.5))
        >>> metric.update(torch.tensor([[[1, 1]]]), torch.full((1, 3, 1, 2), 0.5))
        >>> metric.compute().item()
        40.0

    References:
        Marin et al., "Beyond Gradient Descent for Regularized Segmentation Losses", CVPR 2019, table 1.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False
    precise = ("energy",)
    energy: Tensor
    images: Tensor

    def __init__(self, potts: GridPotts = GridPotts()) -> None:  # noqa: B008 - frozen
        super().__init__()
        self.potts = potts
        self.add_state("energy", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("images", torch.tensor(0), dist_reduce_fx="sum")

    @override
    def update(self, labels: Tensor, image: Tensor, valid: Tensor | None = None) -> None:
        """Add a batch: classes ``(B, H, W)``, RGB in 0..1 ``(B, 3, H, W)``, False on padding ``(B, H, W)``."""
        self.energy += grid_energy(labels, image, self.potts, valid).sum().to(self.energy)
        self.images += len(labels)

    @override
    def compute(self) -> Tensor:
        """Return the mean, a scalar in the unit of ``potts.weight``; nan if there was no image."""
        return self.energy / self.images


def _check_image(labels: Tensor, image: Tensor, valid: Tensor | None) -> None:
    if labels.ndim != 3 or image.shape != (len(labels), 3, *labels.shape[1:]):
        got = f"{tuple(labels.shape)} and {tuple(image.shape)}"
        raise ValueError(f"`labels` must be (B, H, W) and `image` (B, 3, H, W) of the same size, got {got}")
    if valid is not None and valid.shape != labels.shape:
        raise ValueError(f"`valid` must have the shape of `labels`, {tuple(labels.shape)}, got {tuple(valid.shape)}")
