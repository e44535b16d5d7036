"""MIL-FCN: multi-class multiple instance learning from image tags."""

from typing import Any

from torch import Tensor
from typing_extensions import override

from weakseg_lightning.losses import mil_loss
from weakseg_lightning.modules.core.base import Batch, WeakSegModule
from weakseg_lightning.networks import Network


class MILModule(WeakSegModule):
    """Learns each class that an image is tagged with at the one cell where the network finds it most probable.

    :func:`weakseg_lightning.losses.mil_loss` on the network's coarse map. Tags speak of whole images: train on whole
    images, or with ``tags_from: crop``. It needs a network whose last layer knows the classes already to do well.

    Args:
        network: the network to build.
        num_classes: classes K, background included; taken from the data.
        map_stride: distance of the cells that are compared, in pixels of the image that the network computes on; null
            for the network's own coarse map.
        base: those of :class:`WeakSegModule`.

    Raises:
        ValueError: the network has no map of this stride.

    References:
        Pathak, Shelhamer, Long, Darrell: Fully Convolutional Multi-Class Multiple Instance Learning, ICLR workshop
        2015.
    """

    def __init__(
        self,
        network: Network,
        num_classes: int,
        map_stride: int | None = 8,
        **base: Any,
    ) -> None:
        super().__init__(network, num_classes, **base)
        self.map_stride = map_stride
        self.grid = self.net.coarse_grid(map_stride)  # raises where the network has no such map

    @override
    def training_logits(self, batch: Batch) -> Tensor:
        """Logits of the coarse map ``(B, K, h, w)``; in the first phase those of the pixels."""
        if self.in_pce_phase:
            return super().training_logits(batch)
        return self.net.coarse_logits(batch["image"], self.map_stride)

    @override
    def loss_terms(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy of each tagged class at its most probable cell."""
        return {"mil": mil_loss(logits, batch["tags"], self.grid.cells_of(batch["valid"]))}
