import dataclasses
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import LinearConstraint, minimize

from weakseg_lightning import ConstrainedLatent, DistributionResult
from weakseg_lightning.constraints import LinearConstraints
from weakseg_lightning.losses import kl_loss

sys.path.append(str(Path(__file__).parent))
from problems import INFINITE, Problem, Reference, pack, random_problem, unit

KINDS = ("tags", "sizes", "boxes", "ratios", "conflict", "pixels")


def simple(
    rows: list[tuple[list[float], float, float]], allowed: list[bool] | None = None, names: list[str] | None = None
) -> LinearConstraints:
    """Constraints of one image without regions: coefficients, bound, slack."""
    classes = len(rows[0][0])
    return LinearConstraints(
        coefficients=torch.tensor([[a for a, _, _ in rows]]),
        bounds=torch.tensor([[b for _, b, _ in rows]]),
        slack=torch.tensor([[beta for _, _, beta in rows]]),
        active=torch.ones(1, len(rows), dtype=torch.bool),
        allowed=torch.tensor([allowed or [True] * classes]),
        regions=None,
        region_of=None,
        allowed_at=None,
        names=tuple(names or (f"row {c}" for c in range(len(rows)))),
    )


def distribution(result: DistributionResult, image: int, problem: Problem) -> np.ndarray:
    """P of an image of a batch at its valid pixels, ``(K, n)``."""
    height, width = problem.valid.shape
    return result.probabilities[image, : len(problem.logits), :height, :width].double().numpy()[:, problem.valid]


@pytest.mark.parametrize("kind", KINDS)
def test_dual_optimum_equals_that_of_scipy(kind):
    rng = np.random.default_rng(sum(kind.encode()))
    problems = [random_problem(kind, rng) for _ in range(100)]
    logits, constraints, valid = pack(problems)
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
    rng = np.random.default_rng(3)
    problems = [random_problem(kind, rng, size=4) for kind in KINDS for _ in range(8)]
    logits, constraints, valid = pack(problems)
    newton = ConstrainedLatent(tolerance=1e-7).solve(logits, constraints, valid=valid)
    other = ConstrainedLatent(method, tolerance=1e-7).solve(logits, constraints, valid=valid)
    assert other.converged.all()
    assert (newton.evaluations <= other.evaluations + 8).all()
    torch.testing.assert_close(other.probabilities, newton.probabilities, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_single_precision_agrees_with_double_precision(kind):
    rng = np.random.default_rng(4)
    problems = [random_problem(kind, rng) for _ in range(50)]
    wide, constraints, valid = pack(problems)
    fine = ConstrainedLatent(tolerance=1e-9).solve(wide, constraints, valid=valid)
    logits, constraints, valid = pack(problems, torch.float32)
    result = ConstrainedLatent().solve(logits, constraints, valid=valid)
    assert result.probabilities.dtype == torch.float32
    assert result.converged.all()
    assert result.evaluations.max() <= 20
    torch.testing.assert_close(result.probabilities.double(), fine.probabilities, atol=3e-4, rtol=0)


@pytest.mark.parametrize("hardness", [30.0, 1000.0])
def test_hard_outputs_converge_too(hardness):
    rng = np.random.default_rng(5)
    problems = [random_problem(kind, rng, size=12) for kind in ("tags", "sizes") for _ in range(30)]
    logits, constraints, valid = pack(problems)
    result = ConstrainedLatent(hardness=hardness).solve(logits, constraints, valid=valid)
    assert result.converged.float().mean() >= 0.95
    for b, problem in enumerate(problems):
        reference, duals = Reference(problem, hardness), result.duals[b, : len(problem.rows)].numpy()
        if result.converged[b]:
            assert reference.residual(duals) <= 1.1e-5
        assert (duals <= reference.upper * (1 + 1e-12)).all()


def test_batch_equals_single_images():
    rng = np.random.default_rng(6)
    problems = [random_problem(kind, rng) for kind in KINDS for _ in range(5)]
    logits, constraints, valid = pack(problems)
    solver = ConstrainedLatent(tolerance=1e-8)
    together = solver.solve(logits, constraints, valid=valid)
    assert torch.equal(together.probabilities, solver.solve(logits, constraints, valid=valid).probabilities)
    for b in range(len(problems)):
        fields = {name: getattr(constraints, name)[b : b + 1] for name in vars(constraints) if name != "names"}
        alone = solver.solve(
            logits[b : b + 1], LinearConstraints(**fields, names=constraints.names), valid=valid[b : b + 1]
        )
        torch.testing.assert_close(alone.probabilities[0], together.probabilities[b], atol=1e-7, rtol=0)
        assert alone.evaluations[0] == together.evaluations[b]


def test_constraints_that_hold_already_cost_one_evaluation_and_leave_the_softmax():
    logits = torch.randn(1, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    result = ConstrainedLatent().solve(logits, simple([([1.0, 0, 0], 0.01, INFINITE), ([0, 1.0, 0], 0.01, 2.0)]))
    assert result.evaluations.tolist() == [1]
    assert torch.equal(result.probabilities, logits.softmax(1))
    assert not result.duals.any()
    assert not result.violation.any()


def test_constraints_that_hold_already_cost_one_evaluation_for_hard_outputs_too():
    logits = 50 * torch.randn(1, 2, 9, 9, generator=torch.Generator().manual_seed(0))
    result = ConstrainedLatent(hardness=1000.0).solve(logits, simple([([1.0, 0], 0.1, INFINITE)]))
    assert result.evaluations.tolist() == [1]


def test_suppressed_classes_have_probability_exactly_zero():
    logits = torch.zeros(1, 4, 3, 3)
    logits[:, 2] = 90
    result = ConstrainedLatent().solve(logits, simple([([0, 1.0, 0, 0], 0.6, INFINITE)], [True, True, False, False]))
    assert not result.probabilities[:, 2:].any()
    torch.testing.assert_close(result.probabilities[:, 1].mean(), torch.tensor(0.6), atol=1e-5, rtol=0)
    torch.testing.assert_close(result.probabilities.sum(1), torch.ones(1, 3, 3))


def test_image_of_background_alone_needs_no_solve():
    rows = [([-1.0, 0], -0.7, INFINITE)]
    result = ConstrainedLatent().solve(torch.randn(1, 2, 3, 3), simple(rows, [True, False]))
    assert result.evaluations.tolist() == [0]
    assert result.converged.all()
    assert torch.equal(result.probabilities[0, 0], torch.ones(3, 3))
    torch.testing.assert_close(result.violation, torch.tensor([[0.3]]))


def test_one_dual_by_hand():
    # All pixels are alike: from 0.5 to 0.25 takes log 3 off the background's logit.
    result = ConstrainedLatent(hardness=2.0).solve(torch.zeros(1, 2, 4, 4), simple([([-1.0, 0], -0.25, INFINITE)]))
    assert result.duals.item() == pytest.approx(np.log(3) / 2, rel=1e-4)


def test_slack_limits_what_is_added_to_a_logit():
    result = ConstrainedLatent().solve(torch.tensor([[[[9.0]], [[0.0]]]]), simple([([0, 1.0], 0.5, 2.0)]))
    torch.testing.assert_close(result.probabilities.flatten(), torch.tensor([9.0, 2.0]).softmax(0))
    assert result.duals.item() == pytest.approx(2.0)
    assert result.converged.all()
    torch.testing.assert_close(result.violation[0], 0.5 - result.probabilities[0, 1, 0])


def test_rows_of_regions_count_their_own_valid_pixels():
    constraints = simple([([0, 1.0], 0.75, INFINITE)])
    region = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    region[..., :2] = True
    valid = torch.ones(1, 4, 4, dtype=torch.bool)
    valid[:, 3] = False
    constraints = dataclasses.replace(constraints, regions=region, region_of=torch.zeros(1, 1, dtype=torch.long))
    result = ConstrainedLatent().solve(torch.zeros(1, 2, 4, 4), constraints, valid=valid)
    expected = torch.tensor([0.75, 0.75, 0.5, 0.5]).expand(3, 4)
    torch.testing.assert_close(result.probabilities[0, 1, :3], expected, atol=1e-4, rtol=0)
    assert not result.probabilities[:, :, 3].any()
    assert (result.labels[0, 3] == 255).all()


def test_a_pixel_that_may_take_no_class_takes_the_background():
    allowed_at = torch.ones(1, 2, 1, 2, dtype=torch.bool)
    allowed_at[:, :, 0, 0] = False
    constraints = dataclasses.replace(simple([([0, 1.0], 0.4, INFINITE)]), allowed_at=allowed_at)
    result = ConstrainedLatent().solve(torch.zeros(1, 2, 1, 2), constraints)
    torch.testing.assert_close(result.probabilities[0, :, 0], torch.tensor([[1.0, 0.2], [0.0, 0.8]]), atol=1e-4, rtol=0)


def test_hard_rows_that_cannot_be_met_are_named():
    rows = [([1.0, 0, 0], 0.3, INFINITE), ([0, 1.0, 0], 0.8, INFINITE), ([0, 0, 1.0], 0.01, 2.0)]
    names = ["background >= 0.3", "dog >= 0.8", "cat >= 0.01"]
    logits = torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    result = ConstrainedLatent().solve(logits, simple(rows, names=names))
    assert result.converged.tolist() == [False]
    assert "cannot be met" in result.message[0]
    assert "'background >= 0.3'" in result.message[0] or "'dog >= 0.8'" in result.message[0]
    assert "cat" not in result.message[0]
    assert result.violation[0, :2].sum().item() == pytest.approx(0.1, abs=0.02)
    assert result.evaluations.max() <= 30


def test_large_duals_cost_no_precision():
    rows = [([1.0, 0, 0], 0.3, INFINITE), ([0, 1.0, 0], 0.8, INFINITE), ([0, 0, 1.0], 0.01, 2.0)]
    logits = torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    result = ConstrainedLatent(max_dual=1e6).solve(logits, simple(rows))
    assert result.duals.max() == 1e6
    assert result.residual.item() <= 1e-5


def test_an_upper_bound_that_cannot_be_met_says_at_most():
    rows = [([-1.0, 0], -0.2, INFINITE), ([0, -1.0], -0.3, 2.0)]
    constraints = simple([*rows, ([0, -1.0], -0.5, INFINITE)], names=["background <= 0.2", "soft", "dog <= 0.5"])
    result = ConstrainedLatent(max_dual=60.0).solve(torch.zeros(1, 2, 3, 3), constraints)
    assert "at most" in result.message[0]
    assert not result.converged.any()


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


def test_few_evaluations_are_reported():
    logits = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(2)) * 3
    result = ConstrainedLatent(max_evaluations=1).solve(logits, simple([([0, 1.0, 0], 0.9, INFINITE)]))
    assert result.converged.tolist() == [False]
    assert "raise `max_evaluations`" in result.message[0]
    assert result.evaluations.tolist() == [1]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_logits_that_are_not_finite_cost_their_image_alone(bad):
    rng = np.random.default_rng(8)
    problems = [random_problem("tags", rng) for _ in range(3)]
    logits, constraints, valid = pack(problems)
    solver = ConstrainedLatent()
    good = solver.solve(logits, constraints, valid=valid)
    logits[1, 0][valid[1]] = bad
    result = solver.solve(logits, constraints, valid=valid)
    assert result.converged.tolist() == [True, False, True]
    assert result.message == ("", "the logits are not finite", "")
    assert not result.probabilities[1].any()
    assert result.residual[1].isnan()
    torch.testing.assert_close(result.probabilities[[0, 2]], good.probabilities[[0, 2]])


def test_values_under_padding_and_of_suppressed_classes_do_not_matter():
    logits = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(3))
    valid = torch.ones(1, 4, 4, dtype=torch.bool)
    valid[..., 3] = False
    constraints = simple([([0, 1.0, 0], 0.9, INFINITE)], [True, True, False])
    expected = ConstrainedLatent().solve(logits[..., :3], constraints)
    logits[..., 3], logits[:, 2] = torch.nan, torch.inf
    result = ConstrainedLatent().solve(logits, constraints, valid=valid)
    torch.testing.assert_close(result.probabilities[..., :3], expected.probabilities)
    torch.testing.assert_close(result.duals, expected.duals)
    assert not result.probabilities[..., 3].any()


def test_image_without_valid_pixels_and_empty_regions():
    constraints = simple([([0, 1.0], 0.9, INFINITE), ([0, 1.0], 0.6, INFINITE)])
    empty = torch.zeros(1, 1, 2, 2, dtype=torch.bool)
    nothing = ConstrainedLatent().solve(torch.zeros(1, 2, 2, 2), constraints, valid=empty[:, 0])
    assert nothing.converged.all()
    assert not nothing.probabilities.any()
    constraints = dataclasses.replace(constraints, regions=empty, region_of=torch.tensor([[0, -1]]))
    result = ConstrainedLatent().solve(torch.zeros(1, 2, 2, 2), constraints)
    assert result.converged.all()
    assert result.duals[0, 0] == 0
    torch.testing.assert_close(result.probabilities[:, 1], torch.full((1, 2, 2), 0.6))


@pytest.mark.parametrize("shape", [(0, 2, 3, 3), (2, 2, 0, 3), (1, 2, 1, 1), (1, 1, 2, 2)])
def test_small_and_empty_batches(shape):
    batch, classes = shape[:2]
    constraints = LinearConstraints(
        coefficients=torch.ones(batch, 1, classes),
        bounds=torch.full((batch, 1), 0.3),
        slack=torch.full((batch, 1), 2.0),
        active=torch.ones(batch, 1, dtype=torch.bool),
        allowed=torch.ones(batch, classes, dtype=torch.bool),
        regions=None,
        region_of=None,
        allowed_at=None,
        names=("row",),
    )
    result = ConstrainedLatent().solve(torch.zeros(shape), constraints)
    assert result.probabilities.shape == shape
    assert result.converged.all()
    torch.testing.assert_close(result.probabilities.sum(1), torch.ones(batch, *shape[2:]))


def test_image_without_rows_gets_its_softmax():
    constraints = simple([([1.0, 0], 0.9, INFINITE)])
    logits = torch.randn(1, 2, 3, 3)
    inactive = dataclasses.replace(constraints, active=torch.zeros(1, 1, dtype=torch.bool))
    rowless = LinearConstraints(
        **{name: getattr(constraints, name)[:, :0] for name in ("coefficients", "bounds", "slack", "active")},
        **{name: getattr(constraints, name) for name in ("allowed", "regions", "region_of", "allowed_at")},
        names=(),
    )
    for some in (inactive, rowless):
        result = ConstrainedLatent().solve(logits, some)
        torch.testing.assert_close(result.probabilities, logits.softmax(1))
        assert result.evaluations.tolist() == [0]


def test_autocast_and_half_precision_logits_are_solved_in_single_precision():
    logits = torch.randn(1, 3, 9, 9, generator=torch.Generator().manual_seed(4)).bfloat16()
    constraints = simple([([0, 1.0, 0], 0.7, INFINITE)])
    expected = ConstrainedLatent().solve(logits.float(), constraints)
    with torch.autocast("cpu", torch.bfloat16):
        result = ConstrainedLatent().solve(logits, constraints)
    assert torch.equal(result.probabilities, expected.probabilities)


def test_energy_decreases_over_alternations_on_a_linear_model():
    generator = torch.Generator().manual_seed(5)
    features = torch.randn(2, 4, 6, 6, generator=generator, dtype=torch.float64)
    weights = torch.zeros(3, 4, dtype=torch.float64, requires_grad=True)
    one = simple([([1.0, 0, 0], 0.3, INFINITE), ([-1.0, 0, 0], -0.5, INFINITE), ([0, 1.0, 0], 0.4, INFINITE)])
    constraints = LinearConstraints(
        **{n: None if (t := getattr(one, n)) is None else torch.cat([t, t]) for n in vars(one) if "names" not in n},
        names=one.names,
    )
    energies = []
    for _ in range(30):
        logits = torch.einsum("kd,bdhw->bkhw", weights, features)
        latent = ConstrainedLatent(tolerance=1e-10).solve(logits.detach(), constraints).probabilities
        loss = kl_loss(logits, latent)
        (gradient,) = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            weights -= 0.2 * gradient
        energies.append(loss.item())
    assert np.all(np.diff(energies) <= 1e-12)
    assert energies[-1] < energies[0] - 1e-4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"method": "newtn"}, "`method` must be one of"),
        ({"hardness": 0.0}, "`hardness` must be finite and above 0"),
        ({"tolerance": float("nan")}, "`tolerance` must be finite and above 0"),
        ({"max_evaluations": 0}, "`max_evaluations` must be at least 1"),
        ({"max_dual": INFINITE}, "`max_dual` must be finite and above 0"),
    ],
)
def test_bad_constructor_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        ConstrainedLatent(**arguments)


def bad_regions(constraints: LinearConstraints, region: int) -> LinearConstraints:
    regions = torch.ones(1, 1, 3, 3, dtype=torch.bool)
    return dataclasses.replace(constraints, regions=regions, region_of=torch.full((1, 1), region))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda c: dataclasses.replace(c, coefficients=torch.ones(1, 1, 3)),
            "`constraints.coefficients` must be a float",
        ),
        (lambda c: dataclasses.replace(c, slack=torch.ones(1, 2)), "`constraints.slack` must be a float"),
        (lambda c: dataclasses.replace(c, allowed=torch.ones(1, 2)), "`constraints.allowed` must be a bool"),
        (lambda c: dataclasses.replace(c, names=()), "`constraints.names` must name each of the 1 rows"),
        (lambda c: dataclasses.replace(c, slack=torch.full((1, 1), -1.0)), "a slack >= 0 .* row 'row 0' of image 0"),
        (lambda c: dataclasses.replace(c, bounds=torch.full((1, 1), torch.nan)), "finite coefficients and bounds"),
        (lambda c: bad_regions(c, 1), "regions that exist"),
        (lambda c: dataclasses.replace(bad_regions(c, 0), region_of=None), "must be given together"),
        (
            lambda c: dataclasses.replace(c, allowed_at=torch.ones(1, 2, 1, 1)),
            "`constraints.allowed_at` must be a bool",
        ),
    ],
)
def test_constraints_that_do_not_fit(change, words):
    with pytest.raises(ValueError, match=words):
        ConstrainedLatent().solve(torch.zeros(1, 2, 3, 3), change(simple([([1.0, 0], 0.5, 1.0)])))


def test_logits_and_valid_that_do_not_fit():
    constraints = simple([([1.0, 0], 0.5, 1.0)])
    with pytest.raises(ValueError, match="`logits` must be a float"):
        ConstrainedLatent().solve(torch.zeros(2, 3, 3), constraints)
    with pytest.raises(ValueError, match="`valid` must be a bool"):
        ConstrainedLatent().solve(torch.zeros(1, 2, 3, 3), constraints, valid=torch.ones(1, 3, 3))
