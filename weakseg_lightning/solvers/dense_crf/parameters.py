"""What the back-ends of the dense CRF have in common: their parameters, checked, and the features of the pixels."""

import math
from typing import Literal, get_args

from torch import Tensor

from weakseg_lightning.energies.lattice import bilateral_features, spatial_features

Normalization = Literal["symmetric", "before", "after", "none"]


def check_parameters(
    spatial_sigma: float,
    spatial_weight: float,
    bilateral_sigma_xy: float,
    bilateral_sigma_rgb: float,
    bilateral_weight: float,
    iterations: int,
    normalization: str,
) -> None:
    """Check the parameters of a dense CRF, as `MeanField` documents them.

    Raises:
        ValueError: if one is out of its range.
    """
    _check("spatial_sigma", spatial_sigma, above_zero=True)
    _check("bilateral_sigma_xy", bilateral_sigma_xy, above_zero=True)
    _check("bilateral_sigma_rgb", bilateral_sigma_rgb, above_zero=True)
    _check("spatial_weight", spatial_weight)
    _check("bilateral_weight", bilateral_weight)
    _check("iterations", iterations)
    if normalization not in get_args(Normalization):
        raise ValueError(f"`normalization` must be one of {', '.join(get_args(Normalization))}, got {normalization!r}")


def weighted_features(
    image: Tensor,
    valid: Tensor,
    *,
    spatial: tuple[float, float],
    bilateral: tuple[float, float, float],
) -> list[tuple[float, Tensor]]:
    """Features of the pixels for each Gaussian that counts.

    Args:
        image: RGB in 0..1, float ``(B, 3, H, W)``; anything on padding.
        valid: bool ``(B, H, W)``.
        spatial: the weight of the first Gaussian, and its width in pixels.
        bilateral: the weight of the second, its widths in pixels and in color.

    Returns:
        Weights > 0 with features ``(B, D, H, W)``.
    """
    batch, _, height, width = image.shape
    found = []
    if spatial[0] > 0:
        found.append((spatial[0], spatial_features(batch, height, width, spatial[1], valid)))
    if bilateral[0] > 0:
        found.append((bilateral[0], bilateral_features(image, bilateral[2], bilateral[1], valid)))
    return found


def _check(name: str, value: float, *, above_zero: bool = False) -> None:
    if not math.isfinite(value) or value < 0 or (above_zero and value == 0):
        raise ValueError(f"`{name}` must be {'greater than 0' if above_zero else '0 or more'}, got {value}")
