"""Label sets of single pixels: against the energies of all labelings."""

import itertools

import pytest
import torch

from weakseg_lightning.energies import GridPotts, potts_energy, unary_energy, unary_potentials
from weakseg_lightning.solvers import AlphaExpansion, GrabCut, SoftPotts

EVERY = torch.tensor(list(itertools.product(range(3), repeat=6))).view(-1, 2, 3)


def problem(seed):
    """Scores, image, and which labels each pixel may have: the background, and others at random."""
    generator = torch.Generator().manual_seed(seed)
    possible = torch.rand(1, 3, 2, 3, generator=generator) < 0.5
    possible[:, 0] = True
    return 3 * torch.randn(1, 3, 2, 3, generator=generator), torch.rand(1, 3, 2, 3, generator=generator), possible


@pytest.mark.parametrize("seed", range(10))
def test_no_labeling_of_these_labels_has_less_energy(seed):
    logits, image, possible = problem(seed)
    solver = AlphaExpansion(GridPotts(2.0))
    found = solver.solve(logits, image, label_set=possible)
    usable = EVERY[possible.expand(len(EVERY), -1, -1, -1).gather(1, EVERY[:, None]).flatten(1).all(1)]
    weights, unary = solver.potts.edge_weights(image), unary_potentials(logits.masked_fill(~possible, -torch.inf))
    energies = potts_energy(usable, weights.expand(len(usable), -1, -1, -1))
    energies = energies + unary_energy(usable, unary.expand(len(usable), -1, -1, -1))
    assert (usable == found.labels.long()).flatten(1).all(1).any()
    assert found.energy.item() == pytest.approx(energies.min().item(), rel=1e-5)
    bounded = solver.bound_optimality_gap(found, logits, image, label_set=possible)
    assert bounded.lower_bound.item() <= energies.min().item() + 1e-4


def test_a_set_for_all_pixels_is_that_of_the_image():
    logits, image, _ = problem(0)
    alike = torch.tensor([[True, False, True]])
    same = alike[:, :, None, None].expand(1, 3, 2, 3)
    one, other = (AlphaExpansion(GridPotts(2.0)).solve(logits, image, label_set=each) for each in (alike, same))
    assert torch.equal(one.labels, other.labels)


@pytest.mark.parametrize("score_weight", [0.0, 1.0])
def test_colors_do_not_bring_a_label_where_it_cannot_be(score_weight):
    image = torch.full((1, 3, 4, 8), 0.9)
    seeds = torch.full((1, 4, 8), 255)
    seeds[0, 0, 0], seeds[0, 3, 7] = 0, 1
    possible = torch.ones(1, 2, 4, 8, dtype=torch.bool)
    possible[:, 1, :, :5] = False
    solver = GrabCut(AlphaExpansion(GridPotts(1.0)), score_weight=score_weight)
    labels = solver.solve(torch.zeros(1, 2, 4, 8), image, seeds=seeds, label_set=possible).labels
    assert not labels[..., :5].any()
    assert labels[0, 3, 7] == 1


def test_a_set_of_another_size_and_one_for_soft_labels_are_errors():
    logits, image, possible = problem(0)
    with pytest.raises(ValueError, match=r"`label_set` must be a bool \(1, 3, 2, 3\), got .*\(1, 3, 2, 2\)"):
        AlphaExpansion().solve(logits, image, label_set=possible[..., 1:])
    with pytest.raises(ValueError, match=r"`label_set` must be \(B, K\) for soft labels.*take AlphaExpansion"):
        SoftPotts().solve(logits, image, label_set=possible)


def test_a_pixel_without_a_label_is_an_error_unless_it_is_a_seed_or_padding():
    logits, image, possible = problem(0)
    possible[0, :, 1, 2] = False
    free = torch.full((1, 2, 3), 255)
    with pytest.raises(ValueError, match=r"at each valid pixel without a seed; in images \[0\] of the batch"):
        AlphaExpansion().solve(logits, image, label_set=possible, seeds=free)
    seeds, valid = free.clone(), torch.ones(1, 2, 3, dtype=torch.bool)
    seeds[0, 1, 2] = 2
    assert AlphaExpansion().solve(logits, image, label_set=possible, seeds=seeds).labels[0, 1, 2] == 2
    valid[0, 1, 2] = False
    assert AlphaExpansion().solve(logits, image, label_set=possible, valid=valid).message == ("",)


def test_an_image_of_padding_alone_is_no_error():
    logits, image, possible = problem(0)
    valid = torch.zeros(1, 2, 3, dtype=torch.bool)
    both = AlphaExpansion().solve(logits, image, label_set=possible, valid=valid)
    assert both.message == ("",)


def test_a_shift_of_the_scores_changes_nothing():
    logits, image, possible = problem(1)
    possible[0, 1, 0] = False
    solver = AlphaExpansion(GridPotts(2.0))
    one, other = (solver.solve(logits + shift, image, label_set=possible).labels for shift in (0, -3e4))
    assert torch.equal(one, other)


def test_a_label_that_weighty_neighbors_force_on_a_pixel_is_taken_back_and_told():
    possible = torch.zeros(1, 3, 8, 8, dtype=torch.bool)
    possible[:, 0] = True
    possible[:, :, 4, 4] = torch.tensor([False, False, True])
    flat = torch.zeros(1, 3, 8, 8)
    for weight, expected in ((500.0, 2), (1500.0, 255)):
        found = AlphaExpansion(GridPotts(weight)).solve(flat, flat, label_set=possible)
        assert found.labels[0, 4, 4] == expected
        assert found.labels.sum() == expected, "all others are background"
        assert ("forced on pixels: 1 without one now" in found.message[0]) == (expected == 255)
        assert bool(found.converged) == (expected != 255)


def test_a_seed_outside_the_set_of_its_pixel_costs_what_it_costs_without_a_set():
    logits, image, _ = problem(3)
    seeds = torch.full((1, 2, 3), 255, dtype=torch.uint8)
    seeds[0, 1, 1] = 2
    possible = torch.ones_like(logits, dtype=torch.bool)
    possible[0, 2, 1, 1] = False
    free = torch.ones(1, 3, dtype=torch.bool)
    solver = AlphaExpansion(GridPotts(2.0))
    expected = solver.solve(logits, image, seeds=seeds, label_set=free)
    found = solver.solve(logits, image, seeds=seeds, label_set=possible)
    assert torch.equal(found.labels, expected.labels)
    assert found.energy.item() == pytest.approx(expected.energy.item(), rel=1e-4)
    bounded = solver.bound_optimality_gap(found, logits, image, seeds=seeds, label_set=possible, tolerance=1e-3)
    assert bounded.gap.item() <= 1e-3
    assert found.energy.item() < 100
