"""DeepLab-LargeFOV on VGG16."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from weakseg_lightning.networks.base import IMAGENET_MEAN, IMAGENET_STD
from weakseg_lightning.networks.vgg16 import VGG16Net, VGG16Network, load_convolutions, reset_convolutions


class LargeFOVNet(VGG16Net):
    """VGG16 at stride 8 under a dilated, fully convolutional classifier with a large field of view.

    All poolings are 3 x 3 with padding 1, so that cell i of the map is centred at pixel 8 i. Images are therefore
    padded to sizes 8 n + 1 (321 needs none), and logits are upsampled with their corners aligned, which is exact.

    Args:
        num_classes: Number K of classes.
        dropout: Probability of dropout after fc6 and after fc7.
        input_scale: Factor by which images are resized.
    """

    def __init__(self, num_classes: int, dropout: float = 0.5, input_scale: float = 1.0) -> None:
        super().__init__(
            IMAGENET_MEAN,
            IMAGENET_STD,
            stride=8,
            remainder=1,
            map_stride=8,
            map_offset=0.0,
            input_scale=input_scale,
        )
        self.features = _vgg16_at_stride_8()
        self.fc6 = nn.Conv2d(512, 1024, 3, padding=12, dilation=12)
        self.fc7 = nn.Conv2d(1024, 1024, 1)
        self.dropout = nn.Dropout(dropout)
        self.fc8 = nn.Conv2d(1024, num_classes, 1)
        reset_convolutions(self, self.fc8)

    @override
    def compute_map(self, x: Tensor) -> Tensor:
        hidden = self.dropout(F.relu(self.fc6(self.features(x)), inplace=True))
        hidden = self.dropout(F.relu(self.fc7(hidden), inplace=True))
        logits: Tensor = self.fc8(hidden)
        return logits

    @override
    def compute_logits(self, x: Tensor) -> Tensor:
        return F.interpolate(self.compute_map(x), size=x.shape[-2:], mode="bilinear", align_corners=True)

    @override
    def head_parameters(self) -> list[nn.Parameter]:
        """Parameters of the last layer, fc8."""
        return list(self.fc8.parameters())

    def load_vgg16(self, state: Mapping[str, Tensor], source: str) -> None:
        """Take over a classification network, all or nothing.

        The convolutions are copied. fc6 and fc7 are decimated from the fully connected layers: every fourth of the
        4096 units, and of fc6 the positions 0, 3 and 6 of its 7 x 7 window, which its dilation spreads again. (The
        paper decimates too; which of the 4096 units it keeps, it does not say.) Where the file has no fully connected
        layers, fc6 and fc7 stay random.

        Args:
            state: State dict of torchvision's `vgg16`.
            source: Where it comes from, for messages.

        Raises:
            ValueError: Keys are missing or left over, or shapes differ.
        """
        if load_convolutions(self.features, state, source):
            with torch.no_grad():
                self.fc6.weight.copy_(state["classifier.0.weight"].view(4096, 512, 7, 7)[::4, :, ::3, ::3])
                self.fc6.bias.copy_(state["classifier.0.bias"][::4])  # type: ignore[union-attr]
                self.fc7.weight.copy_(state["classifier.3.weight"][::4, ::4, None, None])
                self.fc7.bias.copy_(state["classifier.3.bias"][::4])  # type: ignore[union-attr]


def _vgg16_at_stride_8() -> nn.Sequential:
    """VGG16's convolutions from torchvision, with the poolings and dilations of DeepLab."""
    from torchvision.models.vgg import cfgs, make_layers

    features: nn.Sequential = make_layers(cfgs["D"], batch_norm=False)
    pools = [index for index, layer in enumerate(features) if isinstance(layer, nn.MaxPool2d)]
    for number, index in enumerate(pools, start=1):
        features[index] = nn.MaxPool2d(3, stride=2 if number <= 3 else 1, padding=1)
    for layer in features[pools[3] : pools[4]]:
        if isinstance(layer, nn.Conv2d):
            layer.dilation = layer.padding = (2, 2)
    # DeepLab's released network smooths pool5 by an average, which its paper does not mention
    features.append(nn.AvgPool2d(3, stride=1, padding=1))
    return features


class LargeFOV(VGG16Network):
    """DeepLab-LargeFOV on VGG16, with output stride 8 and 20.5 million parameters at 21 classes.

    VGG16's convolutions with poolings 4 and 5 at stride 1 and conv5 dilated by 2; fc6 as a 3 x 3 convolution with 1024
    channels and dilation 12, fc7 as 1 x 1 with 1024 channels, dropout after both, and a last layer drawn from
    N(0, 0.01).

    Args:
        encoder_weights: "imagenet" to download torchvision's VGG16, null for random weights, or the path of a state
            dict of torchvision's `vgg16` (.safetensors, .pt, .pth).
        dropout: Probability of dropout after fc6 and after fc7.
        input_scale: Factor in (0, 1] by which images are resized before the network, in training and testing alike;
            logits are brought back. Below 1 it saves time and memory, and loses detail.

    References:
        Chen et al., Semantic image segmentation with deep convolutional nets and fully connected CRFs, ICLR 2015;
        Chen et al., DeepLab, TPAMI 2018.

    Example:
        >>> net = LargeFOV(encoder_weights=None).build(num_classes=21)
        >>> sum(parameter.numel() for parameter in net.parameters())
        20505429
    """

    @override
    def make_net(self, num_classes: int) -> LargeFOVNet:
        """Make the network with random weights."""
        return LargeFOVNet(num_classes, self.dropout, self.input_scale)
