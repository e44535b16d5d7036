"""What the head is fitted to before training: pixels of labelings, where they are and how many."""

import pytest
import torch
from tiny_network import build

from weakseg_lightning.networks.frozen import known_pixels
from weakseg_lightning.networks.frozen.cache import FeatureCache


def labeled(images, count: int = 60):
    """Images with labels that the brightness tells, 255 for most pixels."""
    torch.manual_seed(3)
    for image in images:
        labels = (image.mean(0) * 3.999).long().to(torch.uint8)
        known = torch.rand(labels.shape) < count / labels.numel()
        yield (255 * image).to(torch.uint8), [torch.where(known, labels, torch.tensor(255, dtype=torch.uint8))]


def smooth(count: int) -> torch.Tensor:
    torch.manual_seed(7)
    return (
        torch.nn.functional.interpolate(torch.rand(count, 1, 4, 5), (64, 80), mode="bicubic")
        .clamp(0, 1)
        .expand(-1, 3, -1, -1)
    )


def test_preparing_fits_the_head_to_labeled_pixels_and_is_repeatable(weights):
    images = smooth(6)
    nets = [build(weights), build(weights, cache=FeatureCache()), build(weights, fit_first=False)]
    for net in nets:
        net.prepare(labeled(images, 300), seed=2)
        net.eval()
    truth = (images.mean(1) * 3.999).long()
    right = [float((net(images).argmax(1) == truth).float().mean()) for net in nets]
    assert right[0] > 0.6 > 0.5 > right[2]
    for ours, theirs in zip(nets[0].head_parameters(), nets[1].head_parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert float(nets[2].head.mean.abs().sum()) > 0  # standardized all the same


def test_soft_labelings_are_fitted_to_as_labelings_where_they_are_sure(weights):
    """One-hot distributions, which the collision cross-entropy takes for classes; where there is none, no pixel."""
    images = list(labeled(smooth(4), 300))
    soft = [(image, [(labels == torch.arange(4)[:, None, None]).float()]) for image, [labels] in images]
    unsure = [
        (image, [labels, torch.full_like(one_hot, 0.25)])
        for (image, [labels]), (_, [one_hot]) in zip(images, soft, strict=True)
    ]
    nets = [build(weights), build(weights), build(weights)]
    for net, samples in zip(nets, (images, soft, unsure), strict=True):
        net.prepare(samples, seed=2)
    ours, theirs, third = (torch.cat([p.flatten() for p in net.head_parameters()]) for net in nets)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
    assert (ours - third).abs().max() > 1e-2, "other pixels are drawn"
    (features, mixed) = known_pixels.collect(nets[0]._pick(unsure[0][0], unsure[0][1]))[1:]
    assert mixed.shape == (len(features), 4)
    assert set(mixed.sum(1).tolist()) == {1.0}


def test_preparing_leaves_the_random_state_alone_and_knows_images_without_labels(weights):
    net = build(weights)
    state = torch.random.get_rng_state()
    net.prepare([(torch.zeros(3, 40, 50, dtype=torch.uint8), [torch.full((40, 50), 255, dtype=torch.uint8)])], seed=0)
    net.prepare([], seed=0)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_head_that_was_fitted_needs_no_preparing(weights):
    net = build(weights)
    assert not net.is_prepared
    net.prepare(labeled(smooth(2)), seed=2)
    assert net.is_prepared
    again = build(weights)
    again.load_state_dict(net.state_dict())
    assert again.is_prepared


@pytest.mark.parametrize("scale", [1.0, 0.75])
def test_cells_are_picked_where_they_are(weights, monkeypatch, scale):
    """Maps that hold their own rows and columns; images of whole cells and of parts of cells."""
    net = build(weights, input_scale=scale)

    def places(x):
        rows, columns = (torch.arange(length // 4.0) for length in x.shape[-2:])
        return [torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1)[None]]

    monkeypatch.setattr(net, "_encode", places)
    for height, width in ((32, 64), (34, 61), (33, 63)):
        size = net.coarse_grid().size(height, width)
        labels = torch.arange(size[0] * size[1]).view(size).to(torch.uint8)
        image = torch.zeros(3, height, width, dtype=torch.uint8)
        [(features, classes)] = net._pick(image, [labels])
        assert sorted(classes.tolist()) == list(range(labels.numel()))
        expected = torch.stack((classes // size[1], classes % size[1]), 1)
        assert torch.equal(features.long(), expected)
        assert torch.equal(features, expected.half())


def test_many_labelings_do_not_fill_memory(weights, monkeypatch):
    monkeypatch.setattr(known_pixels, "FITTED_PIXELS", 100)
    monkeypatch.setattr(known_pixels, "PIXELS_PER_IMAGE", 16)

    def picked():
        for number in range(200):
            yield torch.full((16, 2), float(number)), torch.full((16,), number)

    labelings, features, classes = known_pixels.collect(picked())
    assert (labelings, features.shape) == (200, (200, 2))
    assert torch.equal(features[:, 0].long(), classes)
    assert torch.equal(classes, torch.arange(200))  # as many pixels of each
