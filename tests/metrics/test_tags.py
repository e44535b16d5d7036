import doctest

import pytest
import torch

from weakseg_lightning.metrics import TagScores, tags


def test_docstring_examples() -> None:
    results = doctest.testmod(tags)
    assert results.attempted > 2
    assert results.failed == 0


def test_false_areas_are_those_of_absent_classes_without_padding() -> None:
    metric = TagScores(3)
    labels = torch.tensor([[[1, 1, 2, 0]], [[1, 0, 0, 0]]])
    present = torch.tensor([[True, False, True], [True, False, False]])
    valid = torch.ones(2, 1, 4, dtype=torch.bool)
    valid[0, 0, 0] = False
    metric.update(labels, present, valid)
    found = metric.compute()
    assert found["false_area"].tolist() == pytest.approx([(1 / 3 + 1 / 4) / 2, 0])
    assert found["tag_accuracy"].isnan()


def test_accuracy_is_counted_over_batches() -> None:
    metric = TagScores(3)
    labels, valid = torch.zeros(1, 2, 2, dtype=torch.long), torch.ones(1, 2, 2, dtype=torch.bool)
    for predicted in ([[True, False]], [[True, True]]):
        metric.update(labels, torch.tensor([[True, True, False]]), valid, torch.tensor(predicted))
    found = metric.compute()
    assert found["tag_accuracy"].item() == 0.75
    assert found["false_area"].isnan().tolist() == [True, False], "the first class was absent nowhere"
