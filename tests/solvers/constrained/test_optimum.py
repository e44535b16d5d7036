"""Constrained label distributions against solutions by SciPy, and against each other."""

import dataclasses
import warnings

import numpy as np
import pytest
import torch
from problems import INFINITE, Problem, Reference, drawn, pack, random_problem, unit
from scipy.optimize import LinearConstraint, minimize

from weakseg_lightning import ConstrainedLatent, DistributionResult
from weakseg_lightning.constraints import LinearConstraints

KINDS = ("tags", "sizes", "boxes", "ratios", "conflict", "pixels")


def distribution(result: DistributionResult, image: int, problem: Problem) -> np.ndarray:
    """P of an image of a batch at its valid pixels, ``(K, n)``."""
    height, width = problem.valid.shape
    return result.probabilities[image, : len(problem.logits), :height, :width].double().numpy()[:, problem.valid]


@pytest.mark.parametrize("kind", KINDS)
def test_dual_optimum_equals_that_of_scipy(kind):
    problems, (logits, constraints, valid) = drawn([kind], 100, sum(kind.encode()))
    result = ConstrainedLatent(tolerance=1e-9).solve(logits, constraints, valid=valid)
    assert result.converged.all(), result.message
    compared = 0
    for b, problem in enumerate(problems):
        reference = Reference(problem)
        if (problem.usable() & problem.valid).any((1, 2)).sum() == 1:
            assert result.evaluations[b] == 0
            continue
        duals, best = result.duals[b, : len(problem.rows)].numpy(), reference.solve()
        assert reference.residual(duals) <= 2e-9
        assert reference.value(duals) >= reference.value(best) - 1e-10
        found = distribution(result, b, problem)
        if reference.residual(best) <= 1e-7:  # scipy gives up now and then
            np.testing.assert_allclose(found, reference.distributions(best), atol=2e-6)
            compared += 1
        assert reference.primal(found) == pytest.approx(reference.value(duals) - reference.value(0 * duals), abs=2e-6)
    assert compared >= 80


def primal_by_scipy(problem: Problem) -> np.ndarray:
    """P of a problem without slack, by SLSQP on the problem itself: ``(K, n)``."""
    reference = Reference(problem)
    classes, pixels = reference.scores.shape
    prior = reference.distributions(np.zeros(len(problem.rows)))
    sums = LinearConstraint(np.kron(np.ones(classes), np.eye(pixels)), 1, 1)
    rows = np.array([np.outer(a, mask).ravel() for a, mask in zip(reference.rows, reference.masks, strict=True)])
    bounds = LinearConstraint(rows, reference.bounds * reference.masks.sum(1), np.inf)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = minimize(
            lambda p: (p * (np.log(p) - np.log(prior.ravel()))).sum(),
            prior.ravel(),
            jac=lambda p: np.log(p) - np.log(prior.ravel()) + 1,
            bounds=[(1e-12, 1)] * prior.size,
            constraints=[sums, bounds],
            method="SLSQP",
            options={"ftol": 1e-12, "maxiter": 300},
        )
    assert found.success, found.message
    return found.x.reshape(classes, pixels)


def test_distribution_equals_that_of_the_problem_itself_solved_by_scipy():
    rng = np.random.default_rng(2)
    problems = []
    for _ in range(40):
        problem = random_problem("tags", rng, size=3)
        problem.logits[...] = rng.normal(size=problem.logits.shape)
        problem.allowed[:] = True
        problem.rows = [(a, b, INFINITE, mask) for a, b, _, mask in problem.rows]
        problems.append(problem)
    logits, constraints, valid = pack(problems)
    result = ConstrainedLatent(tolerance=1e-9).solve(logits, constraints, valid=valid)
    for b, problem in enumerate(problems):
        np.testing.assert_allclose(distribution(result, b, problem), primal_by_scipy(problem), atol=2e-4)


@pytest.mark.parametrize("method", ["projected_gradient", "fista"])
def test_all_methods_reach_the_same_optimum(method):
    _, (logits, constraints, valid) = drawn(KINDS, 8, 3, size=4)
    newton = ConstrainedLatent(tolerance=1e-7).solve(logits, constraints, valid=valid)
    other = ConstrainedLatent(method, tolerance=1e-7).solve(logits, constraints, valid=valid)
    assert other.converged.all()
    assert (newton.evaluations <= other.evaluations + 8).all()
    torch.testing.assert_close(other.probabilities, newton.probabilities, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_single_precision_agrees_with_double_precision(kind):
    _, (logits, constraints, valid) = drawn([kind], 50, 4)
    fine = ConstrainedLatent(tolerance=1e-9).solve(logits, constraints, valid=valid)
    _, (logits, constraints, valid) = drawn([kind], 50, 4, dtype=torch.float32)
    result = ConstrainedLatent().solve(logits, constraints, valid=valid)
    assert result.probabilities.dtype == torch.float32
    assert result.converged.all()
    assert result.evaluations.max() <= 20
    torch.testing.assert_close(result.probabilities.double(), fine.probabilities, atol=3e-4, rtol=0)


@pytest.mark.parametrize("hardness", [30.0, 1000.0])
def test_hard_outputs_converge_too(hardness):
    problems, (logits, constraints, valid) = drawn(("tags", "sizes"), 30, 5, size=12)
    result = ConstrainedLatent(hardness=hardness).solve(logits, constraints, valid=valid)
    assert result.converged.float().mean() >= 0.95
    for b, problem in enumerate(problems):
        reference, duals = Reference(problem, hardness), result.duals[b, : len(problem.rows)].numpy()
        if result.converged[b]:
            assert reference.residual(duals) <= 1.1e-5
        assert (duals <= reference.upper * (1 + 1e-12)).all()


def test_batch_equals_single_images():
    problems, (logits, constraints, valid) = drawn(KINDS, 5, 6)
    solver = ConstrainedLatent(tolerance=1e-8)
    together = solver.solve(logits, constraints, valid=valid)
    assert torch.equal(together.probabilities, solver.solve(logits, constraints, valid=valid).probabilities)
    for b in range(len(problems)):
        names = {field.name for field in dataclasses.fields(constraints)} - {"names"}
        fields = {name: getattr(constraints, name)[b : b + 1] for name in names}
        alone = solver.solve(
            logits[b : b + 1], LinearConstraints(**fields, names=constraints.names), valid=valid[b : b + 1]
        )
        torch.testing.assert_close(alone.probabilities[0], together.probabilities[b], atol=1e-7, rtol=0)
        assert alone.evaluations[0] == together.evaluations[b]


def test_random_infeasible_sets_are_reported():
    rng = np.random.default_rng(7)
    problems = []
    for index in range(60):
        problem = random_problem("tags", rng)
        classes, tag = len(problem.logits), int(np.flatnonzero(problem.allowed)[1])
        problem.rows.append((unit(classes, tag), 0.8 if index % 2 else 1.2, INFINITE, None))
        problems.append(problem)
    for dtype in (torch.float32, torch.float64):
        logits, constraints, valid = pack(problems, dtype)
        result = ConstrainedLatent().solve(logits, constraints, valid=valid)
        assert not result.converged.any()
        assert all("cannot be met" in message for message in result.message), result.message
        assert result.evaluations.max() <= 30
