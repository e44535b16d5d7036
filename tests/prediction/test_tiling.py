"""Tiles cover the image, their weights sum to one, and where they differ is seen."""

from itertools import pairwise

import pytest
import torch

from weakseg_lightning.prediction.tiling import Blend, Seam, Span, spans

SHORT = [(1, 8, 2, 1), (8, 8, 4, 1), (9, 8, 4, 1)]
LONG = [(100, 8, 4, 1), (100, 8, 0, 1), (1000, 64, 16, 16), (1000, 100, 30, 32)]


@pytest.mark.parametrize(("length", "size", "overlap", "alignment"), SHORT + LONG)
def test_spans_cover_with_at_most_two_over_a_place(length, size, overlap, alignment):
    found = spans(length, size, overlap, alignment)
    counts = torch.zeros(length, dtype=torch.int64)
    for span in found:
        counts[span.start : span.stop] += 1
        assert span.size <= size
        assert span.start % alignment == 0
    assert counts.min() == 1
    assert counts.max() <= 2
    shared = [before.stop - after.start for before, after in pairwise(found)]
    assert all(overlap <= common < overlap + alignment for common in shared)


@pytest.mark.parametrize(("overlap", "alignment"), [(-1, 1), (33, 1), (20, 48), (64, 1), (0, 128)])
def test_an_overlap_of_more_than_half_raises(overlap, alignment):
    with pytest.raises(ValueError, match=r"`overlap` must be 0 to half of the tile, got"):
        spans(1000, 64, overlap, alignment)


def whole(blend: Blend, classes: int) -> torch.Tensor:
    size = (classes, blend.rows[-1].stop, blend.columns[-1].stop)
    found = torch.full(size, torch.nan, dtype=torch.float64)
    for block in blend:
        part = found[:, *block.place]
        assert part.isnan().all(), "a place is finished once"
        part.copy_(block.scores)
    assert not found.isnan().any()
    return found


@pytest.mark.parametrize(("height", "width"), [(10, 10), (37, 100), (100, 37), (16, 33), (33, 16)])
@pytest.mark.parametrize("overlap", [0, 1, 5, 8])
def test_cut_and_joined_is_the_same(height, width, overlap):
    image = torch.rand(2, height, width, dtype=torch.float64)

    def cut(rows: Span, columns: Span) -> torch.Tensor:
        return image[:, rows.start : rows.stop, columns.start : columns.stop].clone()

    blend = Blend(spans(height, 16, overlap), spans(width, 16, overlap), cut)
    torch.testing.assert_close(whole(blend, 2), image, rtol=0, atol=1e-12)
    assert blend.difference == 0


def test_weights_are_linear_in_the_middle_half_and_sum_to_one():
    """Each tile marked by a class of its own: what comes out are the weights."""
    parts = spans(28, 16, 4)  # 0..16, 12..28
    tiles: list[torch.Tensor] = []

    def marked(rows: Span, columns: Span) -> torch.Tensor:
        scores = torch.zeros(4, rows.size, columns.size)
        scores[len(tiles)] = 1
        tiles.append(scores)
        return scores

    weights = whole(Blend(parts, parts, marked), 4)
    torch.testing.assert_close(weights.sum(0), torch.ones(28, 28, dtype=torch.float64))
    ramp = torch.tensor([0, 0.25, 0.75, 1], dtype=torch.float64)
    torch.testing.assert_close(weights[1, 0, 12:16], ramp)
    torch.testing.assert_close(weights[2, 12:16, 0], ramp)
    torch.testing.assert_close(weights[3, 12:16, 12:16], ramp[:, None] * ramp)
    assert weights[0, :12, :12].eq(1).all()


def test_the_difference_is_that_in_the_middle_of_the_overlap():
    seam = Seam(axis=1)
    seam.join(torch.zeros(1, 8, 3), shared=4)
    second = torch.tensor([9.0, 9.0, 0.25, 9.0, 9.0, 9.0]).reshape(1, 6, 1).expand(1, 6, 3).clone()
    assert seam.join(second, shared=0).shape == (1, 6, 3)
    assert seam.difference == 0.25
