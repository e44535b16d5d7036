"""The head on maps of several strides, against the plain one on the joined maps."""

import pytest
import torch
from torch import nn

from weakseg_lightning.networks.frozen.head import MapHead, join_maps

CHANNELS = (6, 10, 16)


@pytest.fixture
def maps() -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(2, count, 24 // 2**i, 32 // 2**i) * 3 + 1 for i, count in enumerate(CHANNELS)]


def pixels(joined: torch.Tensor) -> torch.Tensor:
    return joined.movedim(1, -1).flatten(0, 2)


@pytest.mark.parametrize("hidden", [None, 32])
def test_it_is_the_plain_head_on_the_joined_maps(maps, hidden):
    head = MapHead(CHANNELS, 4, hidden, 0.3).eval()
    joined = pixels(join_maps(maps))
    head.standardize(joined)
    plain = nn.Linear(sum(CHANNELS), hidden or 4)
    with torch.no_grad():
        plain.weight.copy_(torch.cat([layer.weight[:, :, 0, 0] for layer in head.first], 1))
        plain.bias.copy_(head.bias)
    expected = plain((joined - joined.mean(0)) / (joined.std(0, correction=0) + 1e-5))
    if hidden is not None:
        expected = nn.functional.linear(expected.relu(), head.last[2].weight[:, :, 0, 0], head.last[2].bias)
    torch.testing.assert_close(pixels(head(maps)), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(head.at_pixels(joined), expected, rtol=1e-4, atol=1e-4)


def test_scores_of_a_linear_head_keep_their_digits_in_mixed_precision(maps):
    head = MapHead(CHANNELS, 4, None, 0.0).eval()
    with torch.autocast("cpu", torch.bfloat16):
        assert head(maps).dtype == torch.float32


def test_maps_are_joined_step_by_step(maps):
    up = nn.Upsample(scale_factor=2, mode="bilinear")
    expected = torch.cat([maps[0], up(torch.cat([maps[1], up(maps[2])], 1))], 1)
    torch.testing.assert_close(join_maps(maps), expected)


def test_fit_separates_what_can_be_separated_and_repeats_itself():
    torch.manual_seed(0)
    labels = torch.randint(0, 3, (3000,))
    features = torch.randn(3000, 12)
    features[:, :3] += 4 * nn.functional.one_hot(labels, 3)
    heads = []
    for _ in range(2):
        torch.manual_seed(1)
        head = MapHead([5, 7], 3, 64, 0.3).eval()
        head.standardize(features)
        before = (head.at_pixels(features).argmax(1) == labels).float().mean()
        head.fit(features.half(), labels)
        assert not head.training
        heads.append(head)
    right = (heads[0].at_pixels(features).argmax(1) == labels).float().mean()
    # the best rule is right in 99.5 % of the cases: two differences of normal deviates of variance 2 stay above -4
    assert before < 0.7 < 0.98 < right
    for ours, theirs in zip(heads[0].parameters(), heads[1].parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_channel_that_is_dead_where_the_head_is_fitted_counts_nowhere():
    torch.manual_seed(0)
    labels = torch.randint(0, 2, (600,))
    features = torch.randn(600, 12)
    features[:, 4] += 3 * labels
    features[:, 2] = 0  # ReLU leaves nothing of it
    features[:, 8] = 1 + 1e-3 * torch.randn(600)  # all but constant: divided by a part of what is typical of its map
    features[:, 9] *= 0.2
    head = MapHead([5, 7], 2, 32, 0.3).eval()
    head.standardize(features)
    typical = features[:, 5:].std(0, correction=0).square().mean().sqrt()
    assert head.scale[2] == 0
    assert 0 < head.scale[8] == 1 / (0.05 * typical + 1e-5)
    others = [i for i in range(12) if i not in (2, 8)]
    assert torch.equal(head.scale[others], 1 / (features.std(0, correction=0)[others] + 1e-5))
    head.fit(features, labels)
    elsewhere = features.clone()
    elsewhere[:, 2] = torch.randn(600).relu()
    torch.testing.assert_close(head.at_pixels(elsewhere), head.at_pixels(features))


def test_features_that_are_the_same_everywhere_leave_scores_that_are_finite():
    head = MapHead([3, 4], 2, 8, 0.3).eval()
    head.standardize(torch.ones(5, 7))
    assert (head.scale == 0).all()
    assert head([torch.rand(1, 3, 4, 4), torch.rand(1, 4, 2, 2)]).isfinite().all()
