"""Identities, values, gradients and limits of the relaxations of the Potts energy."""

import math
from typing import get_args

import pytest
import torch
from torch import Tensor

from weakseg_lightning.losses import relaxed_potts_energy
from weakseg_lightning.losses.potts import DISTANCES, Relaxation

WEIGHTS = torch.zeros(1, 2, 1, 2, dtype=torch.float64)
WEIGHTS[0, 0, 0, 0] = 1.0


def pair(*distributions: list[float]) -> Tensor:
    """Two neighboring pixels, ``(1, K, 1, 2)``."""
    return torch.tensor(distributions, dtype=torch.float64).T[None, :, None]


def between(p: Tensor, q: Tensor, relaxation: str) -> Tensor:
    """The distance of two distributions ``(K,)`` by way of the energy."""
    return relaxed_potts_energy(torch.stack([p, q], 1)[None, :, None], WEIGHTS, 4, relaxation)[0]


def random_pairs(classes: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    both = (2 * torch.randn(2, 50, classes, generator=generator, dtype=torch.float64)).softmax(2)
    return both[0], both[1]


def test_every_name_has_a_distance() -> None:
    assert set(get_args(Relaxation)) == set(DISTANCES)


@pytest.mark.parametrize(
    ("bounded", "logarithmic"),
    [("bilinear", "collision"), ("normalized", "collision_divergence"), ("quadratic", "log_quadratic")],
)
def test_each_logarithmic_form_is_that_of_its_complement(bounded: str, logarithmic: str) -> None:
    p, q = random_pairs()
    torch.testing.assert_close(DISTANCES[logarithmic](p, q), -(1 - DISTANCES[bounded](p, q)).log())


@pytest.mark.parametrize(
    ("relaxation", "values", "at_half"),
    [
        ("bilinear", (0.52, 0.68, 0.82, 0.98), 0.5),
        ("quadratic", (0.04, 0.36, 0.64, 0.96), 0),
        ("normalized", (0.08, 0.53, 0.78, 0.98), 0),
        ("collision", (0.73, 1.14, 1.71, 3.92), 0.69),
        ("collision_divergence", (0.08, 0.75, 1.52, 3.90), 0),
        ("log_quadratic", (0.04, 0.45, 1.02, 3.23), 0),
    ],
)
def test_values_of_two_pixels_that_disagree_and_of_two_that_are_unsure(
    relaxation: str, values: tuple[float, ...], at_half: float
) -> None:
    for a, value in zip((0.6, 0.8, 0.9, 0.99), values, strict=True):
        found = relaxed_potts_energy(pair([a, 1 - a], [1 - a, a]), WEIGHTS, 4, relaxation)
        assert found.item() == pytest.approx(value, abs=0.005)
    unsure = relaxed_potts_energy(pair([0.5, 0.5], [0.5, 0.5]), WEIGHTS, 4, relaxation)
    assert unsure.item() == pytest.approx(at_half, abs=0.005)


def gradient_by_hand(p: Tensor, q: Tensor, relaxation: str) -> Tensor:
    product, norm, other = p @ q, p.norm(), q.norm()
    return {
        "bilinear": -q,
        "quadratic": p - q,
        "normalized": -(q / other - product / (norm**2 * other) * p) / norm,
        "collision": -q / product,
        "collision_divergence": p / norm**2 - q / product,
        "log_quadratic": (p - q) / (1 - (p - q).square().sum() / 2),
        "absolute": (p - q).sign() / 2,
    }[relaxation]


@pytest.mark.parametrize("relaxation", DISTANCES)
def test_gradients_are_those_derived_by_hand(relaxation: str) -> None:
    for p, q in zip(*random_pairs(), strict=True):
        p.requires_grad_()
        (found,) = torch.autograd.grad(between(p, q, relaxation), p)
        torch.testing.assert_close(found, gradient_by_hand(p.detach(), q, relaxation))


@pytest.mark.parametrize("relaxation", sorted(set(DISTANCES) - {"absolute"}))
def test_gradients_by_the_logits_agree_with_finite_differences(relaxation: str) -> None:
    generator = torch.Generator().manual_seed(1)
    weights = torch.rand(1, 4, 3, 4, generator=generator, dtype=torch.float64)
    logits = torch.randn(1, 3, 3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f: relaxed_potts_energy(f.softmax(1), weights, 8, relaxation), (logits,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("relaxation", DISTANCES)
def test_values_and_gradients_are_finite_everywhere(relaxation: str, dtype: torch.dtype) -> None:
    corners = torch.eye(3, dtype=torch.float64)
    spread = torch.tensor([[1 / 3, 1 / 3, 1 / 3], [1 - 1e-9, 1e-9, 0], [1e-30, 1 - 1e-4, 1e-4], [0, 0, 0]])
    every = torch.cat([corners, spread.double()])
    for p in every:
        for q in every:
            both = torch.stack([p, q], 1)[None, :, None].to(dtype).requires_grad_()
            energy = relaxed_potts_energy(both, 80 * WEIGHTS.float(), 4, relaxation)
            energy.backward()
            assert -1e-4 <= energy.item() <= 80 * (-math.log(1e-6)) * 1.0001
            assert both.grad is not None
            assert both.grad.isfinite().all() or dtype == torch.float16  # whose largest number is 65,504


@pytest.mark.parametrize("relaxation", DISTANCES)
def test_single_precision_has_the_digits_of_double(relaxation: str) -> None:
    p, q = random_pairs()
    found = DISTANCES[relaxation](p.float(), q.float()).double()
    torch.testing.assert_close(found, DISTANCES[relaxation](p, q), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("relaxation", DISTANCES)
def test_half_precision_is_computed_in_single(relaxation: str) -> None:
    p, q = random_pairs()
    both = torch.stack([p[0], q[0]], 1)[None, :, None].half()
    energy = relaxed_potts_energy(both, WEIGHTS.float(), 4, relaxation)
    assert energy.dtype == torch.float32
    assert torch.equal(energy, relaxed_potts_energy(both.float(), WEIGHTS.float(), 4, relaxation))
