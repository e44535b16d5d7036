import pickle
from copy import deepcopy
from dataclasses import FrozenInstanceError, dataclass, field

import pytest
import torch
from problems import rows_of

from weakseg_lightning.energies import GridPotts
from weakseg_lightning.solvers import (
    AdaptiveBias,
    AlphaExpansion,
    ConstrainedLatent,
    DistributionSolver,
    GrabCut,
    MeanField,
    Refinement,
    Solver,
    SolverResult,
)


@dataclass(frozen=True)
class Spy(Solver):
    """Labels everything 0 and keeps what it is asked."""

    asked: list = field(default_factory=list)

    def _solve(self, scores, image, problem):
        self.asked.append((scores, image, problem))
        return SolverResult.from_labels(torch.zeros_like(problem.seeds))


@pytest.mark.parametrize("cls", [Solver, DistributionSolver, Refinement])
def test_a_solver_must_solve(cls):
    with pytest.raises(TypeError, match="abstract"):
        cls()


def test_energy_is_the_sum_of_both_terms():
    one = torch.ones(2, dtype=torch.float64)
    labels, count, yes = torch.zeros(2, 1, 1, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), one.bool()
    result = SolverResult(labels, one, 2 * one, count, yes, one, ("", ""))
    assert result.energy.tolist() == [3.0, 3.0]


def test_a_subclass_gets_single_precision_and_all_arguments():
    spy, logits, seeds = Spy(), torch.randn(2, 3, 4, 5).half().requires_grad_(), torch.full((2, 4, 5), 255)
    seeds[1, 0, 0] = 2
    label_set = torch.tensor([[True, False, False]] * 2)
    result = spy.solve(logits, torch.rand(2, 3, 4, 5).half(), seeds=seeds, label_set=label_set)
    ((scores, image, problem),) = spy.asked
    assert (scores.dtype, image.dtype, scores.requires_grad) == (torch.float32, torch.float32, False)
    assert problem.allowed.tolist() == [[True, False, False], [True, False, True]]
    assert torch.equal(problem.seeds.long(), seeds)
    assert problem.valid.all()
    assert problem.initial is None
    assert result.solve_seconds > 0


def test_a_subclass_is_not_asked_about_nothing():
    spy = Spy()
    assert spy.solve(torch.zeros(2, 3, 0, 5), torch.zeros(2, 3, 0, 5)).energy.tolist() == [0, 0]
    assert not spy.asked
    nothing = AdaptiveBias().solve(torch.zeros(0, 2, 3, 3), rows_of([([1.0, 0.0], 0.3, 2.0)], images=0))
    assert nothing.probabilities.shape == (0, 2, 3, 3)


@pytest.mark.parametrize("cls", [AlphaExpansion, MeanField, GrabCut, ConstrainedLatent, AdaptiveBias])
def test_solvers_are_values(cls):
    solver = cls()
    for other in (pickle.loads(pickle.dumps(solver)), deepcopy(solver), cls()):
        assert other == solver
        assert hash(other) == hash(solver)
    with pytest.raises(FrozenInstanceError):
        solver.anything = 1
    assert AlphaExpansion(GridPotts(1.0)) != AlphaExpansion(GridPotts(2.0))
