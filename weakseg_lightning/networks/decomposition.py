"""Networks that take an image apart: a mask-let and an per-class image for each class."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
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
        small = self._resize(images)
        both = self._compute(self.compute_decomposition, small)[..., : small.shape[-2], : small.shape[-1]].float()
        if small.shape != images.shape:
            both = F.interpolate(both, size=images.shape[-2:], mode="bilinear", align_corners=False)
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
        painter: Another of the same architecture with three outputs a class, whose decoder is taken.
        mean: Mean of the three channels.
        std: Standard deviation of the three channels.
        options: More arguments of `SMPNet`.
    """

    def __init__(self, model: Any, painter: Any, mean: Sequence[float], std: Sequence[float], **options: Any) -> None:
        super().__init__(model, mean, std, **options)
        self.image_decoder = painter.decoder
        self.image_head = painter.segmentation_head

    @override
    def compute_decomposition(self, x: Tensor) -> Tensor:
        features = self.model.encoder(x)
        spread = features if self._prefix_tokens else (features,)
        masks = self.model.segmentation_head(self.dropout(self.model.decoder(*spread)))
        return torch.cat([masks, self.image_head(self.image_decoder(*spread))], 1)

    @override
    def head_parameters(self) -> list[nn.Parameter]:
        """Both decoders and their last layers."""
        return [*super().head_parameters(), *self.image_decoder.parameters(), *self.image_head.parameters()]


class SMPDecomposition(SMPNetwork, DecompositionNetwork):
    """Any architecture and encoder of :class:`SMPNetwork`, with a second decoder for the per-class images.

    Args:
        architecture: Name as in `segmentation_models_pytorch.create_model`.
        encoder: Name of the encoder: resnet50, timm-tf_efficientnet_lite0, or tu-NAME for timm's NAME.
        encoder_weights: "imagenet" to download, null for random weights, or the path of a state dict.
        output_stride: Stride of the encoder's last map, where the architecture can choose it.
        dropout: Probability of dropout before the last layer of the masks.
        decoder_channels: Width of each decoder, where one number says it; null for the architecture's default.
        mean: Mean of red, green, blue in 0..1; null for what the encoder was trained with.
        std: Standard deviation of red, green, blue; null for what the encoder was trained with.
        input_scale: Factor in (0, 1] by which images are resized before the network.

    Example:
        >>> net = SMPDecomposition("unet", "resnet18", encoder_weights=None).build(num_classes=2)
        >>> logits, imagelets = net.decompose(torch.rand(1, 3, 40, 50))
        >>> tuple(imagelets.shape)
        (1, 2, 3, 40, 50)
    """

    @override
    def build(self, num_classes: int) -> SMPDecompositionNet:
        """Make the network, with its encoder's weights; raises as :meth:`SMPNetwork.build` does."""
        masks = super().build(num_classes)
        painter = self._create(None, 3 * num_classes, self._options())
        mean, std = self.normalization()
        dropout = getattr(masks.dropout, "p", 0.0)
        least = masks.min_size // int(masks.model.encoder.output_stride)
        options = {"min_map": least, "dropout": dropout, "input_scale": self.input_scale}
        return SMPDecompositionNet(masks.model, painter, mean, std, **options)

    @override
    def without_weights(self) -> "SMPDecomposition":
        plain = super().without_weights()
        return SMPDecomposition(**vars(plain))
