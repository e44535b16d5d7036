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


@pytest.mark.parametrize("lower", [torch.bfloat16, torch.float16])
def test_sums_over_many_images_keep_their_digits_where_the_module_has_fewer(lower: torch.dtype) -> None:
    metric = TagScores(2).to(lower)
    labels, valid = torch.tensor([[[0, 1, 0, 0, 0]]]), torch.ones(1, 1, 5, dtype=torch.bool)
    metric.update(*(part.expand(5000, *part.shape[1:]) for part in (labels, torch.tensor([[True, False]]), valid)))
    for _ in range(600):
        metric.update(labels, torch.tensor([[True, False]]), valid)
    assert metric.compute()["false_area"].item() == pytest.approx(0.2, rel=1e-6)
