"""Refinement by pydensecrf, a back-end that users install."""

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from weakseg_lightning.solvers.base import Refinement
from weakseg_lightning.solvers.dense_crf.parameters import DenseCRFParameters

_NORMALIZATIONS = {
    "symmetric": "NORMALIZE_SYMMETRIC",
    "before": "NORMALIZE_BEFORE",
    "after": "NORMALIZE_AFTER",
    "none": "NO_NORMALIZATION",
}


@dataclass(frozen=True)
class PyDenseCRF(DenseCRFParameters, Refinement):
    """`MeanField` as computed by pydensecrf, for comparison: the same energy, arguments and probabilities.

    The probabilities are the same to within 1e-3 where the number of pixels (the valid ones) is a multiple of 4.
    Elsewhere pydensecrf fills up its last block of 4 with black pixels at the origin, and where pixels of the image are
    near these in space and color, it is pydensecrf's that are off.

    What it costs: 1 to 2 seconds for 375 x 500 pixels and 21 classes, on one CPU core, one image after the other. The
    package holds Python's lock meanwhile: threads do not help, processes do.

    Note:
        pydensecrf is under the MIT license; what it compiles in is under BSD (Krähenbühl's code) and MPL 2 (Eigen).
        Nothing of it is copied, bundled or linked here: it is loaded if you have installed it, as ``pydensecrf2``.

    The arguments are those of `DenseCRFParameters`.

    Raises:
        ImportError: if ``pydensecrf2`` is not installed.
        ValueError: if an argument is out of its range.

    References:
        Krähenbühl and Koltun, Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials, NIPS 2011.
        Pathak, Krähenbühl and Darrell, Constrained Convolutional Neural Networks for Weakly Supervised Segmentation,
        ICCV 2015, section 6.
    """

    def __post_init__(self) -> None:
        """Load the library and check the arguments."""
        load_pydensecrf()
        super().__post_init__()

    @override
    def _refine(self, scores: Tensor, image: Tensor, valid: Tensor) -> Tensor:
        scores = scores.log_softmax(1)
        refined = scores.exp()
        inside = valid.cpu()
        kernels = self.weighted_features(image.cpu(), inside)
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
