"""The common parts of LargeFOV and FCN-32s: the weights of torchvision's VGG16, and how they are described."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn
from typing_extensions import override

from weakseg_lightning.checks import at_least, at_least_and_below
from weakseg_lightning.networks.base import Network, SegmentationNet, check_input_scale
from weakseg_lightning.networks.weights import is_file_name, raise_misfit, read_state_dict


def read_vgg16(encoder_weights: str | None) -> dict[str, Tensor] | None:
    """Get a state dict of torchvision's `vgg16`.

    Args:
        encoder_weights: "imagenet" to download it, the path of a file, or None.

    Returns:
        Tensors by key; None for random weights.

    Raises:
        ValueError: The file is no state dict.
        FileNotFoundError: The file is missing.
        ConnectionError: The weights could not be downloaded.
    """
    if encoder_weights is None:
        return None
    return _download_vgg16() if encoder_weights == "imagenet" else read_state_dict(encoder_weights)


def load_convolutions(features: nn.Sequential, state: Mapping[str, Tensor], source: str) -> bool:
    """Copy VGG16's convolutions, after a check of the whole state dict.

    The last layer of the classifier may be there and is left out; the others must be there all or none.

    Args:
        features: Convolutions under torchvision's names.
        state: State dict of torchvision's `vgg16`.
        source: Where it comes from, for messages.

    Returns:
        Whether `state` has the fully connected layers too.

    Raises:
        ValueError: Keys are missing or left over, or shapes differ.
    """
    own = {f"features.{key}": value for key, value in features.state_dict().items()}
    has_classifier = any(key.startswith("classifier.") for key in state)
    if has_classifier:
        own |= {key: value for key, value in _classifier_on_meta().items() if not key.startswith("classifier.6.")}
    given = {key: value for key, value in state.items() if not key.startswith("classifier.6.")}
    raise_misfit(own, given, sorted(given.keys() - own.keys()), state, "vgg16", source)
    features.load_state_dict({key.removeprefix("features."): given[key] for key in own if "features" in key})
    return "classifier.0.weight" in given


def reset_convolutions(module: nn.Module, *last: nn.Conv2d) -> None:
    """Draw random weights: as torchvision's VGG, and those of the `last` layers from N(0, 0.01)."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    for layer in last:
        nn.init.normal_(layer.weight, std=0.01)


def _classifier_on_meta() -> dict[str, Tensor]:
    """Keys and shapes of the fully connected layers of torchvision's `vgg16`."""
    from torchvision.models import vgg16

    with torch.device("meta"):
        return {key: value for key, value in vgg16().state_dict().items() if key.startswith("classifier.")}


def _download_vgg16() -> dict[str, Tensor]:
    """Published weights of torchvision's VGG16."""
    from torchvision.models import VGG16_Weights

    url = VGG16_Weights.IMAGENET1K_V1.url
    try:
        return dict(torch.hub.load_state_dict_from_url(url, map_location="cpu", weights_only=True, check_hash=True))
    except Exception as error:
        raise ConnectionError(
            f"`encoder_weights`: could not download {url} ({type(error).__name__}: {error}); connect to the network, "
            "or fetch that file elsewhere and give its path, or null for random weights"
        ) from error


class VGG16Net(SegmentationNet):
    """A network that takes over VGG16."""

    @abstractmethod
    def load_vgg16(self, state: Mapping[str, Tensor], source: str) -> None:
        """Take over a classification network, all or nothing.

        Args:
            state: State dict of torchvision's `vgg16`.
            source: Where it comes from, for messages.

        Raises:
            ValueError: Keys are missing or left over, or shapes differ.
        """


@dataclass(frozen=True)
class VGG16Network(Network):
    """The description of a network on VGG16; a subclass writes `make_net`, and documents its own arguments alone.

    Args:
        encoder_weights: "imagenet" to download torchvision's VGG16, null for random weights, or the path of a state
            dict of torchvision's `vgg16` (.safetensors, .pt, .pth).
        dropout: Probability of dropout after fc6 and after fc7.
        input_scale: Factor in (0, 8] by which images are resized before the network, in training and testing alike;
            logits are brought back. Below 1 it saves time and memory, and loses detail; above 1 it helps encoders that
            learned from larger images.
    """

    encoder_weights: str | None = "imagenet"
    dropout: float = 0.5
    input_scale: float = 1.0

    def __post_init__(self) -> None:
        """Check the arguments."""
        at_least_and_below("dropout", self.dropout, 0, 1)
        check_input_scale(self.input_scale)
        _check_vgg16_weights(self.encoder_weights)

    @abstractmethod
    def make_net(self, num_classes: int) -> VGG16Net:
        """Make the network with random weights."""

    @override
    def build(self, num_classes: int) -> VGG16Net:
        """Make the network with the weights of VGG16; raises as :meth:`SMPNetwork.build` does."""
        at_least("num_classes", num_classes, 1)
        state = read_vgg16(self.encoder_weights)
        net = self.make_net(num_classes)
        if state is not None:
            net.load_vgg16(state, str(self.encoder_weights))
        return net

    @override
    def without_weights(self) -> Self:
        """Describe the same network with random weights."""
        return replace(self, encoder_weights=None)


def _check_vgg16_weights(encoder_weights: str | None) -> None:
    """Raise for what names no weights of VGG16, without looking for them."""
    if encoder_weights is not None and encoder_weights != "imagenet" and not is_file_name(encoder_weights):
        raise ValueError(
            f'`encoder_weights` must be "imagenet", null, or the path of a state dict of torchvision\'s vgg16, '
            f"got {encoder_weights!r}"
        )
