import math

import numpy as np
import pytest
import torch
from torch import Tensor

from weakseg_lightning.metrics import (
    MeanGridEnergy,
    SegmentationScores,
    confusion_matrix,
    segmentation_scores,
)


def random_maps(seed: int, num_classes: int, shape: tuple[int, ...] = (2, 7, 9)) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    target = rng.integers(0, num_classes, shape)
    labels = np.where(rng.random(shape) < 0.6, target, rng.integers(0, num_classes, shape))
    target[rng.random(shape) < 0.1] = 255
    return torch.from_numpy(labels), torch.from_numpy(target)


def counted_by_hand(pairs: list[tuple[Tensor, Tensor]], num_classes: int) -> tuple[float, float, list[float]]:
    """Intersections and unions as sets of pixels, class by class."""
    seen = [
        (int(label), int(truth))
        for labels, target in pairs
        for label, truth in zip(labels.flatten(), target.flatten(), strict=True)
        if truth != 255
    ]
    iou = []
    for k in range(num_classes):
        predicted = {i for i, (label, _) in enumerate(seen) if label == k}
        true = {i for i, (_, truth) in enumerate(seen) if truth == k}
        iou.append(len(predicted & true) / len(predicted | true) if true else math.nan)
    known = [value for value in iou if not math.isnan(value)]
    return sum(known) / len(known), sum(label == truth for label, truth in seen) / len(seen), iou


def assert_same(scores: dict[str, Tensor], expected: tuple[float, float, list[float]]) -> None:
    assert scores["miou"].item() == pytest.approx(expected[0], abs=1e-12)
    assert scores["pixel_accuracy"].item() == pytest.approx(expected[1], abs=1e-12)
    assert scores["iou"].tolist() == pytest.approx(expected[2], abs=1e-12, nan_ok=True)


# ---- intersection over union ----------------------------------------------------------------------------------


@pytest.mark.parametrize("num_classes", [2, 5, 21, 254])
@pytest.mark.parametrize("seed", range(3))
def test_scores_equal_a_count_by_hand(num_classes: int, seed: int) -> None:
    pairs = [random_maps(10 * seed + i, num_classes) for i in range(3)]
    metric = SegmentationScores(num_classes)
    for labels, target in pairs:
        metric.update(labels, target)
    assert_same(metric.compute(), counted_by_hand(pairs, num_classes))


def test_class_without_truth_is_nan_and_costs_its_victims() -> None:
    target = torch.tensor([[[0, 0, 0, 1, 1, 1]]])
    labels = torch.tensor([[[0, 0, 2, 1, 1, 3]]])  # 2 and 3 are predicted, nobody is 2 or 3; 4 is in neither
    metric = SegmentationScores(5)
    metric.update(labels, target)
    scores = metric.compute()
    assert scores["iou"][:2].tolist() == pytest.approx([2 / 3, 2 / 3])
    assert scores["iou"][2:].isnan().all()
    assert scores["miou"].item() == pytest.approx(2 / 3)
    assert scores["pixel_accuracy"].item() == pytest.approx(4 / 6)


def test_class_never_predicted_counts_zero() -> None:
    metric = SegmentationScores(2)
    metric.update(torch.zeros(1, 1, 4, dtype=torch.long), torch.tensor([[[0, 0, 0, 1]]]))
    assert metric.compute()["iou"].tolist() == [0.75, 0.0]
    assert metric.compute()["miou"].item() == 0.375


def test_scores_are_of_the_data_set_not_the_mean_over_images() -> None:
    metric = SegmentationScores(2)
    metric.update(torch.tensor([[[1, 1, 1, 1]]]), torch.tensor([[[1, 1, 1, 0]]]))
    metric.update(torch.tensor([[[0]]]), torch.tensor([[[1]]]))
    assert metric.compute()["iou"][1].item() == pytest.approx(3 / 5)


def test_void_is_left_out_whatever_is_predicted_there() -> None:
    target = torch.tensor([[[0, 1, 255, 255]]])
    metric = SegmentationScores(2)
    metric.update(torch.tensor([[[0, 1, 1, 255]]]), target)
    assert metric.confusion.tolist() == [[1, 0], [0, 1]]


def test_update_of_void_alone_and_of_no_pixels_counts_nothing() -> None:
    metric = SegmentationScores(3)
    metric.update(torch.zeros(1, 2, 2, dtype=torch.long), torch.full((1, 2, 2), 255))
    metric.update(torch.zeros(0, 2, 2, dtype=torch.long), torch.zeros(0, 2, 2, dtype=torch.long))
    scores = metric.compute()
    assert scores["miou"].isnan()
    assert scores["pixel_accuracy"].isnan()
    assert scores["iou"].isnan().all()
    metric.update(torch.tensor([[[1]]]), torch.tensor([[[1]]]))
    assert metric.compute()["miou"].item() == 1.0


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_small_integers_do_not_overflow(dtype: torch.dtype) -> None:
    labels, target = random_maps(0, 200)
    assert torch.equal(confusion_matrix(labels.to(dtype), target.to(dtype), 200), confusion_matrix(labels, target, 200))


def test_other_ignore_index() -> None:
    metric = SegmentationScores(2, ignore_index=-1)
    metric.update(torch.tensor([[[0, 1]]]), torch.tensor([[[-1, 1]]]))
    assert metric.confusion.tolist() == [[0, 0], [0, 1]]


def test_reset_and_forward() -> None:
    metric = SegmentationScores(2)
    pairs = [random_maps(i, 2) for i in range(2)]
    for labels, target in pairs:
        assert_same(metric(labels, target), counted_by_hand([(labels, target)], 2))
    assert_same(metric.compute(), counted_by_hand(pairs, 2))
    metric.reset()
    metric.update(*pairs[1])
    assert_same(metric.compute(), counted_by_hand(pairs[1:], 2))


def test_class_and_function_agree() -> None:
    labels, target = random_maps(5, 4)
    metric = SegmentationScores(4)
    metric.update(labels, target)
    expected = segmentation_scores(confusion_matrix(labels, target, 4))
    assert metric.compute().keys() == expected.keys() == {"miou", "pixel_accuracy", "iou"}
    assert all(torch.equal(value, expected[name]) for name, value in metric.compute().items())


# ---- two processes --------------------------------------------------------------------------------------------

SHARES = [(3, 1), (2, 2), (0, 4)]  # updates of each rank; one rank may see no image at all


def test_two_processes_give_the_numbers_of_one(on_two_ranks) -> None:
    pairs = [random_maps(40 + i, 5, (1 + i % 2, 5 + i, 6)) for i in range(4)]
    generator = torch.Generator().manual_seed(8)
    shown = [(labels, torch.rand(len(labels), 3, *labels.shape[1:], generator=generator)) for labels, _ in pairs]
    alone = MeanGridEnergy()
    for labels, image in shown:
        alone.update(labels, image)
    updates = [
        (metric, (data[:first], data[first:]))
        for first, _ in SHARES
        for metric, data in ((SegmentationScores(6), pairs), (MeanGridEnergy(), shown))
    ]
    for results in on_two_ranks(updates):
        assert len(results) == 2 * len(SHARES)
        for found, energy in zip(results[::2], results[1::2], strict=True):
            assert_same(found, counted_by_hand(pairs, 6))  # class 5 occurs nowhere
            assert energy.item() == pytest.approx(alone.compute().item(), rel=1e-12)
