"""Scores of a trained network for a piece of an image."""

from collections.abc import Sequence
from fractions import Fraction
from math import gcd, lcm

import torch
from torch import Tensor
from torch.nn import functional as F

from weakseg_lightning.modules import WeakSegModule
from weakseg_lightning.networks.coarse_grid import resized
from weakseg_lightning.solvers import Refinement

_FINEST = 64  # scales are taken as fractions with denominators up to it
_TINY = 1e-12


class Scorer:
    """Probabilities of the classes by a network: of the image itself, or the mean over scales and mirror images.

    Args:
        module: a trained module; it is put into evaluation mode.
        flip: whether to average with the prediction for the mirror image.
        scales: factors by which the image is resized (bilinear, antialiased); probabilities are brought back.
        refinement: refines the (mean) prediction of each piece.

    Raises:
        ValueError: if there is no scale, or one is out of range.
    """

    def __init__(
        self,
        module: WeakSegModule,
        flip: bool = False,
        scales: Sequence[float] = (1.0,),
        refinement: Refinement | None = None,
    ) -> None:
        if not scales or not all(0.1 <= scale <= 10 for scale in scales):
            raise ValueError(f"`scales` must be one number or several, 0.1 to 10 each, got {list(scales)}")
        self.module = module.eval()
        self.flip = flip
        self.scales = tuple(scales)
        self.refinement = refinement

    @property
    def alignment(self) -> int:
        """Distance of pieces in pixels at which the network's strides fall on the same pixels for each of them."""
        net = self.module.net
        factors = (Fraction(scale * net.input_scale).limit_denominator(_FINEST) for scale in self.scales)
        return lcm(*(net.stride * f.denominator // gcd(f.numerator, net.stride) for f in factors))

    @torch.no_grad()
    def __call__(self, pixels: Tensor, valid: Tensor | None = None) -> Tensor:
        """Score every pixel of an image.

        Args:
            pixels: RGB, uint8 ``(3, h, w)``, or the channels that the network was trained on, float ``(C, h, w)``.
            valid: pixels that have data, bool ``(h, w)``: the others have no influence on a refinement. None = all.

        Returns:
            Probabilities, float32 ``(K, h, w)``, on the CPU.

        Raises:
            ValueError: if the network's scores are not finite.
        """
        image = pixels[None].to(self.module.device, torch.float32)
        if pixels.dtype == torch.uint8:
            image.div_(255)
        logits = self._logits(image)
        if not logits.isfinite().all():
            raise ValueError("the network's scores are not finite: use another checkpoint")
        if self.refinement is None:
            return logits.softmax(1)[0].float().cpu()
        channels = self.module.channels
        colors = image if channels is None else image[:, list(channels.colors)].clamp(0, 1)
        mask = None if valid is None else valid[None].to(self.module.device)
        return self.refinement.refine(logits, colors, mask)[0].float().cpu()

    def _logits(self, image: Tensor) -> Tensor:
        """Logits, or logarithms of mean probabilities."""
        if self.scales == (1.0,) and not self.flip:
            logits: Tensor = self.module(image)
            return logits.float()
        total = torch.zeros((), device=image.device)
        for scale in self.scales:
            total = total + self._mean_over_flips(_rescaled(image, scale), image.shape[-2:])
        return (total / len(self.scales)).clamp_min_(_TINY).log_()

    def _mean_over_flips(self, image: Tensor, size: torch.Size) -> Tensor:
        found = self._probabilities(image, size)
        return (found + self._probabilities(image.flip(-1), size).flip(-1)) / 2 if self.flip else found

    def _probabilities(self, image: Tensor, size: torch.Size) -> Tensor:
        logits: Tensor = self.module(image)
        found = logits.float().softmax(1)
        return F.interpolate(found, size=size, mode="bilinear") if image.shape[-2:] != size else found


def _rescaled(image: Tensor, scale: float) -> Tensor:
    height, width = (resized(length, scale) for length in image.shape[-2:])
    if (height, width) == image.shape[-2:]:
        return image
    return F.interpolate(image, size=(height, width), mode="bilinear", antialias=True)
