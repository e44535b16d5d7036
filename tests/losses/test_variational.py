"""Entropy, length of contours and Mumford-Shah against closed forms, and counts by hand."""

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from weakseg_lightning.hyperparameters import describe
from weakseg_lightning.losses import (
    EntropyLoss,
    MumfordShahLoss,
    Regularizer,
    TotalVariationLoss,
    entropy_loss,
    mumford_shah_loss,
    total_variation_loss,
)

REGULARIZERS = [EntropyLoss, TotalVariationLoss, MumfordShahLoss]


def example() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, 3, 5, 6, generator=generator, dtype=torch.float64)
    image = torch.rand(2, 3, 5, 6, generator=generator, dtype=torch.float64)
    return logits, image, torch.rand(2, 5, 6, generator=generator) < 0.8


def one_hot(rows: list[list[int]], classes: int) -> Tensor:
    """Scores that are certain of a labeling."""
    return torch.nn.functional.one_hot(torch.tensor([rows]), classes).movedim(3, 1) * 200.0


def around(pixel: tuple[int, int], valid: Tensor) -> list[tuple[int, int]]:
    """The valid pixels in the window of 3 x 3."""
    steps = product((-1, 0, 1), repeat=2)
    places = [(pixel[0] + dy, pixel[1] + dx) for dy, dx in steps]
    return [p for p in places if 0 <= p[0] < valid.shape[0] and 0 <= p[1] < valid.shape[1] and valid[p]]


def contours_by_hand(logits: Tensor, valid: Tensor) -> float:
    total = 0.0
    for s, inside in zip(logits.softmax(1), valid, strict=True):
        pixels = [tuple(p) for p in inside.nonzero().tolist()]
        for of_class in s:
            eroded = {p: min(float(of_class[q]) for q in around(p, inside)) for p in pixels}
            total += sum(max(eroded[q] for q in around(p, inside)) - eroded[p] for p in pixels)
    return total / logits.shape[1] / int(valid.sum())


def mumford_shah_by_hand(logits: Tensor, image: Tensor, valid: Tensor, mu: float, power: int) -> float:
    total = 0.0
    for s, rgb, inside in zip(logits.softmax(1), image, valid, strict=True):
        pixels = [tuple(p) for p in inside.nonzero().tolist()]
        neighbors = [(p, q) for p in pixels for q in ((p[0] + 1, p[1]), (p[0], p[1] + 1)) if q in pixels]
        for of_class in s:
            weights = {p: float(of_class[p]) for p in pixels}
            for channel in rgb:
                mean = sum(weights[p] * float(channel[p]) for p in pixels) / sum(weights.values())
                total += sum(weights[p] * (float(channel[p]) - mean) ** 2 for p in pixels) / 3
            total += mu * sum(abs(weights[p] - weights[q]) ** power for p, q in neighbors)
    return total / logits.shape[1] / int(valid.sum())


def test_entropy_has_its_closed_form() -> None:
    logits, _, valid = example()
    exact = torch.distributions.Categorical(logits=logits.movedim(1, 3)).entropy()[valid].mean() / math.log(3)
    torch.testing.assert_close(entropy_loss(logits, valid), exact)
    assert entropy_loss(torch.zeros(1, 7, 2, 2)).item() == pytest.approx(1)
    assert entropy_loss(one_hot([[0, 2]], 3)) == 0


def test_contours_equal_a_count_by_hand() -> None:
    logits, _, valid = example()
    assert total_variation_loss(logits, valid).item() == pytest.approx(contours_by_hand(logits, valid))
    everywhere = torch.ones_like(valid)
    assert total_variation_loss(logits).item() == pytest.approx(contours_by_hand(logits, everywhere))


def test_the_contour_of_a_square_is_its_rim_on_either_side() -> None:
    rows = [[int(2 <= y < 6 and 2 <= x < 6) for x in range(8)] for y in range(8)]
    # the square loses its rim, 16 - 4 pixels; the background that around it, 36 - 16
    assert total_variation_loss(one_hot(rows, 2)).item() == pytest.approx((12 + 20) / (2 * 64))


@pytest.mark.parametrize(("penalty", "power"), [("absolute", 1), ("quadratic", 2)])
def test_mumford_shah_equals_a_count_by_hand(penalty: str, power: int) -> None:
    logits, image, valid = example()
    found = mumford_shah_loss(logits, image, 0.7, penalty, valid).item()
    assert found == pytest.approx(mumford_shah_by_hand(logits, image, valid, 0.7, power))


def test_mumford_shah_of_a_labeling_is_the_variance_within_its_classes_and_its_boundary() -> None:
    logits, gray = one_hot([[0, 0, 1, 1]], 2), torch.tensor([0.1, 0.3, 0.5, 0.9])
    found = mumford_shah_loss(logits, gray.expand(1, 3, 1, 4), contour_weight=2.0)
    spread = 2 * 0.1**2 + 2 * 0.2**2
    assert found.item() == pytest.approx((spread + 2.0 * 2) / (2 * 4))


def test_means_that_are_constants_leave_the_gradient_right() -> None:
    logits, image, valid = example()
    loss = lambda f: mumford_shah_loss(f, image, 0.5, "quadratic", valid)  # noqa: E731
    assert torch.autograd.gradcheck(loss, (logits.requires_grad_(),))


@pytest.mark.parametrize("kind", REGULARIZERS)
def test_padding_has_no_influence(kind: type[Regularizer]) -> None:
    logits, image, _ = example()
    valid = torch.zeros(2, 5, 6, dtype=torch.bool)
    valid[:, :4, :3] = True
    values = []
    for noise in (0.0, 5.0, math.nan):
        f = torch.where(valid[:, None], logits, noise).requires_grad_()
        loss = kind()(f, torch.where(valid[:, None], image, noise), valid)
        loss.backward()
        assert not f.grad.masked_select(~valid[:, None]).any()
        values.append(loss.item())
    alone = kind()(logits[..., :4, :3], image[..., :4, :3]).item()
    assert values == pytest.approx([alone] * 3)


@pytest.mark.parametrize("kind", REGULARIZERS)
def test_weights_scale_and_are_written_down(kind: type[Regularizer]) -> None:
    logits, image, valid = example()
    torch.testing.assert_close(kind(3.0)(logits, image, valid), 3 * kind(1.0)(logits, image, valid))
    assert describe(kind(3.0))["init_args"]["weight"] == 3.0
    with pytest.raises(ValueError, match="`weight` must be finite and at least 0, got -1"):
        kind(-1.0)


@pytest.mark.parametrize("kind", REGULARIZERS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (3, 1)])
def test_degenerate_shapes_and_certain_scores_are_finite(kind: type[Regularizer], shape: tuple[int, int]) -> None:
    logits = (1e6 * torch.randn(1, 2, *shape)).requires_grad_()
    loss = kind()(logits, torch.rand(1, 3, *shape))
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


def test_options_of_mumford_shah_are_checked() -> None:
    with pytest.raises(ValueError, match="`contour_weight` must be finite and at least 0, got -2"):
        MumfordShahLoss(contour_weight=-2)
    with pytest.raises(ValueError, match="`penalty` must be one of 'absolute', 'quadratic', got 'l1'"):
        MumfordShahLoss(penalty="l1")
    with pytest.raises(ValueError, match=r"`logits` must be a float \(B, K, H, W\), got torch.float32 \(2, 3\)"):
        entropy_loss(torch.zeros(2, 3))
