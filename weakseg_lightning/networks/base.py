"""What every network of the package shares: normalisation, padding, cropping."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class SegmentationNet(nn.Module, ABC):
    """A network from images in 0..1 to logits of the same size.

    Images are normalised on the device, padded at the right and the bottom with the mean color (0 after
    normalisation) to a size that the network maps without loss, and the logits are cropped back. A subclass
    implements `compute_logits` and `head_parameters`.

    Args:
        mean: Mean of the three channels, in 0..1.
        std: Standard deviation of the three channels.
        stride: Heights and widths are padded to the next number n with n % `stride` == `remainder`.
        remainder: See `stride`.
        min_size: Smallest height and width that the network can take.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, mean: Sequence[float], std: Sequence[float], stride: int, remainder: int = 0, min_size: int = 1
    ) -> None:
        super().__init__()
        self.stride = stride
        self.remainder = remainder
        self.min_size = min_size
        # not persistent: they belong to the description of the network, and old checkpoints stay loadable
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    @abstractmethod
    def compute_logits(self, x: Tensor) -> Tensor:
        """Logits of normalised, padded images.

        Args:
            x: Images (B, 3, H', W'), H' and W' as `padded_size` says.

        Returns:
            Logits (B, K, H', W').
        """

    @abstractmethod
    def head_parameters(self) -> list[nn.Parameter]:
        """Parameters without pretrained values, which the papers train with a higher learning rate."""

    def padded_size(self, size: int) -> int:
        """Height or width to which `size` pixels are padded."""
        size = max(size, self.min_size)
        return size + (self.remainder - size) % self.stride

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Logits at the images' own size.

        Args:
            images: RGB in 0..1, (B, 3, H, W), any H, W >= 1.

        Returns:
            Logits (B, K, H, W), float32 under autocast too.

        Raises:
            ValueError: The shape is wrong, or batch norm has a single value per channel to train on.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"`images` must have the shape (B, 3, H, W), got {tuple(images.shape)}")
        height, width = images.shape[-2:]
        x = (images - self.mean) / self.std
        x = F.pad(x, (0, self.padded_size(width) - width, 0, self.padded_size(height) - height))
        try:
            logits = self.compute_logits(x)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise ValueError(
                f"batch norm cannot train on one value per channel, and images of the shape {tuple(images.shape)} "
                "leave just that somewhere in the network (DeepLab pools the whole image); train with batches of 2 or "
                "more, the last one included"
            ) from error
        return logits[..., :height, :width].float()


class Network(ABC):
    """The description of a network: plain arguments, cheap to make, no weights before `build`."""

    @abstractmethod
    def build(self, num_classes: int) -> SegmentationNet:
        """Make the network, with its pretrained weights.

        Args:
            num_classes: Number K of classes, background included.

        Returns:
            The network, in training mode, on the CPU.
        """

    def without_weights(self) -> "Network":
        """The same network described without pretrained weights, for whoever loads a checkpoint into it.

        Neither a download nor the file of the weights is needed then. Normalisation stays the same.
        """
        return self


def check_num_classes(num_classes: int) -> None:
    """Refuse a number of classes below one."""
    if num_classes < 1:
        raise ValueError(f"`num_classes` must be at least 1, got {num_classes}")


def check_dropout(dropout: float | None) -> None:
    """Refuse a dropout probability outside [0, 1)."""
    if dropout is not None and not 0 <= dropout < 1:
        raise ValueError(f"`dropout` must be a probability in [0, 1), got {dropout}")


def check_channels(name: str, values: Sequence[float] | None, positive: bool = False) -> None:
    """Refuse a normalisation constant that is not three (positive) numbers."""
    if values is None:
        return
    if len(values) != 3 or (positive and min(values) <= 0):
        kind = "positive numbers" if positive else "numbers"
        raise ValueError(f"`{name}` must be three {kind} for red, green, blue in 0..1, got {tuple(values)}")
