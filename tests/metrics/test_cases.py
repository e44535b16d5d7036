"""Scores of cases: against MONAI's, a count by hand and a search through all surface voxels; on one and two ranks."""

import math
import sys
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_erosion, gaussian_filter
from scipy.spatial.distance import cdist
from torch import Tensor
from torch.nn.functional import one_hot

from weakseg_lightning.metrics import CaseScore, CaseScores, mean_over_cases, volume_scores

CLASSES, SPACING = 4, (5.0, 1.25, 1.5)
UNIT = (1.0, 1.0, 1.0)


def volumes(seed: int, shape: tuple[int, ...] = (5, 16, 18)) -> tuple[Tensor, Tensor]:
    """Blobs of four classes, and the same with noise."""
    rng = np.random.default_rng(seed)
    heights = gaussian_filter(rng.standard_normal((CLASSES, *shape)), (0, 1, 3, 3))
    noisy = heights + 0.4 * gaussian_filter(rng.standard_normal((CLASSES, *shape)), (0, 1, 2, 2))
    return torch.from_numpy(noisy.argmax(0)), torch.from_numpy(heights.argmax(0))


def updates(case: str, maps: tuple[Tensor, Tensor], spacing: Any = UNIT) -> list[tuple[Any, ...]]:
    """Batches of one slice each, as the metric takes them."""
    return [
        (labels[None], target[None], [f"{case}_{place}"], [(case, place, spacing)])
        for place, (labels, target) in enumerate(zip(*maps, strict=True))
    ]


def of_monai(labels: Tensor, target: Tensor, spacing: tuple[float, ...]) -> tuple[list[float], list[float]]:
    planes = [one_hot(volume, CLASSES).movedim(-1, 0)[None].float() for volume in (labels, target)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from monai.metrics import DiceMetric, HausdorffDistanceMetric

        dice = DiceMetric(include_background=False, reduction="none", ignore_empty=False)(*planes)
        hd95 = HausdorffDistanceMetric(percentile=95, reduction="none")(*planes, spacing=list(spacing))
    return dice[0].tolist(), hd95[0].tolist()


def surface(volume: np.ndarray) -> np.ndarray:
    return np.argwhere(volume & ~binary_erosion(volume)) * SPACING


def by_hand(labels: Tensor, target: Tensor) -> tuple[list[float], list[float]]:
    dice, hd95 = [], []
    for index in range(1, CLASSES):
        one, other = (volume.numpy() == index for volume in (labels, target))
        dice.append(2 * (one & other).sum() / (one.sum() + other.sum()))
        distances = cdist(surface(one), surface(other))
        hd95.append(max(np.percentile(distances.min(axis), 95) for axis in (0, 1)))
    return dice, hd95


# ---- one volume -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_volumes_score_as_by_monai_and_by_hand(seed: int) -> None:
    labels, target = volumes(seed)
    found = volume_scores(labels, target, CLASSES, SPACING)
    assert found == of_monai(labels, target, SPACING)
    for scores, expected in zip(found, by_hand(labels, target), strict=True):
        assert scores == pytest.approx(expected, rel=1e-5)
    assert max(found[1]) > 1


def test_empty_classes_have_no_distance() -> None:
    target = torch.tensor([[[0, 1, 1, 2]]])
    dice, hd95 = volume_scores(torch.tensor([[[0, 1, 3, 3]]]), target, 5)
    assert dice == pytest.approx([2 / 3, 0, 0, 1])
    assert hd95 == pytest.approx([0.95, math.nan, math.nan, math.nan], nan_ok=True)


def test_void_belongs_to_neither_volume() -> None:
    labels, target = volumes(1)
    void = torch.rand(target.shape) < 0.2
    found = volume_scores(labels, target.where(~void, 255), CLASSES, SPACING)
    assert found == of_monai(labels.where(~void, 0), target.where(~void, 0), SPACING)


def test_the_largest_component_alone_scores_where_it_is_asked_for() -> None:
    target = torch.zeros(3, 9, 9, dtype=torch.long)
    target[:, :4, :4] = 1
    labels = target.clone()
    labels[1, 8, 8] = 1
    assert volume_scores(labels, target, 3)[0][0] == pytest.approx(2 * 48 / 97)
    dice, hd95 = volume_scores(labels, target, 3, largest_component=True)
    assert dice == [1.0, 1.0]
    assert hd95 == pytest.approx([0, math.nan], nan_ok=True)
    labels[1, 4, 4] = 1  # touches by a corner
    assert volume_scores(labels, target, 3, largest_component=True)[0][0] == pytest.approx(2 * 48 / 97)


# ---- cases ------------------------------------------------------------------------------------------------------


def test_cases_are_stacked_in_the_order_of_their_slices_and_count_each_once() -> None:
    cases = {case: volumes(seed, (4 + seed, 14, 12)) for seed, case in enumerate(("b", "c", "a"))}
    batches = [batch for case, maps in cases.items() for batch in updates(case, maps, SPACING)]
    metric = CaseScores(CLASSES)
    for number in [*np.random.default_rng(0).permutation(len(batches)).tolist(), 3, 3, 5]:
        metric.update(*batches[number])
    slices = {"a": 6, "b": 4, "c": 5}
    expected = [CaseScore(case, count, *of_monai(*cases[case], SPACING)) for case, count in slices.items()]
    assert metric.compute() == expected
    metric.reset()
    metric.update(*batches[0])
    assert [(one.case, one.slices) for one in metric.compute()] == [("b", 1)]


def test_batches_of_several_images_and_of_small_integers() -> None:
    labels, target = volumes(3)
    alone, together = CaseScores(CLASSES), CaseScores(CLASSES)
    for batch in updates("x", (labels, target)):
        alone.update(*batch)
    names, places = [f"x_{place}" for place in range(5)], [("x", place, UNIT) for place in range(5)]
    together.update(labels.to(torch.uint8), target.to(torch.uint8), names, places)
    assert together.compute() == alone.compute()


def test_images_without_cases_have_no_scores() -> None:
    metric = CaseScores(CLASSES)
    metric.update(*(volume[:1] for volume in volumes(0)), ["a"], None)
    assert metric.compute() == []
    assert mean_over_cases([], ["x"]) == {}


def test_cases_that_are_void_all_over_have_no_scores() -> None:
    metric = CaseScores(CLASSES)
    labels, target = volumes(0)
    for case, truth in (("known", target), ("unknown", torch.full_like(target, 255))):
        for batch in updates(case, (labels, truth)):
            metric.update(*batch)
    assert [one.case for one in metric.compute()] == ["known"]


def test_components_are_connected_through_void_in_a_case_as_in_a_volume() -> None:
    target = torch.tensor([[[1, 1, 255, 1, 1, 1, 0]]])
    labels = torch.ones_like(target)
    labels[..., -1] = 0
    assert volume_scores(labels, target, 2, largest_component=True)[0] == [1.0]
    metric = CaseScores(2, largest_component=True)
    metric.update(*updates("x", (labels, target))[0])
    (found,) = metric.compute()
    assert found.dice == [1.0]


def test_what_is_kept_is_small() -> None:
    metric = CaseScores(CLASSES)
    large = tuple(volume.repeat_interleave(16, 1).repeat_interleave(16, 2) for volume in volumes(0))
    for batch in updates("x", large):
        metric.update(*batch)
    assert sum(len(one.maps) for one in metric._kept.values()) < 2 * large[0].numel() / 30


def test_slices_of_several_sizes_are_named() -> None:
    metric = CaseScores(CLASSES)
    for place, size in enumerate(((9, 8), (9, 7))):
        maps = torch.zeros(1, *size, dtype=torch.long)
        metric.update(maps, maps, [f"s{place}"], [("heart", place, UNIT)])
    with pytest.raises(
        ValueError, match=r"case 'heart' must be of one size: 's0' has 8 x 9 and 's1' has 7 x 9 pixels$"
    ):
        metric.compute()


def test_without_monai_a_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "monai.metrics", None)
    metric = CaseScores(CLASSES)
    metric.update(*updates("x", volumes(0))[0])
    with pytest.raises(ValueError, match=r"scores per case need MONAI: pip install '\.\[cases\]' in the checkout"):
        metric.compute()


def test_means_leave_out_what_is_not_known() -> None:
    found = [CaseScore("a", 3, [0.5, 1.0], [2.0, math.nan]), CaseScore("b", 3, [1.0, 0.0], [4.0, math.nan])]
    means = mean_over_cases(found, ["cat", "dog"])
    assert means == {"dice_cat": 0.75, "dice_dog": 0.5, "dice_mean": 0.625, "hd95_cat": 3.0, "hd95_mean": 3.0}


def test_two_ranks_give_the_scores_of_one(on_two_ranks) -> None:
    cases = {f"case{seed}": volumes(seed, (4 + seed, 14, 12)) for seed in range(3)}
    batches = [batch for case, maps in cases.items() for batch in updates(case, maps, SPACING)]
    alone = CaseScores(CLASSES, largest_component=True)
    for batch in batches:
        alone.update(*batch)
    of_ranks = [batches[::2], [*batches[1::2], batches[0]]]  # slice by slice, and one of them twice
    shared = [(CaseScores(CLASSES, largest_component=True), of_ranks), (CaseScores(CLASSES), [batches, []])]
    for first, second in on_two_ranks(shared):
        assert first == alone.compute()
        assert [one.case for one in second] == ["case0", "case1", "case2"]
