"""Alternating direction method (ADM) for regularized losses, with graph cuts in the loop."""

from typing import Any, Literal

from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from weakseg_lightning import checks
from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.losses import latent_cross_entropy, partial_cross_entropy
from weakseg_lightning.modules.core.base import Batch
from weakseg_lightning.modules.core.latent import LatentModule
from weakseg_lightning.modules.core.preparing import WholeImages
from weakseg_lightning.networks import Network
from weakseg_lightning.solvers import AlphaExpansion, Solver, SolverResult


class ADMModule(LatentModule):
    """Alternating direction method: a discrete solver finds the latent labeling X, the network follows it.

    Each iteration minimizes ``lambda R(X) + sum_p D(X_p | S_p)`` over discrete X (the solver; R = grid Potts, X = Y on
    the seeds), then takes a gradient step on ``H(Y, S) + gamma D(X | S)`` (mean over the seeds, and over the
    unlabelled pixels).

    Args:
        network: the network to build.
        num_classes: classes K, background included; taken from the data.
        solver: finds the latent labeling; its Potts weight is lambda.
        gamma: weight of the cross-entropy towards the latent labeling.
        labels: the labels that an image may use: those of its ``seeds``, its ``tags``, or ``all``. The set belongs to
            the whole image, not the crop, and holds the background; with fewer than two labels it is ``all``.
        hard_seeds: whether the solver must keep the seeds' labels (eq. 8); the official code did not.
        latent_pixels: the pixels that follow the latent labeling: those ``unlabelled`` by seeds (eq. 7) or ``all``.
        latent_grid: what is labeled and compared in the second phase: the pixels of the ``image``, or the cells of the
            network's coarse ``map``, in a fraction of the time; a cell has the seed that most of its pixels have.
        pce_fraction: fraction of the run's iterations that train with partial cross-entropy alone, in 0..1.
        base: those of :class:`LatentModule`.

    References:
        Marin, Tang, Ben Ayed, Boykov: Beyond Gradient Descent for Regularized Segmentation Losses, CVPR 2019,
        eq. 5 to 8 and algorithm 1.
    """

    def __init__(
        self,
        network: Network,
        num_classes: int,
        solver: Solver | None = None,
        gamma: float = 1.5,
        labels: Literal["seeds", "tags", "all"] = "seeds",
        hard_seeds: bool = True,
        latent_pixels: Literal["unlabelled", "all"] = "unlabelled",
        latent_grid: Literal["image", "map"] = "image",
        pce_fraction: float = 0.5,
        **base: Any,
    ) -> None:
        super().__init__(network, num_classes, pce_fraction=pce_fraction, **base)
        checks.at_least("gamma", gamma, 0)
        self.solver = solver or AlphaExpansion()
        self.gamma = gamma
        self.labels = labels
        self.hard_seeds = hard_seeds
        self.latent_pixels = latent_pixels
        self.latent_grid = latent_grid

    @override
    def score(self, images: Tensor) -> Tensor:
        return super().score(images) if self.latent_grid == "image" else self.net.coarse_logits(images)

    def _on_grid(self, batch: Batch) -> Batch:
        """The batch as it is on the grid of the latent labeling."""
        if self.latent_grid == "image":
            return batch
        grid = self.net.coarse_grid()
        size = grid.size(*batch["image"].shape[-2:])
        return {
            **batch,
            "image": F.interpolate(batch["image"], size=size, mode="bilinear", antialias=True),
            "seeds": grid.labels_of(batch["seeds"], self.num_classes),
            "valid": grid.cells_of(batch["valid"]),
        }

    @override
    def labels_whole_images(self) -> WholeImages:
        return self

    @override
    def solve_latent(self, logits: Tensor, batch: Batch) -> SolverResult:
        """Minimize eq. 8 over the discrete labelings of each image."""
        batch = self._on_grid(batch)
        seeds = batch["seeds"] if self.hard_seeds else None
        allowed = allowed_labels(batch, self.labels)
        return self.solver.solve(logits, batch["image"], seeds=seeds, label_set=allowed, valid=batch["valid"])

    @override
    def latent_loss(self, logits: Tensor, latent: SolverResult, batch: Batch) -> dict[str, Tensor]:
        """Compute the two terms of eq. 7."""
        batch = self._on_grid(batch)
        unlabelled = batch["seeds"] == VOID
        pixels = batch["valid"] & unlabelled if self.latent_pixels == "unlabelled" else batch["valid"]
        return {
            "pce": partial_cross_entropy(logits, batch["seeds"]),
            "latent": self.gamma * latent_cross_entropy(logits, latent.labels, pixels),
        }


def allowed_labels(batch: Batch, source: Literal["seeds", "tags", "all"]) -> Tensor | None:
    """Find the labels that each image of a batch may use.

    Args:
        batch: the batch, with the label sets of the whole images (``seed_labels`` or ``tags``).
        source: which of the sets; ``all`` restricts nothing.

    Returns:
        bool ``(B, K)``, or None without restriction. A set of fewer than two labels would flood the image with one
        class: it becomes all labels.
    """
    if source == "all":
        return None
    allowed: Tensor = batch["seed_labels"] if source == "seeds" else batch["tags"]
    return allowed | (allowed.sum(1, keepdim=True) < 2)
