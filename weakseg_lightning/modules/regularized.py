"""Baselines of the papers: full supervision, partial cross-entropy, and gradient descent on regularized losses."""

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor
from typing_extensions import override

from weakseg_lightning import checks
from weakseg_lightning.losses import Regularizer, partial_cross_entropy
from weakseg_lightning.modules.core.base import Batch, WeakSegModule
from weakseg_lightning.modules.core.batch_hooks import BatchHook
from weakseg_lightning.modules.core.guides import colors_of, guide_of
from weakseg_lightning.networks import Network

_BUILT = "built"


class RegularizedLossModule(WeakSegModule):
    """Gradient descent on cross-entropy plus a regularizer (Grid-GD, Dense-GD), or on cross-entropy alone.

    ``H(Y, S) + R(S)``: the mean cross-entropy over the labelled pixels plus a
    :class:`weakseg_lightning.losses.Regularizer`. Without one this is partial cross-entropy (pCE); with whole masks as
    labels it is full supervision.

    Args:
        network: the network to build.
        num_classes: classes K, background included; taken from the data.
        supervision: labels to learn from: the weak ``seeds``, or the full ``mask``.
        regularizer: the term R, such as ``GridPottsLoss``, ``DenseCRFLoss`` or ``GatedCRFLoss``; none by default.
        base: those of :class:`WeakSegModule`.

    References:
        Marin, Tang, Ben Ayed, Boykov: Beyond Gradient Descent for Regularized Segmentation Losses, CVPR 2019,
        eq. 4 and 9.
        Tang, Perazzi, Djelouah, Ben Ayed, Schroers, Boykov: On Regularized Losses for Weakly-supervised CNN
        Segmentation, ECCV 2018.
    """

    def __init__(
        self,
        network: Network,
        num_classes: int,
        supervision: Literal["seeds", "mask"] = "seeds",
        regularizer: Regularizer | None = None,
        **base: Any,
    ) -> None:
        super().__init__(network, num_classes, **base)
        checks.one_of("supervision", supervision, ("seeds", "mask"))
        self.supervision = supervision
        self.regularizer = regularizer
        in_workers = regularizer is not None and regularizer.build_in == "workers"
        self._builder = _Builder(regularizer) if in_workers and regularizer is not None else None

    @property
    @override
    def batch_hook(self) -> BatchHook | None:
        """DataLoader workers build what the regularizer needs of the images, if it asks for that."""
        return self._builder

    @property
    @override
    def direct_labels(self) -> Literal["seeds", "mask"]:
        return self.supervision

    @override
    def loss_terms(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy on the labels, and the regularizer."""
        terms = {"pce": partial_cross_entropy(logits, batch[self.supervision])}
        if self.regularizer is not None:
            image = guide_of(self.regularizer, batch)
            terms[self.regularizer.term] = self.regularizer(logits, image, batch["valid"], batch.get(_BUILT))
        return terms


class _Builder:
    """Builds in DataLoader workers what a regularizer needs of the images that the step will see."""

    def __init__(self, regularizer: Regularizer) -> None:
        self.regularizer = regularizer
        self.enabled = False

    def reference(self, image_id: str) -> None:
        """Tell the worker nothing: the batch is all that it needs."""

    def attach(self, batch: Batch, loaded: Sequence[Any]) -> Batch:
        """Build from the batch, augmented and padded."""
        return {_BUILT: self.regularizer.build(colors_of(batch), batch["valid"])}
