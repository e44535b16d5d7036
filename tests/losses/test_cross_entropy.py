import math

import pytest
import torch

from weakseg_lightning.losses import dice_loss, latent_cross_entropy, partial_cross_entropy


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


def test_dice_equals_a_count_by_hand_and_leaves_out_unlabeled_pixels() -> None:
    torch.manual_seed(2)
    logits = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    labels = torch.randint(0, 2, (2, 4, 5))  # class 2 is nowhere
    labels[0, 1:3] = 255
    pixels = [tuple(pixel) for pixel in (labels != 255).nonzero().tolist()]
    s = logits.softmax(1)
    total = 0.0
    for k in range(3):
        mass = sum(float(s[b, k, y, x]) for b, y, x in pixels)
        common = sum(float(s[b, k, y, x]) for b, y, x in pixels if labels[b, y, x] == k)
        size = sum(int(labels[pixel] == k) for pixel in pixels)
        total += 1 - (2 * common + 1e-5) / (mass + size + 1e-5)
    assert dice_loss(logits, labels).item() == pytest.approx(total / 3)
    changed = torch.where((labels == 255)[:, None], torch.nan, logits).requires_grad_()
    dice_loss(changed, labels).backward()
    assert not changed.grad.masked_select((labels == 255)[:, None]).any()


def test_dice_of_a_certain_labeling_is_right_or_wrong() -> None:
    labels = torch.tensor([[[0, 1, 1, 1]]])
    certain = torch.nn.functional.one_hot(labels, 2).movedim(3, 1) * 1e3
    assert dice_loss(certain, labels) == 0
    assert dice_loss(-certain, labels).item() == pytest.approx(1, abs=1e-4)
