import math
from decimal import Decimal, localcontext

import pytest
import torch
from torch.autograd import gradcheck

from weakseg_lightning.hyperparameters import describe
from weakseg_lightning.losses import (
    NoiseMatrixCrossEntropy,
    RobustCrossEntropy,
    noise_matrix_cross_entropy,
    partial_cross_entropy,
    robust_cross_entropy,
    uniform_noise,
)

K = 4
ZERO = torch.tensor([0])
JUST_UNDER = math.nextafter((K - 1) / K, 0)


def exactly(logits, labels, eps, exact=None) -> float:
    """Sum of -log(a + b q) over the labeled pixels, from the definition, to fifty digits."""
    total = Decimal(0)
    with localcontext(prec=50):
        for index, label in enumerate(labels.flatten().tolist()):
            if label == 255:
                continue
            scores = [Decimal(s) for s in logits.movedim(1, -1).reshape(-1, logits.shape[1])[index].tolist()]
            q = scores[label].exp() / sum(score.exp() for score in scores)
            certain = exact is not None and bool(exact.flatten()[index])
            a = Decimal(0 if certain else eps) / (len(scores) - 1)
            total -= (a + (1 - len(scores) * a) * q).ln()
    return float(total)


def problem(dtype=torch.float64, seed=0):
    """Logits, labels with some ignored pixels, and exact pixels."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, K, 3, 5, dtype=dtype, generator=generator)
    labels = torch.randint(0, K, (2, 3, 5), generator=generator)
    labels[0, :2, :2] = 255
    exact = (torch.rand(2, 3, 5, generator=generator) < 0.3) & (labels != 255)
    return logits, labels, exact


def skewed() -> torch.Tensor:
    """A transition matrix without symmetry, with a zero."""
    rows = torch.tensor([[7, 1, 1, 1], [0, 8, 1, 1], [2, 3, 4, 1], [1, 1, 3, 5]], dtype=torch.float64)
    return rows / rows.sum(1, keepdim=True)


# ---- value --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("eps", [0.0, 1e-12, 0.3, 0.7, JUST_UNDER])
def test_value_equals_the_definition_in_high_precision(eps, dtype):
    logits, labels, exact = problem(dtype)
    for certain in (None, exact):
        expected = exactly(logits, labels, eps, certain) / int((labels != 255).sum())
        value = float(robust_cross_entropy(logits, labels, eps, certain))
        assert value == pytest.approx(expected, rel=1e-5 if dtype == torch.float32 else 1e-13)


def test_closed_form_of_two_classes():
    logits = torch.tensor([[0.0, math.log(3)]])  # q = (1/4, 3/4)
    loss = robust_cross_entropy(logits, torch.tensor([0]), 0.2)
    assert float(loss) == pytest.approx(-math.log(0.2 + 0.6 * 0.25))


def test_no_noise_is_the_cross_entropy():
    logits, labels, _ = problem()
    expected = torch.nn.functional.cross_entropy(logits, labels, ignore_index=255)
    for eps in (0, 0.0, torch.tensor(0.0)):
        torch.testing.assert_close(robust_cross_entropy(logits, labels, eps), expected)
    torch.testing.assert_close(robust_cross_entropy(logits, labels, 0.5, labels != 255), expected)


@pytest.mark.parametrize("eps", [0.0, 0.3, 0.74])
def test_a_uniform_matrix_is_the_uniform_loss(eps):
    logits, labels, exact = problem()
    for certain in (None, exact):
        uniform = noise_matrix_cross_entropy(logits, labels, uniform_noise(K, eps), certain)
        torch.testing.assert_close(uniform, robust_cross_entropy(logits, labels, eps, certain))


def test_value_of_a_matrix_equals_the_hand_count():
    logits, labels, exact = problem()
    matrix, expected = skewed(), 0.0
    for index in (labels != 255).nonzero().tolist():
        b, y, x = index
        q = logits[b, :, y, x].softmax(0)
        label = int(labels[b, y, x])
        observed = q[label] if exact[b, y, x] else sum(q[k] * matrix[k, label] for k in range(K))
        expected -= math.log(float(observed))
    value = noise_matrix_cross_entropy(logits, labels, matrix, exact)
    assert float(value) == pytest.approx(expected / int((labels != 255).sum()))


def test_columns_of_the_uniform_matrix_follow_equation_20():
    expected = [[0.7, 0.15, 0.15], [0.15, 0.7, 0.15], [0.15, 0.15, 0.7]]
    torch.testing.assert_close(uniform_noise(3, 0.3), torch.tensor(expected, dtype=torch.float64))


def test_a_matrix_reads_rows_as_true_and_columns_as_observed_classes():
    sure_of_class_1 = torch.tensor([[-100.0, 100.0]])
    matrix = torch.tensor([[1.0, 0.0], [0.25, 0.75]])
    values = [float(noise_matrix_cross_entropy(sure_of_class_1, torch.tensor([y]), matrix)) for y in (0, 1)]
    assert values == pytest.approx([-math.log(0.25), -math.log(0.75)])


def test_classification_is_the_case_without_pixels():
    logits, labels, _ = problem()
    flat = logits.movedim(1, -1).reshape(-1, K)
    for loss, noise in ((robust_cross_entropy, 0.4), (noise_matrix_cross_entropy, skewed())):
        torch.testing.assert_close(loss(flat, labels.flatten(), noise), loss(logits, labels, noise))


# ---- which pixels, divided by what --------------------------------------------------------------------------

LOSSES = [(robust_cross_entropy, 0.4), (noise_matrix_cross_entropy, skewed())]


@pytest.mark.parametrize(("loss", "noise"), LOSSES)
def test_ignored_pixels_change_nothing(loss, noise):
    logits, labels, exact = problem()
    other = logits.clone()
    other[0, :, :2, :2] = 77.0
    torch.testing.assert_close(loss(other, labels, noise, exact), loss(logits, labels, noise, exact), rtol=0, atol=0)
    small = torch.where(labels == 255, 7, labels)
    torch.testing.assert_close(loss(logits, small, noise, ignore_index=7), loss(logits, labels, noise))


@pytest.mark.parametrize(("loss", "noise"), LOSSES)
def test_normalizers_equal_the_hand_count(loss, noise):
    logits, labels, exact = problem()
    exact[0, 0, 0] = True  # exact, but ignored: counts for nothing
    total = float(loss(logits, labels, noise, exact)) * int((labels != 255).sum())
    seeds = int((exact & (labels != 255)).sum())
    by_seeds = float(loss(logits, labels, noise, exact, normalizer="seeds"))
    assert seeds > 1
    assert by_seeds == pytest.approx(total / seeds / 2)
    total = float(loss(logits, labels, noise)) * int((labels != 255).sum())
    assert float(loss(logits, labels, noise, exact & False, normalizer="seeds")) == pytest.approx(total / 2)


@pytest.mark.parametrize("normalizer", ["seeds", "valid"])
@pytest.mark.parametrize("num_images", [0, 2])
@pytest.mark.parametrize(("loss", "noise"), LOSSES)
def test_no_labeled_pixel_gives_zero_with_zero_gradient(loss, noise, num_images, normalizer):
    logits = torch.randn(num_images, K, 3, 3, requires_grad=True)
    labels = torch.full((num_images, 3, 3), 255)
    value = loss(logits, labels, noise, labels == 0, normalizer=normalizer)
    value.backward()
    assert value.item() == 0.0
    assert not logits.grad.any()


def test_ignored_pixels_give_the_noise_level_no_gradient():
    eps = torch.tensor(0.3, requires_grad=True)
    robust_cross_entropy(torch.randn(1, K, 2, 2), torch.full((1, 2, 2), 255), eps).backward()
    assert eps.grad == 0


# ---- gradient -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eps", [0.01, 0.4, 0.74])
def test_gradient_agrees_with_finite_differences(eps):
    logits, labels, exact = problem()
    level = torch.tensor(eps, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda f, e: robust_cross_entropy(f, labels, e, exact), (logits.requires_grad_(), level))
    assert gradcheck(lambda f: robust_cross_entropy(f, labels, eps, exact, "seeds"), (logits,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("eps", [0.0, 1e-30, 0.4, 0.7499, JUST_UNDER])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_extreme_logits_stay_finite(as_tensor, eps, label, dtype):
    logits = torch.tensor([[1e4, -1e4, 0, 0]], dtype=dtype, requires_grad=True)
    level = torch.tensor(eps, dtype=torch.float64, requires_grad=True) if as_tensor else eps
    value = robust_cross_entropy(logits, torch.tensor([label]), level)
    value.backward()
    expected = -math.log(1 - eps) if label == 0 else 2e4 if eps == 0 else -math.log(eps / 3)
    assert value.item() == pytest.approx(expected, rel=1e-5, abs=1e-7)
    assert torch.isfinite(logits.grad).all()
    assert not as_tensor or math.isfinite(level.grad)


@pytest.mark.parametrize("matrix", [skewed(), torch.eye(K)])
@pytest.mark.parametrize("label", range(K))
def test_extreme_logits_stay_finite_under_a_matrix(label, matrix):
    logits = torch.tensor([[1e4, -1e4, 0, 0]], requires_grad=True)
    value = noise_matrix_cross_entropy(logits, torch.tensor([label]), matrix)
    value.backward()
    assert math.isfinite(value.item())
    assert torch.isfinite(logits.grad).all()


def test_the_published_level_just_under_the_limit_keeps_its_gradient_in_single_precision():
    logits = torch.randn(1, 21, generator=torch.Generator().manual_seed(0))
    single, double = logits.clone().requires_grad_(), logits.double().requires_grad_()
    for scores in (single, double):
        robust_cross_entropy(scores, torch.tensor([3]), 0.9522).backward()
    torch.testing.assert_close(single.grad.double(), double.grad, rtol=1e-5, atol=1e-9)


def test_a_confident_contradiction_pulls_less_than_in_the_cross_entropy():
    """Figure 2: the robust loss is flat where the prediction is sure of another class."""
    logits = torch.tensor([[-9.0, 9.0]], requires_grad=True)
    labels = torch.tensor([0])
    (robust_pull,) = torch.autograd.grad(robust_cross_entropy(logits, labels, 0.1), logits)
    (plain_pull,) = torch.autograd.grad(partial_cross_entropy(logits, labels), logits)
    assert robust_pull.abs().max() < 1e-5 < plain_pull.abs().max()


# ---- modules ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("normalizer", ["seeds", "valid"])
def test_modules_equal_their_functions(normalizer):
    logits, labels, exact = problem()
    labels = torch.where(labels == 255, 9, labels)
    expected = robust_cross_entropy(logits, labels, 0.4, exact, normalizer, 9)
    torch.testing.assert_close(RobustCrossEntropy(0.4, normalizer, 9)(logits, labels, exact), expected)
    learned = RobustCrossEntropy(0.4, normalizer, 9, learn_eps=True, num_classes=K)
    torch.testing.assert_close(learned(logits, labels, exact), expected, rtol=1e-6, atol=1e-6)
    expected = noise_matrix_cross_entropy(logits, labels, skewed(), exact, normalizer, 9)
    module = NoiseMatrixCrossEntropy(skewed().tolist(), normalizer, 9)
    torch.testing.assert_close(module(logits, labels, exact), expected, rtol=1e-6, atol=1e-6)


def test_modules_keep_their_arguments_for_checkpoints():
    loss = RobustCrossEntropy(0.3, "seeds", 9, learn_eps=True, num_classes=3)
    kept = {"eps": 0.3, "normalizer": "seeds", "ignore_index": 9, "learn_eps": True, "num_classes": 3}
    assert describe(loss)["init_args"] == kept
    rows = [[0.5, 0.5], [0.0, 1.0]]
    assert describe(NoiseMatrixCrossEntropy(rows))["init_args"]["transition"] == rows


def test_state_holds_the_matrix_or_the_learned_level():
    assert not RobustCrossEntropy(0.4).state_dict()
    assert set(NoiseMatrixCrossEntropy([[0.5, 0.5], [0.0, 1.0]]).state_dict()) == {"matrix"}
    first, second = (RobustCrossEntropy(eps, learn_eps=True, num_classes=K) for eps in (0.6, 0.1))
    second.load_state_dict(first.state_dict())
    assert second.current_eps.item() == pytest.approx(0.6)


def test_a_learned_level_finds_the_noise():
    """The level of least loss is the fraction of wrong labels, if the prediction is the truth."""
    labels = torch.arange(1000) % K
    logits = 50 * torch.nn.functional.one_hot(labels, K).float()
    observed = torch.where(torch.arange(1000) < 300, (labels + 1) % K, labels)
    loss = RobustCrossEntropy(0.05, learn_eps=True, num_classes=K)
    optimizer = torch.optim.LBFGS(loss.parameters(), max_iter=50)

    def closure():
        optimizer.zero_grad()
        value = loss(logits, observed)
        value.backward()
        return value

    optimizer.step(closure)
    assert loss.current_eps.item() == pytest.approx(0.3, abs=1e-3)


@pytest.mark.parametrize("theta", [-1e3, -100.0, -80.0, 16.0, 17.0, 1e3])
def test_a_learned_level_at_the_end_of_its_range_stays_finite(theta):
    logits, labels, exact = problem(torch.float32)
    loss = RobustCrossEntropy(0.4, learn_eps=True, num_classes=K)
    loss.theta.data.fill_(theta)
    value = loss(logits.requires_grad_(), labels, exact)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()
    assert torch.isfinite(loss.theta.grad)


# ---- errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eps", [-0.1, 0.75, 0.9, math.nan, torch.tensor(0.8)])
def test_a_level_out_of_range_is_refused_with_the_largest_allowed(eps):
    logits, labels, _ = problem()
    with pytest.raises(ValueError, match=rf"`eps` .* below \(K-1\)/K = 0.75 .* The largest .* is {JUST_UNDER!r}"):
        robust_cross_entropy(logits, labels, eps)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": torch.zeros(2, 5, 3)}, r"`labels` must be \(B, ...\)"),
        ({"exact": torch.zeros(2, 3, 5)}, "`exact` must be a bool"),
        ({"exact": torch.zeros(3, 5, dtype=torch.bool)}, r"`exact` must be a bool \(2, 3, 5\)"),
        ({"normalizer": "mean"}, "`normalizer` must be one of"),
        ({"normalizer": "seeds"}, "give `exact`"),
    ],
)
@pytest.mark.parametrize(("loss", "noise"), LOSSES)
def test_wrong_arguments_are_refused(loss, noise, change, words):
    logits, labels, _ = problem()
    given = {"labels": labels, **change}
    with pytest.raises(ValueError, match=words):
        loss(logits, given.pop("labels"), noise, **given)


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (torch.rand(4), r"must be a matrix \(K, K\)"),
        (torch.rand(4, 3), r"must be a matrix \(K, K\)"),
        (torch.eye(3), "for 3 classes, but `logits` have 4"),
        (torch.eye(4) * 1.5 - 0.125, "holds probabilities, got the entry -0.125"),
        (torch.full((4, 4), math.nan), "holds probabilities"),
        (torch.eye(4) + torch.eye(4).roll(1), "row 0 sums to 3"),
        (torch.tensor([[1.0, 0, 0, 0]] * 4), r"columns \[1, 2, 3\] of `transition` are zero"),
    ],
)
def test_what_is_no_transition_matrix_is_refused(matrix, words):
    logits, labels, _ = problem()
    with pytest.raises(ValueError, match=words):
        noise_matrix_cross_entropy(logits, labels, matrix)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: RobustCrossEntropy(0.4, learn_eps=True), "needs `num_classes`"),
        (lambda: RobustCrossEntropy(0.0, learn_eps=True, num_classes=3), "`eps` must be above 0 to be learned"),
        (lambda: RobustCrossEntropy(0.7, num_classes=3), "largest value allowed"),
        (lambda: RobustCrossEntropy(0.4, num_classes=3)(torch.zeros(1, 4), ZERO), "is 3, but `logits` have 4"),
        (lambda: uniform_noise(1, 0.0), "at least 2 classes"),
        (lambda: robust_cross_entropy(torch.zeros(1, 3), ZERO, torch.rand(2)), "`eps` must be one number"),
    ],
)
def test_levels_that_make_no_sense_are_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        wrong()
