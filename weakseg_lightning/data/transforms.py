"""Augmentation that moves an image, its labelings and its boxes together.

The pieces are ordinary ``torchvision.transforms.v2`` transforms on ``tv_tensors``, so they mix with those of
torchvision. They draw from torch's global generator: :class:`weakseg_lightning.data.SegmentationDataset` seeds it for
each sample.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F
from typing_extensions import override

from weakseg_lightning.checks import at_least, between
from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.errors import UserError

__all__ = ["PadTo", "RandomNoise", "RandomScaleCrop", "replay", "seeded", "training_transform"]


def training_transform(
    crop_size: int,
    scale_range: tuple[float, float] = (0.5, 2.0),
    flip: bool = True,
    color_jitter: float = 0.0,
    rotation: float = 0.0,
    noise: float = 0.0,
    balanced_crops: float = 0.0,
    rgb: tuple[int, int, int] | None = None,
) -> v2.Transform:
    """Compose the usual augmentation: random scale, rotation, crop, flip, color and noise, then padding to a square.

    Args:
        crop_size: side of the result in pixels.
        scale_range: smallest and largest factor by which an image is resized.
        flip: mirror half of the images.
        color_jitter: strength in 0..1: brightness, contrast and saturation change by up to this fraction, hue by up to
            a tenth of it (in turns of the color circle).
        rotation: largest angle in degrees, 0..180, see :class:`RandomScaleCrop`.
        noise: largest standard deviation of the noise in 0..1, see :class:`RandomNoise`.
        balanced_crops: fraction of the crops that are centered at a labeled pixel, see :class:`RandomScaleCrop`.
        rgb: numbers of the channels that are red, green and blue, in images of other channels, which
            ``color_jitter`` leaves alone; None for RGB images.

    Returns:
        A transform of ``tv_tensors`` (``Image``, ``Mask`` and ``BoundingBoxes``), in any nesting of dicts and lists.

    Raises:
        ValueError: if an argument is out of range.
    """
    between("color_jitter", color_jitter, 0, 1)
    steps: list[v2.Transform] = [RandomScaleCrop(crop_size, scale_range, rotation, balanced_crops)]
    if flip:
        steps.append(v2.RandomHorizontalFlip(0.5))
    if color_jitter > 0:
        jitter = v2.ColorJitter(color_jitter, color_jitter, color_jitter, color_jitter / 10)
        steps.append(jitter if rgb is None else _OfChannels(jitter, rgb))
    between("noise", noise, 0, 1)
    if noise > 0:
        steps.append(RandomNoise(noise))
    # Padding comes last: a change of contrast would lift it off zero.
    return v2.Compose([*steps, PadTo(crop_size)])


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from a generator of this seed inside; neither the caller's random state nor that of its GPU is touched."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def replay(transform: v2.Transform, labels: Tensor, draw: int, seeds: Tensor) -> Tensor:
    """Transform a labeling as its image was transformed before.

    Args:
        transform: what transformed the image; its random choices must not depend on what it transforms but the size,
            and on the seeds, which come as the first plane of its first mask.
        labels: uint8 ``(h, w)``, of the size that the image had.
        draw: the seed that was in force.
        seeds: labeled pixels of the image, uint8 ``(h, w)``, as they were.

    Returns:
        uint8 ``(H, W)``, 255 on padding.
    """
    with seeded(draw):
        moved: Tensor = transform(tv_tensors.Mask(torch.stack([seeds, labels])))
    return moved.as_subclass(Tensor)[1]


class _Span(NamedTuple):
    """A part of a line of pixels that is cut out and resized: first pixel, number of pixels, number after resizing."""

    start: int
    length: int
    resized: int

    def widened(self, margin: float, whole: int) -> "_Span":
        """The same resized at the same rate, with a margin, in resized pixels, as far as the line reaches."""
        rate = self.resized / self.length
        start = max(0, math.floor(self.start - margin / rate))
        length = min(whole, math.ceil(self.start + self.length + margin / rate)) - start
        return _Span(start, length, max(self.resized, round(length * rate)))

    def offset_in(self, wider: "_Span") -> int:
        """Its first resized pixel, counted in a wider one's."""
        offset = round((self.start - wider.start) * self.resized / self.length)
        return min(offset, wider.resized - self.resized)


class RandomScaleCrop(v2.Transform):
    """Resize by a random factor, rotate, then take a random window: done in one step, on the pixels that it needs.

    Images are resized bilinearly with antialiasing and rotated bilinearly; labels take the label of the nearest pixel;
    boxes become the upright ones around the rotated ones. The window rotates about its center. Where it reaches beyond
    the image then, labels are 255 and images have the mean color of what was cut out. The result is smaller than
    ``crop_size`` where the resized image is (see :class:`PadTo`).

    Args:
        crop_size: largest side of the result in pixels.
        scale_range: the factor is drawn uniformly from this interval.
        rotation: the angle is drawn uniformly from -rotation to rotation, in degrees, up to 180.
        balanced_crops: fraction of the windows, 0..1, that are centered at a labeled pixel, as far as the border of the
            image allows: first a class is drawn among those labeled in the image, then a pixel of it. Its labels are
            the first plane of the first mask. Other windows, and those of images without labels, lie anywhere.
    """

    def __init__(
        self,
        crop_size: int,
        scale_range: tuple[float, float] = (0.5, 2.0),
        rotation: float = 0.0,
        balanced_crops: float = 0.0,
    ) -> None:
        super().__init__()
        at_least("crop_size", crop_size, 2)
        low, high = scale_range
        if not 0 < low <= high:
            raise UserError(f"`scale_range` must be (low, high) with 0 < low <= high, got {tuple(scale_range)}")
        between("rotation", rotation, 0, 180)
        between("balanced_crops", balanced_crops, 0, 1)
        self.crop_size = crop_size
        self.scale_range = scale_range
        self.rotation = rotation
        self.balanced_crops = balanced_crops

    @override
    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the factor, the window, in pixels of the source, and the angle."""
        low, high = self.scale_range
        scale = low + (high - low) * float(torch.rand(()))
        height, width = _canvas_size(flat_inputs)
        center = self._draw_center(flat_inputs)
        rows = self._window(height, scale, None if center is None else center // width)
        columns = self._window(width, scale, None if center is None else center % width)
        if self.rotation == 0:
            return {"rows": rows, "columns": columns, "rotate": None}
        angle = self.rotation * (2 * float(torch.rand(())) - 1)
        tall, wide = _bounds_of_rotated(rows.resized, columns.resized, angle)
        # One pixel more than that: the window's place in what is cut out is rounded.
        wider_rows = rows.widened(max(0.0, tall - rows.resized) / 2 + 1, height)
        wider_columns = columns.widened(max(0.0, wide - columns.resized) / 2 + 1, width)
        inner = rows.offset_in(wider_rows), columns.offset_in(wider_columns), rows.resized, columns.resized
        return {"rows": wider_rows, "columns": wider_columns, "rotate": (angle, inner)}

    @override
    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Cut out the window, resize and rotate it."""
        resized = _cut_out(inpt, params["rows"], params["columns"])
        return resized if params["rotate"] is None else _rotated(resized, *params["rotate"])

    def _draw_center(self, flat_inputs: list[Any]) -> int | None:
        """Choose a labeled pixel, counted row by row, for the middle of the window; None for a window anywhere."""
        if self.balanced_crops == 0 or float(torch.rand(())) >= self.balanced_crops:
            return None
        seeds = next(candidate for candidate in flat_inputs if isinstance(candidate, tv_tensors.Mask))[0].flatten()
        classes = torch.bincount(seeds, minlength=VOID)[:VOID].nonzero().flatten()
        if len(classes) == 0:
            return None
        pixels = (seeds == classes[torch.randint(len(classes), ())]).nonzero().flatten()
        return int(pixels[torch.randint(len(pixels), ())])

    def _window(self, length: int, scale: float, center: int | None) -> _Span:
        """Along one axis, anywhere or about a pixel."""
        window = min(length, max(1, round(self.crop_size / scale)))
        if center is None:
            start = int(torch.randint(length - window + 1, ()))
        else:
            start = min(max(center - window // 2, 0), length - window)
        # Never down to a single pixel, to which torch (2.15) cannot resize bytes.
        full = self.crop_size if window < length else min(self.crop_size, max(min(2, length), round(length * scale)))
        return _Span(start, window, full)


def _bounds_of_rotated(height: int, width: int, angle: float) -> tuple[float, float]:
    """Height and width of the upright rectangle around a rotated one."""
    sine, cosine = abs(math.sin(math.radians(angle))), abs(math.cos(math.radians(angle)))
    return height * cosine + width * sine, width * cosine + height * sine


def _cut_out(inpt: Any, rows: _Span, columns: _Span) -> Any:
    window = [rows.start, columns.start, rows.length, columns.length]
    size = [rows.resized, columns.resized]
    if not isinstance(inpt, tv_tensors.Mask):
        return F.resized_crop(inpt, *window, size, interpolation=InterpolationMode.BILINEAR, antialias=True)
    # NEAREST of torch takes the upper left source pixel, half a pixel off the bilinear image: exact does not.
    # The kernel for masks falls back to NEAREST in older versions, so the mask passes as a plain image.
    labels = F.resized_crop(inpt.as_subclass(Tensor), *window, size, interpolation=InterpolationMode.NEAREST_EXACT)
    return tv_tensors.wrap(labels, like=inpt)


def _rotated(inpt: Any, angle: float, inner: tuple[int, int, int, int]) -> Any:
    """Rotate about the center of an inner rectangle (top, left, height, width), and cut this out."""
    top, left, height, width = inner
    center = [left + width / 2, top + height / 2]
    if isinstance(inpt, tv_tensors.Image):
        # Around zero what lies beyond the border is the mean, and blends with the image without a dark rim.
        mean = inpt.as_subclass(Tensor).float().mean((1, 2), keepdim=True)
        turned = F.rotate(inpt.as_subclass(Tensor) - mean, angle, InterpolationMode.BILINEAR, center=center) + mean
        bytes_ = inpt.dtype == torch.uint8
        inpt = tv_tensors.wrap(turned.round().clamp(0, 255).to(torch.uint8) if bytes_ else turned, like=inpt)
    else:
        inpt = F.rotate(inpt, angle, center=center, fill=VOID)
    return F.crop(inpt, *inner)


class _OfChannels(v2.Transform):
    """A transform of colors in 0..1 for three of the channels of a float image; what lies beyond that range stays so.

    Args:
        transform: changes images alone.
        rgb: numbers of the channels that are red, green and blue.
    """

    def __init__(self, transform: v2.Transform, rgb: tuple[int, int, int]) -> None:
        super().__init__()
        self.of_colors = transform
        self.rgb = list(rgb)

    @override
    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Change the colors of an image; a labeling stays as it is."""
        if not isinstance(inpt, tv_tensors.Image):
            return inpt
        image = inpt.as_subclass(Tensor).clone()
        inside = image[self.rgb].clamp(0, 1)
        image[self.rgb] += self.of_colors(tv_tensors.Image(inside)).as_subclass(Tensor) - inside
        return tv_tensors.wrap(image, like=inpt)


class RandomNoise(v2.Transform):
    """Add Gaussian noise to the colors of images, and to nothing else.

    Args:
        strength: the standard deviation is drawn uniformly from 0 to this, in 0..1, of the range of a color.
    """

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = strength

    @override
    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the standard deviation."""
        return {"sigma": self.strength * float(torch.rand(()))}

    @override
    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Draw the noise; as the last that is drawn, since there is none for a labeling that is moved alone."""
        if not isinstance(inpt, tv_tensors.Image):
            return inpt
        if inpt.is_floating_point():
            return tv_tensors.wrap(F.gaussian_noise(inpt.as_subclass(Tensor), clip=False, **params), like=inpt)
        colors = F.gaussian_noise(inpt.as_subclass(Tensor) / 255, **params)
        return tv_tensors.wrap((255 * colors).round().to(torch.uint8), like=inpt)


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
