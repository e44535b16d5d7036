"""The compiled steps of Newton's method on bare NumPy arrays."""

from itertools import product

import numpy as np
import pytest
from scipy.optimize import minimize

from weakseg_lightning._native import _core


def random_quadratics(rng, batch, rows):
    """Gradients, Hessians of less than full rank in part, and boxes that hold 0, some of them flat."""
    factors = rng.normal(size=(batch, rows, rows + 2)) * rng.choice([1e-3, 1.0], size=(batch, rows, 1))
    lower, upper = -rng.exponential(size=(batch, rows)), rng.exponential(size=(batch, rows))
    lower[rng.random(lower.shape) < 0.5] = 0
    upper[rng.random(upper.shape) < 0.1] = 0
    return rng.normal(size=(batch, rows)), factors @ factors.transpose(0, 2, 1), lower, upper


def solve(gradient, hessian, lower, upper):
    step = np.empty_like(gradient)
    _core.box_quadratic(gradient, hessian, lower, upper, step)
    return step


def value(step, gradient, hessian):
    return gradient @ step - step @ hessian @ step / 2


def best_by_brute_force(gradient, hessian, lower, upper):
    """The best value over all choices of which rows are at their lower bound, at their upper bound, or free."""
    best = -np.inf
    for sides in product((-1, 0, 1), repeat=len(gradient)):
        sides = np.array(sides)
        step, free = np.where(sides < 0, lower, np.where(sides > 0, upper, 0)), sides == 0
        right = gradient[free] - hessian[np.ix_(free, ~free)] @ step[~free]
        step[free] = np.linalg.solve(hessian[np.ix_(free, free)], right)
        if (step >= lower - 1e-12).all() and (step <= upper + 1e-12).all():
            best = max(best, value(step, gradient, hessian))
    return best


@pytest.mark.parametrize("rows", [1, 2, 3, 5])
def test_box_quadratic_equals_brute_force(rows):
    problems = random_quadratics(np.random.default_rng(rows), 60, rows)
    for step, gradient, hessian, lower, upper in zip(solve(*problems), *problems, strict=True):
        assert (step >= lower).all()
        assert (step <= upper).all()
        expected = best_by_brute_force(gradient, hessian, lower, upper)
        assert value(step, gradient, hessian) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_box_quadratic_equals_scipy_for_many_rows():
    problems = random_quadratics(np.random.default_rng(0), 4, 60)
    for step, gradient, hessian, lower, upper in zip(solve(*problems), *problems, strict=True):
        found = minimize(
            lambda d, g=gradient, h=hessian: -value(d, g, h),
            np.zeros(60),
            jac=lambda d, g=gradient, h=hessian: h @ d - g,
            bounds=list(zip(lower, upper, strict=True)),
            method="L-BFGS-B",
            options={"ftol": 1e-15, "gtol": 1e-9, "maxiter": 20000, "maxfun": 20000},
        )
        assert value(step, gradient, hessian) >= -found.fun * (1 - 1e-6)


def test_box_quadratic_with_opposite_rows_and_rows_without_curvature():
    # `a >= b` and `a <= b'` have opposite coefficients; the third row changes nothing and is closed.
    gradient, hessian = np.array([[0.4, -0.4, 0.0]]), np.array([[[0.2, -0.2, 0], [-0.2, 0.2, 0], [0, 0, 0]]])
    step = solve(gradient, hessian, np.zeros((1, 3)), np.array([[9.0, 9.0, 0.0]]))
    np.testing.assert_allclose(step, [[2.0, 0.0, 0.0]], rtol=1e-6)


def test_box_quadratic_of_no_rows_and_no_images():
    for shape in ((2, 0), (0, 3)):
        empty = np.zeros(shape)
        assert solve(empty, np.zeros((*shape, shape[1])), empty, empty).shape == shape


def direction(target, gradient, curvature, *, point=0.0, upper=1000.0, softness=1.0, margin=8.0):
    """The step of a row that picks one class, and the slope along it."""
    one = np.ones((1, 1))
    step, slope = np.empty((1, 1)), np.empty(1)
    _core.newton_direction(
        target * one, 0 * one, one, upper * one, softness * one[0], point * one, gradient * one,
        curvature * one[:, :, None], margin, step, slope,
    )  # fmt: skip
    return step[0, 0], slope[0]


def test_direction_is_right_at_once_where_all_pixels_are_alike():
    for reached, target in ((1e-6, 0.05), (0.5, 0.3), (0.99, 0.02)):
        point = 0.0 if target > reached else 30.0
        step, slope = direction(target, target - reached, reached * (1 - reached), point=point)
        wanted = np.log(target / (1 - target)) - np.log(reached / (1 - reached))
        assert step == pytest.approx(wanted, rel=1e-6)
        assert slope == pytest.approx(wanted * (target - reached))


def test_direction_stays_in_the_box_and_within_reach():
    assert direction(0.5, 0.4, 0.09, upper=0.25)[0] == pytest.approx(0.25)
    assert direction(0.1, -0.4, 0.25, point=0.125)[0] == pytest.approx(-0.125)
    alone = np.log(0.5 / 0.5) - np.log(0.1 / 0.9)
    assert direction(0.5, 0.4, 1e-9)[0] == pytest.approx(3 * alone + 8)
    assert direction(0.5, 0.4, 1e-9, softness=0.25)[0] == pytest.approx(4 * (3 * alone + 8))


def test_arrays_that_do_not_fit_are_refused():
    two, three = np.zeros((1, 2)), np.zeros((1, 3))
    with pytest.raises(ValueError, match="`hessian` must be"):
        solve(two, np.zeros((1, 3, 3)), two, two)
    with pytest.raises(ValueError, match="all arrays of rows"):
        solve(two, np.zeros((1, 2, 2)), three, two)


@pytest.mark.parametrize(("classes", "pixels"), [(1, 1), (2, 128), (6, 1681), (21, 300), (3, 0)])
@pytest.mark.parametrize("num_threads", [1, 3])
def test_label_moments_equal_those_in_double_precision(classes, pixels, num_threads):
    rng = np.random.default_rng(classes)
    odds = np.exp(-rng.exponential(10, size=(4, classes, pixels))).astype(np.float32)
    weights = np.exp(-rng.uniform(0, 20, size=(4, classes)))
    sums = np.full((4, classes, classes + 1), np.nan)
    _core.label_moments(odds, weights, sums, num_threads)
    shares = odds * weights[:, :, None]
    shares /= shares.sum(1, keepdims=True)
    np.testing.assert_allclose(sums[:, :, :-1], shares @ shares.transpose(0, 2, 1), rtol=2e-6, atol=1e-12)
    np.testing.assert_allclose(sums[:, :, -1], shares.sum(2), rtol=2e-6, atol=1e-12)


def test_label_moments_refuse_sums_of_another_size():
    with pytest.raises(ValueError, match="`sums` must be"):
        _core.label_moments(np.ones((1, 2, 3), dtype=np.float32), np.ones((1, 2)), np.empty((1, 2, 2)), 1)
