"""Augmentation that moves an image, its labelings and its boxes together.

The pieces are ordinary ``torchvision.transforms.v2`` transforms on ``tv_tensors``, so they mix with those of
torchvision. They draw from torch's global generator: :class:`weakseg_lightning.data.SegmentationDataset` seeds it for
each sample.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F
from typing_extensions import override

from weakseg_lightning.checks import at_least, between
from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.errors import UserError

__all__ = ["PadTo", "RandomScaleCrop", "replay", "seeded", "training_transform"]


def training_transform(
    crop_size: int, scale_range: tuple[float, float] = (0.5, 2.0), flip: bool = True, color_jitter: float = 0.0
) -> v2.Transform:
    """Compose the usual augmentation: random scale, crop, flip and color, then padding to a square.

    Args:
        crop_size: side of the result in pixels.
        scale_range: smallest and largest factor by which an image is resized.
        flip: mirror half of the images.
        color_jitter: strength in 0..1: brightness, contrast and saturation change by up to this fraction, hue by up to
            a tenth of it (in turns of the color circle).

    Returns:
        A transform of ``tv_tensors`` (``Image``, ``Mask`` and ``BoundingBoxes``), in any nesting of dicts and lists.

    Raises:
        ValueError: if an argument is out of range.
    """
    between("color_jitter", color_jitter, 0, 1)
    steps: list[v2.Transform] = [RandomScaleCrop(crop_size, scale_range)]
    if flip:
        steps.append(v2.RandomHorizontalFlip(0.5))
    if color_jitter > 0:
        steps.append(v2.ColorJitter(color_jitter, color_jitter, color_jitter, color_jitter / 10))
    # Padding comes last: a change of contrast would lift it off zero.
    return v2.Compose([*steps, PadTo(crop_size)])


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from a generator of this seed inside; neither the caller's random state nor that of its GPU is touched."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def replay(transform: v2.Transform, labels: Tensor, draw: int) -> Tensor:
    """Transform a labeling as its image was transformed before.

    Args:
        transform: what transformed the image; its random choices must not depend on what it transforms but the size.
        labels: uint8 ``(h, w)``, of the size that the image had.
        draw: the seed that was in force.

    Returns:
        uint8 ``(H, W)``, 255 on padding.
    """
    with seeded(draw):
        moved: Tensor = transform(tv_tensors.Mask(labels[None]))
    return moved.as_subclass(Tensor)[0]


class RandomScaleCrop(v2.Transform):
    """Resize by a random factor, then take a random window: done in one step, on the source pixels of the window.

    Images are resized bilinearly with antialiasing; labels take the label of the nearest pixel. The result is smaller
    than ``crop_size`` where the resized image is (see :class:`PadTo`).

    Args:
        crop_size: largest side of the result in pixels.
        scale_range: the factor is drawn uniformly from this interval.
    """

    def __init__(self, crop_size: int, scale_range: tuple[float, float] = (0.5, 2.0)) -> None:
        super().__init__()
        at_least("crop_size", crop_size, 2)
        low, high = scale_range
        if not 0 < low <= high:
            raise UserError(f"`scale_range` must be (low, high) with 0 < low <= high, got {tuple(scale_range)}")
        self.crop_size = crop_size
        self.scale_range = scale_range

    @override
    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the factor and the window, in pixels of the source."""
        low, high = self.scale_range
        scale = low + (high - low) * float(torch.rand(()))
        height, width = _canvas_size(flat_inputs)
        (top, tall, out_tall), (left, wide, out_wide) = self._window(height, scale), self._window(width, scale)
        return {"top": top, "left": left, "height": tall, "width": wide, "size": [out_tall, out_wide]}

    @override
    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Cut out the window and resize it."""
        if not isinstance(inpt, tv_tensors.Mask):
            return F.resized_crop(inpt, **params, interpolation=InterpolationMode.BILINEAR, antialias=True)
        # NEAREST of torch takes the upper left source pixel, half a pixel off the bilinear image: exact does not.
        # The kernel for masks falls back to NEAREST in older versions, so the mask passes as a plain image.
        labels = F.resized_crop(inpt.as_subclass(Tensor), **params, interpolation=InterpolationMode.NEAREST_EXACT)
        return tv_tensors.wrap(labels, like=inpt)

    def _window(self, length: int, scale: float) -> tuple[int, int, int]:
        """Along one axis: first source pixel, number of source pixels, number of result pixels."""
        window = min(length, max(1, round(self.crop_size / scale)))
        start = int(torch.randint(length - window + 1, ()))
        # Never down to a single pixel, to which torch (2.15) cannot resize bytes.
        full = self.crop_size if window < length else min(self.crop_size, max(min(2, length), round(length * scale)))
        return start, window, full


class PadTo(v2.Transform):
    """Pad on the right and at the bottom to a square: images with 0, labels with 255.

    Args:
        size: side of the result in pixels; inputs must not be larger.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    @override
    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Find what is missing."""
        height, width = _canvas_size(flat_inputs)
        return {"padding": [0, 0, self.size - width, self.size - height]}

    @override
    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Add the padding, if any."""
        if not any(params["padding"]):
            return inpt
        return F.pad(inpt, params["padding"], fill=VOID if isinstance(inpt, tv_tensors.Mask) else 0)


def _canvas_size(flat_inputs: list[Any]) -> tuple[int, int]:
    """Read height and width from the first image, mask or box tensor of a transform's inputs."""
    for candidate in flat_inputs:
        if isinstance(candidate, tv_tensors.TVTensor):
            height, width = F.get_size(candidate)
            return height, width
    raise UserError("the transform needs a `tv_tensors` Image, Mask or BoundingBoxes to know the size, got none")
