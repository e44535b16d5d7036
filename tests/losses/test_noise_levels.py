"""Units of the noise level: closed forms, what each keeps, and the pull of the loss by autograd."""

import math
from fractions import Fraction
from itertools import product
from typing import get_args

import pytest
import torch

from weakseg_lightning.losses import EpsUnit, convert_eps, robust_cross_entropy, uniform_noise

UNITS = get_args(EpsUnit)
PAIRS = list(product(UNITS, UNITS))
LABEL = torch.tensor([0])
# Published for 21 classes: the probability, its fraction of the limit, and b/a, by length of the scribbles.
PUBLISHED = [
    (0.944, 0.9912, 0.186),
    (0.946, 0.9933, 0.142),
    (0.9514, 0.99897, 0.0217),
    (0.9516, 0.99918, 0.0172),
    (0.9522, 0.99981, 0.0040),
]


def logits_of(q: float, num_classes: int) -> torch.Tensor:
    """Logits whose softmax is q for class 0 and alike for the others."""
    rest = torch.full((num_classes - 1,), math.log((1 - q) / (num_classes - 1)), dtype=torch.float64)
    return torch.cat([torch.tensor([math.log(q)], dtype=torch.float64), rest])[None]


def pull(q: float, num_classes: int, eps: float) -> float:
    """The gradient of the loss by the logit of its label, with ``eps`` a probability."""
    logits = logits_of(q, num_classes).requires_grad_()
    robust_cross_entropy(logits, LABEL, eps).backward()
    assert logits.grad is not None
    return float(logits.grad[0, 0])


# ---- closed forms -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("probability", "limit", "weight"), PUBLISHED)
def test_published_levels_in_each_unit(probability, limit, weight):
    assert convert_eps(probability, 21, "probability", "limit") == pytest.approx(limit, abs=6e-6)
    assert convert_eps(probability, 21, "probability", "weight") == pytest.approx(weight, rel=0.02)


def test_the_same_fraction_of_the_limit_is_a_smaller_weight_of_fewer_classes():
    weights = [convert_eps(0.9912, num_classes, "limit", "weight") for num_classes in (21, 4, 2)]
    assert weights == pytest.approx([21 * 0.0088 / 0.9912, 4 * 0.0088 / 0.9912, 2 * 0.0088 / 0.9912])
    assert weights == pytest.approx([0.186, 0.0355, 0.0178], rel=3e-3)
    limits = [convert_eps(weights[0], num_classes, "weight", "limit") for num_classes in (21, 4, 2)]
    assert limits == pytest.approx([0.9912, 0.955, 0.915], rel=6e-4)


@pytest.mark.parametrize("num_classes", [2, 3, 21, 255])
@pytest.mark.parametrize(("unit", "to"), PAIRS)
def test_units_are_exact_there_and_back(unit, to, num_classes):
    """In rational numbers, in which nothing is rounded."""
    for level in (Fraction(1, 1000), Fraction(1, 3), Fraction(4, 9)):
        there = convert_eps(level, num_classes, unit, to)
        assert isinstance(there, Fraction)
        assert convert_eps(there, num_classes, to, unit) == level


@pytest.mark.parametrize(("unit", "to"), PAIRS)
@pytest.mark.parametrize(("probability", "limit", "weight"), PUBLISHED)
def test_floating_point_keeps_twelve_digits_there_and_back(unit, to, probability, limit, weight):
    level = {"probability": probability, "limit": limit, "weight": weight}[unit]
    there = convert_eps(level, 21, unit, to)
    assert convert_eps(there, 21, to, unit) == pytest.approx(level, rel=1e-12 if unit != "weight" else 1e-11)


def test_no_noise_is_the_weight_infinity():
    for unit in ("probability", "limit"):
        assert convert_eps(0.0, 4, unit, "weight") == math.inf
        assert convert_eps(math.inf, 4, "weight", unit) == 0


# ---- what each unit keeps -----------------------------------------------------------------------------------


@pytest.mark.parametrize("num_classes", [2, 4, 21])
def test_the_weight_keeps_the_loss_but_for_a_constant(num_classes):
    rho, q = 0.186, torch.tensor([1e-6, 0.1, 0.4, 0.9, 0.999], dtype=torch.float64)
    eps = convert_eps(rho, num_classes, "weight")
    losses = torch.stack([robust_cross_entropy(logits_of(float(each), num_classes), LABEL, eps) for each in q])
    torch.testing.assert_close(losses - losses[0], torch.log1p(rho * q[0]) - torch.log1p(rho * q))


@pytest.mark.parametrize("rho", [0.004, 0.186, 3.0])
@pytest.mark.parametrize("num_classes", [2, 4, 21])
def test_the_pull_relative_to_cross_entropy_is_the_weight_times_q_as_q_vanishes(num_classes, rho):
    eps = convert_eps(rho, num_classes, "weight")
    for q in (1e-9, 0.01, 0.5, 1 - 1e-6):
        relative = pull(q, num_classes, eps) / pull(q, num_classes, 0.0)
        assert relative == pytest.approx(rho * q / (1 + rho * q), rel=1e-6)
    assert pull(1e-9, num_classes, eps) / pull(1e-9, num_classes, 0.0) / 1e-9 == pytest.approx(rho, rel=1e-6)


def test_the_limit_keeps_how_often_a_label_says_nothing():
    for num_classes in (2, 4, 21):
        noise = uniform_noise(num_classes, convert_eps(0.9, num_classes, "limit"))
        expected = 0.1 * torch.eye(num_classes, dtype=torch.float64) + 0.9 / num_classes
        torch.testing.assert_close(noise, expected)


def test_the_probability_keeps_how_often_a_label_is_wrong():
    assert convert_eps(0.4, 3, "probability") == convert_eps(0.4, 21, "probability") == 0.4


# ---- errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("eps", "unit", "words"),
    [
        (0.75, "probability", r"`eps` must be at least 0 and below \(K-1\)/K = 0\.75 for 4 classes, got 0\.75"),
        (-0.1, "probability", r"`eps` must be at least 0 and below \(K-1\)/K"),
        (1.0, "limit", r"`eps` must be at least 0 and below 1, got 1\.0; with `eps_unit: limit`"),
        (-0.1, "limit", r"`eps` must be at least 0 and below 1, got -0\.1"),
        (math.nan, "limit", r"`eps` must be at least 0 and below 1, got nan"),
        (0.0, "weight", r"`eps` must be above 0, got 0\.0; with `eps_unit: weight`"),
        (-2.0, "weight", r"`eps` must be above 0, got -2\.0"),
        (math.nan, "weight", "`eps` must be above 0, got nan"),
        (0.5, "share", "`eps_unit` must be one of 'probability', 'limit', 'weight', got 'share'"),
    ],
)
def test_levels_out_of_range_are_refused_in_words_of_their_unit(eps, unit, words):
    with pytest.raises(ValueError, match=words):
        convert_eps(eps, 4, unit)


def test_other_mistakes_are_named():
    with pytest.raises(ValueError, match="`to` must be one of"):
        convert_eps(0.5, 4, "limit", "share")
    with pytest.raises(ValueError, match="at least 2 classes"):
        convert_eps(0.5, 1, "weight")
