import itertools
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from scenes import batch

from weakseg_lightning.energies import GridPotts, potts_energy, unary_energy, unary_potentials
from weakseg_lightning.solvers import GCO, AlphaExpansion
from weakseg_lightning.solvers.potts import gco as external

needs_gco = pytest.mark.skipif(find_spec("gco") is None, reason="gco-wrapper is not installed (extra `gco`)")
LARGEST_TERM = 10_000_000


def some_seeds(logits, seed=0, share=0.03):
    rng = np.random.default_rng(seed)
    images, classes, height, width = logits.shape
    drawn = rng.integers(0, classes, (images, height, width))
    return torch.from_numpy(np.where(rng.random(drawn.shape) < share, drawn, 255))


def assert_same_energy(a, b, rtol=1e-6):
    torch.testing.assert_close(a.energy, b.energy, rtol=rtol, atol=0)


# ---- the package that must be there ------------------------------------------------------------------------------


@pytest.fixture
def fresh_import(monkeypatch):
    """Whatever has been imported, `gco` is looked for again."""
    external.load_gco.cache_clear()
    for name in [name for name in sys.modules if name == "gco" or name.startswith("gco.")]:
        monkeypatch.delitem(sys.modules, name)
    yield monkeypatch
    external.load_gco.cache_clear()
    sys.modules.pop("gco", None)


def test_a_missing_package_is_named_before_anything_starts(fresh_import):
    fresh_import.setitem(sys.modules, "gco", None)  # what Python takes for "not installed"
    with pytest.raises(ImportError, match=r"`GCO` needs gco-wrapper, .* pip install \"\.\[gco\]\""):
        GCO()


def test_a_package_that_does_not_load_is_no_missing_package(fresh_import, tmp_path):
    source = "import numpy\nnumpy.int = int\nnumpy.float128x"  # as the real one, where NumPy has no float128
    (tmp_path / "gco.py").write_text(source)
    fresh_import.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=r"gco-wrapper, .* installed but broken: AttributeError"):
        GCO()
    assert "int" not in vars(np)


def test_importing_the_solvers_does_not_import_gco():
    source = "import sys, weakseg_lightning.solvers; assert 'gco' not in sys.modules"
    subprocess.run([sys.executable, "-c", source], check=True)


@needs_gco
def test_numpy_is_left_as_it_was():
    """In a process that has seen no `gco`."""
    source = (
        "import numpy\n"
        "from weakseg_lightning.solvers import GCO\n"
        "before = {name: getattr(numpy, name, None) for name in ('int', 'float', 'bool')}\n"
        "GCO()\n"
        "assert 'gco' in __import__('sys').modules\n"
        "assert before == {name: getattr(numpy, name, None) for name in before}, before"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", source], check=True)


# ---- integers ------------------------------------------------------------------------------------------------------


def test_integer_costs_of_a_row():
    unary = np.array([[[0.0, 1.0, 9.0, 5.0]], [[1.0, 0.0, 4.0, 0.0]]], dtype=np.float32)
    edges = np.zeros((2, 1, 4), dtype=np.float32)
    edges[0, 0, 0] = 2.0
    valid, seeds = np.array([[True, True, False, True]]), np.array([[-1, -1, -1, 0]])
    costs = external.integer_costs(unary, edges, seeds, valid)
    assert costs.scale == pytest.approx(LARGEST_TERM / 2)
    assert (costs.first.tolist(), costs.second.tolist()) == ([0], [1])
    assert costs.weights / costs.scale == pytest.approx(2.0)
    expected = np.array([[0, 1], [1, 0], [0, 2]])  # a seed's other labels cost what its image's edges cost at most
    np.testing.assert_allclose(costs.data / costs.scale, expected, atol=1e-6)
    assert costs.data[2, 1] == costs.weights[0] + 1


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("exponents", list(itertools.product((-30, -6, 0, 6, 30), repeat=2)))
def test_integers_stay_within_what_gco_accepts(exponents, connectivity):
    """GCO ends the process if they do not."""
    rng = np.random.default_rng(0)
    unary_scale, edge_scale = (10.0**e for e in exponents)
    unary = (rng.normal(0, unary_scale, (3, 6, 7))).astype(np.float32)
    image, valid = torch.rand(1, 3, 6, 7, generator=torch.Generator().manual_seed(0)), torch.rand(1, 6, 7) < 0.9
    edges = GridPotts(1.0, connectivity).edge_weights(image, valid)[0].numpy() * np.float32(edge_scale)
    seeds = np.where(rng.random((6, 7)) < 0.2, rng.integers(0, 3, (6, 7)), -1)
    costs = external.integer_costs(unary, edges, seeds, valid[0].numpy())
    assert 0 <= costs.data.min() <= costs.data.max() <= LARGEST_TERM
    assert 0 < costs.weights.min() <= costs.weights.max() <= LARGEST_TERM
    assert (costs.first < costs.second).all()
    assert costs.second.max() < len(costs.data) == valid.sum()
    sums = np.bincount(np.concatenate([costs.first, costs.second]), np.tile(costs.weights, 2), len(costs.data))
    fixed = costs.seeds >= 0
    others = np.ones((len(costs.data), 3), dtype=bool)
    others[fixed, costs.seeds[fixed]] = False
    assert (costs.data[fixed][~others[fixed]] == 0).all()
    assert (costs.data[fixed][others[fixed]] == sums.max() + 1).all()


# ---- results -------------------------------------------------------------------------------------------------------


@needs_gco
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("start", ["argmin", "zeros"])
def test_two_labels_have_the_least_energy(seed, start):
    logits, image = batch(classes=2, seed=seed)
    potts, seeds = GridPotts(4.0, 4 if seed % 2 else 8), some_seeds(logits, seed) if seed > 3 else None
    result = GCO(potts, start=start).solve(logits, image, seeds=seeds)
    best = AlphaExpansion(potts).solve(logits, image, seeds=seeds)
    assert_same_energy(result, best)
    assert (result.energy >= best.lower_bound * (1 - 1e-9)).all()
    assert result.converged.all()


@needs_gco
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("start", ["argmin", "zeros"])
def test_more_labels_from_the_same_start_in_the_same_order_end_close_to_each_other(seed, start):
    """Equal moves differ in which of several best labelings they take, so that the ends may differ, a little."""
    logits, image = batch(classes=3 + seed % 4, seed=seed)
    potts, seeds = GridPotts(4.0), some_seeds(logits, seed) if seed % 2 else None
    for b in range(len(logits)):
        given, some = in_order_of_turns(logits[b : b + 1], None if seeds is None else seeds[b : b + 1])
        theirs = GCO(potts, max_sweeps=20, start=start).solve(given, image[b : b + 1], seeds=some)
        ours = AlphaExpansion(potts, max_sweeps=20, start=start).solve(given, image[b : b + 1], seeds=some)
        assert theirs.converged.all()
        assert_same_energy(theirs, ours, rtol=5e-3)


def in_order_of_turns(logits, seeds):
    """Number the labels by the area where they are best, the largest first, as `AlphaExpansion` takes them."""
    best = logits.argmax(1) if seeds is None else torch.where(seeds == 255, logits.argmax(1), seeds)
    order = best.flatten().bincount(minlength=logits.shape[1]).argsort(descending=True, stable=True)
    number = torch.cat([order.argsort(), torch.full((256 - len(order),), 255)])
    return logits[:, order], None if seeds is None else number[seeds]


@needs_gco
@pytest.mark.parametrize("seed", range(4))
def test_neither_solver_can_improve_on_the_others_end(seed):
    logits, image = batch(classes=5, seed=seed)
    solvers = [cls(GridPotts(4.0), max_sweeps=20) for cls in (GCO, AlphaExpansion)]
    again = [cls(GridPotts(4.0), max_sweeps=20, start="initial") for cls in (AlphaExpansion, GCO)]
    for first, second in zip(solvers, again, strict=True):
        ended = first.solve(logits, image)
        assert_same_energy(second.solve(logits, image, initial=ended.labels), ended)


@needs_gco
def test_no_labeling_of_a_tiny_grid_is_better_by_more_than_the_bound():
    for seed in range(10):
        logits, image = batch(size=(2, 4), classes=3, images=1, seed=seed)
        result = GCO(GridPotts(1.0), max_sweeps=20).solve(logits, image)
        every = torch.tensor(list(itertools.product(range(3), repeat=8))).view(-1, 2, 4)
        unary = unary_energy(every, unary_potentials(logits).expand(len(every), -1, -1, -1))
        pairwise = potts_energy(every, GridPotts(1.0).edge_weights(image).expand(len(every), -1, -1, -1))
        least = (unary + pairwise).min().item()
        assert least * (1 - 1e-9) <= result.energy.item() <= (unary + 2 * pairwise).min().item() * (1 + 1e-6)


@needs_gco
def test_strong_seeds_on_strong_edges():
    """The scores and the neighborhood both speak against the seeds."""
    logits, image = torch.zeros(1, 2, 9, 9), torch.zeros(1, 3, 9, 9)
    logits[:, 0] = 1000.0
    seeds = torch.full((1, 9, 9), 255)
    seeds[0, 4, 4] = 1
    labels = GCO(GridPotts(1000.0)).solve(logits, image, seeds=seeds).labels
    assert torch.equal(labels, (seeds == 1).byte())


@needs_gco
@pytest.mark.parametrize("classes", [1, 2, 3])
def test_nothing_to_weigh_up(classes):
    """No pixels, no edges, or a single label: as `AlphaExpansion`."""
    logits, image = batch(classes=classes)
    for weight, valid in ((0.0, True), (3.0, False)):
        mask = torch.full((3, 20, 24), valid)
        theirs, ours = (
            c(GridPotts(weight), start="argmin").solve(logits, image, valid=mask) for c in (GCO, AlphaExpansion)
        )
        assert torch.equal(theirs.labels, ours.labels)
        assert torch.equal(theirs.sweeps, ours.sweeps)
        assert theirs.converged.all()
        torch.testing.assert_close(theirs.energy, ours.energy)
    assert GCO().solve(logits[:0], image[:0]).labels.shape == (0, 20, 24)


@needs_gco
def test_starts_and_sweeps():
    logits, image = batch(classes=8, size=(40, 40), sharpness=1.0)
    one, start = (GCO(GridPotts(2.0), max_sweeps=n).solve(logits, image) for n in (1, 20))
    assert one.sweeps.tolist() == [1, 1, 1]
    assert not one.converged.any()
    assert start.converged.all()
    assert (start.energy <= one.energy).all()
    again = GCO(GridPotts(2.0), max_sweeps=1, start="initial").solve(logits, image, initial=start.labels)
    assert torch.equal(again.labels, start.labels)
    assert again.converged.all()
    nothing = torch.full((3, 40, 40), 255)
    given = GCO(GridPotts(2.0), max_sweeps=1, start="initial").solve(logits, image, initial=nothing)
    assert torch.equal(given.labels, one.labels)


@needs_gco
@pytest.mark.parametrize("exponents", list(itertools.product((-6, 0, 6), repeat=2)))
def test_magnitudes(exponents):
    logit_scale, weight = (10.0**e for e in exponents)
    logits, image = batch(size=(15, 16))
    theirs, ours = (
        solver(GridPotts(weight), start="argmin").solve(logits * logit_scale, image) for solver in (GCO, AlphaExpansion)
    )
    assert theirs.converged.all()
    assert_same_energy(theirs, ours, rtol=5e-3)
