"""Refinement by pydensecrf, a back-end that a user installs."""

from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from weakseg_lightning.solvers.dense_crf.parameters import Normalization, check_parameters, weighted_features
from weakseg_lightning.solvers.refinement import Refinement, check_refined

_NORMALIZATIONS = {
    "symmetric": "NORMALIZE_SYMMETRIC",
    "before": "NORMALIZE_BEFORE",
    "after": "NORMALIZE_AFTER",
    "none": "NO_NORMALIZATION",
}


class PyDenseCRF(Refinement):
    """`MeanField` as computed by pydensecrf, for comparison: the same energy, arguments and probabilities.

    The probabilities are the same to within 1e-3 where the number of pixels (the valid ones) is a multiple of 4.
    Elsewhere pydensecrf fills up its last block of 4 with black pixels at the origin, and where pixels of the image are
    near these in space and color, it is pydensecrf's that are off.

    What it costs: 0.4 to 1 second for 375 x 500 pixels and 21 classes, on one CPU core, an image after the other. The
    package holds Python's lock meanwhile: threads do not help, processes do.

    Note:
        pydensecrf is under the MIT licence; what it compiles in is under BSD (Krähenbühl's code) and MPL 2 (Eigen).
        Nothing of it is copied, bundled or linked here: it is loaded if you have installed it, as ``pydensecrf2``.

    Args:
        spatial_sigma: width of the first Gaussian, in pixels, > 0.
        spatial_weight: its weight, >= 0; 0 leaves it out.
        bilateral_sigma_xy: width of the second Gaussian in space, in pixels, > 0.
        bilateral_sigma_rgb: its width in color, of 0..255, > 0.
        bilateral_weight: its weight, >= 0; 0 leaves it out.
        iterations: iterations of mean field, >= 0.
        normalization: of the Gaussians: ``symmetric``, ``before`` (``K D^-1``), ``after`` (``D^-1 K``) or ``none``.

    Raises:
        ImportError: if ``pydensecrf2`` is not installed.
        ValueError: if an argument is out of its range.

    References:
        Krähenbühl and Koltun, Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials, NIPS 2011.
        Pathak, Krähenbühl and Darrell, Constrained Convolutional Neural Networks for Weakly Supervised Segmentation,
        ICCV 2015, section 6.
    """

    def __init__(
        self,
        spatial_sigma: float = 6.0,
        spatial_weight: float = 6.0,
        bilateral_sigma_xy: float = 50.0,
        bilateral_sigma_rgb: float = 4.0,
        bilateral_weight: float = 5.0,
        iterations: int = 10,
        normalization: Normalization = "symmetric",
    ) -> None:
        load_pydensecrf()
        check_parameters(
            spatial_sigma,
            spatial_weight,
            bilateral_sigma_xy,
            bilateral_sigma_rgb,
            bilateral_weight,
            iterations,
            normalization,
        )
        self.spatial_sigma = spatial_sigma
        self.spatial_weight = spatial_weight
        self.bilateral_sigma_xy = bilateral_sigma_xy
        self.bilateral_sigma_rgb = bilateral_sigma_rgb
        self.bilateral_weight = bilateral_weight
        self.iterations = iterations
        self.normalization = normalization

    @override
    @torch.no_grad()
    def refine(self, logits: Tensor, image: Tensor, valid: Tensor | None = None) -> Tensor:
        valid = check_refined(logits, image, valid)
        scores = logits.float().log_softmax(1)
        refined = scores.exp()
        inside = valid.cpu()
        kernels = weighted_features(
            image.cpu(),
            inside,
            spatial=(self.spatial_weight, self.spatial_sigma),
            bilateral=(self.bilateral_weight, self.bilateral_sigma_xy, self.bilateral_sigma_rgb),
        )
        unary = -scores.cpu()
        for b in inside.flatten(1).any(1).nonzero().flatten().tolist():
            here = [(weight, features[b][:, inside[b]].numpy()) for weight, features in kernels]
            found = self._infer(unary[b][:, inside[b]].numpy(), here)
            refined[b][:, valid[b]] = torch.from_numpy(found).to(refined.device)
        return refined

    def _infer(
        self, unary: NDArray[np.float32], kernels: list[tuple[float, NDArray[np.float32]]]
    ) -> NDArray[np.float32]:
        """Mean field over N pixels: unary energies ``(K, N)``, weights and features ``(D, N)``, to ``(K, N)``."""
        library = load_pydensecrf()
        field = library.DenseCRF(unary.shape[1], unary.shape[0])
        field.setUnaryEnergy(np.ascontiguousarray(unary))
        for weight, features in kernels:
            field.addPairwiseEnergy(
                np.ascontiguousarray(features),
                compat=float(weight),
                normalization=getattr(library, _NORMALIZATIONS[self.normalization]),
            )
        return np.array(field.inference(self.iterations), dtype=np.float32)


@cache
def load_pydensecrf() -> Any:
    """Import ``pydensecrf.densecrf``.

    Returns:
        The module.

    Raises:
        ImportError: if it is not installed, or cannot be loaded.
    """
    try:
        return import_module("pydensecrf.densecrf")
    except Exception as error:  # compiled for another NumPy, it raises ValueError
        if isinstance(error, ModuleNotFoundError) and (error.name or "").startswith("pydensecrf"):
            remedy = 'pip install ".[crf]" in the checkout'
            text = f"the refinement `PyDenseCRF` needs pydensecrf2, not installed here: {remedy}"
        else:
            text = f"pydensecrf2, which the refinement `PyDenseCRF` needs, is installed but broken: {error!r}"
        raise ImportError(text) from error
