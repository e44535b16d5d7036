"""Baselines of the papers: full supervision, partial cross-entropy, and gradient descent on the grid Potts energy."""

from typing import Literal

from torch import Tensor
from typing_extensions import override

from weakseg_lightning.energies import GridPotts
from weakseg_lightning.losses import partial_cross_entropy, potts_loss
from weakseg_lightning.modules.base import Batch, WeakSegModule
from weakseg_lightning.modules.optimization import Optimizer
from weakseg_lightning.networks import Network


class RegularizedLossModule(WeakSegModule):
    """Gradient descent on cross-entropy plus a relaxed grid Potts energy (Grid-GD), or on cross-entropy alone.

    ``H(Y, S) + R(S)``: the mean cross-entropy over the labelled pixels plus
    :func:`weakseg_lightning.losses.potts_loss`. Without ``potts`` this is partial cross-entropy (pCE); with whole masks
    as labels it is full supervision.

    Args:
        network: the network to build.
        num_classes: classes K, background included; taken from the data.
        supervision: labels to learn from: the weak ``seeds``, or the full ``mask``.
        potts: edge weights of the regulariser; none by default.
        relaxation: relaxation of the Potts energy to soft labellings.
        optimizer: optimiser settings.
        pce_optimizer: settings of the first phase; those of ``optimizer`` by default.
        pce_fraction: share of the run's iterations that train with partial cross-entropy alone, in 0..1.
        start_from: checkpoint of a run whose weights training begins with; if that run was the first phase, set
            ``pce_fraction`` to 0. A resumed run (``--ckpt_path``) goes on with its own weights.

    References:
        Marin, Tang, Ben Ayed, Boykov: Beyond Gradient Descent for Regularized Segmentation Losses, CVPR 2019,
        eq. 4 and 9.
    """

    def __init__(
        self,
        network: Network,
        num_classes: int,
        supervision: Literal["seeds", "mask"] = "seeds",
        potts: GridPotts | None = None,
        relaxation: Literal["bilinear", "squared", "absolute"] = "bilinear",
        optimizer: Optimizer = Optimizer(),  # noqa: B008 - frozen, and the default has to show in --help
        pce_optimizer: Optimizer | None = None,
        pce_fraction: float = 0.0,
        start_from: str | None = None,
    ) -> None:
        super().__init__(network, num_classes, optimizer, pce_optimizer, pce_fraction, start_from)
        self.supervision = supervision
        self.potts = potts
        self.relaxation = relaxation

    @override
    def loss_terms(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy on the labels, and the relaxed Potts energy."""
        terms = {"pce": partial_cross_entropy(logits, batch[self.supervision])}
        if self.potts is not None:
            terms["potts"] = potts_loss(logits, batch["image"], self.potts, batch["valid"], self.relaxation)
        return terms
