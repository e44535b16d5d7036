import pytest
import torch

from weakseg_lightning.solvers import Solver, SolverResult


def test_a_solver_must_solve():
    with pytest.raises(TypeError, match="abstract"):
        Solver()


def test_energy_is_the_sum_of_both_terms():
    one = torch.ones(2, dtype=torch.float64)
    labels, count, yes = torch.zeros(2, 1, 1, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), one.bool()
    result = SolverResult(labels, one, 2 * one, count, yes, one, ("", ""))
    assert result.energy.tolist() == [3.0, 3.0]
