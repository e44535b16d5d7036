"""Fuzz: alpha-expansion against cuts by SciPy and against brute force."""

import itertools
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_flow

from weakseg_lightning.energies import GridPotts, potts_energy, unary_energy, unary_potentials
from weakseg_lightning.solvers import AlphaExpansion

STEPS = [(0, 1), (1, 0), (1, 1), (1, -1)]
UNITS = 2.0**16  # integers for SciPy, an energy of 1
FORBIDDEN = 300.0  # exceeds the sum of a pixel's edges


@dataclass(frozen=True)
class FixedWeights(GridPotts):
    """Hands out given weights, whatever the image."""

    given: torch.Tensor = field(default_factory=lambda: torch.zeros(0))

    def edge_weights(self, image, valid=None):
        return self.given


def edge_list(weights):
    """Edges (p, q) and their weights of one image, weights (E, H, W)."""
    _, height, width = weights.shape
    index = np.arange(height * width).reshape(height, width)
    pairs, values = [], []
    for plane, (dy, dx) in zip(weights, STEPS, strict=False):
        for y in range(height - dy):
            for x in range(max(0, -dx), width - max(0, dx)):
                pairs.append((index[y, x], index[y + dy, x + dx]))
                values.append(plane[y, x])
    return np.array(pairs, dtype=np.int64).reshape(-1, 2), np.array(values, dtype=np.float64)


def minimum_of_binary(unary, pairs, tables):
    """Minimum of sum_p unary[p, x_p] + sum_pq tables[pq, x_p, x_q] by SciPy (submodular tables)."""
    unary = np.round(unary * UNITS).astype(np.int64)
    tables = np.round(tables * UNITS).astype(np.int64)
    n = len(unary)
    one = unary[:, 1] - unary[:, 0]  # linear coefficient of x_p = 1
    constant = unary[:, 0].sum() + tables[:, 0, 0].sum()
    np.add.at(one, pairs[:, 0], tables[:, 1, 0] - tables[:, 0, 0])
    np.add.at(one, pairs[:, 1], tables[:, 1, 1] - tables[:, 1, 0])
    arc = tables[:, 0, 1] + tables[:, 1, 0] - tables[:, 0, 0] - tables[:, 1, 1]
    assert (arc >= 0).all()
    # x = 0 is the source's side: arcs source -> p cost where x_p = 1, p -> sink where x_p = 0, p -> q where 0, 1.
    source, sink, nodes = n, n + 1, np.arange(n)
    rows = np.concatenate([pairs[:, 0], np.full(n, source), nodes])
    columns = np.concatenate([pairs[:, 1], nodes, np.full(n, sink)])
    values = np.concatenate([arc, np.maximum(one, 0), np.maximum(-one, 0)])
    assert values[len(arc) :].sum() < 2**31
    graph = csr_array((values.astype(np.int32), (rows, columns)), shape=(n + 2, n + 2))
    flow = int(maximum_flow(graph, source, sink).flow_value)
    return (constant + np.minimum(one, 0).sum() + flow) / UNITS


def best_move(labels, alpha, unary, weights, fixed):
    """Least energy that one expansion of `alpha` from `labels` (H, W) reaches."""
    flat, (pairs, values) = labels.reshape(-1), edge_list(weights)
    keep = np.take_along_axis(unary.reshape(len(unary), -1), np.where(flat == 255, 0, flat)[None], 0)[0]
    take = unary[alpha].reshape(-1).copy()
    void = flat == 255
    keep[void] = take[void] = 0
    take[fixed.reshape(-1) & (flat != alpha)] = FORBIDDEN
    options = np.stack([flat, np.where(void, 255, alpha)], 1)
    first, second = options[pairs[:, 0]], options[pairs[:, 1]]
    tables = values[:, None, None] * (first[:, :, None] != second[:, None, :])
    return minimum_of_binary(np.stack([keep, take], 1), pairs, tables)


def exact_two(unary, weights, labels, seeds, valid):
    """Minimum over labelings with two labels, hard seeds and padding that costs nothing."""
    costs = unary[labels].reshape(2, -1).T.copy()
    for k in range(2):
        costs[((seeds != 255) & (seeds != labels[k])).reshape(-1), k] = FORBIDDEN
    costs[~valid.reshape(-1)] = 0
    pairs, values = edge_list(weights)
    tables = values[:, None, None] * np.array([[0, 1], [1, 0]])
    return minimum_of_binary(costs, pairs, tables)


def draw_weights(rng, shape, valid):
    kind = rng.integers(4)
    if kind == 0:
        weights = rng.exponential(2.0, shape)
    elif kind == 1:
        weights = rng.integers(0, 3, shape).astype(float)
    elif kind == 2:
        weights = rng.exponential(1.0, shape) * (rng.random(shape) < 0.5)
    else:
        weights = np.zeros(shape)
    off = np.zeros(shape, dtype=bool)
    for e, (dy, dx) in zip(range(shape[1]), STEPS, strict=False):
        there = np.zeros_like(valid)
        height, width = valid.shape[1:]
        rows, left, right = max(height - dy, 0), max(0, -dx), max(width - max(0, dx), 0)
        there[:, :rows, left:right] = valid[:, dy:, left + dx : right + dx] if right > left else False
        off[:, e] = ~(valid & there)
    return np.where(off, 0.0, weights).astype(np.float32)


def draw_logits(rng, shape):
    kind = rng.integers(3)
    if kind == 0:
        return rng.normal(0, 3, shape).astype(np.float32)
    if kind == 1:  # many ties
        return rng.integers(0, 3, shape).astype(np.float32)
    return np.zeros(shape, dtype=np.float32)


def draw(seed, batch=4):
    """A batch of problems of one shape."""
    rng = np.random.default_rng(seed)
    height, width = (int(v) for v in rng.integers(1, 8, 2))
    if seed % 5 == 0:
        height = 1
    if seed % 7 == 0:
        width = 1
    classes, connectivity = int(rng.integers(1, 6)), int(rng.choice([4, 8]))
    plane = (batch, height, width)
    valid = rng.random(plane) < rng.choice([1.0, 0.8])
    density = rng.choice([0.0, 0.2, 1.0], size=batch, p=[0.5, 0.4, 0.1])[:, None, None]
    seeds = np.where(rng.random(plane) < density, rng.integers(0, classes, plane), 255)
    label_set = rng.random((batch, classes)) < rng.choice([0.5, 1.0])
    label_set[:, 0] = True
    return {
        "logits": torch.from_numpy(draw_logits(rng, (batch, classes, height, width))),
        "weights": torch.from_numpy(draw_weights(rng, (batch, connectivity // 2, height, width), valid)),
        "connectivity": connectivity,
        "seeds": torch.from_numpy(seeds),
        "valid": torch.from_numpy(valid),
        "label_set": torch.from_numpy(label_set),
        "initial": torch.from_numpy(rng.integers(0, classes, plane)),
        "start": str(rng.choice(["coarse", "argmin", "zeros", "initial"])),
    }


def solve(problem):
    weights = problem["weights"]
    potts = FixedWeights(connectivity=problem["connectivity"], given=weights)
    solver = AlphaExpansion(potts, max_sweeps=60, start=problem["start"], num_threads=2)
    return solver.solve(
        problem["logits"],
        torch.zeros(len(weights), 3, *weights.shape[2:]),
        seeds=problem["seeds"],
        label_set=problem["label_set"],
        valid=problem["valid"],
        initial=problem["initial"] if problem["start"] == "initial" else None,
    )


def check_image(problem, result, b):
    labels, seeds, valid = (t[b].numpy() for t in (result.labels, problem["seeds"], problem["valid"]))
    unary = unary_potentials(problem["logits"])[b].double().numpy()
    weights = problem["weights"][b].double().numpy()
    fixed = valid & (seeds != 255)
    allowed = np.union1d(problem["label_set"][b].nonzero()[:, 0], seeds[fixed]).astype(int)
    energy = result.energy[b].item()
    tolerance = (labels.size + (weights > 0).sum()) / UNITS
    assert ((labels == 255) == ~valid).all()
    assert (labels[fixed] == seeds[fixed]).all()
    assert np.isin(labels[valid], allowed).all()
    assert result.converged[b]
    if len(allowed) <= 2:
        bound = result.lower_bound[b].item()
        assert bound <= energy <= bound + 1e-5 * max(1.0, energy)
    if len(allowed) == 2:
        minimum = exact_two(unary, weights, allowed, np.where(fixed, seeds, 255), valid)
        assert energy == pytest.approx(minimum, abs=tolerance)
        return
    assert (len(allowed) == 1) == (not np.isnan(result.lower_bound[b].item()))
    for alpha in allowed:
        assert best_move(labels, alpha, unary, weights, fixed) >= energy - tolerance


@pytest.mark.parametrize("block", range(15))
def test_cuts_are_exact_and_moves_exhausted(block):
    for seed in range(20 * block, 20 * block + 20):  # 15 blocks of 20 batches of 4: 1,200 problems
        problem = draw(seed)
        result = solve(problem)
        assert result.message == ("",) * 4
        torch.testing.assert_close(result.pairwise, potts_energy(result.labels, problem["weights"]), rtol=1e-12, atol=0)
        expected = unary_energy(result.labels, unary_potentials(problem["logits"]))
        torch.testing.assert_close(result.unary, expected, rtol=1e-6, atol=1e-6)
        for b in range(4):
            check_image(problem, result, b)


def brute_force(unary, weights, labels_allowed):
    """Least energy over all labelings of a tiny grid, in double precision."""
    pairs, values = edge_list(weights)
    flat = unary.reshape(len(unary), -1)
    every = np.array(list(itertools.product(labels_allowed, repeat=flat.shape[1])))
    energy = flat[every, np.arange(flat.shape[1])].sum(1)
    return (energy + ((every[:, pairs[:, 0]] != every[:, pairs[:, 1]]) * values).sum(1)).min()


@pytest.mark.parametrize("seed", range(60))
def test_two_labels_equal_brute_force_at_all_magnitudes(seed):
    rng = np.random.default_rng(seed)
    height, width, connectivity = *(int(v) for v in rng.integers(1, 4, 2)), int(rng.choice([4, 8]))
    unary_scale, edge_scale = (float(10.0 ** rng.integers(-6, 7)) for _ in range(2))
    logits = torch.from_numpy(rng.normal(0, unary_scale, (1, 2, height, width)).astype(np.float32))
    drawn = rng.exponential(edge_scale, (1, connectivity // 2, height, width))
    weights = torch.from_numpy(drawn.astype(np.float32))
    result = AlphaExpansion(FixedWeights(connectivity=connectivity, given=weights)).solve(
        logits, torch.zeros(1, 3, height, width)
    )
    unary = -torch.log_softmax(logits.double(), 1)[0].numpy()
    minimum = brute_force(unary, weights[0].double().numpy(), [0, 1])
    # The cut rounds each edge and potential to 2^-26 of the largest edge; softmax's denominator is in single precision.
    resolution = height * width * (5 * float(weights.max()) * 2.0**-26 + 1e-7)
    assert result.energy.item() == pytest.approx(minimum, rel=1e-12, abs=resolution)
    assert result.lower_bound.item() <= minimum * (1 + 1e-12) + 1e-7 * height * width
    assert result.lower_bound.item() == pytest.approx(minimum, rel=1e-12, abs=resolution)


@pytest.mark.parametrize("seed", range(20))
def test_the_reference_cut_equals_brute_force(seed):
    rng = np.random.default_rng(seed)
    unary, weights = rng.normal(0, 2, (2, 2, 3)), rng.exponential(1.0, (4, 2, 3))
    free, everywhere = np.full((2, 3), 255), np.ones((2, 3), dtype=bool)
    expected = brute_force(unary, weights, [0, 1])
    assert exact_two(unary, weights, np.array([0, 1]), free, everywhere) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("size", [(60, 70), (33, 128)])
@pytest.mark.parametrize("weight", [0.5, 5.0, 80.0])
def test_large_cuts_equal_scipy(size, weight):
    """Long paths, relabeling and gaps occur only on grids of some size."""
    generator = torch.Generator().manual_seed(int(weight * 10) + size[0])
    coarse = torch.randn(1, 2, 6, 7, generator=generator)
    logits = torch.nn.functional.interpolate(coarse, size=size) + torch.randn(1, 2, *size, generator=generator)
    image = torch.rand(1, 3, *size, generator=generator)
    potts = GridPotts(weight)
    result = AlphaExpansion(potts).solve(logits, image)
    unary, weights = unary_potentials(logits)[0].double().numpy(), potts.edge_weights(image)[0].double().numpy()
    scale = min(1.0, 3.0 / weight)  # SciPy's flow must fit in 32 bits
    free, everywhere = np.full(size, 255), np.ones(size, dtype=bool)
    scaled = exact_two(unary * scale / 8, weights * scale / 8, np.array([0, 1]), free, everywhere)
    assert result.energy.item() == pytest.approx(scaled * 8 / scale, rel=1e-3)
    assert result.lower_bound.item() == pytest.approx(result.energy.item(), rel=1e-6)


@pytest.mark.parametrize("seed", range(24))
def test_smooth_scores_leave_no_move(seed):
    """Networks give smooth scores: most of such an image is never looked at, and flows of earlier sweeps stand."""
    rng = np.random.default_rng(seed)
    height, width, classes = (int(v) for v in rng.integers((18, 18, 3), (28, 28, 7)))
    generator = torch.Generator().manual_seed(seed)
    coarse = float(rng.choice([1.0, 4.0])) * torch.randn(1, classes, 5, 5, generator=generator)
    weights = rng.exponential(float(rng.choice([0.2, 2.0])), (1, 4, height, width))
    everywhere = np.ones((1, height, width), dtype=bool)
    for e, (dy, dx) in enumerate(STEPS):  # no edges out of the image
        weights[0, e, height - dy :] = 0
        weights[0, e, :, width - dx if dx > 0 else width :] = 0
        weights[0, e, :, : max(0, -dx)] = 0
    problem = {
        "logits": torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear"),
        "weights": torch.from_numpy(weights.astype(np.float32)),
        "connectivity": 8,
        "seeds": torch.from_numpy(np.where(rng.random(everywhere.shape) < 0.01, rng.integers(classes), 255)),
        "valid": torch.from_numpy(everywhere),
        "label_set": torch.ones(1, classes, dtype=torch.bool),
        "initial": torch.from_numpy(rng.integers(0, classes, everywhere.shape)),
        "start": str(rng.choice(["coarse", "argmin", "zeros", "initial"])),
    }
    result = solve(problem)
    assert result.sweeps.item() > 1
    check_image(problem, result, 0)


def test_a_flow_that_stood_gives_way_to_one_that_needs_its_sink():
    """Pixels r s t u v x y; label 1's first move is refused twice over, apart; once x has left, both pay together."""
    costs = torch.full((3, 1, 40), 100.0)
    costs[0, 0, :6] = torch.tensor([100.0, 0, 0, 0, 8, 30])
    costs[1, 0, :6] = torch.tensor([0.0, 2, 10, 0, 0, 50])
    costs[2, 0, 5] = 0.0
    weights = torch.zeros(1, 4, 1, 40)
    weights[0, 0, 0, :6] = torch.tensor([10.0, 20, 20, 20, 10, 100])
    seeds = torch.full((1, 1, 40), 255)
    seeds[0, 0, 0], seeds[0, 0, 6] = 1, 2
    solver = AlphaExpansion(FixedWeights(connectivity=8, given=weights), start="zeros")
    valid = (torch.arange(40) < 7)[None, None]
    result = solver.solve(-costs[None], torch.zeros(1, 3, 1, 40), seeds=seeds, valid=valid)
    assert result.labels[0, 0, :7].tolist() == [1, 1, 1, 1, 1, 2, 2]
    assert result.sweeps.item() == 3
