"""The dense CRF of pydensecrf, against mean field with dense matrices."""

import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from scenes import photograph, stripes
from torch import Tensor

from weakseg_lightning.solvers.dense_crf import pydensecrf as backend
from weakseg_lightning.solvers.dense_crf.pydensecrf import PyDenseCRF

needs_pydensecrf = pytest.mark.skipif(find_spec("pydensecrf") is None, reason="pydensecrf2 is missing (extra `crf`)")


def kernel(features: Tensor, normalization: str) -> Tensor:
    """Gaussian of all pairs of pixels, the pixel itself included: features ``(N, D)`` to ``(N, N)``."""
    dense = torch.exp(-torch.cdist(features, features).square() / 2)
    sums = dense.sum(1)
    before = {"symmetric": sums.rsqrt(), "before": 1 / sums}.get(normalization, torch.ones_like(sums))
    after = {"symmetric": sums.rsqrt(), "after": 1 / sums}.get(normalization, torch.ones_like(sums))
    return after[:, None] * dense * before


def mean_field(crf: PyDenseCRF, logits: Tensor, image: Tensor) -> Tensor:
    """Mean field as published, without a lattice: ``(K, H, W)`` and ``(3, H, W)``."""
    classes, height, width = logits.shape
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([columns, rows], -1).reshape(-1, 2).double()
    colors = 255 * image.flatten(1).T.double()
    both = torch.cat([places / crf.bilateral_sigma_xy, colors / crf.bilateral_sigma_rgb], 1)
    pairwise = crf.spatial_weight * kernel(places / crf.spatial_sigma, crf.normalization)
    pairwise += crf.bilateral_weight * kernel(both, crf.normalization)
    unary = -logits.flatten(1).T.double().log_softmax(1)
    found = (-unary).softmax(1)
    for _ in range(crf.iterations):
        found = (pairwise @ found - unary).softmax(1)
    return found.T.reshape(classes, height, width).float()


@needs_pydensecrf
@pytest.mark.parametrize("normalization", ["symmetric", "before", "after"])
@pytest.mark.parametrize(
    "kernels", [(3.0, 3.0, 8.0, 20.0, 4.0), (3.0, 4.0, 8.0, 20.0, 0.0), (3.0, 0.0, 6.0, 30.0, 4.0)]
)
def test_it_is_mean_field_with_dense_kernels_as_far_as_the_lattice_is_exact(kernels, normalization):
    crf = PyDenseCRF(*kernels, iterations=5, normalization=normalization)
    softmax_off, off = [], []
    for seed in range(4):
        logits, image = (one[0] for one in stripes(seed, 14, 18))
        expected = mean_field(crf, logits, image)
        refined = crf.refine(logits[None], image[None])[0]
        off.append(float((refined - expected).abs().mean()))
        softmax_off.append(float((logits.softmax(0) - expected).abs().mean()))
        assert (refined.argmax(0) == expected.argmax(0)).float().mean() > 0.95
    assert max(off) < 0.04
    assert max(off) < min(softmax_off) / 4


@needs_pydensecrf
@pytest.mark.parametrize("normalization", ["symmetric", "before", "after"])
def test_of_the_normalizations_it_is_closest_to_its_own(normalization):
    kinds, off = ("symmetric", "before", "after"), torch.zeros(3)
    for seed in range(4):
        logits, image = (one[0] for one in stripes(seed, 14, 18))
        image[..., :9] = 0.3  # pixels have few and many alike
        image[..., 9:] = torch.rand(3, 14, 9, generator=torch.Generator().manual_seed(seed))
        crfs = [PyDenseCRF(3, 1, 8, 40, 4, iterations=2, normalization=kind) for kind in kinds]
        refined = crfs[kinds.index(normalization)].refine(logits[None], image[None])[0]
        off += torch.stack([(refined - mean_field(crf, logits, image)).abs().mean() for crf in crfs])
    assert kinds[int(off.argmin())] == normalization


@needs_pydensecrf
def test_it_is_what_the_library_does_for_an_image_of_8_bits():
    import pydensecrf.densecrf as library

    logits, image = (one[0] for one in stripes(0, 20, 31))
    pixels = (image * 255).round().to(torch.uint8)
    field = library.DenseCRF2D(31, 20, 4)
    field.setUnaryEnergy(np.ascontiguousarray(-logits.log_softmax(0).flatten(1).numpy()))
    field.addPairwiseGaussian(sxy=6, compat=6)
    field.addPairwiseBilateral(sxy=50, srgb=4, rgbim=np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()), compat=5)
    expected = torch.from_numpy(np.array(field.inference(10))).reshape(4, 20, 31)
    refined = PyDenseCRF().refine(logits[None], pixels[None].float() / 255)[0]
    torch.testing.assert_close(refined, expected, atol=1e-5, rtol=1e-4)


@needs_pydensecrf
def test_an_isolated_pixel_of_a_flat_image_follows_its_surroundings_and_an_edge_stays():
    logits = torch.zeros(1, 2, 20, 20)
    logits[:, 1, :, 10:] = 2
    logits[:, 0, :, :10] = 2
    logits[:, :, 5, 5] = torch.tensor([0.0, 1.0])
    image = torch.full((1, 3, 20, 20), 0.2)
    image[..., 10:] = 0.9
    labels = PyDenseCRF(spatial_sigma=2, spatial_weight=3).refine(logits, image).argmax(1)[0]
    expected = torch.zeros(20, 20, dtype=torch.long)
    expected[:, 10:] = 1
    assert torch.equal(labels, expected)


@needs_pydensecrf
def test_it_sharpens_coarse_scores_of_a_photograph(shared):
    logits, image, mask = photograph(shared)
    refined = PyDenseCRF().refine(logits, image)
    torch.testing.assert_close(refined.sum(1), torch.ones(mask.shape), atol=1e-4, rtol=0)
    counted = mask != 255
    before, after = ((p.argmax(1) == mask)[counted].float().mean() for p in (logits, refined))
    assert after > before + 0.01


def test_without_the_package_the_constructor_says_what_to_install(monkeypatch):
    backend.load_pydensecrf.cache_clear()
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    monkeypatch.delitem(sys.modules, "pydensecrf.densecrf", raising=False)
    with pytest.raises(ImportError, match=r"needs pydensecrf2, not installed here: pip install .*\[crf\]"):
        PyDenseCRF()


def test_a_broken_package_is_not_a_missing_one(monkeypatch):
    def broken(name):
        raise ValueError("numpy.dtype size changed")

    backend.load_pydensecrf.cache_clear()
    monkeypatch.setattr(backend, "import_module", broken)
    with pytest.raises(ImportError, match="is installed but broken"):
        PyDenseCRF()
