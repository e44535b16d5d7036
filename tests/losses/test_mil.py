import math

import pytest
import torch
from torch import Tensor

from weakseg_lightning.losses import mil_loss


def by_hand(logits: Tensor, tags: Tensor, valid: Tensor) -> float:
    """From the definition, in plain loops."""
    images = []
    for f, tagged, inside in zip(logits.tolist(), tags.tolist(), valid.tolist(), strict=True):
        pixels = [(y, x) for y, row in enumerate(inside) for x, good in enumerate(row) if good]
        labels = [label for label, there in enumerate(tagged) if there]
        if not pixels or not labels:
            continue
        total = 0.0
        for label in labels:
            probabilities = []
            for y, x in pixels:
                exponentials = [math.exp(plane[y][x]) for plane in f]
                probabilities.append(exponentials[label] / sum(exponentials))
            total -= math.log(max(probabilities))
        images.append(total / len(labels))
    return sum(images) / max(len(images), 1)


def example() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    tags = torch.tensor([[True, True, False, False], [True, False, True, True], [True, False, False, False]])
    valid = torch.rand(3, 5, 6) < 0.6
    return torch.randn(3, 4, 5, 6, dtype=torch.float64), tags, valid


def test_value_equals_hand_count() -> None:
    logits, tags, valid = example()
    assert float(mil_loss(logits, tags, valid)) == pytest.approx(by_hand(logits, tags, valid))
    everywhere = torch.ones_like(valid)
    assert float(mil_loss(logits, tags)) == pytest.approx(by_hand(logits, tags, everywhere))


def test_gradient_reaches_one_pixel_for_each_class() -> None:
    logits = torch.zeros(1, 3, 1, 4)
    logits[0, 0, 0, 3] = logits[0, 2, 0, 1] = 5
    logits.requires_grad_()
    mil_loss(logits, torch.tensor([[True, False, True]])).backward()
    assert logits.grad.abs().sum((0, 1, 2)).nonzero().flatten().tolist() == [1, 3]
    expected = (logits.detach().softmax(1)[0, :, 0, 1] - torch.tensor([0, 0, 1])) / 2
    torch.testing.assert_close(logits.grad[0, :, 0, 1], expected)


def test_of_equals_the_first_takes_the_gradient() -> None:
    logits = torch.zeros(1, 2, 3, 3, requires_grad=True)
    mil_loss(logits, torch.tensor([[False, True]])).backward()
    assert logits.grad[0, 1].nonzero().tolist() == [[0, 0]]


def test_padding_is_never_chosen() -> None:
    logits, tags, valid = example()
    changed = torch.where(valid[:, None], logits, 50 * torch.randn_like(logits)).requires_grad_()
    loss = mil_loss(changed, tags, valid)
    assert loss.item() == pytest.approx(float(mil_loss(logits, tags, valid)))
    loss.backward()
    assert not changed.grad.masked_select(~valid[:, None]).any()


def test_images_without_pixels_or_classes_count_for_nothing() -> None:
    logits, tags, valid = example()
    valid[1], tags[2] = False, False
    logits.requires_grad_()
    loss = mil_loss(logits, tags, valid)
    assert loss.item() == pytest.approx(by_hand(logits[:1].detach(), tags[:1], valid[:1]))
    loss.backward()
    assert not logits.grad[1:].any()


@pytest.mark.parametrize(
    ("tags", "valid", "message"),
    [
        (torch.ones(1, 2, dtype=torch.bool), None, r"`tags` must be bool \(B, K\) = \(1, 3\)"),
        (torch.ones(1, 3), None, r"`tags` must be bool .* got torch.float32"),
        (
            torch.ones(1, 3, dtype=torch.bool),
            torch.ones(1, 4, 5, dtype=torch.bool),
            r"`valid` must be a bool \(1, 4, 4",
        ),
        (torch.ones(1, 3, dtype=torch.bool), torch.ones(1, 4, 4), r"`valid` must be a bool .* got torch.float32"),
    ],
)
def test_wrong_shapes_are_explained(tags: Tensor, valid: Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mil_loss(torch.zeros(1, 3, 4, 4), tags, valid)
