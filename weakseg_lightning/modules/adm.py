"""Alternating direction method (ADM) for regularized losses, with graph cuts in the loop."""

from typing import Any

from torch import Tensor
from typing_extensions import override

from weakseg_lightning import checks
from weakseg_lightning.losses import latent_cross_entropy
from weakseg_lightning.modules.core.batch_latent import BatchLatentModule
from weakseg_lightning.networks import Network
from weakseg_lightning.solvers import AlphaExpansion, Solver, SolverResult


class ADMModule(BatchLatentModule[SolverResult]):
    """Alternating direction method: a discrete solver finds the latent labeling X, the network follows it.

    Each iteration minimizes ``lambda R(X) + sum_p D(X_p | S_p)`` over discrete X (the solver; R = grid Potts, X = Y on
    the seeds), then takes a gradient step on ``H(Y, S) + gamma D(X | S)`` (mean over the seeds, and over the
    unlabelled pixels).

    Args:
        network: the network to build.
        num_classes: classes K, background included; taken from the data.
        solver: finds the latent labeling; its Potts weight is lambda.
        gamma: weight of the cross-entropy towards the latent labeling.
        base: those of :class:`BatchLatentModule`; of eq. 8, the official code did not keep the seeds' labels.

    References:
        Marin, Tang, Ben Ayed, Boykov: Beyond Gradient Descent for Regularized Segmentation Losses, CVPR 2019,
        eq. 5 to 8 and algorithm 1.
    """

    def __init__(
        self, network: Network, num_classes: int, solver: Solver | None = None, gamma: float = 1.5, **base: Any
    ) -> None:
        super().__init__(network, num_classes, **base)
        checks.finite_at_least("gamma", gamma, 0)
        self.solver = solver or AlphaExpansion()
        self.gamma = gamma

    @override
    def latent_term(self, logits: Tensor, latent: SolverResult, pixels: Tensor) -> Tensor:
        """Compute the second term of eq. 7."""
        return self.gamma * latent_cross_entropy(logits, latent.labels, pixels)
