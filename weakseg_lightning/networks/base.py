"""The base of all networks: normalization, padding, cropping, the coarse map."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from weakseg_lightning.checks import above_and_at_most, at_least
from weakseg_lightning.errors import UserError
from weakseg_lightning.networks.coarse_grid import CoarseGrid, resized

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class SegmentationNet(nn.Module, ABC):
    """A network from images in 0..1 to logits of the same size.

    Images are normalized on the device, padded at the right and the bottom with the mean color (0 after
    normalization) to a size that the network maps without loss, and the logits are cropped back. A subclass
    implements `compute_logits` and `head_parameters`, and `compute_map` where it upsamples a coarser map.

    Args:
        mean: Mean of the channels, of which there are as many; of RGB in 0..1.
        std: Standard deviation of the channels.
        stride: Heights and widths are padded to the next number n with n % `stride` == `remainder`.
        remainder: See `stride`.
        min_size: Smallest height and width that the network can take.
        map_stride: Stride of the map of `compute_map`, in pixels of the image that the network computes on.
        map_offset: The pixel that cell 0 of that map is centered at; by default cell i stands for the pixels from
            `map_stride` i on, `map_stride` of them.
        input_scale: Factor in (0, 8] by which images are resized (bilinear, antialiased) before all else; logits are
            brought back (bilinear).
    """

    mean: Tensor
    std: Tensor
    latent_rounds: int = 0
    """How often :meth:`prepare` is called again, with the labels that the method's solver gives the images, too."""
    preparing: bool = False
    """Whether these rounds are under way: no weight of an encoder changes until they are over."""
    _compiled: Callable[..., Tensor] | None = None

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        stride: int,
        remainder: int = 0,
        min_size: int = 1,
        map_stride: int = 1,
        map_offset: float | None = None,
        input_scale: float = 1.0,
    ) -> None:
        super().__init__()
        check_input_scale(input_scale)
        self.stride = stride
        self.remainder = remainder
        self.min_size = min_size
        self.map_stride = map_stride
        self.map_offset = (map_stride - 1) / 2 if map_offset is None else map_offset
        self.input_scale = input_scale
        # not persistent: they belong to the description of the network, and old checkpoints stay loadable
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    @abstractmethod
    def compute_logits(self, x: Tensor) -> Tensor:
        """Logits of normalized, padded images.

        Args:
            x: Images (B, 3, H', W'), H' and W' as `padded_size` says.

        Returns:
            Logits (B, K, H', W').
        """

    def compute_map(self, x: Tensor) -> Tensor:
        """Logits of normalized, padded images before `compute_logits` upsamples them; by default it does not.

        Args:
            x: Images (B, 3, H', W'), H' and W' as `padded_size` says.

        Returns:
            Logits (B, K, h, w), at least ceil(H' / `map_stride`) x ceil(W' / `map_stride`) cells.
        """
        return self.compute_logits(x)

    @abstractmethod
    def head_parameters(self) -> list[nn.Parameter]:
        """Parameters without pretrained values, which the papers train with a higher learning rate."""

    @property
    def is_prepared(self) -> bool:
        """True where :meth:`prepare` has nothing to do any more, as in a network that has been trained."""
        return False

    def prepare(self, samples: Iterable[tuple[Tensor, Sequence[Tensor]]], seed: int) -> None:
        """Adapt to the training images before training begins; by default there is nothing to adapt.

        Args:
            samples: training images, uint8 ``(3, H, W)``, each with one or more labelings, uint8 ``(H, W)`` or of the
                cells of the coarse map, 255 = none; or soft ones, float ``(K, H, W)``, 0 throughout = none.
            seed: of whatever is drawn.
        """

    @property
    def in_channels(self) -> int:
        """Number of channels of the images: 3 of RGB."""
        return self.mean.shape[1]

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
            ValueError: The shape or type is wrong, or batch norm has a single value per channel to train on.
        """
        return self._at_full_size(self.compute_logits, images)

    def coarse_logits(self, images: Tensor, stride: int | None = None) -> Tensor:
        """Logits of the cells of the coarse map, which `forward` upsamples; the cells that lie in the image.

        Takes the same time, and much less memory, than `forward`. :meth:`coarse_grid` says where the cells lie.

        Args:
            images: RGB in 0..1, (B, 3, H, W), any H, W >= 1.
            stride: Distance of cells in pixels of the image that the network computes on (which `input_scale` resizes),
                a multiple of `map_stride`: the map's logits are averaged over squares of cells. None = `map_stride`.

        Returns:
            Logits (B, K, h, w), h = ceil(H / stride) and w = ceil(W / stride) of the resized H and W, float32 under
            autocast too.

        Raises:
            ValueError: As `forward`, or the network has no map of that stride.
        """
        grid = self.coarse_grid(stride)
        height, width = (-(-length // self.map_stride) for length in self._resized(images))
        logits = self._map(images)[..., :height, :width].float()
        factor = grid.stride // self.map_stride
        # the last square may reach beyond the image: its average is over the cells that there are
        return logits if factor == 1 else F.avg_pool2d(logits, factor, ceil_mode=True)

    def coarse_grid(self, stride: int | None = None) -> CoarseGrid:
        """The places of the cells of `coarse_logits` in the image.

        Args:
            stride: As in `coarse_logits`.

        Raises:
            ValueError: The network has no map of that stride.
        """
        if stride is None:
            stride = self.map_stride
        if stride < 1 or stride % self.map_stride:
            raise ValueError(
                f"`stride` must be a multiple of {self.map_stride}, the stride of this network's coarse map, got "
                f"{stride}; take such a multiple, null for the map as it is, or another network"
            )
        return CoarseGrid(stride, self.map_offset + (stride - self.map_stride) / 2, self.input_scale)

    @override
    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the layers in place, for training mode: `forward`, `coarse_logits` and all others run them.

        Evaluation stays as it is: each size of whole images would be compiled again. Copies are not compiled.

        Args:
            args: Those of `torch.compile`.
            kwargs: Those of `torch.compile`.
        """
        self._compiled = torch.compile(_call, *args, **kwargs)

    @property
    def is_compiled(self) -> bool:
        """True once `compile` was called."""
        return self._compiled is not None

    def __getstate__(self) -> dict[str, Any]:
        """State of copies and pickles, without the compiled code, which can be neither."""
        state: dict[str, Any] = super().__getstate__()  # type: ignore[no-untyped-call]
        state.pop("_compiled", None)
        return state

    def _resized(self, images: Tensor) -> tuple[int, int]:
        """Height and width of the images that the network computes on."""
        if images.ndim != 4 or images.shape[1] != self.in_channels:
            raise ValueError(f"`images` must have the shape (B, {self.in_channels}, H, W), got {tuple(images.shape)}")
        if not images.is_floating_point():  # bytes would pass, and mean colors 255 times too bright
            raise ValueError(
                f"`images` must be float, RGB in 0..1, got {images.dtype}: divide bytes by 255; batches of a data "
                "module's loaders come so from `weakseg_lightning.data.decode_batch`, or from a Trainer that is given "
                "the data module"
            )
        height, width = (resized(length, self.input_scale) for length in images.shape[-2:])
        return height, width

    def _resize(self, images: Tensor) -> Tensor:
        """The images that the network computes on."""
        if (size := self._resized(images)) == images.shape[-2:]:
            return images
        return F.interpolate(images, size=size, mode="bilinear", antialias=True)

    def _map(self, images: Tensor) -> Tensor:
        """Logits of the cells of the coarse map, with those of what images are padded by."""
        return self._compute(self.compute_map, self._resize(images))

    def _at_full_size(self, compute: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """Outputs of `compute` at the size of the images, float32."""
        small = self._resize(images)
        outputs = self._compute(compute, small)[..., : small.shape[-2], : small.shape[-1]].float()
        if small.shape == images.shape:
            return outputs
        return F.interpolate(outputs, size=images.shape[-2:], mode="bilinear", align_corners=False)

    def _compute(self, compute: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        """Normalize and pad images, and compute."""
        try:
            return self._run_layers(compute, self._pad(images))
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise ValueError(
                f"batch norm cannot train on one value per channel, and images of the shape {tuple(images.shape)} "
                "leave just that somewhere in the network (DeepLab pools the whole image); train with batches of 2 or "
                "more, the last one included"
            ) from error

    def _pad(self, images: Tensor) -> Tensor:
        """Normalize and pad images."""
        height, width = images.shape[-2:]
        x = (images - self.mean) / self.std
        return F.pad(x, (0, self.padded_size(width) - width, 0, self.padded_size(height) - height))

    def _run_layers(self, compute: Callable[[Any], Tensor], x: Any) -> Tensor:
        if self._compiled is None or not self.training:
            return compute(x)
        output = self._compiled(compute, x)
        # A CUDA graph writes its next output to the same memory, and solvers still read this one.
        return output.clone() if output.is_cuda else output


def _call(compute: Callable[[Any], Tensor], x: Any) -> Tensor:
    """The function that is compiled: without a network of its own, for each `compute` that it is given."""
    return compute(x)


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

    def for_channels(self, mean: Sequence[float], std: Sequence[float]) -> "Network":
        """The same network described for images of other channels than RGB, as :attr:`Channels.normalization` has them.

        Args:
            mean: Mean of each channel.
            std: Standard deviation of each channel.

        Raises:
            ValueError: The network takes RGB alone.
        """
        raise UserError(
            f"{type(self).__name__} takes RGB images alone: with `channels`, take SMPNetwork or FrozenFeatures"
        )

    def without_weights(self) -> "Network":
        """The same network described without pretrained weights, for whoever loads a checkpoint into it.

        Neither a download nor the file of the weights is needed then. Normalization stays the same.
        """
        return self


def check_input_scale(scale: float) -> None:
    """Raise if a network cannot resize its images by this factor."""
    above_and_at_most("input_scale", scale, 0, 8)


def _check_channels(name: str, values: Sequence[float] | None, positive: bool = False, count: int = 3) -> None:
    """Raise if a normalization constant is not a (positive) number for each channel."""
    if values is not None and (len(values) != count or (positive and min(values) <= 0)):
        kind = "positive numbers" if positive else "numbers"
        wanted = f"three {kind} for red, green, blue in 0..1" if count == 3 else f"{count} {kind}, one per channel"
        raise ValueError(f"`{name}` must be {wanted}, got {tuple(values)}")


def check_input(in_channels: int, mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
    """Raise if the number of channels and their normalization do not fit together; of RGB an encoder has its own."""
    at_least("in_channels", in_channels, 1)
    _check_channels("mean", mean, count=in_channels)
    _check_channels("std", std, positive=True, count=in_channels)
    if in_channels != 3 and (mean is None or std is None):
        raise ValueError(f"`in_channels: {in_channels}` needs `mean` and `std`: data set all three")
