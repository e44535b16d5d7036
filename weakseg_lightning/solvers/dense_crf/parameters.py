"""The parameters that the back-ends of the dense CRF have in common, and the features of the pixels."""

from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from weakseg_lightning.checks import at_least, finite_above, finite_at_least, one_of
from weakseg_lightning.energies.lattice import bilateral_features, spatial_features

Normalization = Literal["symmetric", "before", "after", "none"]


@dataclass(frozen=True)
class DenseCRFParameters:
    """Two Gaussians on all pairs of pixels, one of space and one of space and color, and mean field on them.

    Args:
        spatial_sigma: width of the first Gaussian, in pixels, > 0.
        spatial_weight: its weight, >= 0; 0 leaves it out.
        bilateral_sigma_xy: width of the second Gaussian in space, in pixels, > 0.
        bilateral_sigma_rgb: its width in color, of 0..255, > 0.
        bilateral_weight: its weight, >= 0; 0 leaves it out.
        iterations: iterations of mean field, >= 0.
        normalization: of the Gaussians: ``symmetric``, ``before`` (``K D^-1``), ``after`` (``D^-1 K``) or ``none``.

    Raises:
        ValueError: if an argument is out of its range.
    """

    spatial_sigma: float = 6.0
    spatial_weight: float = 6.0
    bilateral_sigma_xy: float = 50.0
    bilateral_sigma_rgb: float = 4.0
    bilateral_weight: float = 5.0
    iterations: int = 10
    normalization: Normalization = "symmetric"

    def __post_init__(self) -> None:
        """Check the arguments."""
        for name in ("spatial_sigma", "bilateral_sigma_xy", "bilateral_sigma_rgb"):
            finite_above(name, getattr(self, name), 0)
        for name in ("spatial_weight", "bilateral_weight"):
            finite_at_least(name, getattr(self, name), 0)
        at_least("iterations", self.iterations, 0)
        one_of("normalization", self.normalization, get_args(Normalization))

    def weighted_features(self, image: Tensor, valid: Tensor) -> list[tuple[float, Tensor]]:
        """Compute the features of the pixels for each Gaussian that counts.

        Args:
            image: RGB in 0..1, float ``(B, 3, H, W)``; anything on padding.
            valid: bool ``(B, H, W)``.

        Returns:
            Weights > 0 with features ``(B, D, H, W)``.
        """
        batch, _, height, width = image.shape
        found = []
        if self.spatial_weight > 0:
            found.append((self.spatial_weight, spatial_features(batch, height, width, self.spatial_sigma, valid)))
        if self.bilateral_weight > 0:
            features = bilateral_features(image, self.bilateral_sigma_rgb, self.bilateral_sigma_xy, valid)
            found.append((self.bilateral_weight, features))
        return found
