import doctest
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from scipy.sparse import coo_array

from weakseg_lightning.energies import GridPotts, potts_energy, unary_energy, unary_potentials
from weakseg_lightning.solvers import AlphaExpansion, SolverResult, potts_lower_bound
from weakseg_lightning.solvers.potts import lower_bound

STEPS = [(0, 1), (1, 0), (1, 1), (1, -1)]


def edge_list(weights, valid):
    """Edges (p, q) between valid pixels and their weights, of one image with weights (E, H, W)."""
    _, height, width = weights.shape
    edges = []
    for plane, (dy, dx) in zip(weights, STEPS, strict=False):
        for y, x in itertools.product(range(height), range(width)):
            if y + dy < height and 0 <= x + dx < width and valid[y, x] and valid[y + dy, x + dx]:
                edges.append((y * width + x, (y + dy) * width + x + dx, plane[y, x]))
    return edges


def choices(usable, valid):
    """The labels of each pixel of one image, usable (K, H, W); one that costs nothing on padding."""
    labels = [np.flatnonzero(column) for column in usable.reshape(len(usable), -1).T]
    return [pixel if real else [0] for pixel, real in zip(labels, valid.reshape(-1), strict=True)]


def brute_force(unary, weights, usable, valid):
    """Least energy over all labelings of a tiny image, in double precision."""
    costs = np.where(valid, unary, 0.0).reshape(len(unary), -1)
    every = np.array(list(itertools.product(*choices(usable, valid))))
    energy = costs[every, np.arange(costs.shape[1])].sum(1)
    for p, q, weight in edge_list(weights, valid):
        energy += weight * (every[:, p] != every[:, q])
    return energy.min()


def relaxation(unary, weights, usable, valid):
    """Optimum of the relaxation by SciPy: variables u (pixels, K), then |u_p - u_q| for each edge and label."""
    classes, pixels, edges = len(unary), valid.size, edge_list(weights, valid)
    split = classes * len(edges)
    costs = np.where(valid, unary, 0.0).reshape(classes, -1).T.reshape(-1)
    objective = np.concatenate([costs, np.repeat([w / 2 for *_, w in edges], classes)])
    rows, columns, values = [], [], []
    for (e, (p, q, _)), k, sign in itertools.product(enumerate(edges), range(classes), (1, -1)):
        rows += [2 * (e * classes + k) + (sign < 0)] * 3
        columns += [p * classes + k, q * classes + k, pixels * classes + e * classes + k]
        values += [sign, -sign, -1]
    size = pixels * classes + split
    below = coo_array((values, (rows, columns)), shape=(2 * split, size)).tocsr() if edges else None
    one = coo_array((np.ones(pixels * classes), (np.arange(pixels * classes) // classes, np.arange(pixels * classes))),
                    shape=(pixels, size))  # fmt: skip
    free = (usable | ~valid).reshape(classes, -1).T.reshape(-1)
    upper = np.concatenate([np.where(free, 1.0, 0.0), np.full(split, 1.0)])
    bounds = np.stack([np.zeros(size), upper], 1)
    zeros = np.zeros(2 * split) if edges else None
    answer = linprog(objective, below, zeros, one.tocsr(), np.ones(pixels), bounds)
    assert answer.status == 0
    return answer.fun


def draw(seed, largest=3, scales=False, batch=8):
    """Tiny problems of one shape, with seeds, label sets, padding and edges without weight."""
    rng = np.random.default_rng(seed)
    height, width, connectivity = *(int(v) for v in rng.integers(1, largest + 1, 2)), int(rng.choice([4, 8]))
    classes = int(rng.integers(2, 5 if height * width < 8 else 4))
    shape, plane = (batch, classes, height, width), (batch, height, width)
    unary_scale, edge_scale = (10.0 ** rng.integers(-6, 7, 2)) if scales else (1.0, 1.0)
    unary = rng.normal(0, 2, shape) * unary_scale
    weights = rng.exponential(rng.choice([0.2, 1.0, 5.0]), (batch, connectivity // 2, height, width)) * edge_scale
    weights *= rng.random(weights.shape) < rng.choice([0.5, 1.0])
    seeds = np.where(rng.random(plane) < rng.choice([0.0, 0.3]), rng.integers(0, classes, plane), 255)
    allowed = (rng.random((batch, classes)) < rng.choice([0.6, 1.0])) | (np.arange(classes) == rng.integers(classes))
    at_seeds = seeds[:, None] == np.arange(classes)[:, None, None]
    usable = np.where(seeds[:, None] == 255, allowed[:, :, None, None], at_seeds)
    valid = rng.random(plane) < rng.choice([0.8, 1.0])
    return (unary.astype(np.float32), weights.astype(np.float32), usable, valid), connectivity


def bound(problem, connectivity, **options):
    unary, weights, usable, valid = (torch.from_numpy(a) for a in problem)
    return potts_lower_bound(unary, weights, connectivity=connectivity, allowed=usable, valid=valid, **options)


def exact(problem):
    unary, weights, usable, valid = problem
    images = zip(unary.astype(float), weights.astype(float), usable, valid, strict=True)
    return np.array([brute_force(*image) for image in images])


@pytest.fixture
def _together(monkeypatch):
    """Treat the images of a batch together, as on a GPU."""
    monkeypatch.setattr(lower_bound, "_images_at_once", lambda *_: 2**30)


@pytest.mark.usefixtures("_together")
@pytest.mark.parametrize("iterations", [0, 1, 7, 60])
@pytest.mark.parametrize("scales", [False, True])
def test_the_bound_holds(iterations, scales):
    for seed in range(10):
        problem, connectivity = draw(seed + 1000 * scales + iterations, scales=scales)
        found = bound(problem, connectivity, max_iterations=iterations, tolerance=0.0).numpy()
        least = exact(problem)
        assert np.isfinite(found).all()
        assert (found <= least).all(), (seed, found - least)


def test_more_iterations_give_a_better_bound():
    problem, connectivity = draw(3, largest=7)
    bounds = [bound(problem, connectivity, max_iterations=n, tolerance=0.0) for n in (0, 20, 200)]
    assert (bounds[0] < bounds[1]).any()
    assert (bounds[0] <= bounds[1]).all()
    assert (bounds[1] <= bounds[2]).all()
    unary, _, usable, valid = problem
    costs = np.where(valid, np.where(usable, unary.astype(float), np.inf).min(1), 0)
    np.testing.assert_allclose(bounds[0].numpy(), costs.sum((1, 2)), rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("_together")
@pytest.mark.parametrize("seed", range(8))
def test_converges_to_the_linear_program(seed):
    problem, connectivity = draw(seed, largest=4, batch=4)
    expected = np.array([relaxation(*image) for image in zip(*problem, strict=True)])
    found = bound(problem, connectivity, max_iterations=1000, tolerance=1e-5).numpy()
    assert (found <= expected + 1e-7 * (1 + abs(expected))).all()
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)


def smooth(classes, size=(24, 28), images=2, seed=0):
    """Scores as smooth as a network's, and images with some structure."""
    generator = torch.Generator().manual_seed(seed)
    logits, image = (torch.randn(images, channels, 6, 7, generator=generator) for channels in (classes, 3))
    logits, image = (torch.nn.functional.interpolate(t, size=size, mode="bilinear") for t in (3 * logits, image))
    return logits, (0.5 + 0.2 * image + 0.05 * torch.randn(image.shape, generator=generator)).clamp(0, 1)


@pytest.mark.parametrize("weight", [1.0, 10.0])
def test_tight_for_two_labels(weight):
    logits, image = smooth(2)
    result = AlphaExpansion(GridPotts(weight)).solve(logits, image)
    assert (result.pairwise > 0).all()
    found = potts_lower_bound(unary_potentials(logits).double(), GridPotts(weight).edge_weights(image), tolerance=1e-5)
    assert (found <= result.energy * (1 + 1e-6)).all()
    assert (found >= result.energy * (1 - 1e-3)).all()


@pytest.mark.parametrize(("classes", "connectivity"), [(3, 8), (5, 4)])
def test_nearly_tight_for_more_labels(classes, connectivity):
    logits, image = smooth(classes)
    solver = AlphaExpansion(GridPotts(4.0, connectivity))
    result = solver.solve(logits, image)
    assert result.gap.isnan().all()
    certified = solver.bound_optimality_gap(result, logits, image)
    assert (certified.gap >= 0).all()
    assert (certified.gap < 0.01).all()
    assert certified.labels is result.labels
    assert certified.energy.equal(result.energy)


def test_starts_from_the_labeling_and_stops_at_the_energy(monkeypatch):
    logits, image = smooth(4, images=1)
    result = AlphaExpansion(GridPotts(10.0)).solve(logits, image)
    weights, starts, advance = GridPotts(10.0).edge_weights(image), [], lower_bound._Problem.advance

    def watched(self, soft, dual):
        starts[-1].append(soft.argmax(1))
        return advance(self, soft, dual)

    monkeypatch.setattr(lower_bound._Problem, "advance", watched)
    for known in ({}, {"labels": result.labels}, {"labels": result.labels, "energy": 0.9 * result.energy}):
        starts.append([])
        found = potts_lower_bound(unary_potentials(logits), weights, tolerance=1e-3, **known)
        assert found.isfinite()
    assert torch.equal(starts[0][0], logits.argmax(1))
    assert torch.equal(starts[1][0], result.labels.long())
    assert not torch.equal(starts[0][0], starts[1][0])
    assert 1000 > len(starts[0]) >= len(starts[1])
    assert len(starts[1]) > len(starts[2])


def test_certify_with_everything():
    """Seeds, label sets and padding that hide better energies: the bound counts what the solver counted."""
    logits, image = smooth(5, images=3)
    generator = torch.Generator().manual_seed(1)
    seeds = torch.randint(0, 4, (3, 24, 28), generator=generator)
    seeds[torch.rand(seeds.shape, generator=generator) < 0.99] = 255
    label_set = torch.tensor([[True] * 5, [True, False, False, True, False], [False, False, True, False, False]])
    valid = torch.ones(3, 24, 28, dtype=torch.bool)
    valid[:, 20:] = False
    options = {"seeds": seeds, "label_set": label_set, "valid": valid}
    solver = AlphaExpansion(GridPotts(2.0), unary_weight=1.5, start="initial")
    result = solver.solve(logits, image, initial=seeds, **options)
    logits[~valid[:, None].expand(logits.shape)] = float("nan")
    certified = solver.bound_optimality_gap(result, logits, image, **options)
    assert (certified.gap >= 0).all()
    assert (certified.gap < 0.01).all()
    assert not (
        solver.bound_optimality_gap(result, logits, image, valid=valid).gap < 0.02
    ).all()  # another, easier problem


def test_certify_solves_again_only_what_is_unknown(monkeypatch):
    logits, image = smooth(3, images=3)
    label_set = torch.tensor([[True] * 3, [True, True, False], [True] * 3])
    logits[2, 0, 0, 0] = float("nan")
    solver = AlphaExpansion(GridPotts(4.0))
    result = solver.solve(logits, image, label_set=label_set)
    assert result.gap.isnan().tolist() == [True, False, True]
    sizes = []

    def watched(unary, *arguments, **options):
        sizes.append(len(unary))
        return potts_lower_bound(unary, *arguments, **options)

    monkeypatch.setattr("weakseg_lightning.solvers.potts.alpha_expansion.potts_lower_bound", watched)
    certified = solver.bound_optimality_gap(result, logits, image, label_set=label_set)
    assert sizes == [1]
    assert certified.lower_bound[1] == result.lower_bound[1]
    assert 0 <= certified.gap[0] < 0.01
    assert certified.lower_bound[2].isnan()
    assert certified.message == result.message


def test_certify_never_makes_a_bound_worse():
    logits, image = smooth(3)
    solver = AlphaExpansion(GridPotts(4.0))
    good = solver.bound_optimality_gap(solver.solve(logits, image), logits, image)
    again = solver.bound_optimality_gap(good, logits, image, max_iterations=0, tolerance=0.0)
    assert again.lower_bound.equal(good.lower_bound)
    poor = replace(good, lower_bound=good.lower_bound - 100)
    assert (solver.bound_optimality_gap(poor, logits, image).gap < 0.01).all()


def test_images_of_a_batch_do_not_touch_each_other(monkeypatch):
    """On a GPU they run together, with the labels of all; here as well."""
    logits, image = smooth(5, images=3, size=(9, 10))
    logits[1, 3, 2, 2] = float("inf")
    allowed = torch.tensor([[True] * 5, [True] * 5, [False, True, False, True, False]])
    weights = GridPotts(4.0).edge_weights(image)
    options = {"allowed": allowed, "max_iterations": 60, "tolerance": 0.0}
    alone = potts_lower_bound(-logits, weights, **options)
    monkeypatch.setattr(lower_bound, "_images_at_once", lambda *_: 3)
    together = potts_lower_bound(-logits, weights, **options)
    assert together.isnan().tolist() == [False, True, False]
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=0, equal_nan=True)


def test_what_stands_on_padding_outside_or_on_labels_not_allowed_does_not_matter():
    logits, image = smooth(3, images=1, size=(9, 8))
    weights, valid = GridPotts(4.0).edge_weights(image), torch.ones(1, 9, 8, dtype=torch.bool)
    valid[0, :, 6:] = False
    allowed = torch.tensor([[True, True, False]])
    found = []
    for junk in (float("nan"), float("inf"), 0.0, 1e30):
        unary, edges = -logits.clone(), weights.clone()
        unary[:, 2] = junk
        unary[..., 6:] = junk
        edges[..., 6:] = edges[:, 1:, -1:] = junk
        found.append(potts_lower_bound(unary, edges, allowed=allowed, valid=valid, max_iterations=60))
    assert found[0].isfinite()
    assert all(other.equal(found[0]) for other in found[1:])


def test_one_label_costs_what_it_costs():
    unary = torch.arange(12.0).reshape(1, 1, 3, 4)
    assert potts_lower_bound(unary, torch.ones(1, 4, 3, 4)).item() == pytest.approx(66, abs=1e-9)
    allowed = torch.tensor([[False, True]])
    both = torch.cat([torch.zeros_like(unary), unary], 1)
    assert potts_lower_bound(both, torch.ones(1, 4, 3, 4), allowed=allowed).item() == pytest.approx(66, abs=1e-9)


def test_seeds_alone_cost_the_edges_between_them():
    labels = torch.randint(0, 3, (2, 5, 6), generator=torch.Generator().manual_seed(0))
    usable = torch.nn.functional.one_hot(labels, 3).permute(0, 3, 1, 2).bool()
    unary, weights = torch.randn(2, 3, 5, 6), 1e6 * torch.rand(2, 4, 5, 6)
    found = potts_lower_bound(unary, weights, allowed=usable, max_iterations=200)
    torch.testing.assert_close(found, unary_energy(labels, unary) + potts_energy(labels, weights))


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)])
def test_nothing_to_bound(shape):
    found = potts_lower_bound(torch.zeros(shape), torch.zeros(shape[0], 4, *shape[2:]))
    assert found.tolist() == [0.0] * shape[0]
    assert found.dtype == torch.float64


def test_no_gradient_is_recorded():
    logits, image = smooth(3, size=(6, 6))
    found = potts_lower_bound(logits.requires_grad_(), GridPotts().edge_weights(image), max_iterations=3)
    assert not found.requires_grad


def test_gap_is_relative_and_guarded():
    energy = torch.tensor([4.0, -4.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    low = torch.tensor([3.0, -5.0, 0.0, -0.5, float("nan")], dtype=torch.float64)
    none, labels = torch.zeros(5), torch.zeros(5, 1, 1, dtype=torch.uint8)
    result = SolverResult(labels, energy, none.double(), none.long(), none.bool(), low, ("",) * 5)
    assert result.gap[:4].tolist() == [0.25, 0.25, 0.0, 0.5]
    assert result.gap[4].isnan()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"unary": torch.zeros(3, 4, 5)}, "`unary` must be a float"),
        ({"unary": torch.zeros(2, 3, 4, 5, dtype=torch.int64)}, "`unary` must be a float"),
        ({"edge_weights": torch.zeros(2, 2, 4, 5)}, r"`edge_weights` must be a float \(2, 4, 4, 5\)"),
        ({"edge_weights": torch.full((2, 4, 4, 5), -1.0)}, "`edge_weights` must be >= 0"),
        ({"connectivity": 6}, "`connectivity` must be one of 4, 8"),
        ({"allowed": torch.ones(2, 4, dtype=torch.bool)}, "`allowed` must be a bool"),
        ({"allowed": torch.ones(2, 3)}, "`allowed` must be a bool"),
        ({"allowed": torch.tensor([[True] * 3, [False] * 3])}, r"`allowed` must leave .* images \[1\]"),
        ({"valid": torch.ones(2, 5, 4, dtype=torch.bool)}, "`valid` must be a bool"),
        ({"valid": torch.ones(2, 4, 5, dtype=torch.bool, device="meta")}, "`valid` must be on the device"),
        ({"energy": torch.zeros(3)}, "`energy` must have shape"),
        ({"labels": torch.zeros(2, 4, 5)}, "`labels` must be an integer"),
        ({"max_iterations": -1}, "`max_iterations` must be at least 0, got -1"),
        ({"tolerance": float("nan")}, "`tolerance` must be finite"),
    ],
)
def test_wrong_arguments(arguments, words):
    arguments = {"unary": torch.zeros(2, 3, 4, 5), "edge_weights": torch.zeros(2, 4, 4, 5), **arguments}
    with pytest.raises(ValueError, match=words):
        potts_lower_bound(**arguments)


def test_certify_wants_the_result_of_these_logits():
    logits, image = smooth(3, size=(6, 6))
    result = AlphaExpansion().solve(logits, image)
    with pytest.raises(ValueError, match=r"`result.labels` must be an integer \(1, 6, 6\)"):
        AlphaExpansion().bound_optimality_gap(result, logits[:1], image[:1])


def test_examples():
    results = doctest.testmod(lower_bound)
    assert results.attempted > 0
    assert results.failed == 0
