"""Common tests of metrics: their examples, and messages about wrong arguments."""

import doctest
from collections.abc import Callable
from importlib import import_module

import pytest
import torch
from torch import Tensor

from weakseg_lightning.metrics import SegmentationScores, TagScores, TrimapScores, confusion_matrix, trimap_confusion

COUNTS = pytest.mark.parametrize("count", [confusion_matrix, trimap_confusion])


@pytest.mark.parametrize("name", ["cases", "energy", "segmentation", "tags", "trimap"])
def test_docstring_examples(name: str) -> None:
    results = doctest.testmod(import_module(f"weakseg_lightning.metrics.{name}"))
    assert results.attempted >= 4
    assert results.failed == 0


@COUNTS
def test_wrong_maps(count: Callable[..., Tensor]) -> None:
    maps = torch.zeros(1, 2, 3, dtype=torch.long)
    with pytest.raises(TypeError, match=r"`labels` must hold integer classes, got torch.float32; .*argmax"):
        count(maps.float(), maps, 2)
    with pytest.raises(TypeError, match=r"`target` must hold integer classes, got torch.float64"):
        count(maps, maps.double(), 2)
    with pytest.raises(ValueError, match=r"`labels` must have the shape of `target`, \(1, 3, 2\), got \(1, 2, 3\)"):
        count(maps, maps.mT, 2)


@pytest.mark.parametrize("value", [3, 254, -1])
@pytest.mark.parametrize("metric", [SegmentationScores(3), TrimapScores(3, max_width=1)])
def test_a_class_out_of_range_is_found_wherever_it_is(metric: SegmentationScores | TrimapScores, value: int) -> None:
    good, bad = torch.zeros(1, 1, 9, dtype=torch.long), torch.tensor([[[0] * 8 + [value]]])
    with pytest.raises(ValueError, match=rf"`labels` must be classes 0 to 2, got {value}; check `num_classes`"):
        metric.update(bad, good)
    with pytest.raises(ValueError, match=rf"`target` must be classes 0 to 2 or `ignore_index` = 255, got {value}"):
        metric.update(good, bad)
    assert metric.confusion.sum() == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SegmentationScores(1), "`num_classes` must be at least 2, got 1"),
        (lambda: TrimapScores(1), "`num_classes` must be at least 2, got 1"),
        (lambda: TagScores(1), "`num_classes` must be at least 2, got 1"),
        (lambda: SegmentationScores(21, ignore_index=0), "`ignore_index` must not be one of the 21 classes, got 0"),
        (lambda: TrimapScores(21, ignore_index=0), "`ignore_index` must not be one of the 21 classes, got 0"),
        (lambda: TrimapScores(2, "edge"), "`definition` must be one of 'void', 'boundary', got 'edge'"),
        (lambda: TrimapScores(2, max_width=0), "`max_width` must be between 1 and 254, got 0"),
        (lambda: TrimapScores(2, max_width=255), "`max_width` must be between 1 and 254, got 255"),
    ],
)
def test_wrong_arguments(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
