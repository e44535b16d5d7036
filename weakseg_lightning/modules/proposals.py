"""Training on proposals: whole images labelled from their seeds once, then taken for truth."""

from typing import Any, Literal

import torch
from torch import Tensor
from typing_extensions import override

from weakseg_lightning.losses import partial_cross_entropy
from weakseg_lightning.modules.core.amortized import AmortizedLatentModule, describe_solver
from weakseg_lightning.modules.core.base import Batch
from weakseg_lightning.modules.core.latent import OnUnsolved
from weakseg_lightning.modules.core.latent_store import LatentStore
from weakseg_lightning.modules.core.optimization import Optimizer
from weakseg_lightning.networks import Network
from weakseg_lightning.solvers import GrabCut, Solver, SolverResult


class ProposalModule(AmortizedLatentModule):
    """The proposal baseline: labels of the training images by interactive segmentation, then full supervision on them.

    Each whole training image is labelled from its colors and seeds when it first comes, once for the run, without the
    network. The network minimizes the mean cross-entropy towards these labels, augmented with their images. Where an
    image cannot be labelled (it has no seeds), whatever seeds it has are its labels.

    Args:
        network: the network to build.
        num_classes: classes K, background included; taken from the data.
        solver: labels an image from its seeds; its scores are zero everywhere. :class:`GrabCut` by default.
        labels: the labels that an image may use: those of its ``seeds``, or its ``tags``; the background always.
        store: keeps the labelings, in memory by default; with a ``path``, runs with other networks can use them too.
        optimizer: optimizer settings of the second phase.
        pce_optimizer: settings of the first phase; those of ``optimizer`` by default.
        pce_fraction: fraction of the run's iterations that train with partial cross-entropy alone, in 0..1.
        start_from: checkpoint of a run whose weights training begins with; if that run was the first phase, set
            ``pce_fraction`` to 0. A resumed run (``--ckpt_path``) goes on with its own weights.
        on_unsolved: what to do where the solver cannot label an image: ``skip`` warns, names it and trains on its
            seeds alone; ``stop`` ends training on all ranks with its name.

    References:
        Marin, Tang, Ben Ayed, Boykov: Beyond Gradient Descent for Regularized Segmentation Losses, CVPR 2019,
        section 3.2 ("train w/ proposals").
    """

    solves_with_network = False

    def __init__(
        self,
        network: Network,
        num_classes: int,
        solver: Solver | None = None,
        labels: Literal["seeds", "tags"] = "seeds",
        store: LatentStore | None = None,
        optimizer: Optimizer = Optimizer(),  # noqa: B008 - frozen, and the default has to show in --help
        pce_optimizer: Optimizer | None = None,
        pce_fraction: float = 0.0,
        start_from: str | None = None,
        on_unsolved: OnUnsolved = "skip",
    ) -> None:
        phases = (optimizer, pce_optimizer, pce_fraction, start_from)
        super().__init__(network, num_classes, None, False, store, *phases, on_unsolved)
        self.solver = solver or GrabCut()
        self.labels = labels

    @property
    @override
    def solver_settings(self) -> dict[str, Any]:
        """How images are labelled."""
        return {"solver": describe_solver(self.solver), "labels": self.labels}

    @override
    def solve_latent(self, logits: Tensor, batch: Batch) -> SolverResult:
        """Label one whole image."""
        allowed = batch["seed_labels"] if self.labels == "seeds" else batch["tags"]
        return self.solver.solve(logits, batch["image"], seeds=batch["seeds"], label_set=allowed)

    @override
    def latent_loss(self, logits: Tensor, latent: SolverResult, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy towards the labeling, on all pixels that have a label."""
        labels = torch.where(batch["seeds"] != 255, batch["seeds"], latent.labels.long())
        return {"proposals": partial_cross_entropy(logits, labels)}
