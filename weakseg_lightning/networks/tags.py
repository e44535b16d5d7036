"""Classifiers of whole images whose scores come from a map: the mean of a score at every cell."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from weakseg_lightning.checks import at_least
from weakseg_lightning.networks.base import Network, SegmentationNet
from weakseg_lightning.networks.smp import SMPNetwork

__all__ = ["TagNet", "TagNetwork"]


class TagNet(SegmentationNet):
    """An encoder, a score of each foreground class at every cell, and their mean: a tag's logit.

    The mean of linear scores is the linear score of the mean: this is the usual classifier with global average pooling,
    and its map is the class activation map (Zhou et al., CVPR 2016). As a segmentation network it gives these scores,
    and 0 for the background.

    Args:
        encoder: An encoder of smp.
        num_classes: Number K of classes, background included.
        mean: Mean of the three channels.
        std: Standard deviation of the three channels.
        dropout: Probability of dropping a channel before the last layer.
        input_scale: Factor by which images are resized.
    """

    def __init__(
        self,
        encoder: Any,
        num_classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        dropout: float = 0.0,
        input_scale: float = 1.0,
    ) -> None:
        stride = int(encoder.output_stride)
        super().__init__(mean, std, stride, map_stride=stride, input_scale=input_scale)
        self.encoder = encoder
        self.dropout = nn.Dropout2d(dropout) if dropout else nn.Identity()
        self.head = nn.Conv2d(encoder.out_channels[-1], num_classes - 1, 1)

    @override
    def compute_map(self, x: Tensor) -> Tensor:
        scores = self.head(self.dropout(self.encoder(x)[-1]))
        return torch.cat([torch.zeros_like(scores[:, :1]), scores], 1)

    @override
    def compute_logits(self, x: Tensor) -> Tensor:
        return F.interpolate(self.compute_map(x), size=x.shape[-2:], mode="bilinear", align_corners=False)

    def tag_logits(self, images: Tensor, valid: Tensor | None = None) -> Tensor:
        """Say which classes whole images show.

        Args:
            images: RGB in 0..1, (B, 3, H, W).
            valid: bool (B, H, W), False on padding, whose cells do not count; None = no padding.

        Returns:
            Logits of the foreground classes, (B, K - 1).
        """
        scores = self.coarse_logits(images)[:, 1:]
        if valid is None:
            return scores.mean((2, 3))
        cells = self.coarse_grid().cells_of(valid)[:, None].to(scores.dtype)
        return (scores * cells).sum((2, 3)) / cells.sum((2, 3)).clamp(min=1)

    def activation_maps(self, images: Tensor) -> Tensor:
        """Class activation maps: what each cell adds to the tag's logit, without the bias, where positive.

        Args:
            images: RGB in 0..1, (B, 3, H, W).

        Returns:
            (B, K - 1, h, w), each divided by its maximum, in 0..1.
        """
        bias: Tensor = self.head.bias  # type: ignore[assignment]  # it has one
        evidence = F.relu(self.coarse_logits(images)[:, 1:] - bias[:, None, None])
        return evidence / evidence.amax((2, 3), keepdim=True).clamp(min=1e-6)

    @override
    def head_parameters(self) -> list[nn.Parameter]:
        """The last layer."""
        return list(self.head.parameters())


@dataclass(frozen=True)
class TagNetwork(Network):
    """A classifier of whole images on any encoder of smp or timm, with a new last layer.

    ResNet-18 is torchvision's, with its weights; the others are named as for :class:`SMPNetwork`.

    Args:
        encoder: Name of the encoder: resnet18, timm-tf_efficientnet_lite0, or tu-NAME for timm's NAME.
        encoder_weights: "imagenet" (or another name known to smp) to download, null for random weights, or the path of
            a state dict (.safetensors, .pt, .pth); a classifier in the file is dropped.
        output_stride: Stride of the last map; 16 gives finer class activation maps than 32, for about twice the time;
            null for the encoder's own.
        dropout: Probability of dropping a channel before the last layer.
        mean: Mean of red, green, blue in 0..1; null for what the encoder was trained with.
        std: Standard deviation of red, green, blue; null for what the encoder was trained with.
        input_scale: Factor in (0, 8] by which images are resized before the network.

    Example:
        >>> net = TagNetwork("resnet18", encoder_weights=None).build(num_classes=3)
        >>> tuple(net.tag_logits(torch.rand(2, 3, 64, 96)).shape)
        (2, 2)
    """

    encoder: str = "resnet18"
    encoder_weights: str | None = "imagenet"
    output_stride: Literal[8, 16] | None = None
    dropout: float = 0.0
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    input_scale: float = 1.0

    def __post_init__(self) -> None:
        """Check the arguments."""
        self._source()

    @override
    def build(self, num_classes: int) -> TagNet:
        """Make the classifier; raises as :meth:`SMPNetwork.build` does."""
        at_least("num_classes", num_classes, 1)
        source = self._source()
        encoder = source.build(1).model.encoder
        return TagNet(encoder, num_classes, *source.normalization(), self.dropout, self.input_scale)

    @override
    def without_weights(self) -> "TagNetwork":
        mean, std = self._source().normalization()
        return replace(self, encoder_weights=None, mean=mean, std=std)

    def _source(self) -> SMPNetwork:
        """A network with this encoder, which checks the arguments and makes it; its decoder is thrown away."""
        architecture = "fpn" if self.output_stride is None else "deeplabv3plus"  # which can choose the stride
        return SMPNetwork(architecture, **vars(self))
