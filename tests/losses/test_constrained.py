import math

import pytest
import torch

from weakseg_lightning.losses import kl_loss


def by_hand(logits: torch.Tensor, latent: torch.Tensor, valid: torch.Tensor) -> float:
    """Mean over images of the mean over pixels, written as plain loops."""
    images = []
    for b in range(logits.shape[0]):
        pixels = []
        for y, x in valid[b].nonzero().tolist():
            scores = [float(s) for s in logits[b, :, y, x]]
            total = math.log(sum(math.exp(s) for s in scores))
            shares = [float(p) for p in latent[b, :, y, x]]
            pixels.append(sum(p * (math.log(p) - s + total) for p, s in zip(shares, scores, strict=True) if p > 0))
        if pixels:
            images.append(sum(pixels) / len(pixels))
    return sum(images) / max(len(images), 1)


def random_pair(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and latent distributions with zeros."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 5, 3, generator=generator, dtype=dtype)
    latent = torch.rand(3, 4, 5, 3, generator=generator, dtype=dtype) - 0.3
    latent[:, 0] += 0.5
    latent = latent.clamp(min=0)
    return logits, latent / latent.sum(1, keepdim=True)


def test_equals_hand_count():
    logits, latent = random_pair()
    valid = torch.ones(3, 5, 3, dtype=torch.bool)
    assert float(kl_loss(logits, latent)) == pytest.approx(by_hand(logits, latent, valid), rel=1e-9)
    valid[0, 2:], valid[1] = False, False
    assert float(kl_loss(logits, latent, valid)) == pytest.approx(by_hand(logits, latent, valid), rel=1e-9)


def test_gradient_is_difference_of_distributions_over_count():
    logits, latent = random_pair()
    logits.requires_grad_(True)
    latent.requires_grad_(True)
    kl_loss(logits, latent).backward()
    assert latent.grad is None
    torch.testing.assert_close(logits.grad, ((logits.softmax(1) - latent) / 15 / 3).detach())


def test_zero_at_the_softmax_itself():
    logits, _ = random_pair(torch.float32)
    assert kl_loss(logits, logits.softmax(1)).item() == pytest.approx(0, abs=1e-7)


def test_images_without_a_latent_label_give_zero_with_zero_gradient():
    logits, latent = random_pair()
    logits = logits.requires_grad_(True)
    loss = kl_loss(logits, 0 * latent)
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()


def test_padding_and_unsolved_images_are_left_out_whatever_their_logits():
    logits, latent = random_pair()
    expected = kl_loss(logits[1:, :, :4], latent[1:, :, :4])
    latent[0], latent[:, :, 4] = 0, 0
    logits[0] = torch.nan
    logits[:, :, 4] = torch.inf
    logits.requires_grad_(True)
    loss = kl_loss(logits, latent)
    loss.backward()
    torch.testing.assert_close(loss, expected)
    assert logits.grad.isfinite().all()
    assert not logits.grad[0].any()


def test_compiles():
    logits, latent = random_pair()
    compiled = torch.compile(kl_loss, backend="aot_eager")
    torch.testing.assert_close(compiled(logits, latent), kl_loss(logits, latent))


def test_shapes_that_do_not_fit():
    logits, latent = random_pair()
    with pytest.raises(ValueError, match="`probabilities` must have the shape"):
        kl_loss(logits, latent[:, :3])
    with pytest.raises(ValueError, match="`valid` must be a bool"):
        kl_loss(logits, latent, torch.ones(3, 5, 3))
