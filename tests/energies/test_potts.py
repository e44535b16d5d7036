import math

import pytest
import torch

from weakseg_lightning.energies import (
    GridPotts,
    count_edges,
    neighbor_offsets,
    potts_energy,
    unary_energy,
    unary_potentials,
)


def loop_edges(valid, connectivity):
    """All edges of one image, pixel by pixel: (plane, y, x, y2, x2)."""
    height, width = valid.shape
    steps = {(0, 1): 0, (1, 0): 1, (1, 1): 2, (1, -1): 3}
    edges = []
    for y in range(height):
        for x in range(width):
            for (dy, dx), plane in steps.items():
                y2, x2 = y + dy, x + dx
                if plane >= connectivity // 2 or not (0 <= y2 < height and 0 <= x2 < width):
                    continue
                if valid[y, x] and valid[y2, x2]:
                    edges.append((plane, y, x, y2, x2))
    return edges


def loop_weights(image, valid, potts):
    edges = loop_edges(valid, potts.connectivity)
    contrast = [float(((image[:, y, x] - image[:, y2, x2]).double() ** 2).sum()) for _, y, x, y2, x2 in edges]
    sigma2 = sum(contrast) / len(contrast) if contrast else 0.0
    sigma2 = sigma2 or 1.0
    weights = torch.zeros(potts.connectivity // 2, *valid.shape, dtype=torch.float64)
    for (plane, y, x, y2, x2), c in zip(edges, contrast, strict=True):
        weights[plane, y, x] = potts.weight * math.exp(-c / (2 * sigma2)) / math.dist((y, x), (y2, x2))
    if potts.normalize_edges and edges:
        weights *= float(valid.sum()) / len(edges)
    return weights


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 1), (2, 2), (5, 7)])
@pytest.mark.parametrize("differentiable", [False, True])  # in compiled code, and in torch
def test_edge_weights_equal_a_count_by_hand(connectivity, normalize, size, differentiable):
    generator = torch.Generator().manual_seed(sum(size))
    image = torch.rand(3, 3, *size, generator=generator)
    valid = torch.rand(3, *size, generator=generator) < 0.8
    valid[0] = True
    potts = GridPotts(7.5, connectivity, normalize)
    weights = potts.edge_weights(image.requires_grad_(differentiable), valid).detach()
    assert weights.dtype == torch.float32
    assert weights.shape == (3, connectivity // 2, *size)
    for b in range(3):
        torch.testing.assert_close(
            weights[b].double(), loop_weights(image[b].detach(), valid[b], potts), rtol=2e-5, atol=1e-6
        )


def test_weights_ignore_what_stands_on_padding():
    image = torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    padded = torch.full((1, 3, 6, 9), float("nan"))
    padded[..., :4, :5] = image
    valid = torch.zeros(1, 6, 9, dtype=torch.bool)
    valid[:, :4, :5] = True
    potts = GridPotts(normalize_edges=True)
    weights = potts.edge_weights(padded, valid)
    torch.testing.assert_close(weights[..., :4, :5], potts.edge_weights(image))
    assert weights.count_nonzero() == weights[..., :4, :5].count_nonzero()


def test_sigma_belongs_to_each_image():
    image = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    image[1] *= 0.1
    weights = GridPotts().edge_weights(image)
    torch.testing.assert_close(weights[1:], GridPotts().edge_weights(image[1:]))
    # Contrast is measured against its mean, so that dimming an image changes nothing.
    torch.testing.assert_close(weights[1:], GridPotts().edge_weights(image[1:] * 10), rtol=1e-4, atol=1e-4)


def test_flat_image_has_the_full_weight():
    weights = GridPotts(weight=3.0).edge_weights(torch.full((1, 3, 3, 3), 0.4))
    assert weights[0, 0, 1, 1] == 3.0
    assert weights[0, 2, 1, 1] == pytest.approx(3.0 / math.sqrt(2))


def test_half_precision_image_and_autocast_give_float32():
    image = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(2))
    with torch.autocast("cpu", torch.bfloat16):
        weights = GridPotts().edge_weights(image)
        unary = unary_potentials(image)
    assert weights.dtype == unary.dtype == torch.float32
    torch.testing.assert_close(weights, GridPotts().edge_weights(image))
    assert GridPotts().edge_weights(image.half()).dtype == torch.float32


@pytest.mark.parametrize("connectivity", [4, 8])
def test_count_edges(connectivity):
    valid = torch.rand(4, 5, 6, generator=torch.Generator().manual_seed(3)) < 0.7
    expected = [len(loop_edges(v, connectivity)) for v in valid]
    assert count_edges(valid, connectivity).tolist() == expected
    assert count_edges(torch.ones(1, 1, 1, dtype=torch.bool), connectivity).tolist() == [0]


@pytest.mark.parametrize("connectivity", [4, 8])
def test_energies_of_a_labeling_equal_loops(connectivity):
    generator = torch.Generator().manual_seed(4)
    image = torch.rand(2, 3, 5, 6, generator=generator)
    logits = torch.randn(2, 4, 5, 6, generator=generator)
    labels = torch.randint(4, (2, 5, 6), generator=generator)
    valid = torch.rand(2, 5, 6, generator=generator) < 0.8
    labels[~valid] = 255
    potts = GridPotts(5.0, connectivity)
    unary = unary_potentials(logits, 2.0)
    pairwise, single = potts_energy(labels, potts.edge_weights(image, valid)), unary_energy(labels, unary)
    assert pairwise.dtype == single.dtype == torch.float64
    for b in range(2):
        weights = loop_weights(image[b].detach(), valid[b], potts)
        edges = loop_edges(valid[b], connectivity)
        cut = sum(weights[e, y, x] for e, y, x, y2, x2 in edges if labels[b, y, x] != labels[b, y2, x2])
        assert pairwise[b].item() == pytest.approx(float(cut), rel=1e-5)
        assert valid[b].any()
        log_softmax = logits[b].double() - logits[b].double().exp().sum(0).log()
        expected = sum(-2.0 * log_softmax[labels[b, y, x], y, x] for y, x in valid[b].nonzero().tolist())
        assert single[b].item() == pytest.approx(float(expected), rel=1e-5)


def test_labels_may_be_uint8():
    weights = GridPotts(2.0, 4).edge_weights(torch.zeros(1, 3, 1, 3))
    labels = torch.tensor([[[0, 7, 7]]], dtype=torch.uint8)
    assert potts_energy(labels, weights).tolist() == [2.0]
    assert unary_energy(labels, torch.ones(1, 8, 1, 3)).tolist() == [3.0]


def test_confident_logits_keep_finite_potentials():
    unary = unary_potentials(torch.tensor([1e4, -1e4]).reshape(1, 2, 1, 1))
    assert unary.flatten().tolist() == [0.0, 2e4]


@pytest.mark.parametrize("connectivity", [0, 6, "8"])
def test_wrong_connectivity(connectivity):
    with pytest.raises(ValueError, match="`connectivity` must be one of 4, 8"):
        neighbor_offsets(connectivity)
    with pytest.raises(ValueError, match="`connectivity` must be one of 4, 8"):
        GridPotts(connectivity=connectivity)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_wrong_weight(weight):
    with pytest.raises(ValueError, match="`weight` must be finite"):
        GridPotts(weight=weight)


def test_wrong_tensors():
    image = torch.rand(2, 3, 4, 5)
    with pytest.raises(ValueError, match="`image` must be a float"):
        GridPotts().edge_weights(torch.zeros(2, 3, 4, 5, dtype=torch.uint8))
    with pytest.raises(ValueError, match="`valid` must be a bool"):
        GridPotts().edge_weights(image, torch.ones(2, 5, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="`valid` must be a bool"):
        GridPotts().edge_weights(image, torch.ones(2, 4, 5))
    with pytest.raises(ValueError, match="must belong together"):
        potts_energy(torch.zeros(2, 4, 4, dtype=torch.int64), GridPotts().edge_weights(image))
    with pytest.raises(ValueError, match="must belong together"):
        unary_energy(torch.zeros(2, 4, 4, dtype=torch.int64), torch.zeros(2, 3, 4, 5))


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e3])
def test_compiled_edge_weights_equal_those_of_torch(scale):
    generator = torch.Generator().manual_seed(0)
    image = scale * torch.rand(3, 3, 31, 45, generator=generator)
    valid = torch.rand(3, 31, 45, generator=generator) < 0.9
    image[~valid[:, None].expand_as(image)] = math.nan  # padding does not come through
    potts = GridPotts(80.0)
    in_torch = potts.edge_weights(image.clone().requires_grad_(), valid).detach()
    torch.testing.assert_close(potts.edge_weights(image, valid), in_torch, rtol=3e-6, atol=1e-6)


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_edge_weights_of_a_broken_image_are_not_numbers(wrong):
    image = torch.rand(2, 3, 4, 5)
    image[1, 0, 2, 2] = wrong
    weights = GridPotts().edge_weights(image)
    assert weights[0].isfinite().all()
    assert weights[1].isnan().any()
