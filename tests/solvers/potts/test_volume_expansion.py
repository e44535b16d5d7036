"""Labelings of volumes against references that know nothing of grids: loops over pairs of voxels, and scipy's flows."""

import itertools

import numpy as np
import pytest
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import maximum_flow

from weakseg_lightning.energies import GridPotts, VolumePotts
from weakseg_lightning.solvers import AlphaExpansion, VolumeExpansion

SPACING = (8.0, 1.0, 3.0)


def volume(slices=4, classes=3, height=5, width=6, seed=0, channels=3):
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(slices, channels, height, width, generator=generator)
    return 2 * torch.randn(slices, classes, height, width, generator=generator), image


def solve(**others):
    return VolumeExpansion().solve(*volume(), SPACING, **others)


def edges_of(image, potts, spacing=SPACING, valid=None):
    """All edges of the volume by voxels, each from the definition: {(p, q): weight}."""
    slices, _, height, width = image.shape
    valid = torch.ones(slices, height, width, dtype=torch.bool) if valid is None else valid
    steps = [(0, 0, 1), (0, 1, 0), (0, 1, 1), (0, 1, -1)][: potts.within.connectivity // 2]
    pairs = {"within": [], "between": []}
    for p in itertools.product(range(slices), range(height), range(width)):
        for step in (*steps, (1, 0, 0)):
            q = tuple(a + b for a, b in zip(p, step, strict=True))
            inside = q[0] < slices and q[1] < height and 0 <= q[2] < width
            if inside and valid[p] and valid[q]:
                contrast = float((image[p[0], :, p[1], p[2]] - image[q[0], :, q[1], q[2]]).double().square().sum())
                pairs["between" if step[0] else "within"].append((p, q, contrast))
    weights = {}
    for s in range(slices):
        own = [pair for pair in pairs["within"] if pair[0][0] == s]
        sigma2 = np.mean([contrast for _, _, contrast in own]) if own else 1
        for p, q, contrast in own:
            length = float(np.hypot(p[1] - q[1], p[2] - q[2]))
            weights[p, q] = potts.within.weight * np.exp(-contrast / (2 * sigma2)) / length
    sigma2 = np.mean([contrast for *_, contrast in pairs["between"]]) if pairs["between"] else 1
    distance = spacing[0] / ((spacing[1] + spacing[2]) / 2)
    for p, q, contrast in pairs["between"]:
        weights[p, q] = potts.between * potts.within.weight * np.exp(-contrast / (2 * sigma2)) / distance
    return weights


def energy_of(labels, logits, weights, unary_weight=1.0, valid=None):
    unary = -unary_weight * torch.log_softmax(logits.double(), 1).numpy()
    cost = sum(w for (p, q), w in weights.items() if labels[p] != labels[q])
    voxels = itertools.product(*map(range, labels.shape))
    return cost + sum(unary[p[0], labels[p], p[1], p[2]] for p in voxels if valid is None or valid[p])


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("padded", [False, True])
def test_the_energy_is_that_of_the_definition(connectivity, padded):
    logits, image = volume()
    valid = torch.ones(4, 5, 6, dtype=torch.bool)
    if padded:
        valid[:, :, 4:] = False
        valid[3] = False
        image[~valid[:, None].expand_as(image)] = torch.nan
    potts = VolumePotts(GridPotts(1.5, connectivity), between=2.0)
    result = VolumeExpansion(potts, unary_weight=0.7).solve(logits, image, SPACING, valid=valid)
    assert (result.labels == 255).equal(~valid)
    labels = result.labels.numpy()
    weights = edges_of(image, potts, valid=valid)
    expected = energy_of(labels, logits, weights, 0.7, valid)
    assert float(result.energy[0]) == pytest.approx(expected, rel=1e-6)
    assert result.energy.shape == result.converged.shape == result.lower_bound.shape == (1,)
    slice_by_slice = AlphaExpansion(potts.within, 0.7).solve(logits, image, valid=valid).labels.numpy()
    assert expected < energy_of(slice_by_slice, logits, weights, 0.7, valid)


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("seed", range(5))
def test_two_labels_are_solved_exactly(connectivity, seed):
    logits, image = volume(slices=5, classes=2, seed=seed)
    potts = VolumePotts(GridPotts(1.0, connectivity), between=3.0)
    result = VolumeExpansion(potts).solve(logits, image, SPACING)
    weights, unary = edges_of(image, potts), -torch.log_softmax(logits.double(), 1).numpy()
    # A cut in integers of 1e-6: label 1 costs what the arc from the source carries, label 0 that to the sink.
    voxels = list(itertools.product(*map(range, result.labels.shape)))
    number = {voxel: i + 2 for i, voxel in enumerate(voxels)}
    rows, columns, capacities = [], [], []
    for p in voxels:
        rows += [0, number[p]]
        columns += [number[p], 1]
        capacities += [unary[p[0], 1, p[1], p[2]], unary[p[0], 0, p[1], p[2]]]
    for (p, q), weight in weights.items():
        rows += [number[p], number[q]]
        columns += [number[q], number[p]]
        capacities += [weight, weight]
    scaled = np.round(np.array(capacities) * 1e6).astype(np.int32)
    graph = coo_array((scaled, (rows, columns)), shape=(len(voxels) + 2,) * 2).tocsr()
    least = maximum_flow(graph, 0, 1).flow_value / 1e6
    assert float(result.energy[0]) == pytest.approx(least, abs=1e-3)
    assert float(result.lower_bound[0]) == pytest.approx(least, abs=1e-3)
    assert bool(result.converged[0])


@pytest.mark.parametrize("seed", range(4))
def test_no_expansion_move_lowers_the_energy(seed):
    logits, image = volume(slices=3, classes=3, height=2, width=2, seed=seed)
    potts = VolumePotts(GridPotts(0.8, 8), between=2.0)
    result = VolumeExpansion(potts, max_sweeps=50).solve(logits, image, SPACING)
    assert bool(result.converged[0])
    weights, labels = edges_of(image, potts), result.labels.numpy()
    here = energy_of(labels, logits, weights)
    for alpha in range(3):
        for choice in itertools.product([False, True], repeat=12):
            moved = np.where(np.array(choice).reshape(3, 2, 2), alpha, labels)
            assert energy_of(moved, logits, weights) >= here - 1e-5


def test_without_edges_between_them_slices_are_labeled_one_by_one():
    logits, image = volume(slices=6, height=20, width=24)
    within = GridPotts(1.0)
    together = VolumeExpansion(VolumePotts(within, between=0.0)).solve(logits, image, SPACING)
    one_by_one = AlphaExpansion(within).solve(logits, image)
    assert together.labels.equal(one_by_one.labels)
    assert float(together.energy[0]) == pytest.approx(float(one_by_one.energy.sum()))


def test_strokes_reach_slices_without_any():
    image = torch.zeros(5, 1, 8, 8)
    image[:, :, :, 4:] = 1
    logits = torch.zeros(5, 3, 8, 8)
    seeds = torch.full((5, 8, 8), 255)
    seeds[2, 2, 1], seeds[2, 2, 6] = 1, 2
    found = VolumeExpansion().solve(logits, image, (1.0, 1.0, 1.0), seeds=seeds).labels
    expected = torch.where(image[:, 0] > 0, 2, 1).byte()
    assert found.equal(expected)
    only_ones = torch.tensor([True, False, False])
    kept = VolumeExpansion(VolumePotts(between=0)).solve(logits, image, (1, 1, 1), seeds=seeds, label_set=only_ones)
    assert kept.labels[2].equal(expected[2])
    assert kept.labels[[0, 1, 3, 4]].max() < 3


@pytest.mark.parametrize("flipped", [0, 1, 2])
def test_the_order_of_slices_rows_and_columns_does_not_matter(flipped):
    logits, image = volume(slices=5, classes=2, height=12, width=9)
    solver = VolumeExpansion(VolumePotts(GridPotts(1.0)))
    labels = solver.solve(logits, image, SPACING).labels
    axis = (0, 2, 3)[flipped]
    mirrored = solver.solve(logits.flip(axis), image.flip(axis), SPACING).labels
    assert mirrored.flip(flipped).equal(labels)


def test_slices_and_classes_of_every_number():
    for slices, classes in ((1, 1), (1, 3), (2, 1), (7, 4)):
        logits, image = volume(slices, classes, height=9, width=7)
        result = VolumeExpansion().solve(logits, image, SPACING)
        assert result.labels.shape == (slices, 9, 7)
        assert result.energy.isfinite().all()
        assert result.message == ("",)
    none = VolumeExpansion().solve(torch.zeros(0, 2, 4, 4), torch.zeros(0, 3, 4, 4), SPACING)
    assert none.labels.shape == (0, 4, 4)


def test_what_cannot_be_solved_is_said():
    logits, image = volume()
    logits[2, 1, 3, 3] = torch.nan
    result = VolumeExpansion().solve(logits, image, SPACING)
    assert result.message == ("`logits` hold nan or infinite values",)
    assert (result.labels == 255).all()
    assert not result.converged.any()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: VolumePotts(between=-1), "`between`"),
        (lambda: VolumePotts(GridPotts(edges="regions")), "`within` must have `edges` from contrast"),
        (lambda: VolumePotts(GridPotts(normalize_edges=True)), "`within` must have `edges` from contrast"),
        (lambda: VolumeExpansion(max_sweeps=0), "`max_sweeps`"),
        (lambda: VolumeExpansion().solve(*volume(), (1.0, 0.0, 1.0)), "`spacing` must be three lengths above 0"),
        (lambda: VolumeExpansion().solve(*volume(), (1.0, 1.0)), "`spacing` must be three lengths above 0"),
        (lambda: solve(label_set=torch.ones(4, 3, dtype=torch.bool)), "`label_set`"),
        (lambda: solve(label_set=torch.zeros(3, dtype=torch.bool)), "`label_set` must allow at least one class"),
        (lambda: VolumeExpansion().solve(torch.zeros(3), torch.zeros(3), SPACING), "`logits`"),
    ],
)
def test_wrong_arguments_are_named(make, says):
    with pytest.raises(ValueError, match=says):
        make()
