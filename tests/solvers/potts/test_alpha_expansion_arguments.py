"""What `AlphaExpansion` says to wrong arguments."""

import pytest
import torch

from weakseg_lightning.solvers import AlphaExpansion


def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 4, 20, 24, generator=generator), torch.rand(3, 3, 20, 24, generator=generator)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"unary_weight": -1.0}, "`unary_weight` must be finite and at least 0, got -1.0"),
        ({"unary_weight": float("nan")}, "`unary_weight`"),
        ({"max_sweeps": 0}, "`max_sweeps` must be at least 1, got 0"),
        ({"start": "one"}, "`start` must be one of 'coarse', 'argmin', 'zeros', 'initial', got 'one'"),
        ({"num_threads": 0}, "`num_threads` must be at least 1"),
    ],
)
def test_wrong_constructor_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        AlphaExpansion(**arguments)


PLANE = (3, 20, 24)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"logits": torch.zeros(3, 20, 24)}, "`logits` must be a float"),
        ({"logits": torch.zeros(3, 4, 20, 24, dtype=torch.int64)}, "`logits` must be a float"),
        ({"logits": torch.zeros(3, 256, 20, 24)}, "`logits` must be .* 1 to 255 classes"),
        ({"image": torch.zeros(3, 3, 20, 25)}, "`image` must be a float"),
        ({"image": torch.zeros(3, 3, 20, 24, dtype=torch.uint8)}, "`image` must be a float"),
        (
            {"image": torch.zeros(3, 3, 20, 24, device="meta")},
            "`image` must be on the device of `logits`, cpu, got meta",
        ),
        ({"seeds": torch.full(PLANE, 4)}, r"`seeds` must hold classes 0\.\.3 or 255, got 4"),
        ({"seeds": torch.full(PLANE, -1)}, r"`seeds` must hold classes 0\.\.3 or 255, got -1"),
        ({"seeds": torch.full(PLANE, 256)}, r"`seeds` must hold classes 0\.\.3 or 255, got 256"),
        ({"seeds": torch.zeros(PLANE)}, "`seeds` must be an integer"),
        ({"seeds": torch.zeros(3, 24, 20, dtype=torch.int64)}, "`seeds` must be an integer"),
        ({"seeds": torch.zeros(PLANE, dtype=torch.int64, device="meta")}, "`seeds` must be on the device"),
        ({"valid": torch.ones(PLANE)}, "`valid` must be a bool"),
        ({"valid": torch.ones(3, 20, dtype=torch.bool)}, "`valid` must be a bool"),
        ({"label_set": torch.ones(3, 5, dtype=torch.bool)}, "`label_set` must be a bool"),
        ({"label_set": torch.ones(3, 4)}, "`label_set` must be a bool"),
        (
            {"label_set": torch.tensor([[True] * 4, [False] * 4, [False] * 4])},
            r"images \[1, 2\] of the batch have none",
        ),
    ],
)
def test_wrong_tensors(arguments, words):
    logits, image = batch()
    arguments = {"logits": logits, "image": image, **arguments}
    with pytest.raises(ValueError, match=words):
        AlphaExpansion().solve(**arguments)


def test_given_start_needs_a_labeling():
    logits, image = batch()
    with pytest.raises(ValueError, match="`initial` must be passed where `start` is 'initial'"):
        AlphaExpansion(start="initial").solve(logits, image)
    with pytest.raises(ValueError, match="`initial` must hold classes"):
        AlphaExpansion(start="initial").solve(logits, image, initial=torch.full(PLANE, 9))
