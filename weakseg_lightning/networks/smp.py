"""The networks of segmentation_models_pytorch, by name."""

import inspect
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from typing_extensions import override

from weakseg_lightning.checks import at_least, at_least_and_below, one_of
from weakseg_lightning.errors import did_you_mean
from weakseg_lightning.networks.base import Network, SegmentationNet, check_input, check_input_scale
from weakseg_lightning.networks.encoders import check_encoder, check_weights, encoder_normalization
from weakseg_lightning.networks.evaluation import evaluating
from weakseg_lightning.networks.weights import is_file_name, load_encoder_weights, read_state_dict

# smp's own arguments for dropout and for the width of the decoder, by architecture
_DROPOUT = {
    "deeplabv3": "decoder_aspp_dropout",
    "deeplabv3plus": "decoder_aspp_dropout",
    "fpn": "decoder_dropout",
    "pspnet": "psp_dropout",
}
_CHANNELS = {
    "deeplabv3": "decoder_channels",
    "deeplabv3plus": "decoder_channels",
    "pan": "decoder_channels",
    "upernet": "decoder_channels",
    "segformer": "decoder_segmentation_channels",
    "pspnet": "psp_out_channels",
    "dpt": "decoder_fusion_channels",
}
# PAN pools the encoder's last map three times by two
_MIN_MAP = {"pan": 8}


class SMPNet(SegmentationNet):
    """A network of segmentation_models_pytorch, for images of any size.

    The coarse map is what the segmentation head upsamples, of stride 4 in most architectures, and the logits themselves
    where it upsamples nothing. The head aligns corners: over the padded image the cells are spread from the first pixel
    to the last, so that cell i lands on one of the pixels that it stands for, from `map_stride` i on.

    Args:
        model: The network.
        mean: Mean of the channels.
        std: Standard deviation of the channels.
        min_map: Smallest height and width of the encoder's last map.
        dropout: Probability of dropping a channel of the decoder's output.
        input_scale: Factor by which images are resized.
    """

    def __init__(
        self,
        model: Any,
        mean: Sequence[float],
        std: Sequence[float],
        min_map: int = 1,
        dropout: float = 0.0,
        input_scale: float = 1.0,
    ) -> None:
        stride = int(model.encoder.output_stride)
        super().__init__(mean, std, stride, min_size=min_map * stride, input_scale=input_scale)
        self.model = model
        # no parameters: state-dict keys do not depend on dropout
        self.dropout = nn.Dropout2d(dropout) if dropout else nn.Identity()
        # the vision transformers of DPT give their class token beside the maps
        self._prefix_tokens = hasattr(model.encoder, "has_prefix_tokens")
        self._has_map = True
        with evaluating(self):
            self._find_stride()

    @torch.no_grad()
    def _find_stride(self) -> None:
        """Raise the stride until images of that size pass, as attention windows or DPT's coarsest map want it."""
        stride, reason = self.stride, ""
        for factor in (1, 2, 4, 7, 8):
            self.stride = factor * stride
            size = self.padded_size(1)
            image = self.mean.new_zeros(1, self.in_channels, size, size + self.stride)
            try:
                if self.compute_logits(image).shape[-2:] == image.shape[-2:]:
                    self._find_map_stride(image)
                    return
                reason = "its logits are of another size"
            except (AssertionError, RuntimeError, ValueError) as error:
                reason = str(error)
        raise ValueError(f"`architecture` and `encoder` do not work together on images of any size ({reason})")

    def _find_map_stride(self, image: Tensor) -> None:
        """Take the stride of the map from the size of the map of an image, if it has one stride."""
        map_size = self.compute_map(image).shape[-2:]
        strides = {size / cells for size, cells in zip(image.shape[-2:], map_size, strict=True)}
        self._has_map = len(strides) == 1 and min(strides).is_integer()
        self.map_stride = int(strides.pop()) if self._has_map else 1
        self.map_offset = (self.map_stride - 1) / 2

    @override
    def compute_logits(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model.segmentation_head(self._decode(x))
        return logits

    @override
    def compute_map(self, x: Tensor) -> Tensor:
        head = _head_before_upsampling(self.model.segmentation_head) if self._has_map else self.model.segmentation_head
        logits: Tensor = head(self._decode(x))
        return logits

    def _decode(self, x: Tensor) -> Tensor:
        """Features that the segmentation head takes."""
        decoded: Tensor = self.dropout(self.model.decoder(*self._encode(x)))
        return decoded

    def _encode(self, x: Tensor) -> Sequence[Any]:
        """Arguments of the decoder."""
        features = self.model.encoder(x)
        return features if self._prefix_tokens else (features,)

    @override
    def head_parameters(self) -> list[nn.Parameter]:
        """Decoder and segmentation head: all that is not encoder."""
        return [parameter for name, parameter in self.model.named_parameters() if not name.startswith("encoder.")]


def _head_before_upsampling(head: Any) -> Any:
    """The part of a segmentation head that makes logits, the whole head where it is not known to upsample."""
    if isinstance(head, nn.Sequential) and len(head) == 3 and isinstance(head[1], nn.Upsample):
        return head[0]
    if hasattr(head, "upsampling_factor") and isinstance(getattr(head, "head", None), nn.Module):  # DPT's
        return head.head
    return head


@dataclass(frozen=True)
class SMPNetwork(Network):
    """Any architecture of segmentation_models_pytorch with any of its or timm's encoders.

    Args:
        architecture: Name as in `segmentation_models_pytorch.create_model`: deeplabv3plus, deeplabv3, unet, fpn,
            pspnet, pan, upernet, segformer, linknet, manet, unetplusplus, dpt.
        encoder: Name of the encoder: resnet50, timm-tf_efficientnet_lite0, or tu-NAME for timm's NAME.
        encoder_weights: "imagenet" (or another name known to smp) to download, null for random weights, or the path of
            a state dict of the encoder (.safetensors, .pt, .pth). Names as in smp, timm or torchvision; a classifier
            in the file is dropped, everything else must fit.
        output_stride: Stride of the encoder's last map, where the architecture can choose it; null for its default.
        dropout: Probability of dropout before the last layer: the architecture's own dropout where it has one, else
            whole channels of the decoder's output; null for the architecture's default.
        decoder_channels: Width of the decoder, where one number says it; null for the architecture's default.
        mean: Mean of red, green, blue in 0..1; null for what the encoder was trained with.
        std: Standard deviation of red, green, blue; null for what the encoder was trained with.
        input_scale: Factor in (0, 8] by which images are resized before the network, in training and testing alike;
            logits are brought back. Below 1 it saves time and memory, and loses detail; above 1 it helps encoders that
            learned from larger images.
        in_channels: Number of channels of the images, taken from the data: weights of the first layer are repeated for
            others than red, green and blue. Other numbers than 3 need `mean` and `std`.

    Example:
        >>> network = SMPNetwork("deeplabv3plus", "resnet18", encoder_weights=None, output_stride=16)
        >>> net = network.build(num_classes=21)
    """

    architecture: str = "deeplabv3plus"
    encoder: str = "resnet50"
    encoder_weights: str | None = "imagenet"
    output_stride: Literal[8, 16] | None = None
    dropout: float | None = None
    decoder_channels: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    input_scale: float = 1.0
    in_channels: int = 3

    def __post_init__(self) -> None:
        """Check the arguments."""
        if self.output_stride is not None:
            one_of("output_stride", self.output_stride, (8, 16), "null takes the default")
        if self.dropout is not None:
            at_least_and_below("dropout", self.dropout, 0, 1)
        if self.decoder_channels is not None:
            at_least("decoder_channels", self.decoder_channels, 1)
        check_input(self.in_channels, self.mean, self.std)
        check_input_scale(self.input_scale)

    @override
    def build(self, num_classes: int) -> SMPNet:
        """Make the network with its encoder's weights.

        Raises:
            ValueError: An argument does not fit the architecture or the encoder, or the weights do not fit.
            FileNotFoundError: The file of the weights is missing.
            ConnectionError: The weights could not be downloaded.
        """
        return SMPNet(self._model(num_classes), **self._net_options())

    @override
    def for_channels(self, mean: Sequence[float], std: Sequence[float]) -> Self:
        return replace(self, in_channels=len(mean), mean=tuple(mean), std=tuple(std))

    @override
    def without_weights(self) -> Self:
        mean, std = self.normalization()
        return replace(self, encoder_weights=None, mean=mean, std=std)

    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of the input: the arguments, or what the encoder was trained with.

        Needs no network, and is the same for downloaded, local and random weights of an encoder.
        """
        mean, std = encoder_normalization(self.encoder, self.encoder_weights)
        return self.mean or mean, self.std or std

    def _model(self, num_classes: int) -> Any:
        """Make smp's network, with its encoder's weights."""
        at_least("num_classes", num_classes, 1)
        self._check_names()
        weights = self.encoder_weights
        state = read_state_dict(weights) if weights is not None and is_file_name(weights) else None
        options = self._options()
        model = self._create(None, num_classes, options)
        if state is not None and weights is not None:
            load_encoder_weights(model.encoder, state, self.encoder, weights, self.in_channels)
        elif weights is not None:
            model = self._download(weights, num_classes, options)
        return model

    def _net_options(self) -> dict[str, Any]:
        """Arguments of `SMPNet`."""
        name = self.architecture.lower()
        mean, std = self.normalization()
        dropout = 0.0 if self.dropout is None or name in _DROPOUT else self.dropout
        minimum = _MIN_MAP.get(name, 1)
        return {"mean": mean, "std": std, "min_map": minimum, "dropout": dropout, "input_scale": self.input_scale}

    def _check_names(self) -> None:
        """Raise for unknown names, with the closest known ones."""
        import segmentation_models_pytorch as smp

        known = sorted(smp.MODEL_ARCHITECTURES_MAPPING)
        name = self.architecture.lower()
        if name not in known:
            hint = did_you_mean(name, known, listed=False)
            raise ValueError(f"`architecture` {self.architecture!r} is unknown{hint} (known: {', '.join(known)})")
        check_encoder(self.encoder)
        if self.encoder_weights is not None and not is_file_name(self.encoder_weights):
            check_weights(self.encoder, self.encoder_weights)

    def _options(self) -> dict[str, Any]:
        """Arguments of smp for what is set here; what the architecture lacks is an error."""
        import segmentation_models_pytorch as smp

        name = self.architecture.lower()
        options: dict[str, Any] = {} if self.in_channels == 3 else {"in_channels": self.in_channels}
        parameters = inspect.signature(smp.MODEL_ARCHITECTURES_MAPPING[name].__init__).parameters
        dilated = "encoder_output_stride" in parameters
        if self.output_stride is not None and not dilated:
            raise ValueError(f"`output_stride` cannot be chosen for `{name}`: leave it null, or use deeplabv3plus")
        if dilated and self.encoder.startswith("mit_"):
            # smp would take the strides out of its attention too, without complaint
            raise ValueError(f"`encoder` {self.encoder!r} cannot be dilated, as `{name}` needs it; use segformer")
        if self.output_stride is not None:
            options["encoder_output_stride"] = self.output_stride
        if self.decoder_channels is not None:
            if name not in _CHANNELS:
                raise ValueError(
                    f"`decoder_channels` cannot be one number for `{name}`: leave it null, or use one of "
                    f"{', '.join(sorted(_CHANNELS))}"
                )
            options[_CHANNELS[name]] = self.decoder_channels
        if self.dropout is not None and name in _DROPOUT:
            options[_DROPOUT[name]] = self.dropout
        # timm's transformers insist on the image size of their training unless told not to
        if name == "dpt":
            options["dynamic_img_size"] = True
        elif self.encoder.startswith("tu-swin"):
            options["strict_img_size"] = False
        return options

    def _create(self, weights: str | bool | None, num_classes: int, options: dict[str, Any]) -> Any:
        """Make smp's network."""
        import segmentation_models_pytorch as smp

        with warnings.catch_warnings():
            # smp deprecates its names `timm-...` in favor of `tu-...`; both are meant to work here
            warnings.filterwarnings("ignore", message="`timm-` encoders are deprecated", category=DeprecationWarning)
            try:
                return smp.create_model(
                    self.architecture,
                    encoder_name=self.encoder,
                    encoder_weights=weights,
                    classes=num_classes,
                    **options,
                )
            except (ValueError, KeyError, TypeError, NotImplementedError) as error:
                raise ValueError(
                    f"`architecture` {self.architecture!r} with `encoder` {self.encoder!r} and `output_stride` "
                    f"{self.output_stride} is not supported by segmentation_models_pytorch: {error}"
                ) from error

    def _download(self, weights: str, num_classes: int, options: dict[str, Any]) -> Any:
        """Make smp's network with published weights."""
        # the network could be made without weights: whatever fails now is the download
        try:
            return self._create(True if self.encoder.startswith("tu-") else weights, num_classes, options)
        except Exception as error:
            raise ConnectionError(
                f"`encoder_weights` {weights!r}: could not download the weights of `{self.encoder}` "
                f"({type(error).__name__}); connect to the network, or set `encoder_weights` to the path of a state "
                "dict (.safetensors, .pt, .pth) of this encoder, or to null for random weights"
            ) from error
