"""FCN-32s on VGG16."""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from weakseg_lightning.networks.base import IMAGENET_MEAN, IMAGENET_STD
from weakseg_lightning.networks.vgg16 import VGG16Net, VGG16Network, load_convolutions, reset_convolutions


class FCN32sNet(VGG16Net):
    """VGG16 as a fully convolutional network: one cell for each 32 x 32 pixels, upsampled 32 times.

    fc6 is padded by 3, half its window, so that the map has the size of pool5's: cell i stands for the pixels 32 i to
    32 i + 31 and is centered between them. The original gives fc6 no padding; it pads the image by 100 pixels on every
    side instead, so that small images leave fc6 something, and crops the logits at a fixed offset. That computes on
    twice the area for an image of 500 pixels, and shows the convolutions zeros far into every border cell. With the
    padding at fc6, images of any size pass too, padded to 32 n on the right and at the bottom alone.

    Args:
        num_classes: Number K of classes.
        dropout: Probability of dropout after fc6 and after fc7.
        input_scale: Factor by which images are resized.
    """

    def __init__(self, num_classes: int, dropout: float = 0.5, input_scale: float = 1.0) -> None:
        from torchvision.models.vgg import cfgs, make_layers

        super().__init__(IMAGENET_MEAN, IMAGENET_STD, stride=32, map_stride=32, input_scale=input_scale)
        self.features: nn.Sequential = make_layers(cfgs["D"], batch_norm=False)
        self.fc6 = nn.Conv2d(512, 4096, 7, padding=3)
        self.fc7 = nn.Conv2d(4096, 4096, 1)
        self.dropout = nn.Dropout(dropout)
        self.score = nn.Conv2d(4096, num_classes, 1)
        reset_convolutions(self, self.score)

    @override
    def compute_map(self, x: Tensor) -> Tensor:
        hidden = self.dropout(F.relu(self.fc6(self.features(x)), inplace=True))
        hidden = self.dropout(F.relu(self.fc7(hidden), inplace=True))
        logits: Tensor = self.score(hidden)
        return logits

    @override
    def compute_logits(self, x: Tensor) -> Tensor:
        # corners are not aligned: cells stay at the centers of their pixels
        return F.interpolate(self.compute_map(x), size=x.shape[-2:], mode="bilinear", align_corners=False)

    @override
    def head_parameters(self) -> list[nn.Parameter]:
        """Parameters of the last layer, score."""
        return list(self.score.parameters())

    def load_vgg16(self, state: Mapping[str, Tensor], source: str) -> None:
        """Take over a classification network, all or nothing.

        The convolutions are copied, the fully connected layers cast into convolutions: fc6 is VGG16's own at the
        middle cell of a 224 x 224 image. Where the file has no fully connected layers, fc6 and fc7 stay random.
        """
        if load_convolutions(self.features, state, source):
            layers = {0: self.fc6, 3: self.fc7}
            for index, layer in layers.items():
                weight, bias = state[f"classifier.{index}.weight"], state[f"classifier.{index}.bias"]
                layer.load_state_dict({"weight": weight.view(layer.weight.shape), "bias": bias})


class FCN32s(VGG16Network):
    """FCN-32s on VGG16, with output stride 32 and 134.3 million parameters at 21 classes.

    VGG16's convolutions and poolings as they are, fc6 and fc7 as convolutions with 4096 channels, dropout after both,
    a last layer drawn from N(0, 0.01), and bilinear upsampling of its map. A pixel depends on pixels up to 233 away.

    References:
        Long, Shelhamer, Darrell, Fully convolutional networks for semantic segmentation, CVPR 2015.

    Example:
        >>> net = FCN32s(encoder_weights=None).build(num_classes=21)
        >>> sum(parameter.numel() for parameter in net.parameters())
        134346581
    """

    @override
    def make_net(self, num_classes: int) -> FCN32sNet:
        """Make the network with random weights."""
        return FCN32sNet(num_classes, self.dropout, self.input_scale)
