"""Common properties of the losses of a batch of logits."""

import doctest
import math
from collections.abc import Callable
from importlib import import_module

import pytest
import torch
from torch import Tensor

from weakseg_lightning.energies import GridPotts
from weakseg_lightning.losses import (
    DenseCRFLoss,
    GatedCRFLoss,
    Regularizer,
    collision_cross_entropy,
    dense_crf_loss,
    dice_loss,
    entropy_loss,
    gated_crf_loss,
    kl_loss,
    link_loss,
    mil_loss,
    mumford_shah_loss,
    noise_matrix_cross_entropy,
    partial_cross_entropy,
    potts_loss,
    robust_cross_entropy,
    total_variation_loss,
)

Loss = Callable[[Tensor, Tensor], Tensor]
GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(2, 4, 6, 8, generator=GENERATOR, dtype=torch.float64)
VALID = torch.rand(2, 6, 8, generator=GENERATOR) < 0.8
LABELS = torch.randint(0, 4, (2, 6, 8), generator=GENERATOR)
LATENT = torch.rand(2, 4, 6, 8, generator=GENERATOR, dtype=torch.float64).softmax(1)
NOISE = torch.tensor([[7, 1, 1, 1], [0, 8, 1, 1], [2, 3, 4, 1], [1, 1, 3, 5]], dtype=torch.float64) / 10
IMAGE = torch.rand(2, 3, 6, 8, generator=GENERATOR)
TAGS = torch.tensor([[True, True, False, False], [True, False, True, True]])

LOSSES: dict[str, Loss] = {
    "partial": lambda f, valid: partial_cross_entropy(f, torch.where(valid, LABELS, 255)),
    "dice": lambda f, valid: dice_loss(f, torch.where(valid, LABELS, 255)),
    "robust": lambda f, valid: robust_cross_entropy(f, torch.where(valid, LABELS, 255), 0.4, LABELS == 1),
    "level": lambda f, valid: robust_cross_entropy(f, torch.where(valid, LABELS, 255), torch.tensor(0.4), LABELS == 1),
    "matrix": lambda f, valid: noise_matrix_cross_entropy(f, torch.where(valid, LABELS, 255), NOISE, LABELS == 1),
    "kl": lambda f, valid: kl_loss(f, LATENT, valid),
    "collision": lambda f, valid: collision_cross_entropy(f, LATENT, valid),
    "soft": lambda f, valid: link_loss(f, LATENT, valid, "cross_entropy"),
    "reverse": lambda f, valid: link_loss(f, LATENT, valid, "reverse", "images"),
    "mil": lambda f, valid: mil_loss(f, TAGS, valid),
    "dense_crf": lambda f, valid: dense_crf_loss(f, IMAGE, 1.0, valid=valid),
    "gated_crf": lambda f, valid: gated_crf_loss(f, IMAGE, radius=2, downscale=2, valid=valid),
    "entropy": entropy_loss,
    "total_variation": total_variation_loss,
    "mumford_shah": lambda f, valid: mumford_shah_loss(f, IMAGE, valid=valid),
    "potts": lambda f, valid: potts_loss(f, IMAGE, GridPotts(), valid),
    "divergence": lambda f, valid: potts_loss(f, IMAGE, GridPotts(), valid, "collision_divergence"),
    "log_quadratic": lambda f, valid: potts_loss(f, IMAGE, GridPotts(), valid, "log_quadratic"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_valid_gives_zero_with_zero_gradient(name: str) -> None:
    logits = LOGITS.clone().requires_grad_()
    loss = LOSSES[name](logits, torch.zeros_like(VALID))
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_is_computed_in_single(name: str, dtype: torch.dtype) -> None:
    half = LOGITS.to(dtype)
    loss = LOSSES[name](half, VALID)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, LOSSES[name](half.float(), VALID))


DIFFERENTIABLE = ["kl", "collision", "soft", "reverse", "mil", "gated_crf", "robust", "matrix", "entropy", "dice"]


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradient_agrees_with_finite_differences(name: str) -> None:
    assert torch.autograd.gradcheck(lambda f: LOSSES[name](f, VALID), (LOGITS.clone().requires_grad_(),))


@pytest.mark.parametrize(
    "name", ["level", "total_variation", "mumford_shah", *(name for name in DIFFERENTIABLE if name != "kl")]
)
def test_it_compiles_without_graph_breaks(name: str) -> None:
    compiled = torch.compile(LOSSES[name], backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(LOGITS.float(), VALID), LOSSES[name](LOGITS.float(), VALID))


@pytest.mark.parametrize(
    ("loss", "value"),
    [
        (lambda f: partial_cross_entropy(f, torch.tensor([[[1]]])), 2e6),
        (lambda f: kl_loss(f, torch.tensor([[[[0.0]], [[1.0]]]])), 2e6),
        (lambda f: collision_cross_entropy(f, torch.tensor([[[[0.0]], [[1.0]]]])), 2e6),
        (lambda f: link_loss(f, torch.tensor([[[[0.0]], [[1.0]]]]), link="reverse"), -math.log(1e-6)),
        (lambda f: mil_loss(f, torch.tensor([[True, True]])), 1e6),
    ],
)
def test_extreme_logits_stay_finite(loss: Callable[[Tensor], Tensor], value: float) -> None:
    logits = torch.tensor([[[[1e6]], [[-1e6]]]], requires_grad=True)
    found = loss(logits)
    found.backward()
    assert found.item() == pytest.approx(value)
    assert logits.grad.isfinite().all()


def test_half_precision_is_summed_over_many_pixels_in_single() -> None:
    logits = torch.zeros(1, 2, 300, 300, dtype=torch.float16)
    latent = torch.tensor([0.0, 1.0], dtype=torch.float16).view(1, 2, 1, 1).expand_as(logits)
    for loss in (partial_cross_entropy(logits, torch.zeros(1, 300, 300).long()), kl_loss(logits, latent)):
        assert float(loss) == pytest.approx(math.log(2), rel=1e-5)


@pytest.mark.parametrize("loss", [dense_crf_loss, gated_crf_loss])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": IMAGE[..., :4]}, r"`image` must be a float \(2, 3, 6, 8\), RGB in 0..1 at the size of"),
        ({"logits": LABELS}, r"`logits` must be a float \(B, K, H, W\), got torch.int64"),
        ({"valid": VALID.float()}, r"`valid` must be a bool \(2, 6, 8\), got torch.float32"),
        ({"valid": VALID[:1]}, r"`valid` must be a bool \(2, 6, 8\), got torch.bool \(1, 6, 8\)"),
    ],
)
def test_tensors_that_do_not_fit_are_explained(loss: Callable[..., Tensor], change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        loss(**{"logits": LOGITS, "image": IMAGE, "valid": VALID, **change})


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (DenseCRFLoss, {"weight": -1.0}, "`weight` must be finite and at least 0, got -1.0"),
        (DenseCRFLoss, {"weight": math.nan}, "`weight` must be finite"),
        (DenseCRFLoss, {"sigma_rgb": 0.0}, "`sigma_rgb` must be finite and above 0, got 0"),
        (DenseCRFLoss, {"sigma_xy": -3.0}, "`sigma_xy` must be finite and above 0, got -3"),
        (DenseCRFLoss, {"scale": 0.0}, "`scale` must be above 0 and at most 1, got 0"),
        (DenseCRFLoss, {"scale": 2.0}, "`scale` must be above 0 and at most 1, got 2"),
        (GatedCRFLoss, {"weight": -1.0}, "`weight` must be finite and at least 0, got -1.0"),
        (GatedCRFLoss, {"kernels": []}, "`kernels` must hold at least one kernel"),
        (GatedCRFLoss, {"radius": 0}, "`radius` must be at least 1, got 0"),
        (GatedCRFLoss, {"downscale": 0}, "`downscale` must be at least 1, got 0"),
    ],
)
def test_regularizers_and_their_functions_check_ranges(kind: type[Regularizer], arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**arguments)
    with pytest.raises(ValueError, match=message):
        {DenseCRFLoss: dense_crf_loss, GatedCRFLoss: gated_crf_loss}[kind](LOGITS, IMAGE, **arguments)


MODULES = "area_priors constrained cross_entropy decomposition distributed gated_crf mil potts robust soft_labels"
MODULES += " noise_levels variational"


@pytest.mark.parametrize("name", MODULES.split())
def test_examples(name: str) -> None:
    results = doctest.testmod(import_module(f"weakseg_lightning.losses.{name}"), extraglobs={"torch": torch})
    assert results.attempted > 0
    assert results.failed == 0
