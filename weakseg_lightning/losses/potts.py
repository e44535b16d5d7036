"""Relaxations of the grid Potts energy to soft labelings: the regularizers of the gradient-descent baselines."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from weakseg_lightning.checks import one_of
from weakseg_lightning.energies.grid import count_edges, neighbor_offsets, shifted_pair
from weakseg_lightning.energies.potts import GridPotts
from weakseg_lightning.losses.arguments import bounded_log, precise
from weakseg_lightning.losses.regularizer import Regularizer

Relaxation = Literal[
    "bilinear", "quadratic", "normalized", "log_quadratic", "collision", "collision_divergence", "absolute"
]

DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "bilinear": lambda a, b: 1 - (a * b).sum(1),
    "quadratic": lambda a, b: (a - b).square().sum(1) / 2,
    "normalized": lambda a, b: 1 - functional.cosine_similarity(a, b, dim=1),
    "log_quadratic": lambda a, b: -bounded_log(1 - (a - b).square().sum(1) / 2),
    "collision": lambda a, b: -bounded_log((a * b).sum(1)),
    "collision_divergence": lambda a, b: -bounded_log(functional.cosine_similarity(a, b, dim=1)),
    "absolute": lambda a, b: (a - b).abs().sum(1) / 2,
}
"""The distance of two maps of distributions ``(B, K, ...)`` by the name of its relaxation, see :func:`potts_loss`."""


def potts_loss(
    logits: Tensor,
    image: Tensor,
    potts: GridPotts,
    valid: Tensor | None = None,
    relaxation: Relaxation = "bilinear",
) -> Tensor:
    """Relaxed grid Potts energy of the softmax of the logits, per edge (Grid-GD).

    ``mean over images of 1/|N| sum_{pq in N} w_pq d(S_p, S_q)`` with S = softmax(logits) and d one of

    - ``bilinear``: ``1 - <S_p, S_q>``; the quadratic relaxation of ADM (eq. 9) is twice this;
    - ``quadratic``: ``1/2 |S_p - S_q|^2``;
    - ``normalized``: ``1 - <S_p, S_q> / (|S_p| |S_q|)``;
    - ``absolute``: ``1/2 sum_k |S_p^k - S_q^k|``, the total variation;
    - ``log_quadratic``: ``-ln(1 - quadratic)``;
    - ``collision``: collision cross-entropy ``-ln <S_p, S_q> = -ln(1 - bilinear)``;
    - ``collision_divergence``: ``-ln(1 - normalized)``.

    The first four equal ``[x_p != x_q]`` at one-hot labelings: the loss is then the discrete energy. The others, which
    are infinite there, are bounded by the logarithm of 1e-6, 13.8 per edge, and have no gradient beyond. All are 0
    where two pixels agree, but ``bilinear`` and ``collision``, which also ask the pixels to be sure.

    Args:
        logits: scores, float ``(B, K, H, W)``.
        image: RGB in 0..1, float ``(B, 3, H, W)``.
        potts: the edge weights w; its ``weight`` scales the loss.
        valid: bool ``(B, H, W)``, False on padding; edges that touch padding are left out.
        relaxation: the distance d.

    Returns:
        A scalar; 0 where there is no edge.

    Raises:
        ValueError: if ``relaxation`` is unknown.

    References:
        Marin et al., Beyond Gradient Descent for Regularized Segmentation Losses, CVPR 2019, eq. 1, 2 and 9.
        Zhang and Boykov, CVPR 2025 (soft self-labeling), arXiv 2507.01721, for all but the total variation. The paper
        itself was not at hand: the formulas are from a note on it, the relations between them derived here.

    Example:
        >>> one_hot = torch.tensor([[[[50.0, -50.0]], [[-50.0, 50.0]]]])
        >>> potts_loss(one_hot, torch.zeros(1, 3, 1, 2), GridPotts(weight=3.0))
        tensor(3.)
    """
    weights = potts.edge_weights(image, valid)
    everywhere = torch.ones_like(image[:, 0], dtype=torch.bool) if valid is None else valid
    edges = count_edges(everywhere, potts.connectivity).clamp(min=1)
    energy = relaxed_potts_energy(precise(logits).softmax(1), weights, potts.connectivity, relaxation)
    return (energy / edges).sum() / max(len(energy), 1)


class GridPottsLoss(Regularizer):
    """The relaxed grid Potts energy as a regularizer (Grid-GD), see :func:`potts_loss`.

    Args:
        potts: the edge weights; their ``weight`` scales the loss. The default weight is ours; that of ADM's authors is
            68.7 in these units, see ``recipes/baselines/grid_gd.yaml``.
        relaxation: relaxation of the Potts energy to soft labelings.

    Raises:
        ValueError: if ``relaxation`` is unknown.
    """

    term = "potts"

    def __init__(
        self,
        potts: GridPotts = GridPotts(weight=7.0),  # noqa: B008 - frozen, and the default has to show in --help
        relaxation: Relaxation = "bilinear",
    ) -> None:
        super().__init__()
        one_of("relaxation", relaxation, DISTANCES)
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
        probabilities: soft labelings S, float ``(B, K, H, W)``, summing to 1 over K; half precision is computed in
            single.
        edge_weights: w, float ``(B, E, H, W)`` as :meth:`GridPotts.edge_weights` makes them.
        connectivity: the grid that the weights belong to.
        relaxation: the distance d of :func:`potts_loss`.

    Returns:
        Energies, float ``(B,)``.

    Raises:
        ValueError: if ``relaxation`` is unknown.
    """
    one_of("relaxation", relaxation, DISTANCES)
    distance = DISTANCES[relaxation]
    probabilities = precise(probabilities)
    energy = probabilities.new_zeros(probabilities.shape[0])
    for index, (dy, dx) in enumerate(neighbor_offsets(connectivity)):
        first, second = shifted_pair(probabilities, dy, dx)
        weights, _ = shifted_pair(edge_weights[:, index : index + 1], dy, dx)
        energy = energy + (weights[:, 0] * distance(first, second)).sum((1, 2))
    return energy
