"""Relaxations of the grid Potts energy to soft labelings: the regularizers of the gradient-descent baselines."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from typing_extensions import override

from weakseg_lightning.checks import one_of
from weakseg_lightning.energies.grid import count_edges, neighbor_offsets, shifted_pair
from weakseg_lightning.energies.potts import GridPotts
from weakseg_lightning.losses.regularizer import Regularizer

Relaxation = Literal["bilinear", "squared", "absolute"]


def potts_loss(
    logits: Tensor,
    image: Tensor,
    potts: GridPotts,
    valid: Tensor | None = None,
    relaxation: Relaxation = "bilinear",
) -> Tensor:
    """Relaxed grid Potts energy of the softmax of the logits, per edge (Grid-GD).

    ``mean over images of 1/|N| sum_{pq in N} w_pq d(S_p, S_q)`` with S = softmax(logits) and d one of

    - ``bilinear``: ``sum_k S_p^k (1 - S_q^k)``; the paper's quadratic relaxation (eq. 9) is twice this;
    - ``squared``: ``1/2 sum_k (S_p^k - S_q^k)^2``;
    - ``absolute``: ``1/2 sum_k |S_p^k - S_q^k|``, the total variation.

    With the factors 1/2, each equals ``[x_p != x_q]`` at one-hot labelings: the loss is then the discrete energy.

    Args:
        logits: scores, float ``(B, K, H, W)``.
        image: RGB in 0..1, float ``(B, 3, H, W)``.
        potts: the edge weights w; its ``weight`` scales the loss.
        valid: bool ``(B, H, W)``, False on padding; edges that touch padding are left out.
        relaxation: which distance d.

    Returns:
        A scalar; 0 where there is no edge.

    Raises:
        ValueError: if ``relaxation`` is unknown.

    References:
        Marin et al., Beyond Gradient Descent for Regularized Segmentation Losses, CVPR 2019, eq. 1, 2 and 9.

    Example:
        >>> one_hot = torch.tensor([[[[50.0, -50.0]], [[-50.0, 50.0]]]])
        >>> potts_loss(one_hot, torch.zeros(1, 3, 1, 2), GridPotts(weight=3.0))
        tensor(3.)
    """
    weights = potts.edge_weights(image, valid)
    everywhere = torch.ones_like(image[:, 0], dtype=torch.bool) if valid is None else valid
    edges = count_edges(everywhere, potts.connectivity).clamp(min=1)
    energy = relaxed_potts_energy(logits.float().softmax(1), weights, potts.connectivity, relaxation)
    return (energy / edges).mean()


class GridPottsLoss(Regularizer):
    """The relaxed grid Potts energy as a regularizer (Grid-GD), see :func:`potts_loss`.

    Args:
        potts: the edge weights; their ``weight`` scales the loss. The default weight is ours; that of ADM's authors is
            68.7 in these units, see ``recipes/grid_gd.yaml``.
        relaxation: relaxation of the Potts energy to soft labelings.
    """

    term = "potts"

    def __init__(
        self,
        potts: GridPotts = GridPotts(weight=7.0),  # noqa: B008 - frozen, and the default has to show in --help
        relaxation: Relaxation = "bilinear",
    ) -> None:
        super().__init__()
        self.potts = potts
        self.relaxation: Relaxation = relaxation

    @override
    def forward(self, logits: Tensor, image: Tensor, valid: Tensor | None = None, built: Any = None) -> Tensor:
        return potts_loss(logits, image, self.potts, valid, self.relaxation)


def relaxed_potts_energy(
    probabilities: Tensor, edge_weights: Tensor, connectivity: Literal[4, 8] = 8, relaxation: Relaxation = "bilinear"
) -> Tensor:
    """Sum the relaxed Potts energy over the edges of each image.

    Args:
        probabilities: soft labelings S, float ``(B, K, H, W)``, summing to 1 over K.
        edge_weights: w, float ``(B, E, H, W)`` as :meth:`GridPotts.edge_weights` makes them.
        connectivity: the grid that the weights belong to.
        relaxation: the distance d of :func:`potts_loss`.

    Returns:
        Energies, float ``(B,)``.

    Raises:
        ValueError: if ``relaxation`` is unknown.
    """
    one_of("relaxation", relaxation, _DISTANCES)
    distance = _DISTANCES[relaxation]
    energy = probabilities.new_zeros(probabilities.shape[0])
    for index, (dy, dx) in enumerate(neighbor_offsets(connectivity)):
        first, second = shifted_pair(probabilities, dy, dx)
        weights, _ = shifted_pair(edge_weights[:, index : index + 1], dy, dx)
        energy = energy + (weights[:, 0] * distance(first, second)).sum((1, 2))
    return energy


_DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "bilinear": lambda a, b: 1 - (a * b).sum(1),
    "squared": lambda a, b: (a - b).square().sum(1) / 2,
    "absolute": lambda a, b: (a - b).abs().sum(1) / 2,
}
