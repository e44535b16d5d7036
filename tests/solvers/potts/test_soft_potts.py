"""Soft labelings against scipy's optimizer, scikit-image's random walker and their own certificates."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from scenes import batch, photograph
from scipy.optimize import minimize
from skimage.segmentation import random_walker
from soft_energy import energy

from weakseg_lightning.energies import GridPotts
from weakseg_lightning.losses.potts import DISTANCES, Relaxation, relaxed_potts_energy
from weakseg_lightning.losses.soft_labels import Link
from weakseg_lightning.solvers import SoftPotts
from weakseg_lightning.solvers.potts.soft_descent import descend, evaluate
from weakseg_lightning.solvers.potts.soft_problem import SoftProblem, phases_of
from weakseg_lightning.solvers.problem import check_problem

LINKS = get_args(Link)
RELAXATIONS = [name for name in get_args(Relaxation) if name not in ("quadratic", "absolute")]
EACH_LINK = pytest.mark.parametrize("link", LINKS)


def by_scipy(logits, edges, potts, link):
    """The minimum over soft labelings of one small image by sequential quadratic programming."""
    shape, classes = logits.shape, logits.shape[1]

    def value(flat):
        y = torch.tensor(flat.reshape(shape), requires_grad=True)
        found = energy(y, logits, edges, potts, link).sum()
        found.backward()
        return found.item(), y.grad.numpy().ravel()

    pixels = shape[2] * shape[3]
    sums = np.tile(np.eye(pixels), (1, classes))
    simplex = {"type": "eq", "fun": lambda flat: sums @ flat - 1, "jac": lambda flat: sums}
    start = np.full(classes * pixels, 1 / classes)
    options = {"maxiter": 1000, "ftol": 1e-13}
    return minimize(
        value, start, jac=True, method="SLSQP", bounds=[(1e-12, 1)] * len(start), constraints=simplex, options=options
    ).fun


@EACH_LINK
@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize(("classes", "weight"), [(2, 0.3), (3, 3.0), (4, 12.0)])
def test_small_grids_reach_the_minimum_that_scipy_finds(link, connectivity, classes, weight):
    generator = torch.Generator().manual_seed(classes)
    logits = 3 * torch.randn(1, classes, 3, 3, generator=generator)
    image = torch.rand(1, 3, 3, 3, generator=generator)
    potts = GridPotts(weight, connectivity)
    found = SoftPotts(potts, link=link, tolerance=1e-6, max_sweeps=1000).solve(logits, image)
    edges = potts.edge_weights(image)
    assert found.energy.item() == pytest.approx(by_scipy(logits, edges, potts, link), rel=1e-5)
    assert found.energy.item() == pytest.approx(
        energy(found.probabilities.double(), logits, edges, potts, link).item(), rel=1e-5
    )
    torch.testing.assert_close(found.probabilities.sum(1), torch.ones(1, 3, 3))


@pytest.mark.parametrize("connectivity", [4, 8])
@EACH_LINK
def test_the_gap_bounds_the_distance_to_the_optimum(link, connectivity):
    logits, image = batch()
    potts = GridPotts(8.0, connectivity)
    optimum = SoftPotts(potts, link=link, tolerance=1e-6, max_sweeps=2000).solve(logits, image)
    assert optimum.converged.all() or (optimum.residual < 1e-5).all()
    for sweeps in (0, 5, 10):
        early = SoftPotts(potts, link=link, tolerance=0, max_sweeps=sweeps).solve(logits, image)
        assert (early.energy - early.gap <= optimum.energy + 1e-5 * optimum.energy).all()
        assert (early.energy >= optimum.energy * (1 - 1e-5)).all()
        assert early.evaluations.tolist() == [sweeps] * 3
    assert early.gap.max() < 0.5 * (early.energy).max(), "ten sweeps say something"


@pytest.mark.parametrize(("classes", "weight"), [(2, 4.0), (3, 4.0), (6, 20.0)])
def test_an_exact_link_gives_a_bound_that_is_nearer(classes, weight):
    logits, image = batch((6, 7), classes, images=40)
    potts, problem = GridPotts(weight, 8), check_problem(logits, image, None, None, None)
    soft = SoftProblem.of(logits, potts.edge_weights(image), problem, "collision", 1.0)
    best = SoftPotts(potts, tolerance=1e-7, max_sweeps=4000).solve(logits, image).energy
    for tolerance in (0.1, 0.01):
        found = SoftPotts(potts, tolerance=tolerance).solve(logits, image)
        planes = phases_of(found.probabilities)
        first_order = evaluate(soft, "quadratic", planes)[:, 2]
        tight = evaluate(soft, "quadratic", planes, tight=True)[:, 2]
        least = gap_of_exact_links(logits.double(), potts.edge_weights(image), found.probabilities.double())
        assert (tight < 0.8 * first_order).any()
        assert (tight >= least - 1e-5 * found.energy).all()
        assert (tight <= 1.3 * least + 1e-5 * found.energy).float().mean() > 0.9, "two tries are nearly the best"
        assert (found.energy - found.gap <= best * (1 + 1e-6)).all()
        either = torch.minimum((found.gap - tight).abs(), (found.gap - first_order).abs())
        assert (either <= 1e-5 * found.energy).all(), "compiled code"


def gap_of_exact_links(logits, edges, y):
    """Of the greatest lower bound with exact links and linear edges, by golden sections of ln t for each pixel."""
    point = y.clone().requires_grad_()
    (force,) = torch.autograd.grad(relaxed_potts_energy(point, edges.double(), 8, "quadratic").sum(), point)
    sigma, ratio = logits.softmax(1), (5**0.5 - 1) / 2

    def bound(log_t):
        return 1 + log_t + (force - log_t.exp()[:, None] * sigma).amin(1)

    low = torch.zeros_like(force[:, 0])
    high = low + 30
    for _ in range(80):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        rising = bound(left) < bound(right)
        low, high = torch.where(rising, left, low), torch.where(rising, high, right)
    return (-(sigma * y).sum(1).log() + (force * y).sum(1) - bound(low)).flatten(1).sum(1)


def test_uniform_scores_give_the_random_walker_between_the_seeds():
    seeds = torch.full((1, 12, 15), 255)
    seeds[0, 2, 3], seeds[0, 9, 11], seeds[0, 10, 1] = 0, 1, 2
    weight = GridPotts(1e4, connectivity=4)  # against which the link is nothing
    found = SoftPotts(weight, tolerance=0, max_sweeps=4000).solve(
        torch.zeros(1, 3, 12, 15), torch.zeros(1, 3, 12, 15), seeds=seeds
    )
    marked = torch.where(seeds[0] == 255, 0, seeds[0] + 1).numpy()
    values = np.random.default_rng(0).random((12, 15))  # of which beta 0 takes no notice
    walker = random_walker(values, marked, beta=0, mode="bf", return_full_prob=True)
    np.testing.assert_allclose(found.probabilities[0].numpy(), walker, atol=2e-3)


@EACH_LINK
def test_more_sweeps_never_rise(link):
    logits, image = batch(sharpness=8.0)
    last = torch.full((3,), torch.inf, dtype=torch.float64)
    for sweeps in range(0, 60, 5):
        found = SoftPotts(GridPotts(100.0, 8), link=link, tolerance=0, max_sweeps=sweeps).solve(logits, image)
        assert (found.energy <= last * (1 + 2e-6)).all()
        last = found.energy


@pytest.mark.parametrize("relaxation", ["quadratic", "collision_divergence"])
def test_an_image_depends_on_neither_batch_nor_threads(relaxation):
    logits, image = batch(images=5)
    seeds = torch.full((5, 20, 24), 255)
    seeds[:, 4, 4] = 1
    together = SoftPotts(relaxation=relaxation, num_threads=3).solve(logits, image, seeds=seeds)
    for b in range(5):
        alone = SoftPotts(relaxation=relaxation, num_threads=1).solve(
            logits[b : b + 1], image[b : b + 1], seeds=seeds[b : b + 1]
        )
        assert torch.equal(alone.probabilities[0], together.probabilities[b])
        assert alone.energy[0] == together.energy[b]


def test_images_that_are_not_finite_are_named_and_hold_up_no_other():
    logits, image = batch(images=3)
    logits[1, 2, 5, 5] = torch.nan
    image[2, 0, 3, 3] = torch.inf
    for relaxation in ("quadratic", "normalized"):
        found = SoftPotts(relaxation=relaxation, max_sweeps=5).solve(logits, image)
        assert ["logits" in found.message[1], "image" in found.message[2]] == [True, True], found.message
        assert found.message[0] == ""
        assert found.energy.isnan().tolist() == [False, True, True]
        assert not found.probabilities[1:].any()
        assert not found.converged[1:].any()
        assert (found.labels[1:] == 255).all()
        assert torch.allclose(found.probabilities[0].sum(0), torch.ones(20, 24))


@pytest.mark.parametrize("compiled", [True, False])
def test_a_probability_of_zero_where_the_network_is_sure_has_a_gap(compiled):
    """Neighbors pull the pixel to where its output is 0; a bound of the logarithm would have no slope there."""
    logits, image = torch.zeros(1, 2, 3, 3), torch.zeros(1, 3, 3, 3)
    logits[0, 0, 1, 1] = 300.0
    seeds = torch.ones(1, 3, 3, dtype=torch.long)
    seeds[0, 1, 1] = 255
    solver = SoftPotts(GridPotts(1e4, 4))
    for sweeps in range(1, 30):
        if compiled:
            found = SoftPotts(GridPotts(1e4, 4), max_sweeps=sweeps).solve(logits, image, seeds=seeds)
            energy_of, gap, done = found.energy, found.gap, found.converged
        else:
            soft = SoftProblem.of(
                logits,
                solver.potts.edge_weights(image),
                check_problem(logits, image, seeds, None, None),
                "collision",
                1.0,
            )
            way = descend(soft, "quadratic", 1e-3, sweeps)
            energy_of, gap, done = way.total, way.energies[:, 2], way.converged
        assert not gap.isnan().any()
        assert not done.any() or energy_of.item() < 6.2


def test_logarithms_of_the_cross_entropy_have_no_bound():
    """Of class 1 the pixel keeps p, where 200 (1 - p) + 120 p^2 is least: 200 / 240. Cut at 87 it would be a third."""
    logits, image = torch.zeros(1, 2, 3, 3), torch.zeros(1, 3, 3, 3)
    logits[0, 1, 1, 1] = 200.0
    seeds = torch.zeros(1, 3, 3, dtype=torch.long)
    seeds[0, 1, 1] = 255
    found = SoftPotts(GridPotts(30.0, 4), link="cross_entropy").solve(logits, image, seeds=seeds)
    assert found.probabilities[0, 1, 1, 1].item() == pytest.approx(200 / 240, abs=1e-3)


def test_a_pixel_without_neighbors_follows_the_scores_alone():
    logits = torch.tensor([[[[1.0]], [[3.0]], [[0.0]]]])
    for link, expected in (("collision", [0, 1, 0]), ("cross_entropy", [0, 1, 0]), ("reverse", logits.softmax(1))):
        found = SoftPotts(link=link).solve(logits, torch.zeros(1, 3, 1, 1))
        torch.testing.assert_close(found.probabilities.flatten(), torch.as_tensor(expected).float().flatten())


def test_empty_batches_and_wrong_arguments():
    assert SoftPotts().solve(torch.zeros(0, 2, 3, 3), torch.zeros(0, 3, 3, 3)).probabilities.shape == (0, 2, 3, 3)
    for wrong in ({"relaxation": "absolute"}, {"link": "kl"}, {"unary_weight": 0.0}, {"max_sweeps": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            SoftPotts(**wrong)
    assert set(DISTANCES) == {*RELAXATIONS, "quadratic", "absolute"}


@EACH_LINK
def test_photographs_are_certified(shared, link):
    logits, image, mask = photograph(shared)
    found = SoftPotts(GridPotts(20.0, 4), link=link).solve(logits, image)
    assert found.converged.all()
    assert (found.gap <= 1e-3 * found.energy).all()
    scores = [((labels == mask) & (mask != 255)).sum().item() for labels in (found.labels, logits.argmax(1))]
    assert scores[0] > scores[1], "smoother than the scores, and nearer to the mask"


def test_label_sets_are_solved_among_their_own_labels_and_end_where_the_energy_stands_still():
    logits, image = batch(images=3)
    classes = logits.shape[1]
    sets = torch.zeros(3, classes, dtype=torch.bool)
    sets[0, [0, 2]] = sets[1, [0, 1]] = sets[2, [0, 2]] = True
    seeds = torch.full((3, 20, 24), 255)
    seeds[:, 4, 4], seeds[1, 15, 15] = 0, 1
    potts = GridPotts(20.0, 4)
    solver = SoftPotts(potts, "collision_divergence")
    found = solver.solve(logits, image, seeds=seeds, label_set=sets)
    assert found.converged.all()
    assert (found.evaluations < 200).all()
    assert not found.probabilities[~sets].any()
    for i in range(3):
        own = sets[i].nonzero()[:, 0]
        place = torch.full((256,), 255)
        place[own] = torch.arange(len(own))
        alone = solver.solve(logits[i : i + 1, own], image[i : i + 1], seeds=place[seeds[i : i + 1]])
        torch.testing.assert_close(found.probabilities[i, own], alone.probabilities[0], rtol=0, atol=1e-6)
    edges = potts.edge_weights(image)
    masked = logits.masked_fill(~sets[:, :, None, None], -1e4)
    longer = replace(solver, tolerance=0.0).solve(masked, image, seeds=seeds, label_set=sets)
    energies = [
        energy(each.probabilities.double(), masked, edges, potts, "collision", "collision_divergence", seeds)
        for each in (found, longer)
    ]
    assert (energies[0] <= 1.005 * energies[1]).all(), "a longer descent gains next to nothing"
