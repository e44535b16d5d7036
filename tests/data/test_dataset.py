"""Samples become batches: joint, reproducible, checked."""

import dataclasses
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor

from weakseg_lightning.data import BadSampleError, SegmentationDataset, collate
from weakseg_lightning.data.dataset import Loaded
from weakseg_lightning.data.transforms import replay, training_transform
from weakseg_lightning.modules.core.latent_store import LatentStore


def assert_same(first: dict, second: dict) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]) if isinstance(value, Tensor) else value == second[name]


def test_whole_image_comes_unchanged(squares):
    source = squares(3)
    item = SegmentationDataset(source, 3)[1]
    sample = source[1]
    for name in ("image", "seeds", "mask"):
        assert torch.equal(item[name], getattr(sample, name))
        assert type(item[name]) is Tensor
    assert item["valid"].all()
    assert item["id"] == "picture_1"
    assert "latent" not in item
    assert "boxes" not in item


def test_batch_follows_the_contract(squares):
    data = SegmentationDataset(squares(4, boxes=True), 3, training_transform(64))
    batch = collate([data[0, index, None] for index in range(4)], store())
    shapes = {name: (value.dtype, tuple(value.shape)) for name, value in batch.items() if isinstance(value, Tensor)}
    assert shapes == {
        "image": (torch.uint8, (4, 3, 64, 64)),
        "seeds": (torch.uint8, (4, 64, 64)),
        "mask": (torch.uint8, (4, 64, 64)),
        "valid": (torch.bool, (4, 64, 64)),
        "tags": (torch.bool, (4, 3)),
        "seed_labels": (torch.bool, (4, 3)),
        "full": (torch.bool, (4,)),
        "sizes": (torch.int8, (4, 3)),
        "latent": (torch.uint8, (4, 64, 64)),
    }
    assert all(batch[name].is_contiguous() for name in shapes)
    assert batch["id"] == [f"picture_{index}" for index in range(4)]
    assert [box.shape[1] for box in batch["boxes"]] == [5] * 4
    padding = ~batch["valid"]
    assert padding.any()
    assert (batch["seeds"][padding] == 255).all()
    assert (batch["mask"][padding] == 255).all()
    assert (batch["latent"] == 255).all()
    assert not batch["image"].mul(padding[:, None]).any()


def test_labels_of_the_image_survive_the_crop(squares):
    data = SegmentationDataset(squares(4), 3, training_transform(6, (1.0, 1.0)))
    items = [data[epoch, 0] for epoch in range(30)]
    assert all(item["seed_labels"].tolist() == [True, True, False] for item in items)
    assert all(item["tags"].tolist() == [True, True, False] for item in items)
    assert any((item["seeds"] == 255).all() for item in items)  # crops without a seed are among them


def test_item_depends_on_seed_epoch_and_index_alone(squares):
    data = SegmentationDataset(squares(4), 3, training_transform(32), seed=7)
    first = data[2, 1]
    torch.rand(5)
    data[0, 3]
    assert_same(first, data[2, 1])
    assert_same(data[1], data[0, 1])
    others = [data[3, 1], SegmentationDataset(squares(4), 3, training_transform(32), seed=8)[2, 1]]
    assert all(not torch.equal(first["image"], other["image"]) for other in others)


def test_global_random_state_is_left_alone(squares):
    data = SegmentationDataset(squares(4), 3, training_transform(32, color_jitter=0.5))
    state = torch.get_rng_state()
    data[0, 1]
    assert torch.equal(state, torch.get_rng_state())


def store(*labelings):
    """Labelings, each of one sample."""
    latents = LatentStore()
    latents.begin("first")
    for sample, labels in labelings:
        latents.put(sample.id, labels, loaded(sample).checksum())
    return latents


def loaded(sample):
    """What a worker has read of it."""
    apart = sample.guide, sample.colors, sample.valid, sample.boxes
    return Loaded(None, sample.image, sample.seeds, sample.tags, 0, None, *apart)


def test_stored_labeling_moves_with_its_image(squares):
    source = squares(4)
    latents = store((source[1], source[1].mask.numpy()))
    data = SegmentationDataset(source, 3, training_transform(32, color_jitter=0.3))
    for epoch in range(5):
        batch = collate([data[epoch, 1, latents.reference("picture_1")]], latents)
        assert torch.equal(batch["latent"], batch["mask"])
        assert "whole" not in batch
        assert "latent" not in collate([data[epoch, 1]], latents), "nobody asked"
    untouched = collate([SegmentationDataset(source, 3)[0, 1, latents.reference("picture_1")]], latents)
    assert torch.equal(untouched["latent"][0], source[1].mask)


@pytest.mark.parametrize("scale", [(1.0, 1.0), (0.5, 2.0)])
def test_whole_image_comes_where_a_labeling_is_missing_and_its_augmentation_can_be_replayed(squares, scale):
    source = squares(4)
    transform = training_transform(32, scale, color_jitter=0.3)
    data = SegmentationDataset(source, 3, transform, seed=5)
    for epoch in range(5):
        batch = collate([data[epoch, index, None] for index in range(4)], store())
        assert set(batch["whole"]) == {0, 1, 2, 3}
        assert (batch["latent"] == 255).all()
        for index, whole in batch["whole"].items():
            assert torch.equal(whole["image"], source[index].image)
            assert torch.equal(whole["seeds"], source[index].seeds)
            assert torch.equal(
                replay(transform, source[index].mask, whole["draw"], whole["seeds"]), batch["mask"][index]
            )
    asked = collate([data[0, 0], data[0, 1]], store())
    assert "whole" not in asked
    assert "latent" not in asked


def test_substitute_of_a_bad_sample_does_not_take_its_labeling(squares):
    source = squares(4)
    latents = store((source[1], np.zeros((48, 40), dtype=np.uint8)))
    source.broken[1] = dataclasses.replace(source[1], seeds=torch.full((3, 3), 0, dtype=torch.uint8))
    data = SegmentationDataset(source, 3, training_transform(32), on_bad_sample="skip")
    with pytest.warns(UserWarning, match="skipping the sample 'picture_1'"):
        batch = collate([data[0, 1, latents.reference("picture_1")]], latents)
    assert batch["id"] != ["picture_1"]
    whole = batch["whole"][0]  # the substitute's labeling has to be solved for
    assert torch.equal(replay(data.transform, whole["seeds"], whole["draw"], whole["seeds"]), batch["seeds"][0])


CHANGES = {
    "image": lambda image: image.flip(2),
    "seeds": lambda seeds: torch.where(seeds == 255, 0, seeds),
    "tags": lambda tags: ~tags,
    "boxes": lambda boxes: boxes[:-1],
    "guide": lambda guide: guide + 1,
    "valid": lambda valid: ~valid,
    "colors": lambda colors: colors.flip(0),
}


@pytest.mark.parametrize("changed", CHANGES)
def test_a_labeling_of_another_image_or_annotation_is_not_taken(squares, changed):
    source = squares(1, boxes=True)
    size = source[0].seeds.shape
    guide, valid = torch.zeros(1, *size, dtype=torch.int32), torch.ones(size, dtype=torch.bool)
    source.broken[0] = dataclasses.replace(source[0], guide=guide, valid=valid)
    if changed == "colors":
        channels = {"image": source[0].image.float(), "colors": torch.tensor([0, 1, 2])}
        source.broken[0] = dataclasses.replace(source[0], **channels)
    latents = store((source[0], np.zeros(size, dtype=np.uint8)))
    data = SegmentationDataset(source, 3)
    assert "whole" not in collate([data[0, 0, latents.reference("picture_0")]], latents)
    value = CHANGES[changed](getattr(source[0], changed))
    source.broken[0] = dataclasses.replace(source[0], **{changed: value})
    with pytest.warns(
        UserWarning, match="annotations have changed since their labelings were stored: these are solved"
    ):
        batch = collate([data[0, 0, latents.reference("picture_0")]], latents)
    assert batch["whole"][0]["checksum"] == loaded(source[0]).checksum()
    assert (batch["latent"] == 255).all()


def test_boxes_leave_with_their_objects(squares):
    data = SegmentationDataset(squares(2, boxes=True), 3, training_transform(16, (1.0, 1.0)))
    counts = set()
    for epoch in range(40):
        item = data[epoch, 1]
        counts.add(len(item["boxes"]))
        assert bool(len(item["boxes"])) == bool((item["mask"] == 2).any())
        for x1, y1, x2, y2, label in item["boxes"].tolist():
            assert label == 2
            inside = torch.zeros(16, 16, dtype=torch.bool)
            inside[int(y1) : int(y2), int(x1) : int(x2)] = True
            assert torch.equal(inside, item["mask"] == 2)
    assert counts == {0, 1}


def test_images_without_a_mask(squares):
    source = squares(2)
    source.broken[0] = dataclasses.replace(source[0], mask=None)
    assert (SegmentationDataset(source, 3)[0]["mask"] == 255).all()


def break_sample(source, index: int, **parts) -> None:
    source.broken[index] = dataclasses.replace(source[index], **parts)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"mask": torch.zeros(4, 5, dtype=torch.uint8)}, "mask of 'picture_1' has 5 x 4 pixels, its image 48 x 40"),
        ({"seeds": torch.zeros(40, 47, dtype=torch.uint8)}, "seeds of 'picture_1' has 47 x 40 pixels"),
        (
            {"mask": torch.full((40, 48), 3, dtype=torch.uint8)},
            "mask of 'picture_1' holds the labels 3, expected 0",
        ),
        ({"seeds": torch.full((40, 48), 254, dtype=torch.uint8)}, "holds the labels 254"),
        ({"image": torch.zeros(3, 40, 48)}, "image of 'picture_1' must be uint8"),
        ({"image": torch.zeros(40, 48, dtype=torch.uint8)}, r"must be uint8 \(3, H, W\)"),
    ],
)
def test_bad_sample_is_named(squares, parts, message):
    source = squares(3)
    break_sample(source, 1, **parts)
    with pytest.raises(BadSampleError, match=message):
        SegmentationDataset(source, 3)[1]


def test_skipping_takes_another_sample_and_warns_once(squares):
    source = squares(5)
    break_sample(source, 1, mask=torch.full((40, 48), 77, dtype=torch.uint8))
    data = SegmentationDataset(source, 3, training_transform(32), on_bad_sample="skip")
    with pytest.warns(UserWarning, match="skipping the sample 'picture_1': mask of 'picture_1' holds the labels 77"):
        item = data[0, 1]
    assert item["id"] != "picture_1"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same(item, data[0, 1])
        chosen = {data[epoch, 1]["id"] for epoch in range(30)}
    assert chosen == {f"picture_{index}" for index in (0, 2, 3, 4)}


@pytest.mark.filterwarnings("ignore:skipping the sample")
def test_only_bad_samples_are_an_error_also_when_skipping(squares):
    source = squares(2)
    for index in range(2):
        break_sample(source, index, mask=torch.full((40, 48), 77, dtype=torch.uint8))
    with pytest.raises(BadSampleError, match="broken as a whole"):
        SegmentationDataset(source, 3, on_bad_sample="skip")[0]


def test_a_data_set_ends(squares):
    assert [item["id"] for item in SegmentationDataset(squares(3), 3)] == ["picture_0", "picture_1", "picture_2"]
    with pytest.raises(IndexError):
        SegmentationDataset(squares(3), 3)[3]
