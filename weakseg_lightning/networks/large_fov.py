"""DeepLab on VGG16: LargeFOV, with multi-scale features, and with the four parallel classifiers of DeepLab-v2."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from weakseg_lightning.networks.base import IMAGENET_MEAN, IMAGENET_STD
from weakseg_lightning.networks.vgg16 import VGG16Net, VGG16Network, load_convolutions, reset_convolutions

# Inputs of the branches of the multi-scale network: channels, and the stride that brings them to the map.
_TAPS = ((3, 8), (64, 4), (128, 2), (256, 1), (512, 1))
_BRANCH_WIDTH = 128


class LargeFOVNet(VGG16Net):
    """VGG16 at stride 8 under dilated, fully convolutional classifiers with a large field of view.

    All poolings are 3 x 3 with padding 1, so that cell i of the map is centered at pixel 8 i. Images are therefore
    padded to sizes 8 n + 1 (321 needs none), and logits are upsampled with their corners aligned, which is exact.

    Args:
        num_classes: Number K of classes.
        dropout: Probability of dropout after every hidden layer of a classifier and of a branch.
        input_scale: Factor by which images are resized.
        dilations: Dilation of fc6, one for each classifier; their logits are added up.
        multi_scale: Whether the image and the outputs of the first four poolings add logits of their own.
    """

    def __init__(
        self,
        num_classes: int,
        dropout: float = 0.5,
        input_scale: float = 1.0,
        dilations: Sequence[int] = (12,),
        multi_scale: bool = False,
    ) -> None:
        super().__init__(
            IMAGENET_MEAN,
            IMAGENET_STD,
            stride=8,
            remainder=1,
            map_stride=8,
            map_offset=0.0,
            input_scale=input_scale,
        )
        # DeepLab's official network smooths pool5 by an average where it has one classifier, not where it has four;
        # the papers mention neither.
        self.features = _vgg16_at_stride_8(smooth=len(dilations) == 1)
        self.classifiers = nn.ModuleList(_Classifier(num_classes, dropout, dilation) for dilation in dilations)
        taps = _TAPS if multi_scale else ()
        self.branches = nn.ModuleList(_branch(*tap, num_classes, dropout) for tap in taps)
        reset_convolutions(self, *self._last_layers())

    @override
    def compute_map(self, x: Tensor) -> Tensor:
        maps = [x]
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.MaxPool2d):
                maps.append(x)
        parts = [classifier(x) for classifier in self.classifiers]
        # A linear layer on concatenated maps is the sum of linear layers on each.
        parts += [branch(map_) for branch, map_ in zip(self.branches, maps, strict=False)]
        return torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]

    @override
    def compute_logits(self, x: Tensor) -> Tensor:
        return F.interpolate(self.compute_map(x), size=x.shape[-2:], mode="bilinear", align_corners=True)

    @override
    def head_parameters(self) -> list[nn.Parameter]:
        """Parameters without pretrained values: those of the classifiers' last layers, fc8, and of the branches."""
        last = [layer for layer in self._last_layers() if layer not in set(self.branches.modules())]
        return [parameter for part in (*last, self.branches) for parameter in part.parameters()]

    def _last_layers(self) -> list[nn.Conv2d]:
        """The layers that make logits."""
        ends = [[*part.children()][-1] for part in (*self.classifiers, *self.branches)]
        return [layer for layer in ends if isinstance(layer, nn.Conv2d)]

    def load_vgg16(self, state: Mapping[str, Tensor], source: str) -> None:
        """Take over a classification network, all or nothing.

        The convolutions are copied. fc6 and fc7 of every classifier are decimated from the fully connected layers:
        every fourth of the 4096 units, and of fc6 the positions 0, 3 and 6 of its 7 x 7 window, which its dilation
        spreads again. (The paper decimates too; which of the 4096 units it keeps, it does not say.) Where the file has
        no fully connected layers, fc6 and fc7 stay random.
        """
        if load_convolutions(self.features, state, source):
            for classifier in self.classifiers:
                classifier.load_decimated(state)  # type: ignore[operator]


class _Classifier(nn.Module):
    """Two hidden layers of 1024 channels, the first dilated, and a linear one."""

    def __init__(self, num_classes: int, dropout: float, dilation: int) -> None:
        super().__init__()
        self.fc6 = nn.Conv2d(512, 1024, 3, padding=dilation, dilation=dilation)
        self.fc7 = nn.Conv2d(1024, 1024, 1)
        self.dropout = nn.Dropout(dropout)
        self.fc8 = nn.Conv2d(1024, num_classes, 1)

    @override
    def forward(self, x: Tensor) -> Tensor:
        hidden = self.dropout(F.relu(self.fc6(x), inplace=True))
        hidden = self.dropout(F.relu(self.fc7(hidden), inplace=True))
        logits: Tensor = self.fc8(hidden)
        return logits

    @torch.no_grad()
    def load_decimated(self, state: Mapping[str, Tensor]) -> None:
        self.fc6.weight.copy_(state["classifier.0.weight"].view(4096, 512, 7, 7)[::4, :, ::3, ::3])
        self.fc6.bias.copy_(state["classifier.0.bias"][::4])  # type: ignore[union-attr]
        self.fc7.weight.copy_(state["classifier.3.weight"][::4, ::4, None, None])
        self.fc7.bias.copy_(state["classifier.3.bias"][::4])  # type: ignore[union-attr]


def _branch(channels: int, stride: int, num_classes: int, dropout: float) -> nn.Sequential:
    """The two-layer perceptron on an early map, and its fraction of the last layer."""
    return nn.Sequential(
        nn.Conv2d(channels, _BRANCH_WIDTH, 3, stride=stride, padding=1),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Conv2d(_BRANCH_WIDTH, _BRANCH_WIDTH, 1),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Conv2d(_BRANCH_WIDTH, num_classes, 1),
    )


def _vgg16_at_stride_8(smooth: bool) -> nn.Sequential:
    """VGG16's convolutions from torchvision, with the poolings and dilations of DeepLab."""
    from torchvision.models.vgg import cfgs, make_layers

    features: nn.Sequential = make_layers(cfgs["D"], batch_norm=False)
    pools = [index for index, layer in enumerate(features) if isinstance(layer, nn.MaxPool2d)]
    for number, index in enumerate(pools, start=1):
        features[index] = nn.MaxPool2d(3, stride=2 if number <= 3 else 1, padding=1)
    for layer in features[pools[3] : pools[4]]:
        if isinstance(layer, nn.Conv2d):
            layer.dilation = layer.padding = (2, 2)
    if smooth:
        features.append(nn.AvgPool2d(3, stride=1, padding=1))
    return features


@dataclass(frozen=True)
class LargeFOV(VGG16Network):
    """DeepLab-LargeFOV on VGG16, with output stride 8 and 20.5 million parameters at 21 classes, and its relatives.

    VGG16's convolutions with poolings 4 and 5 at stride 1 and conv5 dilated by 2; fc6 as a 3 x 3 convolution with 1024
    channels and dilation 12, fc7 as 1 x 1 with 1024 channels, dropout after both, and a last layer drawn from
    N(0, 0.01).

    The networks of the ADM paper's tables are ``Deeplab-largeFOV``, the default; ``Deeplab-MSc-largeFOV``, with
    ``multi_scale: true``; and ``Deeplab-VGG16``, taken to be the ASPP-L of DeepLab-v2: ``dilations: [6, 12, 18, 24]``,
    four classifiers whose logits are added up. A pixel of the default depends on pixels up to 224 away.

    Args:
        dropout: Probability of dropout after fc6 and after fc7, and in the branches of ``multi_scale``.
        dilations: Dilation of fc6; several make as many classifiers (fc6, fc7, last layer) side by side.
        multi_scale: Concatenate to the last map what two layers of 128 channels (3 x 3, 1 x 1) see in the image and in
            the outputs of the first four poolings. DeepLab trained these layers alone, on a network that was trained
            before; here everything is trained at once.

    References:
        Chen et al., Semantic image segmentation with deep convolutional nets and fully connected CRFs, ICLR 2015,
        section 4.3 (multi-scale prediction);
        Chen et al., DeepLab, TPAMI 2018 (ASPP).

    Example:
        >>> net = LargeFOV(encoder_weights=None).build(num_classes=21)
        >>> sum(parameter.numel() for parameter in net.parameters())
        20505429
    """

    dilations: Sequence[int] = (12,)
    multi_scale: bool = False

    @override
    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.dilations, default=0) < 1:
            raise ValueError(f"`dilations` must be one number or several, 1 or more each, got {list(self.dilations)}")

    @override
    def make_net(self, num_classes: int) -> LargeFOVNet:
        """Make the network with random weights."""
        return LargeFOVNet(num_classes, self.dropout, self.input_scale, self.dilations, self.multi_scale)
