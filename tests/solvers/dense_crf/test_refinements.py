"""The contract of refinements, kept by the package's mean field and by that of pydensecrf."""

from importlib.util import find_spec

import pytest
import torch
from scenes import several, stripes

from weakseg_lightning.hyperparameters import describe
from weakseg_lightning.solvers import MeanField, PyDenseCRF, Refinement

needs_pydensecrf = pytest.mark.skipif(find_spec("pydensecrf") is None, reason="pydensecrf2 is missing (extra `crf`)")
pytestmark = pytest.mark.parametrize("cls", [MeanField, pytest.param(PyDenseCRF, marks=needs_pydensecrf)])
SMALL = (2.0, 3.0, 8.0, 20.0, 4.0)


def test_its_arguments_can_be_written_down(cls):
    crf = cls(1, 2, 3, 4, 5, 6, "after")
    assert list(describe(crf)["init_args"].values())[:7] == [1, 2, 3, 4, 5, 6, "after"]
    assert isinstance(crf, Refinement)


@pytest.mark.parametrize("parameters", [SMALL, ()])
def test_padding_has_no_influence_and_keeps_its_softmax(cls, parameters):
    logits, image = stripes(2, 14, 18)
    alone = cls(*parameters).refine(logits, image)
    wide, shown = torch.randn(1, 4, 20, 30), torch.rand(1, 3, 20, 30)
    wide[..., 2:16, 5:23], shown[..., 2:16, 5:23] = logits, image
    valid = torch.zeros(1, 20, 30, dtype=torch.bool)
    valid[:, 2:16, 5:23] = True
    wide[0, 0, 0, 0] = torch.inf  # padding may hold anything
    refined = cls(*parameters).refine(wide, shown, valid)
    torch.testing.assert_close(refined[..., 2:16, 5:23], alone, atol=0 if cls is PyDenseCRF else 1e-6, rtol=0)
    torch.testing.assert_close(refined[..., 17:, :], wide.softmax(1)[..., 17:, :])
    nothing = cls(*parameters).refine(wide, shown, valid & False)
    torch.testing.assert_close(nothing[..., 1:, :], wide.softmax(1)[..., 1:, :])


def test_images_of_a_batch_stand_for_themselves_in_any_precision(cls):
    logits, image = several(3, 4)
    together = cls(*SMALL).refine(logits, image)
    for b in range(2):
        assert torch.equal(together[b, None], cls(*SMALL).refine(logits[b, None], image[b, None]))
    half = cls(*SMALL).refine(logits.bfloat16(), image)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, cls(*SMALL).refine(logits.bfloat16().float(), image))


@pytest.mark.parametrize("arguments", [{"spatial_weight": 0, "bilateral_weight": 0}, {"iterations": 0}])
def test_without_kernels_or_iterations_it_is_the_softmax(cls, arguments):
    logits, image = stripes(1)
    torch.testing.assert_close(cls(**arguments).refine(logits, image), logits.softmax(1))


@pytest.mark.parametrize(
    ("argument", "value", "words"),
    [
        ("spatial_sigma", 0, "`spatial_sigma` must be finite and above 0, got 0"),
        ("bilateral_sigma_xy", -1.0, "`bilateral_sigma_xy` must be finite and above 0"),
        ("bilateral_sigma_rgb", float("nan"), "`bilateral_sigma_rgb` must be finite and above 0, got nan"),
        ("spatial_weight", -0.5, "`spatial_weight` must be finite and at least 0"),
        ("bilateral_weight", float("inf"), "`bilateral_weight` must be finite and at least 0"),
        ("iterations", -1, "`iterations` must be at least 0"),
        ("normalization", "row", "`normalization` must be one of 'symmetric', 'before', 'after', 'none'"),
    ],
)
def test_arguments_out_of_range(cls, argument, value, words):
    with pytest.raises(ValueError, match=words):
        cls(**{argument: value})


@pytest.mark.parametrize("broken", ["logits", "image"])
def test_values_that_are_not_finite(cls, broken):
    given = dict(zip(("logits", "image"), several(0, 1), strict=True))
    given[broken][1, 0, 3, 3] = torch.nan
    with pytest.raises(ValueError, match=rf"`{broken}` must be finite, got nan .* images \[1\]"):
        cls().refine(**given)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((torch.zeros(3, 4, 4), torch.zeros(1, 3, 4, 4)), "`logits` must be a float"),
        ((torch.zeros(1, 3, 4, 4).long(), torch.zeros(1, 3, 4, 4)), "`logits` must be a float"),
        ((torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 5)), r"`image` must be a float \(1, 3, 4, 4\)"),
        ((torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4), torch.ones(1, 4, 4)), "`valid` must be a bool"),
    ],
)
def test_tensors_that_do_not_fit(cls, arguments, words):
    with pytest.raises(ValueError, match=words):
        cls().refine(*arguments)
