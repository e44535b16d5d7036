"""Refinement by pydensecrf, a back-end that a user installs."""

import math
from functools import cache
from importlib import import_module
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from weakseg_lightning.solvers.refinement import Refinement, check_refined

_NORMALIZATIONS = {
    "symmetric": "NORMALIZE_SYMMETRIC",
    "before": "NORMALIZE_BEFORE",
    "after": "NORMALIZE_AFTER",
    "none": "NO_NORMALIZATION",
}


class PyDenseCRF(Refinement):
    r"""Refines predictions by mean field in a fully connected conditional random field, computed by pydensecrf.

    Approximates the distribution ``exp(-E(x))`` over the labellings of an image by a product of independent pixels,

    ``E(x) = - sum_p log softmax(logits_p)[x_p] + sum_{p < q} [x_p != x_q] k(p, q)``, with
    ``k(p, q) = w_s exp(-|p - q|^2 / (2 s_s^2)) + w_b exp(-|p - q|^2 / (2 s_xy^2) - |I_p - I_q|^2 / (2 s_rgb^2))``

    where p, q are positions in pixels, I colours in 0..255, and each of the two Gaussians is normalised, by default as
    ``D^-1/2 K D^-1/2`` with D the sums of its rows. Sums over all pixels are approximated on a permutohedral lattice,
    and contain the pixel itself.

    The default values are those that CCNN was evaluated with; its authors also tuned them on 100 validation images:
    ``spatial_sigma=19, spatial_weight=15, bilateral_sigma_xy=61, bilateral_sigma_rgb=10, bilateral_weight=35``
    (``recipes/refine/ccnn_tuned.yaml``). What is good for one network need not be for another: see
    ``weakseg crf-search``.

    What it costs: 0.4 to 1 second for 375 x 500 pixels and 21 classes, on one CPU core, an image after the other. The
    package holds Python's lock meanwhile: threads do not help, processes do.

    Note:
        pydensecrf is under the MIT licence; what it compiles in is under BSD (Krähenbühl's code) and MPL 2 (Eigen).
        Nothing of it is copied, bundled or linked here: it is loaded if you have installed it, as ``pydensecrf2``.

    Args:
        spatial_sigma: width of the first Gaussian, in pixels, > 0.
        spatial_weight: its weight, >= 0; 0 leaves it out.
        bilateral_sigma_xy: width of the second Gaussian in space, in pixels, > 0.
        bilateral_sigma_rgb: its width in colour, of 0..255, > 0.
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
        normalization: Literal["symmetric", "before", "after", "none"] = "symmetric",
    ) -> None:
        load_pydensecrf()
        _check("spatial_sigma", spatial_sigma, above_zero=True)
        _check("bilateral_sigma_xy", bilateral_sigma_xy, above_zero=True)
        _check("bilateral_sigma_rgb", bilateral_sigma_rgb, above_zero=True)
        _check("spatial_weight", spatial_weight)
        _check("bilateral_weight", bilateral_weight)
        _check("iterations", iterations)
        if normalization not in _NORMALIZATIONS:
            raise ValueError(f"`normalization` must be one of {', '.join(_NORMALIZATIONS)}, got {normalization!r}")
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
        for unary, colors, inside, answer in zip(-scores.cpu(), image.float().cpu(), valid.cpu(), refined, strict=True):
            if inside.any():
                found = self._infer(unary[:, inside].numpy(), _positions(inside), colors[:, inside].numpy() * 255)
                answer[:, inside.to(answer.device)] = torch.from_numpy(found).to(answer.device)
        return refined

    def _infer(
        self, unary: NDArray[np.float32], positions: NDArray[np.float32], colors: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Mean field over N pixels: unary energies ``(K, N)``, x and y ``(2, N)``, RGB ``(3, N)`` to ``(K, N)``."""
        library = load_pydensecrf()
        field = library.DenseCRF(unary.shape[1], unary.shape[0])
        field.setUnaryEnergy(np.ascontiguousarray(unary))
        bilateral = np.concatenate([positions / self.bilateral_sigma_xy, colors / self.bilateral_sigma_rgb])
        kernels = ((self.spatial_weight, positions / self.spatial_sigma), (self.bilateral_weight, bilateral))
        for weight, features in kernels:
            if weight > 0:
                field.addPairwiseEnergy(
                    np.ascontiguousarray(features, dtype=np.float32),
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
            remedy = 'pip install "weakseg-lightning[crf]"'
            text = f"the refinement `PyDenseCRF` needs pydensecrf2, not installed here: {remedy}"
        else:
            text = f"pydensecrf2, which the refinement `PyDenseCRF` needs, is installed but broken: {error!r}"
        raise ImportError(text) from error


def _positions(inside: Tensor) -> NDArray[np.float32]:
    """Columns and rows of the pixels of a mask ``(H, W)``, ``(2, N)``, row by row, counted from the first ones."""
    places = inside.nonzero()
    # The lattice is no finer than the Gaussians: where its origin lies shows in the result, and padding must not.
    return (places - places.amin(0)).flip(1).T.numpy().astype(np.float32)


def _check(name: str, value: float, *, above_zero: bool = False) -> None:
    if not math.isfinite(value) or value < 0 or (above_zero and value == 0):
        raise ValueError(f"`{name}` must be {'greater than 0' if above_zero else '0 or more'}, got {value}")
