"""Training on proposals: whole images labelled from their seeds once, then taken for truth."""

from typing import Any, Literal, get_args

import torch
from torch import Tensor
from typing_extensions import override

from weakseg_lightning import checks
from weakseg_lightning.constraints.boxes import labels_in_boxes
from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.errors import UserError
from weakseg_lightning.losses import RobustCrossEntropy
from weakseg_lightning.modules.core.amortized import AmortizedLatentModule, describe_solver
from weakseg_lightning.modules.core.base import Batch
from weakseg_lightning.modules.core.guides import guide_of
from weakseg_lightning.networks import Network
from weakseg_lightning.solvers import GrabCut, Solver, SolverResult

ProposalLabels = Literal["seeds", "tags", "boxes"]


class ProposalModule(AmortizedLatentModule):
    """The proposal baseline: labels of the training images by interactive segmentation, then full supervision on them.

    Each whole training image is labelled from its colors and seeds when it first comes, once for the run, without the
    network. The network minimizes the mean cross-entropy towards these labels (with doubt in them: ``eps``), augmented
    with their images. Where an image cannot be labelled (it has no seeds), whatever seeds it has are its labels. With a
    ``path``, runs with other networks can use its ``store`` too.

    Args:
        network: the network to build.
        num_classes: classes K, background included; taken from the data.
        solver: labels an image from its seeds; its scores are zero everywhere. :class:`GrabCut` by default.
        labels: the labels that an image may use: those of its ``seeds``, or its ``tags``; or, pixel by pixel, those of
            the ``boxes`` around it; the background always.
        eps: probability that a label of the solver is wrong, 0 <= eps < (K-1)/K; seeds are certain. The loss is then
            the collision cross-entropy towards labels softened by it, which is the robust loss of trust region; with
            0 there is no difference between collision and cross-entropy, as the labels are hard.
        pce_fraction: fraction of the run's iterations that train with partial cross-entropy alone, in 0..1.
        base: those of :class:`AmortizedLatentModule`.

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
        labels: ProposalLabels = "seeds",
        eps: float = 0.0,
        pce_fraction: float = 0.0,
        **base: Any,
    ) -> None:
        super().__init__(
            network, num_classes, epochs_per_cycle=None, warm_start=False, pce_fraction=pce_fraction, **base
        )
        checks.one_of("labels", labels, get_args(ProposalLabels))
        self.solver = solver or GrabCut()
        self.labels = labels
        self.eps = eps
        self.label_loss = RobustCrossEntropy(eps, num_classes=num_classes)

    @property
    @override
    def solver_settings(self) -> dict[str, Any]:
        """The solver, and the labels that it chooses from."""
        return {"solver": describe_solver(self.solver), "labels": self.labels}

    @override
    def solve_latent(self, logits: Tensor, batch: Batch) -> SolverResult:
        """Label one whole image."""
        image, valid = guide_of(self.solver, batch), batch.get("valid")
        return self.solver.solve(logits, image, seeds=batch["seeds"], label_set=self._allowed(batch), valid=valid)

    def _allowed(self, batch: Batch) -> Tensor:
        """The labels of each image ``(B, K)``, or of each pixel ``(B, K, H, W)``."""
        if self.labels != "boxes":
            allowed: Tensor = batch["seed_labels"] if self.labels == "seeds" else batch["tags"]
            return allowed
        if "boxes" not in batch:
            raise UserError(
                "`labels: boxes` needs bounding boxes, which the data does not give: choose `supervision: box`"
            )
        return labels_in_boxes(batch["boxes"], self.num_classes, *batch["seeds"].shape[-2:])

    @override
    def latent_loss(self, logits: Tensor, latent: SolverResult, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy towards the labeling, with the doubt in it that ``eps`` says, on all labelled pixels."""
        seeded = batch["seeds"] != VOID
        labels = torch.where(seeded, batch["seeds"], latent.labels.long())
        return {"proposals": self.label_loss(logits, labels, exact=seeded)}
