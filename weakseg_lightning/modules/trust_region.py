"""Robust trust region for regularized losses: a graph cut every few epochs, a robust loss between."""

from typing import Any, get_args

import torch
from torch import Tensor, nn
from typing_extensions import override

from weakseg_lightning import checks
from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.losses import EpsUnit, RobustCrossEntropy, convert_eps
from weakseg_lightning.losses.robust import Normalizer
from weakseg_lightning.modules.core.amortized import AmortizedLatentModule, describe_solver
from weakseg_lightning.modules.core.base import Batch
from weakseg_lightning.modules.core.batch_latent import LabelSource, allowed_labels
from weakseg_lightning.modules.core.guides import guide_of
from weakseg_lightning.networks import Network
from weakseg_lightning.solvers import AlphaExpansion, Solver, SolverResult


class TrustRegionModule(AmortizedLatentModule):
    """Robust trust region: stage A finds a labeling near the network's prediction, stage B follows it, with doubts.

    Stage A, once every ``epochs_per_cycle`` epochs, for the whole image at its original resolution: ``min over X of
    E_Potts(X) + lambda KL(X || S)``, X = Y on the seeds (eq. 16, 25, 26), S the network's output in evaluation mode.
    Stage B: gradient steps on ``-log S`` at the seeds and ``-log(a + b S)`` elsewhere, ``a = eps / (K - 1)``,
    ``b = 1 - K a``, both at the label in X (eq. 18, 24): a label of X is taken to be wrong with probability ``eps``.

    Args:
        network: the network to build.
        num_classes: classes K, background included; taken from the data.
        solver: finds the labeling of stage A; its ``unary_weight`` is lambda, its ``start`` that of the first cycle.
        eps: noise level of the labels of stage A, in ``eps_unit``.
        eps_unit: what a setting found for another number of classes keeps. ``probability``: how often a label is wrong,
            below (K-1)/K. ``limit``: how often a label says nothing, a fraction s of (K-1)/K, below 1. ``weight``: the
            loss, which is ``-log(1 + rho S)`` but for a constant, rho = b / a above 0; a label of stage A weighs up to
            rho / (1 + rho) of a seed. The published 0.944 of 21 classes is s = 0.9912 or rho = 0.186; this s is
            rho = 0.0355 for 4 classes and 0.0178 for 2. See :func:`weakseg_lightning.losses.convert_eps`.
        learn_eps: learn eps, beginning with the given one, at the learning rate of the network's new layers.
        normalizer: what the sum over the pixels is divided by: ``valid``, their number; ``seeds``, the number of seeds
            in the batch times the batch size, as the official code does; learning rates are tied to it.
        labels: the labels that an image may use: those of its ``seeds``, its ``tags``, or ``all``. The set holds the
            background; with fewer than two labels it is ``all``.
        epochs_per_cycle: epochs M that train towards a labeling before it is solved for again.
        base: those of :class:`AmortizedLatentModule`.

    References:
        Marin and Boykov: Robust Trust Region for Weakly Supervised Segmentation, ICCV 2021, algorithm 1.
    """

    def __init__(
        self,
        network: Network,
        num_classes: int,
        solver: Solver | None = None,
        eps: float = 0.9912,
        eps_unit: EpsUnit = "limit",
        learn_eps: bool = False,
        normalizer: Normalizer = "valid",
        labels: LabelSource = "seeds",
        epochs_per_cycle: int = 5,
        **base: Any,
    ) -> None:
        super().__init__(network, num_classes, epochs_per_cycle=epochs_per_cycle, **base)
        checks.one_of("labels", labels, get_args(LabelSource))
        self.solver = solver or AlphaExpansion()
        self.eps = eps
        self.eps_unit = eps_unit
        self.learn_eps = learn_eps
        self.normalizer = normalizer
        self.labels = labels
        probability = convert_eps(eps, num_classes, eps_unit)
        self.robust_loss = RobustCrossEntropy(probability, normalizer, learn_eps=learn_eps, num_classes=num_classes)

    @property
    @override
    def solver_settings(self) -> dict[str, Any]:
        """The energy of stage A and how it is minimized."""
        return {"solver": describe_solver(self.solver), "labels": self.labels, "warm_start": self.warm_start}

    @override
    def parameters_of_loss(self) -> list[nn.Parameter]:
        """The level of noise, where it is learned."""
        return list(self.robust_loss.parameters())

    @override
    def solve_latent(self, logits: Tensor, batch: Batch) -> SolverResult:
        """Stage A, eq. 16, for one whole image."""
        return self.solver.solve(
            logits,
            guide_of(self.solver, batch),
            seeds=batch["seeds"],
            label_set=allowed_labels(batch, self.labels),
            valid=batch["valid"],
            initial=batch["initial"],
        )

    @override
    def latent_loss(self, logits: Tensor, latent: SolverResult, batch: Batch) -> dict[str, Tensor]:
        """Stage B, eq. 24."""
        seeded = batch["seeds"] != VOID
        labels = torch.where(seeded, batch["seeds"], latent.labels.long())
        if self.learn_eps:
            self.log("eps", self.robust_loss.current_eps, batch_size=len(logits))
        return {"robust": self.robust_loss(logits, labels, exact=seeded)}
