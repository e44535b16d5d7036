"""The small U-Net of medical scribble benchmarks (PyMIC, WSL4MIS)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from weakseg_lightning.checks import at_least, at_least_and_below, one_of
from weakseg_lightning.errors import UserError
from weakseg_lightning.networks.base import Network, SegmentationNet, check_input_scale

__all__ = ["Decoder", "UNet2D", "UNet2DNet"]


def _block(channels: int, width: int, dropout: float) -> nn.Sequential:
    """Two convolutions of 3 x 3, each with batch norm and LeakyReLU, and dropout between them."""

    def convolution(channels: int) -> list[nn.Module]:
        return [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.LeakyReLU()]

    return nn.Sequential(*convolution(channels), nn.Dropout(dropout), *convolution(width))


class _Encoder(nn.Module):
    """A block per level, with max-pooling between the levels."""

    def __init__(self, channels: int, widths: Sequence[int], dropout: Sequence[float]) -> None:
        super().__init__()
        sizes = zip(pairwise([channels, *widths]), dropout, strict=True)
        self.levels = nn.ModuleList(_block(before, width, drop) for (before, width), drop in sizes)

    @override
    def forward(self, x: Tensor) -> list[Tensor]:
        """The map of each level, the finest first."""
        maps = [self.levels[0](x)]
        for level in self.levels[1:]:
            maps.append(level(F.max_pool2d(maps[-1], 2)))
        return maps


class _Up(nn.Module):
    """Narrow a map to the width of the next finer level, upsample it, and take in the encoder's map of that level."""

    def __init__(self, deeper: int, width: int, dropout: float) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(deeper, width, 1)
        self.block = _block(2 * width, width, dropout)

    @override
    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = F.interpolate(self.narrow(x), scale_factor=2.0, mode="bilinear", align_corners=True)
        merged: Tensor = self.block(torch.cat([skip, x], 1))
        return merged


class Decoder(nn.Module):
    """The decoder of the U-Net.

    Args:
        num_classes: K.
        widths: channels of each level, the finest first.
        dropout: probability of dropout in the block of each level but the deepest, the finest first.
    """

    def __init__(self, num_classes: int, widths: Sequence[int], dropout: Sequence[float]) -> None:
        super().__init__()
        sizes = reversed(list(zip(pairwise(widths), dropout, strict=True)))
        self.levels = nn.ModuleList(_Up(deeper, width, drop) for (width, deeper), drop in sizes)
        self.last = nn.Conv2d(widths[0], num_classes, 1)

    @override
    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Logits ``(B, K, H, W)`` from the encoder's maps, the finest first."""
        x = maps[-1]
        for level, skip in zip(self.levels, reversed(maps[:-1]), strict=True):
            x = level(x, skip)
        logits: Tensor = self.last(x)
        return logits


class UNet2DNet(SegmentationNet):
    """The U-Net that :class:`UNet2D` describes.

    Args:
        num_classes: K.
        network: its description.
    """

    def __init__(self, num_classes: int, network: "UNet2D") -> None:
        stride = 2 ** (len(network.widths) - 1)
        super().__init__((0.0,) * 3, (1.0,) * 3, stride, input_scale=network.input_scale)
        self.gray = network.in_channels == 1
        self.encoder = _Encoder(network.in_channels, network.widths, network.dropout)
        self.decoder = Decoder(num_classes, network.widths, network.dropout_of_decoder)

    @override
    def compute_logits(self, x: Tensor) -> Tensor:
        logits: Tensor = self.decoder(self._encode(x))
        return logits

    def _encode(self, x: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.encoder(x.mean(1, keepdim=True) if self.gray else x)
        return maps

    @override
    def head_parameters(self) -> list[nn.Parameter]:
        """None: nothing is pretrained."""
        return []


@dataclass(frozen=True)
class UNet2D(Network):
    """The 2-D U-Net that PyMIC and WSL4MIS train on medical slices: 1.8 million parameters, none of them pretrained.

    Five levels of two convolutions with batch norm, LeakyReLU (slope 0.01) and dropout between them; max-pooling on the
    way down, a convolution of 1 x 1 and bilinear upsampling (corners aligned) on the way up. Images go in as they are,
    in 0..1. The defaults are PyMIC's, with the widths of its examples. WSL4MIS has ``dropout`` ``[0.05, 0.1, 0.2, 0.3,
    0.5]``, none of it in the decoder, and a last convolution of 3 x 3. None of smp's encoders is this one, and MONAI's
    BasicUNet has one dropout for all levels. :class:`UNet` is that of the decomposition report.

    Args:
        in_channels: 1 for gray images, which come as three equal channels: their mean goes in; 3 for color.
        widths: channels of each level, the finest first. Images are padded to a multiple of 2 per level below it.
        dropout: probability of dropout in the block of each level, the finest first.
        decoder_dropout: whether that holds for the decoder's blocks as well as for the encoder's.
        input_scale: factor in (0, 8] by which images are resized before the network; logits are brought back.

    Raises:
        ValueError: if an argument is out of range.

    References:
        Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation, MICCAI 2015.
        Wang et al.: PyMIC: A deep learning toolkit for annotation-efficient medical image segmentation, Computer
        Methods and Programs in Biomedicine 231, 2023.

    Example:
        >>> net = UNet2D().build(num_classes=4)
        >>> sum(parameter.numel() for parameter in net.parameters())
        1813252
    """

    in_channels: Literal[1, 3] = 1
    widths: tuple[int, ...] = (16, 32, 64, 128, 256)
    dropout: tuple[float, ...] = (0.0, 0.0, 0.2, 0.3, 0.4)
    decoder_dropout: bool = True
    input_scale: float = 1.0

    def __post_init__(self) -> None:
        """Check the arguments."""
        one_of("in_channels", self.in_channels, (1, 3))
        at_least("len(widths)", len(self.widths), 2)
        at_least("min(widths)", min(self.widths), 1)
        if len(self.dropout) != len(self.widths):
            raise UserError(f"`dropout` must have {len(self.widths)} values, as `widths` has, got {len(self.dropout)}")
        for value in self.dropout:
            at_least_and_below("dropout", value, 0, 1)
        check_input_scale(self.input_scale)

    @property
    def dropout_of_decoder(self) -> tuple[float, ...]:
        """Probability of dropout in each block of the decoder, the finest first."""
        return self.dropout[:-1] if self.decoder_dropout else (0.0,) * (len(self.widths) - 1)

    @override
    def build(self, num_classes: int) -> UNet2DNet:
        """Make the network with random weights."""
        at_least("num_classes", num_classes, 1)
        return UNet2DNet(num_classes, self)
