import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from weakseg_lightning.hyperparameters import describe
from weakseg_lightning.losses import GatedCRFLoss, GaussianKernel, gated_crf_loss

KERNELS = [GaussianKernel(0.9, 3.0, 0.2), GaussianKernel(0.3, 1.5, None)]


def example(height: int = 5, width: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    valid = torch.rand(2, height, width) < 0.8
    return torch.randn(2, 3, height, width, dtype=torch.float64), torch.rand(2, 3, height, width).double(), valid


def by_hand(logits: Tensor, image: Tensor, valid: Tensor, source: Tensor, radius: int) -> float:
    """From the definition, one ordered pair of pixels after the other."""
    total = 0.0
    for s, rgb, into, out_of in zip(logits.softmax(1), image, valid, source & valid, strict=True):
        height, width = into.shape
        pixels = [(y, x) for y in range(height) for x in range(width)]
        for p in pixels:
            for q in pixels:
                far = max(abs(p[0] - q[0]), abs(p[1] - q[1]))
                if not (0 < far <= radius and into[p] and out_of[q]):
                    continue
                distance2 = (p[0] - q[0]) ** 2 + (p[1] - q[1]) ** 2
                contrast = float((rgb[:, *p] - rgb[:, *q]).square().sum())
                kernel = 0.9 * math.exp(-distance2 / (2 * 3.0**2) - contrast / (2 * 0.2**2))
                kernel += 0.3 * math.exp(-distance2 / (2 * 1.5**2))
                total += kernel * (1 - float((s[:, *p] * s[:, *q]).sum()))
    return total / int(valid.sum())


@pytest.mark.parametrize("radius", [1, 2, 9])
def test_value_equals_hand_count(radius: int) -> None:
    logits, image, valid = example()
    source = torch.rand(valid.shape) < 0.5
    arguments = (2.0, KERNELS, radius, 1)
    everywhere = torch.ones_like(valid)
    expected = 2 * by_hand(logits, image, valid, source, radius)
    assert float(gated_crf_loss(logits, image, *arguments, valid, source)) == pytest.approx(expected)
    expected = 2 * by_hand(logits, image, everywhere, everywhere, radius)
    assert float(gated_crf_loss(logits, image, *arguments)) == pytest.approx(expected)


def test_a_smaller_map_has_the_means_of_its_cells() -> None:
    logits, image, _ = example(12, 8)
    pooled = functional.avg_pool2d(logits.softmax(1), 4).log()
    expected = gated_crf_loss(pooled, functional.avg_pool2d(image, 4), 1.0, downscale=1)
    torch.testing.assert_close(gated_crf_loss(logits, image, 1.0), expected)


def test_gradient_agrees_with_finite_differences() -> None:
    logits, image, valid = example(5, 7)
    loss = lambda f: gated_crf_loss(f, image, 1.0, KERNELS, 2, 2, valid)  # noqa: E731
    assert torch.autograd.gradcheck(loss, (logits.requires_grad_(),))


def test_one_label_everywhere_costs_nothing() -> None:
    logits = torch.zeros(1, 3, 8, 8)
    logits[:, 1] = 99
    assert gated_crf_loss(logits, torch.rand(1, 3, 8, 8), downscale=1) == 0


@pytest.mark.parametrize("downscale", [1, 2])
def test_padding_has_no_influence(downscale: int) -> None:
    logits, image, _ = example(6, 8)
    valid = torch.zeros(2, 6, 8, dtype=torch.bool)
    valid[:, :4, :5] = True
    values = []
    for noise in (0.0, 1.0):
        f = torch.where(valid[:, None], logits, 9 * noise).requires_grad_()
        loss = gated_crf_loss(f, torch.where(valid[:, None], image, noise), 1.0, downscale=downscale, valid=valid)
        loss.backward()
        assert not f.grad.masked_select(~valid[:, None]).any()
        values.append(float(loss.detach()))
    width = 5 if downscale == 1 else 4
    alone = gated_crf_loss(logits[..., :4, :width], image[..., :4, :width], 1.0, downscale=downscale)
    assert values[0] == values[1] == pytest.approx(float(alone))


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (3, 1)])
def test_degenerate_shapes_are_finite(shape: tuple[int, int]) -> None:
    logits = torch.randn(1, 2, *shape, requires_grad=True)
    loss = gated_crf_loss(logits, torch.rand(1, 3, *shape), downscale=1)
    loss.backward()
    assert torch.isfinite(loss)
    assert shape != (1, 1) or loss == 0
    assert gated_crf_loss(logits, torch.rand(1, 3, *shape), valid=torch.zeros(1, *shape, dtype=torch.bool)) == 0


def test_class_equals_function() -> None:
    logits, image, valid = example(9, 8)
    loss = GatedCRFLoss(0.3, KERNELS, 3, 2)
    assert torch.equal(loss(logits, image, valid), gated_crf_loss(logits, image, 0.3, KERNELS, 3, 2, valid))
    assert describe(loss)["init_args"]["kernels"] == [
        {"weight": 0.9, "sigma_xy": 3.0, "sigma_rgb": 0.2},
        {"weight": 0.3, "sigma_xy": 1.5, "sigma_rgb": None},
    ]
    published = gated_crf_loss(logits, image, 0.1, [GaussianKernel(1.0, 6.0, 0.1)], 5, 4, valid)
    assert torch.equal(GatedCRFLoss()(logits, image, valid), published)
    assert torch.equal(gated_crf_loss(logits, image, valid=valid), published)


def test_wrong_arguments_are_explained() -> None:
    with pytest.raises(ValueError, match="`sigma_rgb` must be finite and above 0, got 0"):
        GaussianKernel(sigma_rgb=0.0)
    with pytest.raises(ValueError, match="`weight` must be finite and at least 0"):
        GaussianKernel(weight=-0.1)
