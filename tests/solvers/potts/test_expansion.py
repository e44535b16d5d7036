"""The contract of solvers, kept by the package's alpha-expansion and by that of GCO."""

from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec

import pytest
import torch
from scenes import batch
from torch.nn.functional import pad

from weakseg_lightning.energies import GridPotts, potts_energy, unary_energy, unary_potentials
from weakseg_lightning.hyperparameters import describe
from weakseg_lightning.solvers import GCO, AlphaExpansion, Solver

needs_gco = pytest.mark.skipif(find_spec("gco") is None, reason="gco-wrapper is not installed (extra `gco`)")
PLANE = (3, 20, 24)
pytestmark = pytest.mark.parametrize("cls", [AlphaExpansion, pytest.param(GCO, marks=needs_gco)])


def test_it_writes_itself_down(cls):
    solver = cls(GridPotts(3.0, 4), unary_weight=2.0, max_sweeps=3, start="zeros")
    assert isinstance(solver, Solver)
    described = describe(solver)
    assert described["class_path"] in ("weakseg_lightning.AlphaExpansion", "weakseg_lightning.solvers.GCO")
    threads = {"num_threads": None} if cls is AlphaExpansion else {}
    assert described["init_args"] == {
        "potts": {"weight": 3.0, "connectivity": 4, "normalize_edges": False, "edges": "contrast", "dilation": 5},
        "unary_weight": 2.0,
        "max_sweeps": 3,
        "start": "zeros",
        **threads,
    }


def test_result_has_the_promised_types_and_energies(cls):
    logits, image = batch()
    result = cls(GridPotts(4.0), unary_weight=1.5).solve(logits, image)
    assert (result.labels.dtype, result.labels.shape) == (torch.uint8, (3, 20, 24))
    for energy in (result.unary, result.pairwise, result.energy, result.lower_bound):
        assert (energy.dtype, energy.shape) == (torch.float64, (3,))
    assert (result.sweeps.dtype, result.converged.dtype) == (torch.int64, torch.bool)
    assert result.message == ("", "", "")
    assert min(result.solve_seconds, result.transfer_seconds) > 0
    pairwise = potts_energy(result.labels, GridPotts(4.0).edge_weights(image))
    torch.testing.assert_close(result.pairwise, pairwise, rtol=1e-12, atol=0)
    unary = unary_energy(result.labels, unary_potentials(logits, 1.5))
    torch.testing.assert_close(result.unary, unary, rtol=1e-6, atol=0)
    assert result.energy.equal(result.unary + result.pairwise)
    assert result.lower_bound.isnan().all()


def test_seeds_and_label_sets_are_kept(cls):
    logits, image = batch()
    seeds = torch.full((3, 20, 24), 255)
    seeds[:, 3, 4], seeds[:, 10:12, 5] = 3, 1
    label_set = torch.tensor([True, False, False, False]).repeat(3, 1)
    result = cls(GridPotts(1.0), max_sweeps=1).solve(logits, image, seeds=seeds, label_set=label_set)
    assert (result.labels[seeds != 255] == seeds[seeds != 255]).all()
    assert set(result.labels.unique().tolist()) == {0, 1, 3}


@pytest.mark.parametrize("normalize_edges", [False, True])
def test_padding_is_255_and_changes_nothing_inside(cls, normalize_edges):
    solver, (logits, image) = cls(GridPotts(4.0, normalize_edges=normalize_edges)), batch()
    alone = solver.solve(logits, image)
    valid = pad(torch.ones(3, 20, 24, dtype=torch.bool), (0, 5, 0, 7))
    noisy = pad(logits, (0, 5, 0, 7), value=float("nan"))
    padded = solver.solve(noisy, pad(image, (0, 5, 0, 7), value=9.0), valid=valid)
    assert padded.message == ("", "", "")
    assert torch.equal(padded.labels[:, :20, :24], alone.labels)
    assert (padded.labels[~valid] == 255).all()
    torch.testing.assert_close(padded.energy, alone.energy)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_an_image_that_cannot_be_solved_fails_alone(cls, bad):
    logits, image = batch()
    good = cls(GridPotts(4.0)).solve(logits, image)
    logits[1, 2, 7, 7], image[2, 0, 0, 0] = bad, float("nan")
    result = cls(GridPotts(4.0)).solve(logits, image)
    assert result.converged.tolist() == [good.converged[0], False, False]
    assert result.message[0] == ""
    assert "`logits` hold nan" in result.message[1]
    assert "`image`" in result.message[2]
    assert (result.labels[1:] == 255).all()
    assert result.energy[1:].isnan().all()
    assert torch.equal(result.labels[0], good.labels[0])


def test_two_solves_at_once_do_not_mix(cls):
    problems, solver = [batch(seed=s, size=(50, 50)) for s in range(4)], cls(GridPotts(4.0))
    alone = [solver.solve(*problem) for problem in problems]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda problem: solver.solve(*problem), problems))
    for a, b in zip(alone, together, strict=True):
        assert torch.equal(a.labels, b.labels)
        assert torch.equal(a.energy, b.energy)


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)])
def test_nothing_to_solve(cls, shape):
    result = cls().solve(torch.zeros(shape), torch.zeros(shape))
    assert result.labels.shape == (shape[0], *shape[2:])
    assert result.converged.shape == (shape[0],)
    assert len(result.message) == shape[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"unary_weight": -1.0}, "`unary_weight` must be finite and at least 0, got -1.0"),
        ({"unary_weight": float("nan")}, "`unary_weight`"),
        ({"max_sweeps": 0}, "`max_sweeps` must be at least 1, got 0"),
        ({"start": "one"}, "`start` must be one of .*'argmin', 'zeros', 'initial', got 'one'"),
    ],
)
def test_wrong_constructor_arguments(cls, arguments, words):
    with pytest.raises(ValueError, match=words):
        cls(**arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"logits": torch.zeros(3, 20, 24)}, "`logits` must be a float"),
        ({"logits": torch.zeros(3, 4, 20, 24, dtype=torch.int64)}, "`logits` must be a float"),
        ({"logits": torch.zeros(3, 256, 20, 24)}, "`logits` must be .* 1 to 255 classes"),
        ({"image": torch.zeros(3, 3, 20, 25)}, "`image` must be a float"),
        ({"image": torch.zeros(3, 3, 20, 24, dtype=torch.uint8)}, "`image` must be a float"),
        (
            {"image": torch.zeros(3, 3, 20, 24, device="meta")},
            "`image` must be on the device of `logits`, cpu, got meta",
        ),
        ({"seeds": torch.full(PLANE, 4)}, r"`seeds` must hold classes 0\.\.3 or 255, got 4"),
        ({"seeds": torch.full(PLANE, -1)}, r"`seeds` must hold classes 0\.\.3 or 255, got -1"),
        ({"seeds": torch.full(PLANE, 256)}, r"`seeds` must hold classes 0\.\.3 or 255, got 256"),
        ({"seeds": torch.zeros(PLANE)}, "`seeds` must be an integer"),
        ({"seeds": torch.zeros(3, 24, 20, dtype=torch.int64)}, "`seeds` must be an integer"),
        ({"seeds": torch.zeros(PLANE, dtype=torch.int64, device="meta")}, "`seeds` must be on the device"),
        ({"valid": torch.ones(PLANE)}, "`valid` must be a bool"),
        ({"valid": torch.ones(3, 20, dtype=torch.bool)}, "`valid` must be a bool"),
        ({"label_set": torch.ones(3, 5, dtype=torch.bool)}, "`label_set` must be a bool"),
        ({"label_set": torch.ones(3, 4)}, "`label_set` must be a bool"),
        ({"initial": torch.full(PLANE, 9)}, "`initial` must hold classes"),
        (
            {"label_set": torch.tensor([[True] * 4, [False] * 4, [False] * 4])},
            r"`label_set` must allow at least one class .* images \[1, 2\] of the batch have none",
        ),
    ],
)
def test_wrong_tensors(cls, arguments, words):
    logits, image = batch()
    arguments = {"logits": logits, "image": image, **arguments}
    with pytest.raises(ValueError, match=words):
        cls().solve(**arguments)


def test_a_start_that_is_not_given(cls):
    with pytest.raises(ValueError, match="`initial` must be passed where `start` is 'initial'"):
        cls(start="initial").solve(*batch())
