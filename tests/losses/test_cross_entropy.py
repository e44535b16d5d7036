import math

import pytest
import torch

from weakseg_lightning.losses import latent_cross_entropy, partial_cross_entropy


def by_hand(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Mean of -log softmax over labeled pixels, written as plain loops."""
    total, count = 0.0, 0
    for b in range(labels.shape[0]):
        for y in range(labels.shape[1]):
            for x in range(labels.shape[2]):
                label = int(labels[b, y, x])
                if label == 255:
                    continue
                scores = [float(s) for s in logits[b, :, y, x]]
                total += math.log(sum(math.exp(s) for s in scores)) - scores[label]
                count += 1
    return total / max(count, 1)


def test_partial_cross_entropy_equals_hand_count() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 5, 3, dtype=torch.float64)
    labels = torch.randint(0, 4, (2, 5, 3))
    labels[0, :3] = 255
    assert float(partial_cross_entropy(logits, labels)) == pytest.approx(by_hand(logits, labels), rel=1e-5)


def test_gradient_is_softmax_minus_one_hot_over_count() -> None:
    logits = torch.randn(1, 3, 1, 2, requires_grad=True)
    partial_cross_entropy(logits, torch.tensor([[[2, 255]]])).backward()
    expected = logits.detach().softmax(1)
    expected[0, 2, 0, 0] -= 1
    expected[..., 1] = 0
    torch.testing.assert_close(logits.grad, expected)


def test_latent_cross_entropy_uses_the_given_pixels_and_skips_void() -> None:
    torch.manual_seed(1)
    logits = torch.randn(1, 3, 2, 3)
    latent = torch.tensor([[[0, 1, 2], [255, 1, 0]]], dtype=torch.uint8)
    pixels = torch.tensor([[[True, False, True], [True, True, False]]])
    labels = torch.tensor([[[0, 255, 2], [255, 1, 255]]])
    assert float(latent_cross_entropy(logits, latent, pixels)) == pytest.approx(by_hand(logits, labels), rel=1e-5)
