import pytest
import torch

from weakseg_lightning.data import BadSampleError, Sample, SegmentationDataset
from weakseg_lightning.data.samples import FullyLabelled, SampleView, present_labels, size_buckets
from weakseg_lightning.data.transforms import training_transform


def test_subset_keeps_names_origins_and_problems(squares):
    source = squares(5)
    source.find_problems = lambda: {1: "first", 3: "second"}
    subset = SampleView((source, index) for index in (4, 3, 0))
    assert subset.ids == ["picture_4", "picture_3", "picture_0"]
    assert [subset[index].id for index in range(len(subset))] == list(subset.ids)
    assert subset.origin(1, "mask") == "mask of 'picture_3'"
    assert subset.find_problems() == {1: "second"}


def test_present_labels_ignores_void():
    labels = torch.tensor([[255, 2], [2, 255]], dtype=torch.uint8)
    assert present_labels(labels, 4).tolist() == [True, False, True, False]


def test_sizes_of_classes_by_hand():
    mask = torch.full((10, 10), 255, dtype=torch.uint8)
    mask[0], mask[1, :9], mask[2:7] = 1, 2, 0  # 10, 9 and 50 of 100 pixels
    tags = torch.tensor([True, True, True, True])
    assert size_buckets(mask, tags, [0.09, 0.3], 100).tolist() == [2, 1, 0, 0]
    assert size_buckets(mask, tags & (mask[0, 0] == 1), [0.1], 50).tolist() == [1, 1, 1, 0]
    assert size_buckets(mask, torch.tensor([True, False, True, False]), [0.1], 100).tolist() == [1, -1, 0, -1]


def test_tags_and_sizes_come_from_the_image_or_from_its_crop(squares):
    crop = training_transform(12, (1.0, 1.0), flip=False)  # the square of class 1 is 15 x 10 pixels of 48 x 40
    whole = SegmentationDataset(squares(1), 3, crop, size_thresholds=[0.05])
    part = SegmentationDataset(squares(1), 3, crop, size_thresholds=[0.05], tags_from="crop")
    without = 0
    for epoch in range(30):
        assert whole[epoch, 0]["tags"].tolist() == [True, True, False]
        assert whole[epoch, 0]["sizes"].tolist() == [1, 1, -1]
        item = part[epoch, 0]
        pixels = int((item["mask"] == 1).sum())
        assert item["tags"].tolist() == [True, pixels > 0, False]
        assert item["sizes"][1] == (-1 if pixels == 0 else pixels > 0.05 * 144)
        without += pixels == 0
    assert 0 < without < 30


def test_some_samples_show_their_full_mask(squares):
    source = squares(10)
    some, more = FullyLabelled(source, 0.3, seed=1), FullyLabelled(source, 0.6, seed=1)
    assert (len(some.chosen), len(more.chosen)) == (3, 6)
    assert some.chosen < more.chosen
    assert FullyLabelled(source, 0.3, seed=1).chosen == some.chosen
    assert FullyLabelled(source, 0.3, seed=2).chosen != some.chosen
    for index in range(10):
        for shown in (some[index], some.labels(index)):
            assert shown.full == (index in some.chosen)
            assert torch.equal(shown.seeds, source[index].mask if shown.full else source[index].seeds)
    assert (some.ids, len(some)) == (source.ids, 10)
    chosen, other = min(some.chosen), min(set(range(10)) - some.chosen)
    assert some.origin(chosen, "seeds") == source.origin(chosen, "mask")
    assert some.origin(other, "seeds") == source.origin(other, "seeds")


def test_a_full_mask_that_is_not_there_is_named(squares):
    source = squares(1)
    whole = source[0]
    source.broken[0] = Sample("picture_0", whole.image, whole.seeds, None, whole.tags)
    with pytest.raises(BadSampleError, match="mask of 'picture_0' is missing"):
        FullyLabelled(source, 1.0, seed=0)[0]
