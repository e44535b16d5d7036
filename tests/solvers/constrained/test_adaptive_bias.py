from itertools import product

import pytest
import torch
from problems import rows_of
from torch import Tensor
from torch.nn import functional

from weakseg_lightning.constraints import LinearConstraints
from weakseg_lightning.solvers import AdaptiveBias


def suppression(allowed: Tensor, allowed_at: Tensor | None = None, active: bool = False) -> LinearConstraints:
    """The constraints of Suppression alone, with one more row that may be active."""
    batch, classes = allowed.shape
    return rows_of(
        [([1.0] * classes, 0.3, 2.0)],
        images=batch,
        active=torch.full((batch, 1), active),
        allowed=allowed,
        allowed_at=allowed_at,
        names=("dog >= 0.3",),
        class_names=tuple(f"class_{label}" for label in range(classes)),
    )


def allowing(*images: list[int], classes: int) -> Tensor:
    return torch.stack([torch.isin(torch.arange(classes), torch.tensor(image)) for image in images])


def shares(labels: Tensor, classes: int) -> Tensor:
    """Fraction of each class in each image, (B, K)."""
    one_hot = functional.one_hot(labels.long(), 256)[..., :classes].float()
    return one_hot.sum((1, 2)) / (labels != 255).sum((1, 2))[:, None]


def smooth(kind: str, batch: int, classes: int) -> Tensor:
    """Scores as networks give them: blobs; one map that all classes share; few values; one value."""
    torch.manual_seed(0)
    if kind == "blobs":
        return 5 * functional.interpolate(torch.randn(batch, classes, 4, 4), size=(21, 20), mode="bilinear")
    if kind == "shared":
        return 3 * torch.randn(batch, classes, 1, 1) * torch.rand(batch, 1, 21, 20)
    if kind == "few":
        return torch.randint(0, 3, (batch, classes, 21, 20)).float()
    return torch.zeros(batch, classes, 21, 20)


def test_a_foreground_class_takes_its_share_where_it_costs_least() -> None:
    # the background leads by 1, 2, .., 10: with a bias of 2 to 3 the foreground wins two pixels of ten
    logits = torch.zeros(1, 2, 1, 10)
    logits[0, 0, 0] = torch.arange(1, 11)
    result = AdaptiveBias().solve(logits, suppression(torch.ones(1, 2, dtype=torch.bool)))
    assert result.labels.flatten().tolist() == [1, 1, 0, 0, 0, 0, 0, 0, 0, 0]
    assert 2 <= float(result.duals[0, 1]) < 3
    assert float(result.duals[0, 0]) == 0
    assert result.evaluations.tolist() == [1]


def test_a_background_that_has_lost_the_image_takes_its_share_back() -> None:
    logits = torch.zeros(1, 2, 1, 10)
    logits[0, 1, 0] = torch.arange(1, 11)
    result = AdaptiveBias().solve(logits, suppression(torch.ones(1, 2, dtype=torch.bool)))
    assert result.labels.flatten().tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 1, 1]


def test_shares_that_are_there_need_no_bias() -> None:
    labels = torch.tensor([[[0, 0, 1, 1, 2], [0, 0, 1, 1, 2]]])
    logits = functional.one_hot(labels, 4).permute(0, 3, 1, 2).float()
    result = AdaptiveBias().solve(logits, suppression(allowing([0, 1, 2], classes=4)))
    assert torch.equal(result.labels, labels.to(torch.uint8))
    assert not result.duals.any()
    assert result.evaluations.tolist() == [0]
    assert result.converged.tolist() == [True]


@pytest.mark.parametrize("kind", ["blobs", "shared", "few", "one"])
@pytest.mark.parametrize("present", [[0], [0, 3], [0, 1, 4], [0, 2, 3, 5]])
def test_shares_are_reached_and_nothing_else_is_used(kind: str, present: list[int]) -> None:
    logits = smooth(kind, 3, 6)
    allowed = allowing(present, [0, 5], [0], classes=6)
    result = AdaptiveBias().solve(logits, suppression(allowed))
    found = shares(result.labels, 6)
    assert result.converged.all()
    assert not result.violation.any()
    assert result.message == ("", "", "")
    assert not found[~allowed].any()
    assert (found[:, 0] >= 0.4).all()
    assert (found[:, 1:][allowed[:, 1:]] >= 0.2).all()
    assert (result.duals[~allowed] == 0).all()


def test_probabilities_are_one_hot_and_padding_counts_for_nothing() -> None:
    logits, valid = smooth("blobs", 2, 3), torch.ones(2, 21, 20, dtype=torch.bool)
    valid[0, 13:] = valid[1, :, 7:] = False
    whole = suppression(torch.ones(2, 3, dtype=torch.bool))
    result = AdaptiveBias().solve(logits.masked_fill(~valid[:, None], 1e4), whole, valid=valid)
    assert torch.equal(result.probabilities.sum(1), valid.float())
    assert torch.equal(result.probabilities.amax(1), valid.float())
    assert torch.equal(result.labels == 255, ~valid)
    one = suppression(torch.ones(1, 3, dtype=torch.bool))
    assert torch.equal(result.labels[:1, :13], AdaptiveBias().solve(logits[:1, :, :13], one).labels)
    assert torch.equal(result.labels[1:, :, :7], AdaptiveBias().solve(logits[1:, ..., :7], one).labels)


def test_images_do_not_see_each_other() -> None:
    logits, allowed = smooth("shared", 4, 5), allowing([0, 1], [0, 1, 2, 3], [0], [0, 4, 2], classes=5)
    together = AdaptiveBias().solve(logits, suppression(allowed))
    for index in range(4):
        alone = AdaptiveBias().solve(logits[index : index + 1], suppression(allowed[index : index + 1]))
        assert torch.equal(alone.probabilities[0], together.probabilities[index])
        assert torch.equal(alone.duals[0], together.duals[index])
        assert alone.evaluations[0] == together.evaluations[index]


@pytest.mark.parametrize("seed", range(8))
def test_the_sum_of_scores_is_the_best_of_all_labelings_with_these_shares(seed: int) -> None:
    torch.manual_seed(seed)
    logits = torch.randn(1, 3, 2, 4, dtype=torch.float64)
    solver = AdaptiveBias(foreground=0.25, background=0.5, tolerance=0.001)
    result = solver.solve(logits, suppression(torch.ones(1, 3, dtype=torch.bool)))
    scores = logits[0].flatten(1)
    best = max(
        sum(float(scores[label, pixel]) for pixel, label in enumerate(labels))
        for labels in product(range(3), repeat=8)
        if labels.count(0) >= 4 and labels.count(1) >= 2 and labels.count(2) >= 2
    )
    spread = float(scores.max() - scores.min())
    assert best - 8 * 0.001 * spread <= float((result.probabilities * logits).sum()) <= best + 1e-5


def test_labels_are_the_best_classes_under_the_biases_up_to_the_tolerance() -> None:
    logits = smooth("blobs", 2, 4)
    result = AdaptiveBias(tolerance=0.01).solve(logits, suppression(torch.ones(2, 4, dtype=torch.bool)))
    biased = logits + result.duals[..., None, None]
    lost = biased.amax(1) - (biased * result.probabilities).sum(1)
    spread = logits.amax((1, 2, 3)) - logits.amin((1, 2, 3))
    assert (lost.amax((1, 2)) <= 0.01 * spread + 1e-4).all()


def test_shares_of_more_than_the_image_are_scaled_down_together() -> None:
    # 0.4 + 5 x 0.2 = 1.4: the background keeps 0.4 / 1.4 of 420 pixels, each of the others half of that
    result = AdaptiveBias().solve(smooth("blobs", 1, 6), suppression(torch.ones(1, 6, dtype=torch.bool)))
    assert (shares(result.labels, 6)[0] * 420).round().tolist() == [120, 60, 60, 60, 60, 60]
    assert result.converged.all()


def test_shares_follow_the_arguments_and_round_up() -> None:
    logits = torch.zeros(1, 2, 1, 7)
    logits[:, 0] = torch.arange(7.0)
    whole = suppression(torch.ones(1, 2, dtype=torch.bool))
    for share, pixels in ((0.0, 0), (0.1, 1), (1 / 7, 1), (0.5, 4), (1.0, 7)):
        found = AdaptiveBias(foreground=share, background=0.0).solve(logits - 1, whole).labels
        assert int(found.sum()) == pixels


def test_equals_are_taken_row_by_row() -> None:
    result = AdaptiveBias().solve(torch.zeros(1, 3, 2, 5), suppression(torch.ones(1, 3, dtype=torch.bool)))
    assert result.labels.tolist() == [[[1, 1, 2, 2, 0], [0, 0, 0, 0, 0]]]


def test_pixels_take_none_but_their_own_classes() -> None:
    logits, allowed_at = torch.zeros(1, 3, 4, 5), torch.ones(1, 3, 4, 5, dtype=torch.bool)
    logits[:, 2] = 1
    allowed_at[:, 1, :2] = False
    allowed_at[:, 2, 1:] = False
    allowed_at[:, :, 3, 4] = False
    result = AdaptiveBias(foreground=0.2, background=0.3).solve(
        logits, suppression(torch.ones(1, 3, dtype=torch.bool), allowed_at)
    )
    assert result.converged.all()
    labels = result.labels[0]
    assert not (labels[:2] == 1).any()
    assert not (labels[1:] == 2).any()
    assert labels[3, 4] == 0
    assert (shares(result.labels, 3) >= torch.tensor([0.3, 0.2, 0.2]) - 1e-6).all()


def test_shares_out_of_reach_are_told() -> None:
    # class 1 may stand in one row of five, and wants two fifths of the image
    allowed_at = torch.ones(1, 2, 5, 4, dtype=torch.bool)
    allowed_at[:, 1, 1:] = False
    result = AdaptiveBias(foreground=0.4).solve(
        torch.zeros(1, 2, 5, 4), suppression(torch.ones(1, 2, dtype=torch.bool), allowed_at)
    )
    assert result.converged.tolist() == [False]
    assert result.violation[0].tolist() == pytest.approx([0, 0.2])
    assert result.message[0].startswith("class_1: 0.2 of the image less than wanted")
    assert result.labels[0, 0].tolist() == [1, 1, 1, 1]


def test_too_few_rounds_are_told() -> None:
    result = AdaptiveBias(rounds=1).solve(smooth("shared", 2, 4), suppression(torch.ones(2, 4, dtype=torch.bool)))
    assert not result.converged.all()
    assert any("after 1 rounds; raise `rounds`" in message for message in result.message)


def test_no_valid_pixel_is_no_problem() -> None:
    valid = torch.zeros(1, 2, 2, dtype=torch.bool)
    everything = suppression(torch.ones(1, 3, dtype=torch.bool))
    result = AdaptiveBias().solve(torch.randn(1, 3, 2, 2), everything, valid=valid)
    assert not result.probabilities.any()
    assert result.converged.all()
    assert result.duals.isfinite().all()


def test_half_precision_and_gradients_are_fine() -> None:
    logits = smooth("blobs", 1, 3).bfloat16().requires_grad_()
    result = AdaptiveBias().solve(logits, suppression(torch.ones(1, 3, dtype=torch.bool)))
    assert result.probabilities.dtype == torch.float32
    assert not result.probabilities.requires_grad


def test_other_constraints_are_refused() -> None:
    constraints = suppression(torch.ones(1, 2, dtype=torch.bool), active=True)
    with pytest.raises(ValueError, match=r"takes no other constraints .* got 'dog >= 0\.3'; leave Suppression alone"):
        AdaptiveBias().solve(torch.zeros(1, 2, 3, 3), constraints)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"foreground": 1.2}, "`foreground` must be between 0 and 1, got 1.2"),
        ({"background": -0.1}, "`background` must be between 0 and 1"),
        ({"rounds": 0}, "`rounds` must be at least 1"),
        ({"tolerance": 0.0}, "`tolerance` must be above 0"),
    ],
)
def test_wrong_arguments_are_explained(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AdaptiveBias(**arguments)  # type: ignore[arg-type]


def test_shapes_that_do_not_fit_are_explained() -> None:
    constraints = suppression(torch.ones(1, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"`constraints.coefficients` must be a float \(1, 1, 3\)"):
        AdaptiveBias().solve(torch.zeros(1, 3, 2, 2), constraints)
    with pytest.raises(ValueError, match=r"`valid` must be a bool \(1, 2, 2\)"):
        AdaptiveBias().solve(torch.zeros(1, 2, 2, 2), constraints, valid=torch.ones(1, 2, 3, dtype=torch.bool))


@pytest.mark.parametrize("broken", [torch.nan, torch.inf])
def test_scores_that_are_not_finite_are_not_solved_and_do_not_touch_other_images(broken: float) -> None:
    logits = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    expected = AdaptiveBias().solve(logits, suppression(torch.ones(2, 3, dtype=torch.bool)))
    logits[0, 1, 2, 2] = broken
    found = AdaptiveBias().solve(logits, suppression(torch.ones(2, 3, dtype=torch.bool)))
    assert found.converged.tolist() == [False, True]
    assert found.message == ("the logits are not finite", "")
    assert not found.probabilities[0].any()
    assert torch.equal(found.probabilities[1], expected.probabilities[1])
