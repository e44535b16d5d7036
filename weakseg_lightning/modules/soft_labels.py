"""Soft self-labeling: a latent distribution at each pixel in place of a latent label."""

from typing import Any

from torch import Tensor
from typing_extensions import override

from weakseg_lightning import checks
from weakseg_lightning.losses import link_loss
from weakseg_lightning.modules.core.batch_latent import BatchLatentModule
from weakseg_lightning.networks import Network
from weakseg_lightning.solvers import SoftPotts, SoftPottsResult


class SoftLabelModule(BatchLatentModule[SoftPottsResult]):
    """Soft self-labeling: a soft solver finds the latent distributions Y, the network follows them.

    Minimizes ``-sum_S ln sigma_i(seed) + eta sum_U H(y_i, sigma_i) + lambda sum_N w_ij P(y_i, y_j)`` alternately: over
    the soft labels y with the network's output sigma fixed (the solver, no graph cut, on the device of the scores),
    then by a gradient step of the network with y fixed. As in the other methods the sums over pixels are means here,
    over the seeds and over the unlabelled pixels: only the solver's ratio of Potts weight to unary weight fixes y.

    Args:
        network: the network to build.
        num_classes: classes K, background included; taken from the data.
        solver: finds the soft labels; its ``potts.weight / unary_weight`` is lambda / eta, its ``link``
            H of both steps.
        eta: weight of the link towards the soft labels.
        base: those of :class:`BatchLatentModule`.

    References:
        Zhang and Boykov: Soft Self-labeling and Potts Relaxations for Weakly-supervised Segmentation, CVPR 2025. The
        text was not at hand: formulas and settings are from a note on it.
    """

    def __init__(
        self, network: Network, num_classes: int, solver: SoftPotts | None = None, eta: float = 0.3, **base: Any
    ) -> None:
        super().__init__(network, num_classes, **base)
        checks.finite_at_least("eta", eta, 0)
        self.solver = solver or SoftPotts()
        self.eta = eta

    @override
    def latent_term(self, logits: Tensor, latent: SoftPottsResult, pixels: Tensor) -> Tensor:
        """Compute the link to the soft labels."""
        return self.eta * link_loss(logits, latent.probabilities, pixels, self.solver.link)
