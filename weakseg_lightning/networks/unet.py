"""The two U-Nets with one encoder of the decomposition report (appendix A)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from weakseg_lightning.checks import at_least, one_of
from weakseg_lightning.networks.base import check_input_scale
from weakseg_lightning.networks.decomposition import DecompositionNet, DecompositionNetwork

__all__ = ["UNet", "UNetNet"]

Reading = Literal["report", "released"]

_WIDTHS = (64, 128, 256, 512)
_DEEPEST = 1024


def _conv(channels: int, out: int) -> nn.Sequential:
    """A convolution of 3 x 3 and its LeakyReLU (slope 0.01)."""
    return nn.Sequential(nn.Conv2d(channels, out, 3, padding=1), nn.LeakyReLU())


def _upsample(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class _Encoder(nn.Module):
    """Table 1: four blocks of two convolutions and max-pooling, and a last convolution of 1024 channels."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, *_WIDTHS)
        self.blocks = nn.ModuleList(nn.Sequential(_conv(a, b), _conv(b, b)) for a, b in pairwise(widths))
        self.deepest = _conv(_WIDTHS[-1], _DEEPEST)

    @override
    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """The deepest map, and those of the blocks before and after pooling, the first block first."""
        before, after = [], []
        for block in self.blocks:
            before.append(block(x))
            after.append(x := F.max_pool2d(before[-1], 2))
        return self.deepest(x), before, after


class _ReportDecoder(nn.Module):
    """Table 2: concatenate the encoder's pooled map of the same size, convolve, upsample, convolve."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        widths = [_DEEPEST, *reversed(_WIDTHS)]
        self.first = nn.ModuleList(_conv(a + skip, skip) for a, skip in pairwise(widths))
        self.second = nn.ModuleList(_conv(width, width) for width in widths[1:])
        self.last = nn.Sequential(_conv(_WIDTHS[0], _WIDTHS[0]), nn.Conv2d(_WIDTHS[0], outputs, 3, padding=1))

    @override
    def forward(self, x: Tensor, skips: Sequence[Tensor]) -> Tensor:
        for first, second, skip in zip(self.first, self.second, reversed(skips), strict=True):
            x = second(_upsample(first(torch.cat([x, skip], 1))))
        logits: Tensor = self.last(x)
        return logits


class _ReleasedDecoder(nn.Module):
    """The official code: upsample, concatenate the encoder's map before pooling, convolve, halve by a convolution."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        widths = list(reversed(_WIDTHS))
        self.first = nn.ModuleList(_conv(2 * width, width) for width in widths)
        self.second = nn.ModuleList(_conv(a, b) for a, b in pairwise([*widths, _WIDTHS[0]]))
        self.last = nn.Conv2d(_WIDTHS[0], outputs, 3, padding=1)

    @override
    def forward(self, x: Tensor, skips: Sequence[Tensor]) -> Tensor:
        for first, second, skip in zip(self.first, self.second, reversed(skips), strict=True):
            x = second(first(torch.cat([_upsample(x), skip], 1)))
        logits: Tensor = self.last(x)
        return logits


class UNetNet(DecompositionNet):
    """The encoder and two decoders, f_m of K outputs and f_x of 3 K.

    Args:
        num_classes: K.
        reading: See :class:`UNet`.
        input_scale: Factor by which images are resized.
    """

    def __init__(self, num_classes: int, reading: Reading = "report", input_scale: float = 1.0) -> None:
        super().__init__((0.0,) * 3, (1.0,) * 3, 2 ** len(_WIDTHS), input_scale=input_scale)
        decoder = _ReportDecoder if reading == "report" else _ReleasedDecoder
        self.encoder = _Encoder()
        # In the official code both decoders share their first convolution.
        self.neck = nn.Identity() if reading == "report" else _conv(_DEEPEST, _WIDTHS[-1])
        self.mask_decoder = decoder(num_classes)
        self.image_decoder = decoder(3 * num_classes)
        self.skips_before_pooling = reading == "released"

    @override
    def compute_logits(self, x: Tensor) -> Tensor:
        logits: Tensor = self.mask_decoder(*self._encode(x))
        return logits

    @override
    def compute_decomposition(self, x: Tensor) -> Tensor:
        deepest, skips = self._encode(x)
        return torch.cat([self.mask_decoder(deepest, skips), self.image_decoder(deepest, skips)], 1)

    def _encode(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        deepest, before, after = self.encoder(x)
        return self.neck(deepest), before if self.skips_before_pooling else after

    @override
    def head_parameters(self) -> list[nn.Parameter]:
        """None: nothing is pretrained."""
        return []


@dataclass(frozen=True)
class UNet(DecompositionNetwork):
    """Two U-Nets, one for masks and one for per-class images, and one encoder: 9.4 + 2 x 12.6 million weights.

    Images go in as they are, in 0..1. LeakyReLU of slope 0.01, bilinear upsampling. Table 2 of the report fits two
    networks of equally many weights: the ``report``'s words (each block takes in the encoder's pooled map of its size,
    then convolves, upsamples, convolves), and the official code (``released``) (a convolution to 512 channels that both
    decoders share; each block upsamples, takes in the encoder's map before pooling, convolves twice).

    Args:
        reading: ``report`` or ``released``.
        input_scale: Factor in (0, 8] by which images are resized before the network; logits are brought back.

    References:
        Zeng: Weak Segmentation by Reconstruction from Structured Decomposition, project report, 2024, appendix A.
    """

    reading: Reading = "report"
    input_scale: float = 1.0

    def __post_init__(self) -> None:
        """Check the arguments."""
        one_of("reading", self.reading, get_args(Reading))
        check_input_scale(self.input_scale)

    @override
    def build(self, num_classes: int) -> UNetNet:
        """Make the network with random weights."""
        at_least("num_classes", num_classes, 1)
        return UNetNet(num_classes, self.reading, self.input_scale)
