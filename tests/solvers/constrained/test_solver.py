"""Constrained label distributions on problems that can be followed by hand, and what is said of the others."""

import dataclasses

import numpy as np
import pytest
import torch
from problems import INFINITE, drawn, rows_of

from weakseg_lightning import ConstrainedLatent
from weakseg_lightning.constraints import AreaBounds, ImageFacts, Suppression, compile_constraints
from weakseg_lightning.losses import kl_loss


def test_constraints_that_hold_already_cost_one_evaluation_and_leave_the_softmax():
    logits = torch.randn(1, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    result = ConstrainedLatent().solve(logits, rows_of([([1.0, 0, 0], 0.01, INFINITE), ([0, 1.0, 0], 0.01, 2.0)]))
    assert result.evaluations.tolist() == [1]
    assert torch.equal(result.probabilities, logits.softmax(1))
    assert not result.duals.any()
    assert not result.violation.any()


def test_constraints_that_hold_already_cost_one_evaluation_for_hard_outputs_too():
    logits = 50 * torch.randn(1, 2, 9, 9, generator=torch.Generator().manual_seed(0))
    result = ConstrainedLatent(hardness=1000.0).solve(logits, rows_of([([1.0, 0], 0.1, INFINITE)]))
    assert result.evaluations.tolist() == [1]


def test_suppressed_classes_have_probability_exactly_zero():
    logits = torch.zeros(1, 4, 3, 3)
    logits[:, 2] = 90
    result = ConstrainedLatent().solve(logits, rows_of([([0, 1.0, 0, 0], 0.6, INFINITE)], [True, True, False, False]))
    assert not result.probabilities[:, 2:].any()
    torch.testing.assert_close(result.probabilities[:, 1].mean(), torch.tensor(0.6), atol=1e-5, rtol=0)
    torch.testing.assert_close(result.probabilities.sum(1), torch.ones(1, 3, 3))


def test_image_of_background_alone_needs_no_solve():
    rows = [([-1.0, 0], -0.7, INFINITE)]
    result = ConstrainedLatent().solve(torch.randn(1, 2, 3, 3), rows_of(rows, [True, False]))
    assert result.evaluations.tolist() == [0]
    assert result.converged.all()
    assert torch.equal(result.probabilities[0, 0], torch.ones(3, 3))
    torch.testing.assert_close(result.violation, torch.tensor([[0.3]]))


def test_one_dual_by_hand():
    # All pixels are alike: from 0.5 to 0.25 takes log 3 off the background's logit.
    result = ConstrainedLatent(hardness=2.0).solve(torch.zeros(1, 2, 4, 4), rows_of([([-1.0, 0], -0.25, INFINITE)]))
    assert result.duals.item() == pytest.approx(np.log(3) / 2, rel=1e-4)


def test_slack_limits_what_is_added_to_a_logit():
    result = ConstrainedLatent().solve(torch.tensor([[[[9.0]], [[0.0]]]]), rows_of([([0, 1.0], 0.5, 2.0)]))
    torch.testing.assert_close(result.probabilities.flatten(), torch.tensor([9.0, 2.0]).softmax(0))
    assert result.duals.item() == pytest.approx(2.0)
    assert result.converged.all()
    torch.testing.assert_close(result.violation[0], 0.5 - result.probabilities[0, 1, 0])


def test_rows_of_regions_count_their_own_valid_pixels():
    constraints = rows_of([([0, 1.0], 0.75, INFINITE)])
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
    constraints = dataclasses.replace(rows_of([([0, 1.0], 0.4, INFINITE)]), allowed_at=allowed_at)
    result = ConstrainedLatent().solve(torch.zeros(1, 2, 1, 2), constraints)
    torch.testing.assert_close(result.probabilities[0, :, 0], torch.tensor([[1.0, 0.2], [0.0, 0.8]]), atol=1e-4, rtol=0)


def test_hard_rows_that_cannot_be_met_are_named():
    rows = [([1.0, 0, 0], 0.3, INFINITE), ([0, 1.0, 0], 0.8, INFINITE), ([0, 0, 1.0], 0.01, 2.0)]
    names = ["background >= 0.3", "dog >= 0.8", "cat >= 0.01"]
    logits = torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    result = ConstrainedLatent().solve(logits, rows_of(rows, names=names))
    assert result.converged.tolist() == [False]
    assert "cannot be met" in result.message[0]
    assert "'background >= 0.3'" in result.message[0] or "'dog >= 0.8'" in result.message[0]
    assert "cat" not in result.message[0]
    assert result.violation[0, :2].sum().item() == pytest.approx(0.1, abs=0.02)
    assert result.evaluations.max() <= 30


def test_large_duals_cost_no_precision():
    rows = [([1.0, 0, 0], 0.3, INFINITE), ([0, 1.0, 0], 0.8, INFINITE), ([0, 0, 1.0], 0.01, 2.0)]
    logits = torch.randn(1, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    result = ConstrainedLatent(max_dual=1e6).solve(logits, rows_of(rows))
    assert result.duals.max() == 1e6
    assert result.residual.item() <= 1e-5


def test_an_upper_bound_that_cannot_be_met_says_at_most():
    rows = [([-1.0, 0], -0.2, INFINITE), ([0, -1.0], -0.3, 2.0)]
    constraints = rows_of([*rows, ([0, -1.0], -0.5, INFINITE)], names=["background <= 0.2", "soft", "dog <= 0.5"])
    result = ConstrainedLatent(max_dual=60.0).solve(torch.zeros(1, 2, 3, 3), constraints)
    assert "at most" in result.message[0]
    assert not result.converged.any()


def test_few_evaluations_are_reported():
    logits = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(2)) * 3
    result = ConstrainedLatent(max_evaluations=1).solve(logits, rows_of([([0, 1.0, 0], 0.9, INFINITE)]))
    assert result.converged.tolist() == [False]
    assert "raise `max_evaluations`" in result.message[0]
    assert result.evaluations.tolist() == [1]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_logits_that_are_not_finite_cost_their_image_alone(bad):
    _, (logits, constraints, valid) = drawn(["tags"], 3, 8)
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
    constraints = rows_of([([0, 1.0, 0], 0.9, INFINITE)], [True, True, False])
    expected = ConstrainedLatent().solve(logits[..., :3], constraints)
    logits[..., 3], logits[:, 2] = torch.nan, torch.inf
    result = ConstrainedLatent().solve(logits, constraints, valid=valid)
    torch.testing.assert_close(result.probabilities[..., :3], expected.probabilities)
    torch.testing.assert_close(result.duals, expected.duals)
    assert not result.probabilities[..., 3].any()


def test_image_without_valid_pixels_and_empty_regions():
    constraints = rows_of([([0, 1.0], 0.9, INFINITE), ([0, 1.0], 0.6, INFINITE)])
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
    constraints = rows_of([([1.0] * classes, 0.3, 2.0)], images=batch)
    result = ConstrainedLatent().solve(torch.zeros(shape), constraints)
    assert result.probabilities.shape == shape
    assert result.converged.all()
    torch.testing.assert_close(result.probabilities.sum(1), torch.ones(batch, *shape[2:]))


def test_image_without_rows_gets_its_softmax():
    constraints = rows_of([([1.0, 0], 0.9, INFINITE)])
    logits = torch.randn(1, 2, 3, 3)
    inactive = dataclasses.replace(constraints, active=torch.zeros(1, 1, dtype=torch.bool))
    empty = {name: getattr(constraints, name)[:, :0] for name in ("coefficients", "bounds", "slack", "active")}
    rowless = dataclasses.replace(constraints, names=(), **empty)
    for some in (inactive, rowless):
        result = ConstrainedLatent().solve(logits, some)
        torch.testing.assert_close(result.probabilities, logits.softmax(1))
        assert result.evaluations.tolist() == [0]


def test_autocast_and_half_precision_logits_are_solved_in_single_precision():
    logits = torch.randn(1, 3, 9, 9, generator=torch.Generator().manual_seed(4)).bfloat16()
    constraints = rows_of([([0, 1.0, 0], 0.7, INFINITE)])
    expected = ConstrainedLatent().solve(logits.float(), constraints)
    with torch.autocast("cpu", torch.bfloat16):
        result = ConstrainedLatent().solve(logits, constraints)
    assert torch.equal(result.probabilities, expected.probabilities)


def test_energy_decreases_over_alternations_on_a_linear_model():
    generator = torch.Generator().manual_seed(5)
    features = torch.randn(2, 4, 6, 6, generator=generator, dtype=torch.float64)
    weights = torch.zeros(3, 4, dtype=torch.float64, requires_grad=True)
    rows = [([1.0, 0, 0], 0.3, INFINITE), ([-1.0, 0, 0], -0.5, INFINITE), ([0, 1.0, 0], 0.4, INFINITE)]
    constraints = rows_of(rows, images=2)
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


ONE_REGION = {"regions": torch.ones(1, 1, 3, 3, dtype=torch.bool), "region_of": torch.full((1, 1), 0)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"coefficients": torch.ones(1, 1, 3)}, "`constraints.coefficients` must be a float"),
        ({"slack": torch.ones(1, 2)}, "`constraints.slack` must be a float"),
        ({"allowed": torch.ones(1, 2)}, "`constraints.allowed` must be a bool"),
        ({"names": ()}, "`constraints.names` must name each of the 1 rows"),
        ({"slack": torch.full((1, 1), -1.0)}, "a slack >= 0 .* row 'row 0' of image 0"),
        ({"bounds": torch.full((1, 1), torch.nan)}, "finite coefficients and bounds"),
        ({**ONE_REGION, "region_of": torch.full((1, 1), 1)}, "regions that exist"),
        ({**ONE_REGION, "region_of": None}, "must be given together"),
        ({"allowed_at": torch.ones(1, 2, 1, 1)}, "`constraints.allowed_at` must be a bool"),
    ],
)
def test_constraints_that_do_not_fit(change, words):
    with pytest.raises(ValueError, match=words):
        ConstrainedLatent().solve(torch.zeros(1, 2, 3, 3), rows_of([([1.0, 0], 0.5, 1.0)], **change))


def test_logits_and_valid_that_do_not_fit():
    constraints = rows_of([([1.0, 0], 0.5, 1.0)])
    with pytest.raises(ValueError, match="`logits` must be a float"):
        ConstrainedLatent().solve(torch.zeros(2, 3, 3), constraints)
    with pytest.raises(ValueError, match="`valid` must be a bool"):
        ConstrainedLatent().solve(torch.zeros(1, 2, 3, 3), constraints, valid=torch.ones(1, 3, 3))


@pytest.mark.parametrize("tags", [[True, True, False], [True, False, True], [True, False, False]])
def test_a_row_of_a_region_may_be_in_force_in_no_image(tags):
    rules = [Suppression(), AreaBounds("sky", lower=0.3, region=[0, 0, 1, 0.5])]
    valid = torch.ones(1, 8, 8, dtype=torch.bool)
    facts = ImageFacts(["a"], ["background", "sky", "cat"], torch.tensor([tags]), valid)
    logits = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    result = ConstrainedLatent().solve(logits, compile_constraints(rules, facts))
    assert result.converged.all()
    if not tags[1]:
        expected = logits.masked_fill(~facts.tags[:, :, None, None], -torch.inf).softmax(1)
        torch.testing.assert_close(result.probabilities, expected)
    else:
        assert result.probabilities[0, 1, :4].mean() > 0.3 - 1e-4


def test_hard_outputs_of_confident_networks_converge_and_keep_their_type():
    generator = torch.Generator().manual_seed(0)
    logits = 20 * torch.randn(2, 4, 41, 41, generator=generator)
    rows = [([0, 1.0, 0, 0], 0.4, INFINITE), ([0, 0, 1.0, 0], 0.4, INFINITE)]
    for hardness in (1.0, 1000.0):
        result = ConstrainedLatent(hardness=hardness).solve(logits, rows_of(rows, images=2))
        assert result.converged.all(), result.message
        assert result.probabilities.dtype == torch.float32


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("method", ["newton", "projected_gradient"])
def test_a_limit_of_thousands_of_evaluations_is_kept(method):
    rows = rows_of([([1.0, 0], 0.9, INFINITE), ([0, 1.0], 0.9, INFINITE)])  # which no distribution satisfies
    solver = ConstrainedLatent(method, tolerance=1e-30, max_evaluations=3000)
    result = solver.solve(torch.tensor([[[[0.3]], [[0.0]]]]), rows)
    assert not result.converged.any()
    assert result.probabilities.isfinite().all()


def test_messages_of_one_kind_begin_alike():
    logits = 9 * torch.randn(3, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    rows = [([0, 1.0, 0], 0.6, 30.0), ([0, 0, 1.0], 0.3, 30.0)]
    result = ConstrainedLatent(tolerance=1e-9, max_evaluations=2).solve(logits, rows_of(rows, images=3))
    assert len(set(result.message)) == 3
    assert len({message.split(":")[0] for message in result.message}) == 1
