"""Networks with two decoders on one encoder, which label an image in two ways."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from weakseg_lightning.checks import at_least, at_least_and_below
from weakseg_lightning.networks.base import Network, SegmentationNet
from weakseg_lightning.networks.smp import SMPNet, SMPNetwork
from weakseg_lightning.networks.unet2d import Decoder, UNet2D, UNet2DNet

__all__ = ["DualBranchNet", "DualBranchNetwork", "SMPDualBranch", "UNet2DDualBranch"]


class DualBranchNet(SegmentationNet):
    """A segmentation network with a second decoder on its encoder; the first one predicts."""

    @abstractmethod
    def compute_branches(self, x: Tensor) -> Tensor:
        """Logits of both decoders for normalized, padded images.

        Args:
            x: Images (B, 3, H', W').

        Returns:
            (B, 2 K, H', W'): the K logits of the first decoder, which are those of `compute_logits`, then the second's.
        """

    def branches(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of both decoders at the images' own size.

        Args:
            images: RGB in 0..1, (B, 3, H, W), any H, W >= 1.

        Returns:
            The logits of the first decoder, those of `forward`, and of the second; each (B, K, H, W), float32.
        """
        first, second = self._at_full_size(self.compute_branches, images).chunk(2, 1)
        return first, second


class DualBranchNetwork(Network):
    """The description of a network with two decoders."""

    @override
    @abstractmethod
    def build(self, num_classes: int) -> DualBranchNet: ...


class UNet2DDualBranchNet(UNet2DNet, DualBranchNet):
    """A U-Net with a second decoder.

    Args:
        num_classes: K.
        network: Its description.
    """

    def __init__(self, num_classes: int, network: "UNet2DDualBranch") -> None:
        super().__init__(num_classes, network)
        self.second_decoder = Decoder(num_classes, network.widths, network.dropout_of_decoder)
        self.perturbation = nn.Dropout2d(network.perturbation)

    @override
    def compute_branches(self, x: Tensor) -> Tensor:
        maps = self._encode(x)
        return torch.cat([self.decoder(maps), self.second_decoder([self.perturbation(each) for each in maps])], 1)


@dataclass(frozen=True)
class UNet2DDualBranch(UNet2D, DualBranchNetwork):
    """:class:`UNet2D` with a second decoder of the same kind: 2.4 million parameters.

    Args:
        perturbation: probability in training that a channel of the encoder's maps is 0 for the second decoder: 0.5 in
            the paper and in WSL4MIS, 0 in PyMIC, where dropout within the decoders alone sets them apart.

    References:
        Luo et al.: Scribble-Supervised Medical Image Segmentation via Dual-Branch Network and Dynamically Mixed Pseudo
        Labels Supervision, MICCAI 2022.

    Example:
        >>> first, second = UNet2DDualBranch().build(num_classes=4).branches(torch.rand(2, 3, 20, 30))
        >>> tuple(second.shape)
        (2, 4, 20, 30)
    """

    perturbation: float = 0.5

    def __post_init__(self) -> None:
        """Check the arguments."""
        super().__post_init__()
        at_least_and_below("perturbation", self.perturbation, 0, 1)

    @override
    def build(self, num_classes: int) -> UNet2DDualBranchNet:
        """Make the network with random weights."""
        at_least("num_classes", num_classes, 1)
        return UNet2DDualBranchNet(num_classes, self)


class SMPDualBranchNet(SMPNet, DualBranchNet):
    """A network of segmentation_models_pytorch with a second decoder.

    Args:
        model: The network.
        second: Another of the same architecture, whose decoder and head are taken.
        perturbation: See :class:`UNet2DDualBranch`.
        options: More arguments of `SMPNet`.
    """

    def __init__(self, model: Any, second: Any, perturbation: float, **options: Any) -> None:
        super().__init__(model, **options)
        self.second_decoder = second.decoder
        self.second_head = second.segmentation_head
        self.perturbation = nn.Dropout2d(perturbation)

    @override
    def compute_branches(self, x: Tensor) -> Tensor:
        features, *others = self._encode(x)
        first = self.model.segmentation_head(self.dropout(self.model.decoder(features, *others)))
        perturbed = [self.perturbation(each) for each in features]
        return torch.cat([first, self.second_head(self.dropout(self.second_decoder(perturbed, *others)))], 1)

    @override
    def head_parameters(self) -> list[nn.Parameter]:
        """Both decoders and their last layers."""
        return [*super().head_parameters(), *self.second_decoder.parameters(), *self.second_head.parameters()]


@dataclass(frozen=True)
class SMPDualBranch(SMPNetwork, DualBranchNetwork):
    """Any architecture and encoder of :class:`SMPNetwork`, with a second decoder.

    Args:
        perturbation: see :class:`UNet2DDualBranch`.

    Example:
        >>> net = SMPDualBranch("unet", "resnet18", encoder_weights=None).build(num_classes=2)
        >>> [tuple(logits.shape) for logits in net.branches(torch.rand(1, 3, 40, 50))]
        [(1, 2, 40, 50), (1, 2, 40, 50)]
    """

    perturbation: float = 0.5

    def __post_init__(self) -> None:
        """Check the arguments."""
        super().__post_init__()
        at_least_and_below("perturbation", self.perturbation, 0, 1)

    @override
    def build(self, num_classes: int) -> SMPDualBranchNet:
        """Make the network, with its encoder's weights; raises as :meth:`SMPNetwork.build` does."""
        model = self._model(num_classes)
        second = self._create(None, num_classes, self._options())
        return SMPDualBranchNet(model, second, self.perturbation, **self._net_options())
