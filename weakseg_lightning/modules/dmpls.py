"""Dynamically mixed pseudo-labels (DMPLS): two decoders teach one another by a mixture of what they say."""

import os
from typing import Any, Literal

import torch
from torch import Tensor
from typing_extensions import override

from weakseg_lightning import checks
from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.errors import UserError
from weakseg_lightning.losses import dice_loss, partial_cross_entropy
from weakseg_lightning.modules.core.base import Batch, WeakSegModule
from weakseg_lightning.networks.dual_branch import DualBranchNet, DualBranchNetwork

PseudoLoss = Literal["dice", "cross_entropy"]

_LOSSES = {"dice": dice_loss, "cross_entropy": partial_cross_entropy}


class DMPLSModule(WeakSegModule):
    """Scribble supervision with dynamically mixed pseudo-labels, from a network with two decoders.

    ``1/2 sum_i H(Y, S_i) + lambda 1/2 sum_i L(X, S_i)`` with the outputs S_1, S_2 of the decoders, H the mean
    cross-entropy over the seeds Y, and the pseudo-labels ``X_p = argmax_k (alpha S_1 + (1 - alpha) S_2)_p^k`` of all
    pixels, which receive no gradient. alpha is drawn from [0, 1) for each iteration. It depends on the run's seed and
    the iteration alone, so that all ranks draw the same, and a resumed run what the undisturbed one did.

    The first decoder predicts, as in WSL4MIS (PyMIC averages the logits of both). There is no phase of partial
    cross-entropy alone; PyMIC instead raises lambda to 0.1 over the run.

    Args:
        network: the network to build, with two decoders: ``UNet2DDualBranch``, or ``SMPDualBranch`` for a pretrained
            encoder.
        num_classes: classes K, background included; taken from the data.
        pseudo_weight: lambda.
        pseudo_loss: the loss L towards the pseudo-labels, ``dice`` or ``cross_entropy``.
        base: those of :class:`WeakSegModule`, but for those of a first phase.

    Raises:
        ValueError: if an argument is out of range, or the network has no second decoder.

    References:
        Luo, Hu, Liao, Zhai, Song, Wang, Zhang: Scribble-Supervised Medical Image Segmentation via Dual-Branch Network
        and Dynamically Mixed Pseudo Labels Supervision, MICCAI 2022, arXiv 2203.02106.
    """

    net: DualBranchNet
    _second: Tensor | None = None

    def __init__(
        self,
        network: DualBranchNetwork,
        num_classes: int,
        pseudo_weight: float = 0.5,
        pseudo_loss: PseudoLoss = "dice",
        **base: Any,
    ) -> None:
        super().__init__(network, num_classes, pce_optimizer=None, pce_fraction=0.0, **base)
        if not isinstance(network, DualBranchNetwork):
            raise UserError(
                f"`network` must have two decoders, got {type(network).__name__}: use UNet2DDualBranch or SMPDualBranch"
            )
        checks.finite_at_least("pseudo_weight", pseudo_weight, 0)
        checks.one_of("pseudo_loss", pseudo_loss, _LOSSES)
        self.pseudo_weight = pseudo_weight
        self.pseudo_loss: PseudoLoss = pseudo_loss

    @override
    def training_logits(self, batch: Batch) -> Tensor:
        """Logits of the first decoder; those of the second, which come with them, wait for the loss."""
        logits, self._second = self.net.branches(batch["image"])
        return logits

    @override
    def learned_outputs(self, images: Tensor) -> tuple[Tensor, ...]:
        """The logits of both decoders."""
        return self.net.branches(images)

    @override
    def loss_terms(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy on the seeds, and the loss towards the pseudo-labels, each the mean of both decoders."""
        second, self._second = self._second, None
        if second is None:
            raise RuntimeError("no second branch: `training_logits` has to run before `loss_terms`")
        labels = torch.where(batch["valid"], mixed_labels(logits, second, self._mixing_weight()), VOID)
        towards, branches = _LOSSES[self.pseudo_loss], (logits, second)
        return {
            "pce": torch.stack([partial_cross_entropy(each, batch["seeds"]) for each in branches]).mean(),
            "pseudo": self.pseudo_weight * torch.stack([towards(each, labels) for each in branches]).mean(),
        }

    def _mixing_weight(self) -> float:
        """Draw alpha for the iteration."""
        seed = int(os.environ.get("PL_GLOBAL_SEED", 0))
        # A generator of its own: that of dropout differs between ranks, and on a GPU it is another one.
        generator = torch.Generator().manual_seed(hash((seed, self.trainer.global_step)) % 2**63)
        return float(torch.rand((), generator=generator))


@torch.no_grad()
def mixed_labels(first: Tensor, second: Tensor, weight: float) -> Tensor:
    """Label each pixel by the mixture of two outputs.

    Args:
        first: scores of the first decoder, ``(B, K, H, W)``.
        second: scores of the second.
        weight: weight alpha of the first decoder's probabilities, in 0..1; those of the second have the rest.

    Returns:
        The classes that are most probable in the mixture, int64 ``(B, H, W)``.
    """
    return (weight * first.softmax(1) + (1 - weight) * second.softmax(1)).argmax(1)
