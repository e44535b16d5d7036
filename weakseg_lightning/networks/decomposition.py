"""Networks that take an image apart: a mask-let and an image for each class."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from weakseg_lightning.networks.base import Network, SegmentationNet
from weakseg_lightning.networks.smp import SMPNet, SMPNetwork

__all__ = ["DecompositionNet", "DecompositionNetwork", "SMPDecomposition", "SMPDecompositionNet"]


class DecompositionNet(SegmentationNet):
    """A segmentation network f_m that shares its encoder with a network f_x, which paints an image for each class."""

    @abstractmethod
    def compute_decomposition(self, x: Tensor) -> Tensor:
        """Both outputs for normalized, padded images.

        Args:
            x: Images (B, 3, H', W').

        Returns:
            (B, 4 K, H', W'): K logits of the masks, then the K per-class images before the sigmoid, three channels
            each.
        """

    def decompose(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Take images apart.

        Args:
            images: RGB in 0..1, (B, 3, H, W), any H, W >= 1.

        Returns:
            Logits (B, K, H, W), those of `forward`, and per-class images (B, K, 3, H, W) in 0..1; float32.
        """
        both = self._at_full_size(self.compute_decomposition, images)
        classes = both.shape[1] // 4
        return both[:, :classes], both[:, classes:].sigmoid().reshape(len(both), classes, 3, *both.shape[2:])


class DecompositionNetwork(Network):
    """The description of a network for mask-lets and per-class images."""

    @override
    @abstractmethod
    def build(self, num_classes: int) -> DecompositionNet: ...


class SMPDecompositionNet(SMPNet, DecompositionNet):
    """A network of segmentation_models_pytorch with a second decoder.

    Args:
        model: The network of the masks.
        painter: Another of the same architecture with three outputs per class, whose decoder is taken.
        options: More arguments of `SMPNet`.
    """

    def __init__(self, model: Any, painter: Any, **options: Any) -> None:
        super().__init__(model, **options)
        self.image_decoder = painter.decoder
        self.image_head = painter.segmentation_head

    @override
    def compute_decomposition(self, x: Tensor) -> Tensor:
        features = self._encode(x)
        masks = self.model.segmentation_head(self.dropout(self.model.decoder(*features)))
        return torch.cat([masks, self.image_head(self.image_decoder(*features))], 1)

    @override
    def head_parameters(self) -> list[nn.Parameter]:
        """Both decoders and their last layers."""
        return [*super().head_parameters(), *self.image_decoder.parameters(), *self.image_head.parameters()]


@dataclass(frozen=True)
class SMPDecomposition(SMPNetwork, DecompositionNetwork):
    """Any architecture and encoder of :class:`SMPNetwork`, with a second decoder for the per-class images.

    ``dropout`` acts before the last layer of the masks; ``decoder_channels`` is the width of each decoder.

    Example:
        >>> net = SMPDecomposition("unet", "resnet18", encoder_weights=None).build(num_classes=2)
        >>> logits, imagelets = net.decompose(torch.rand(1, 3, 40, 50))
        >>> tuple(imagelets.shape)
        (1, 2, 3, 40, 50)
    """

    @override
    def build(self, num_classes: int) -> SMPDecompositionNet:
        """Make the network, with its encoder's weights; raises as :meth:`SMPNetwork.build` does."""
        model = self._model(num_classes)
        painter = self._create(None, 3 * num_classes, self._options())
        return SMPDecompositionNet(model, painter, **self._net_options())
