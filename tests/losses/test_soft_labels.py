import math

import pytest
import torch
from torch import Tensor

from weakseg_lightning.losses import (
    CollisionCrossEntropy,
    collision_cross_entropy,
    kl_loss,
    link_loss,
    partial_cross_entropy,
    robust_cross_entropy,
)

LINKS = ["collision", "cross_entropy", "reverse"]


def random_pair(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Logits, and soft labels of which some are 0."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 5, 3, generator=generator, dtype=dtype)
    soft = (torch.rand(3, 4, 5, 3, generator=generator, dtype=dtype) - 0.3).clamp(min=0)
    soft[:, 0] += 0.2
    return logits, soft / soft.sum(1, keepdim=True)


def by_hand(logits: Tensor, soft: Tensor, pixels: Tensor, link: str) -> float:
    """Mean over the pixels, written as plain loops."""
    values = []
    for b, y, x in pixels.nonzero().tolist():
        s, t = logits[b, :, y, x].softmax(0).tolist(), soft[b, :, y, x].tolist()
        both = list(zip(s, t, strict=True))
        if link == "collision":
            values.append(-math.log(sum(p * q for p, q in both)))
        elif link == "cross_entropy":
            values.append(-sum(q * math.log(p) for p, q in both))
        else:
            values.append(-sum(p * math.log(max(q, 1e-6)) for p, q in both))
    return sum(values) / len(values)


@pytest.mark.parametrize("link", LINKS)
def test_equals_hand_count(link: str) -> None:
    logits, soft = random_pair()
    pixels = torch.rand(3, 5, 3, generator=torch.Generator().manual_seed(1)) < 0.6
    assert float(link_loss(logits, soft, pixels, link)) == pytest.approx(by_hand(logits, soft, pixels, link))
    everywhere = torch.ones_like(pixels)
    assert float(link_loss(logits, soft, link=link)) == pytest.approx(by_hand(logits, soft, everywhere, link))
    if link == "collision":
        assert torch.equal(CollisionCrossEntropy()(logits, soft, pixels), link_loss(logits, soft, pixels))


def test_gradients_by_the_logits_in_closed_form() -> None:
    logits, soft = random_pair()
    s = logits.softmax(1)
    expected = {
        "collision": s - s * soft / (s * soft).sum(1, keepdim=True),
        "cross_entropy": s - soft,
        "reverse": s * ((s * soft.clamp(min=1e-6).log()).sum(1, keepdim=True) - soft.clamp(min=1e-6).log()),
    }
    logits.requires_grad_()
    soft.requires_grad_()
    for link, gradient in expected.items():
        (found,) = torch.autograd.grad(link_loss(logits, soft, link=link), logits)
        torch.testing.assert_close(found, (gradient / 45).detach())
        with pytest.raises(RuntimeError, match="not have been used"):
            torch.autograd.grad(link_loss(logits, soft, link=link), soft)


def test_one_hot_labels_give_the_negative_log_likelihood() -> None:
    logits, soft = random_pair()
    labels = soft.argmax(1)
    hard = torch.nn.functional.one_hot(labels, 4).permute(0, 3, 1, 2).double()
    expected = partial_cross_entropy(logits.float(), labels).double()
    for link in ("collision", "cross_entropy"):
        torch.testing.assert_close(link_loss(logits, hard, link=link), expected, rtol=1e-5, atol=1e-6)


def test_labels_that_are_wrong_with_some_probability_give_the_robust_loss() -> None:
    logits, soft = random_pair()
    labels, eps = soft.argmax(1), 0.3
    softened = torch.full_like(soft, eps / 3).scatter(1, labels[:, None], 1 - eps)
    torch.testing.assert_close(collision_cross_entropy(logits, softened), robust_cross_entropy(logits, labels, eps))


def test_collision_is_symmetric_and_uniform_labels_teach_nothing() -> None:
    logits, other = random_pair()[0], random_pair()[0].flip(0)
    there, back = collision_cross_entropy(logits, other.softmax(1)), collision_cross_entropy(other, logits.softmax(1))
    torch.testing.assert_close(there, back)
    logits.requires_grad_()
    loss = collision_cross_entropy(logits, torch.full_like(logits, 0.25).detach())
    assert loss.item() == pytest.approx(math.log(4))
    loss.backward()
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-16


@pytest.mark.parametrize("link", LINKS)
def test_pixels_that_do_not_count_are_left_out_whatever_stands_there(link: str) -> None:
    logits, soft = random_pair()
    pixels = torch.ones(3, 5, 3, dtype=torch.bool)
    expected = link_loss(logits[1:, :, :3], soft[1:, :, :3], link=link)
    logits[0], soft[0] = torch.nan, 0.0  # a pixel without any label says nothing, although it is asked for
    pixels[:, 3:], logits[:, :, 3], soft[:, :, 4] = False, torch.inf, torch.nan
    logits.requires_grad_()
    loss = link_loss(logits, soft, pixels, link)
    loss.backward()
    torch.testing.assert_close(loss, expected)
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert not logits.grad[0].any()


def test_images_can_count_alike_whatever_their_pixels() -> None:
    logits, soft = random_pair()
    pixels = torch.ones(3, 5, 3, dtype=torch.bool)
    pixels[0, 1:], pixels[2] = False, False
    means = [by_hand(logits[b : b + 1], soft[b : b + 1], pixels[b : b + 1], "collision") for b in range(2)]
    assert float(collision_cross_entropy(logits, soft, pixels, "images")) == pytest.approx(sum(means) / 2)
    # then cross-entropy is the divergence of constrained CNNs but for the entropy of the labels
    entropy = torch.special.entr(soft[:2]).sum(1)
    constant = (entropy * pixels[:2]).flatten(1).sum(1) / pixels[:2].flatten(1).sum(1)
    divergence = kl_loss(logits, soft, pixels)
    torch.testing.assert_close(link_loss(logits, soft, pixels, "cross_entropy", "images"), divergence + constant.mean())


def test_wrong_arguments() -> None:
    logits, soft = random_pair()
    with pytest.raises(ValueError, match="`link` must be one of 'collision', 'cross_entropy', 'reverse', got 'kl'"):
        link_loss(logits, soft, link="kl")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`average` must be one of 'pixels', 'images'"):
        CollisionCrossEntropy("batch")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`distribution` must have the shape"):
        link_loss(logits, soft[:, :2])
    with pytest.raises(ValueError, match="`pixels` must be a bool"):
        link_loss(logits, soft, torch.ones(3, 5, 3))
