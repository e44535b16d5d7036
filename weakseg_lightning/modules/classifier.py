"""The classifier g of the decomposition: which classes an image shows, and a map of where it sees them."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from weakseg_lightning import checks
from weakseg_lightning.modules.core.base import Batch
from weakseg_lightning.modules.core.optimization import Optimizer
from weakseg_lightning.modules.tagged import ADAM, TaggedModule
from weakseg_lightning.networks.tags import TagNet, TagNetwork

_LEAST = 1e-6
_SURE = -1e-30  # the largest logarithm of a probability: that of 1 would leave 1 - 1, whose logarithm is infinite


class TagClassifierModule(TaggedModule):
    """Learns which classes an image shows (eq. 9): ``-sum_k y_k log g_k(I) + (1 - y_k) log(1 - g_k(I))``.

    The module that :class:`weakseg_lightning.DecomposeReconstructModule` asks about per-class images. Per-class images
    are parts of images on black, which a classifier of whole images has never seen. With ``parts_weight`` it also
    learns from the two parts into which a random soft mask m divides an image, ``m I`` and ``(1 - m) I``. Each class of
    the image is in one of them at least, ``1 - (1 - g_k(m I)) (1 - g_k((1 - m) I))``, the others are in neither.

    Evaluated as a segmentation network, it predicts by its class activation maps (Zhou et al., CVPR 2016): each class
    that it sees in the image where its map is above a fraction of the map's maximum.

    Args:
        network: the classifier to build.
        num_classes: classes K, background included; taken from the data.
        parts_weight: weight of the loss on parts of images; 0 = the report, which has none.
        cam_threshold: fraction of a class activation map's maximum below which a pixel is background, in 0..1.
        optimizer: optimizer settings.
        base: those of :class:`TaggedModule`.

    References:
        Zeng: Weak Segmentation by Reconstruction from Structured Decomposition, project report, 2024, section 3.1.3.
    """

    net: TagNet

    def __init__(
        self,
        network: TagNetwork,
        num_classes: int,
        parts_weight: float = 0.0,
        cam_threshold: float = 0.4,
        optimizer: Optimizer = ADAM,
        **base: Any,
    ) -> None:
        super().__init__(network, num_classes, optimizer=optimizer, **base)
        checks.finite_at_least("parts_weight", parts_weight, 0)
        checks.above("cam_threshold", cam_threshold, 0)
        checks.at_least_and_below("cam_threshold", cam_threshold, 0, 1)
        self.parts_weight = parts_weight
        self.cam_threshold = cam_threshold

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Logarithms of the class activation maps, the threshold that of the background, ``(B, K, H, W)``."""
        seen = (self.net.tag_logits(images) > 0)[:, :, None, None]
        maps = self.net.activation_maps(images) * seen
        maps = F.interpolate(maps, size=images.shape[-2:], mode="bilinear", align_corners=False)
        scores = torch.cat([torch.full_like(maps[:, :1], self.cam_threshold), maps], 1)
        return scores.clamp(min=_LEAST).log()

    @override
    def training_logits(self, batch: Batch) -> Tensor:
        """Logits of the tags, ``(B, K - 1)``."""
        return self.net.tag_logits(batch["image"], batch["valid"])

    @override
    def learned_outputs(self, images: Tensor) -> tuple[Tensor, ...]:
        """Logits of the tags."""
        return (self.net.tag_logits(images),)

    @override
    def loss_terms(self, logits: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy of the tags of whole images, and of their parts."""
        tags = batch["tags"][:, 1:]
        terms = {"tags": F.binary_cross_entropy_with_logits(logits, tags.float(), reduction="none").sum(1).mean()}
        if self.parts_weight > 0:
            terms["parts"] = self.parts_weight * self._parts_loss(batch, tags)
        return terms

    @override
    def predict_tags(self, batch: Batch) -> Tensor:
        """The classes that are more probable than not."""
        return self.net.tag_logits(batch["image"], batch["valid"]) > 0

    def _parts_loss(self, batch: Batch, tags: Tensor) -> Tensor:
        """Cross-entropy of "in one of the two parts at least"."""
        images, valid = batch["image"], batch["valid"]
        mask = random_masks(images)
        parts = torch.cat([mask * images, (1 - mask) * images])
        one, other = self.net.tag_logits(parts, torch.cat([valid, valid])).chunk(2)
        in_neither = F.logsigmoid(-one.float()) + F.logsigmoid(-other.float())
        in_one = (-in_neither.clamp(max=_SURE).expm1()).log()
        return -torch.where(tags, in_one, in_neither).sum(1).mean()


def random_masks(images: Tensor) -> Tensor:
    """Draw a soft mask for each image: blobs of a random size, dividing it at a random fraction.

    Args:
        images: ``(B, C, H, W)``, for the size and the device.

    Returns:
        ``(B, 1, H, W)`` in 0..1, mostly near either end.
    """
    cells = int(torch.randint(2, 9, ()))
    noise = torch.randn(len(images), 1, cells, cells, device=images.device)
    smooth = F.interpolate(noise, size=images.shape[-2:], mode="bicubic", align_corners=False)
    level = 0.7 * torch.randn(len(images), 1, 1, 1, device=images.device)
    return torch.sigmoid(8 * (smooth - level))
