from math import log

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from weakseg_lightning.losses import (
    absence_loss,
    decomposition,
    imagelet_loss,
    mask_loss,
    recompose,
    reconstruction_loss,
)


def logit(probability: float) -> float:
    return log(probability / (1 - probability))


def two_by_one() -> tuple[Tensor, Tensor, Tensor]:
    """Masks of two classes over two pixels, flat per-class images, and which pixels count."""
    masks = torch.tensor([[[[0.25, 1.0]], [[0.75, 0.0]]]])
    imagelets = torch.zeros(1, 2, 3, 1, 2)
    imagelets[:, 0], imagelets[:, 1] = 0.8, 0.4
    return masks, imagelets, torch.ones(1, 1, 2, dtype=torch.bool)


def test_recomposition_and_its_error_by_hand() -> None:
    masks, imagelets, valid = two_by_one()
    # 0.25 * 0.8 + 0.75 * 0.4 = 0.5, and 0.8
    torch.testing.assert_close(recompose(masks, imagelets)[0, 0, 0], torch.tensor([0.5, 0.8]))
    image = torch.full((1, 3, 1, 2), 0.7)
    assert reconstruction_loss(masks, imagelets, image, valid).item() == pytest.approx((0.04 + 0.01) / 2)
    valid[..., 1] = False
    assert reconstruction_loss(masks, imagelets, image, valid).item() == pytest.approx(0.04)
    assert reconstruction_loss(masks, imagelets, image, valid & False).item() == 0


def test_mask_loss_by_hand() -> None:
    masks, _, valid = two_by_one()  # areas 0.625 and 0.375
    present = mask_loss(masks, torch.tensor([[True, True]]), valid)
    assert present.item() == pytest.approx(-(log(0.625) + log(0.375)) / 2, abs=1e-5)
    absent = mask_loss(masks, torch.tensor([[True, False]]), valid)
    assert absent.item() == pytest.approx(-(log(0.625) + log(0.625)) / 2, abs=1e-5)
    released = mask_loss(masks, torch.tensor([[True, False]]), valid, "released")
    assert released.item() == pytest.approx(2 * absent.item())
    valid[..., 1] = False  # areas 0.25 and 0.75
    assert mask_loss(masks, torch.tensor([[True, False]]), valid).item() == pytest.approx(-log(0.25), abs=1e-5)


def test_with_known_areas_the_mask_loss_is_least_at_these_areas() -> None:
    areas, valid = torch.tensor([[0.7, 0.2, 0.1]]), torch.ones(1, 4, 4, dtype=torch.bool)
    free = torch.zeros(1, 3, 4, 4, requires_grad=True)
    optimizer = torch.optim.LBFGS([free], max_iter=200)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = mask_loss(free.softmax(1), areas, valid)
        loss.backward()
        return loss

    optimizer.step(closure)
    torch.testing.assert_close(free.softmax(1).mean((2, 3)), areas, atol=1e-3, rtol=0)


def test_a_mask_without_pixels_has_a_finite_loss_and_gradient() -> None:
    masks = torch.tensor([[[[1.0]], [[0.0]]]], requires_grad=True)
    loss = mask_loss(masks, torch.tensor([[True, True]]), torch.ones(1, 1, 1, dtype=torch.bool))
    loss.backward()
    assert loss.isfinite()
    assert masks.grad.isfinite().all()


SCORES = torch.tensor([[[logit(0.1), logit(0.2)], [logit(0.7), logit(0.4)], [logit(0.3), logit(0.6)]]])
"""Logits of g for the per-class images of background, class 1 and class 2, of the classes 1 and 2."""


def test_imagelet_loss_by_hand() -> None:
    tags = torch.tensor([[True, True, False]])
    background = -log(0.9) - log(0.8)
    first = -log(0.7) - log(1 - 0.4)
    second = -log(1 - 0.3)  # absent: g_2 is not asked for, and not refused either
    assert imagelet_loss(SCORES, tags).item() == pytest.approx((background + first + second) / 3)
    released = (background + first + second - log(1 - 0.6)) / 3 / 2  # the mean over g_1 and g_2
    assert imagelet_loss(SCORES, tags, "released").item() == pytest.approx(released)
    shown = torch.tensor([[True, True, False]])
    assert imagelet_loss(SCORES, tags, shown=shown).item() == pytest.approx((background + first) / 3)


def test_imagelet_loss_of_one_class_is_that_of_the_report() -> None:
    """K = 2: the dog's per-class image must show a dog, the background's none."""
    scores = torch.tensor([[[logit(0.2)], [logit(0.7)]]])
    assert imagelet_loss(scores, torch.tensor([[True, True]])).item() == pytest.approx(-(log(0.8) + log(0.7)) / 2)
    assert imagelet_loss(scores, torch.tensor([[True, False]])).item() == pytest.approx(-log(0.8) / 2)


def test_the_released_imagelet_loss_of_four_classes_is_the_mean_binary_cross_entropy() -> None:
    """Each per-class image is a picture whose only tag is its class, if that is there; g has K - 1 = 3 outputs."""
    scores = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    tags = torch.tensor([[1, 1, 0, 1], [1, 0, 0, 1]]).bool()
    wanted = torch.zeros(2, 4, 3)
    for image, label in ((0, 1), (0, 3), (1, 3)):
        wanted[image, label, label - 1] = 1
    expected = functional.binary_cross_entropy_with_logits(scores, wanted)
    assert imagelet_loss(scores, tags, "released").item() == pytest.approx(expected.item())
    absent = functional.softplus(scores)[[0, 1, 1], [2, 1, 2], [1, 0, 1]].sum()  # g_k of absent classes k
    assert imagelet_loss(scores, tags).item() == pytest.approx(3 * expected.item() - absent.item() / (2 * 4))


@pytest.mark.parametrize("tag", [True, False])
def test_with_one_foreground_class_sum_and_mean_of_the_outputs_are_one(tag: bool) -> None:
    scores = torch.tensor([[[logit(0.2)], [logit(0.7)]]])
    released = imagelet_loss(scores, torch.tensor([[True, tag]]), "released")
    assert released.item() == pytest.approx((-log(0.8) - log(0.7 if tag else 0.3)) / 2)


def test_absence_loss_by_hand_and_weighted() -> None:
    masks, _, valid = two_by_one()
    there, absent = torch.tensor([[True, True]]), torch.tensor([[True, False]])
    one = torch.ones(1)
    assert absence_loss(masks, there, valid, one).item() == 0
    assert absence_loss(masks, absent, valid, one).item() == pytest.approx(-log(0.25) / 2, abs=1e-5)
    assert absence_loss(masks, absent, valid, 3 * one).item() == pytest.approx(-3 * log(0.25) / 2, abs=1e-5)
    both = torch.cat([masks, masks])
    two = absence_loss(both, torch.cat([there, absent]), torch.cat([valid, valid]), torch.tensor([5.0, 1.0]))
    assert two.item() == pytest.approx(-log(0.25) / 4, abs=1e-5)


def test_a_small_confident_false_positive_costs_more_than_its_area_says() -> None:
    masks = torch.zeros(1, 2, 10, 10)
    masks[:, 1, 0, 0] = 0.999
    masks[:, 0] = 1 - masks[:, 1]
    absent, valid = torch.tensor([[True, False]]), torch.ones(1, 10, 10, dtype=torch.bool)
    assert absence_loss(masks, absent, valid, torch.ones(1)) > 3 * mask_loss(masks, absent, valid)


@pytest.mark.parametrize("variant", ["report", "released"])
def test_gradients(variant: decomposition.Variant) -> None:
    generator = torch.Generator().manual_seed(0)
    free = torch.randn(2, 3, 4, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    painted = torch.rand(2, 3, 3, 4, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    image = torch.rand(2, 3, 4, 4, dtype=torch.float64, generator=generator)
    scores = torch.randn(2, 3, 2, dtype=torch.float64, generator=generator, requires_grad=True)
    valid, tags = torch.rand(2, 4, 4, generator=generator) > 0.3, torch.tensor([[1, 1, 0], [1, 0, 1]]).bool()
    weights = torch.ones(2, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda f, x: reconstruction_loss(f.softmax(1), x, image, valid), (free, painted))
    assert torch.autograd.gradcheck(lambda f: mask_loss(f.softmax(1), tags, valid, variant), free)
    assert torch.autograd.gradcheck(lambda f: absence_loss(f.softmax(1), tags, valid, weights), free)
    assert torch.autograd.gradcheck(lambda s: imagelet_loss(s, tags, variant), scores)
