"""Rotation, noise and crops around labeled pixels: geometry against coordinates, all aligned maps together."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from weakseg_lightning.data.dataset import Loaded, SegmentationDataset, collate
from weakseg_lightning.data.transforms import RandomNoise, RandomScaleCrop, replay, training_transform
from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.modules.core.latent_store import LatentStore

EVERYTHING = {"rotation": 40.0, "noise": 0.2, "balanced_crops": 0.7, "color_jitter": 0.3}


def ramp(height: int, width: int) -> dict[str, torch.Tensor]:
    """Red is the column, green the row, blue 100 throughout; labels are rows, no more than 255."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    image = torch.stack([columns, rows, torch.full_like(rows, 100)]).to(torch.uint8)
    labels = torch.stack([torch.zeros_like(rows), columns, rows]).to(torch.uint8)
    return {"image": tv_tensors.Image(image), "labels": tv_tensors.Mask(labels)}


def moved_by(seed: int, transform, item: dict) -> dict:
    torch.manual_seed(seed)
    return transform(item)


def affine_of(moved: dict) -> np.ndarray:
    """Source column and row as linear functions of column, row and 1, fitted to the pixels inside: ``(3, 2)``."""
    y, x = (moved["labels"][0] != VOID).nonzero(as_tuple=True)
    image = moved["image"][:2, y, x].double().numpy().T
    places = np.stack([x.numpy(), y.numpy(), np.ones(len(x))], 1)
    away = np.abs(image - np.median(image, 0)).max(1) < 40  # the border blends with the mean
    return np.linalg.lstsq(places[away], image[away], rcond=None)[0]


# ---- rotation -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.6, 1.0, 1.7])
def test_a_rotated_crop_is_a_turned_window_about_the_same_place(scale):
    item, angles = ramp(180, 200), []
    straight, turned = (RandomScaleCrop(61, (scale, scale), rotation) for rotation in (0.0, 50.0))
    for seed in range(40):
        before, after = (moved_by(seed, transform, item) for transform in (straight, turned))
        linear = affine_of(after)
        angle = math.degrees(math.atan2(linear[0, 1], linear[0, 0]))
        angles.append(angle)
        expected = np.array([[math.cos(math.radians(angle)), math.sin(math.radians(angle))]]) / scale
        expected = np.concatenate([expected, expected[:, ::-1] * [-1, 1]])
        assert np.abs(linear[:2] - expected).max() < 0.02 / scale
        if (after["labels"][0] != VOID).all():  # the middle is where it was, up to a pixel of the result
            middle = [moved["image"][:2, 30, 30].float() for moved in (before, after)]
            assert (middle[0] - middle[1]).abs().max() <= 1 + 1 / scale
    assert min(angles) < -35
    assert max(angles) > 35
    assert max(map(abs, angles)) <= 50.5


@pytest.mark.parametrize("scale", [0.7, 1.0, 1.6])
def test_labels_and_image_show_the_same_place_and_are_void_and_mean_beyond_the_image(scale):
    item, voids, errors = ramp(90, 120), 0, []
    transform = RandomScaleCrop(64, (scale, scale), 180)
    for seed in range(25):
        moved = moved_by(seed, transform, item)
        inside = moved["labels"][0] != VOID
        linear = affine_of(moved)
        y, x = torch.meshgrid(*map(torch.arange, inside.shape), indexing="ij")
        source = torch.stack([x, y, torch.ones_like(x)], -1).double() @ torch.from_numpy(linear)
        depth = torch.minimum(source + 0.5, torch.tensor([119.5, 89.5]) - source).amin(-1)  # within the image
        assert inside[depth > 1.5].all()
        assert not inside[depth < -1.5].any()
        voids += int((depth < -1.5).sum())
        deep = depth > 2 / scale + 1
        errors.append((moved["labels"][1:].double() - source.movedim(-1, 0))[:, deep].flatten())
        beyond = moved["image"][:, depth < -2]
        assert beyond.numel() == 0 or (beyond.float().std(1) < 1e-3).all()
        assert (moved["image"][2] == 100).all()  # no dark rim: the mean is that of the image
    error = torch.cat(errors)
    assert voids > 150
    assert error.abs().max() <= 1.5 + 1 / scale
    assert abs(float(error.mean())) < 0.05  # no shift between image and labels


def test_boxes_are_upright_around_the_rotated_object():
    image = torch.zeros(3, 120, 120, dtype=torch.uint8)
    labels = torch.zeros(1, 120, 120, dtype=torch.uint8)
    image[:, 50:66, 46:76], labels[:, 50:66, 46:76] = 200, 7
    boxes = tv_tensors.BoundingBoxes([[46.0, 50.0, 76.0, 66.0]], format="XYXY", canvas_size=(120, 120))
    item = {"image": tv_tensors.Image(image), "labels": tv_tensors.Mask(labels), "boxes": boxes}
    for seed in range(20):
        moved = moved_by(seed, RandomScaleCrop(120, (1.0, 1.0), 90), item)
        square = moved["labels"][0] == 7
        assert abs(int(square.sum()) - 16 * 30) < 30
        rows, columns = square.any(1).nonzero(), square.any(0).nonzero()
        expected = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
        assert torch.allclose(moved["boxes"][0].float(), expected, atol=1.6)


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (200, 1), (3, 5), (37, 300), (64, 64)])
@pytest.mark.parametrize("crop_size", [2, 3, 64, 65])
def test_any_size_becomes_the_crop(size, crop_size):
    transform = training_transform(crop_size, (0.1, 3.0), **EVERYTHING | {"rotation": 180.0})
    for seed in range(5):
        moved = moved_by(seed, transform, ramp(*size))
        assert moved["image"].shape == moved["labels"].shape == (3, crop_size, crop_size)
        assert (moved["labels"] != VOID).any()


# ---- noise --------------------------------------------------------------------------------------------------


def test_noise_changes_colors_by_its_strength_and_no_label():
    item = {
        "image": tv_tensors.Image(torch.full((3, 64, 64), 128, dtype=torch.uint8)),
        "labels": ramp(64, 64)["labels"],
    }
    deviations = []
    for seed in range(60):
        moved = moved_by(seed, RandomNoise(0.1), item)
        assert torch.equal(moved["labels"], item["labels"])
        difference = (moved["image"].float() - 128) / 255
        assert abs(float(difference.mean())) < 0.005
        deviations.append(float(difference.std()))
    assert max(deviations) <= 0.103
    assert np.mean(deviations) == pytest.approx(0.05, abs=0.012)  # drawn uniformly from 0 to 0.1
    assert moved["image"].dtype == torch.uint8


# ---- crops around labels ------------------------------------------------------------------------------------


def strokes(height: int = 100, width: int = 140) -> dict[str, torch.Tensor]:
    """An image whose blue channel is the seeds: 400 pixels of class 0, one of class 5, none elsewhere."""
    seeds = torch.full((height, width), VOID, dtype=torch.uint8)
    seeds[40:60, 40:60] = 0
    seeds[30, 100] = 5
    image = torch.stack([seeds] * 3)
    return {"image": tv_tensors.Image(image), "planes": tv_tensors.Mask(torch.stack([seeds, seeds]))}


@pytest.mark.parametrize("rotation", [0.0, 90.0])
def test_balanced_crops_have_a_labeled_pixel_of_each_class_in_their_middle(rotation):
    transform = RandomScaleCrop(21, (1.0, 1.0), rotation, balanced_crops=1.0)
    middles = [int(moved_by(seed, transform, strokes())["planes"][1, 10, 10]) for seed in range(300)]
    assert set(middles) == {0, 5}
    assert 115 < middles.count(5) < 185  # each class alike, whatever its pixels


def test_only_a_fraction_of_the_crops_is_balanced():
    transform = RandomScaleCrop(21, (1.0, 1.0), balanced_crops=0.4)
    middles = [int(moved_by(seed, transform, strokes())["planes"][1, 10, 10]) for seed in range(400)]
    assert 60 < middles.count(5) < 105  # 400 x 0.4 / 2


def test_balanced_crops_stay_within_the_image():
    item = strokes()
    item["planes"][0] = VOID
    item["planes"][0, 1, 138] = 3
    moved = moved_by(0, RandomScaleCrop(21, (1.0, 1.0), balanced_crops=1.0), item)
    assert moved["image"].shape == (3, 21, 21)
    assert moved["planes"][0, 1, 19] == 3


def test_without_labels_crops_lie_anywhere():
    item = ramp(60, 60)
    item["labels"][0] = VOID
    transform = RandomScaleCrop(20, (1.0, 1.0), balanced_crops=1.0)
    assert len({int(moved_by(seed, transform, item)["image"][0, 0, 0]) for seed in range(300)}) == 41


# ---- default off, and all together ----------------------------------------------------------------------------


def test_what_is_off_draws_nothing():
    """Scale, row, column and flip, as ever: the crops of runs from before these options stay the same."""
    torch.manual_seed(7)
    training_transform(20, (0.5, 2.0))(ramp(60, 70))
    state = torch.get_rng_state()
    torch.manual_seed(7)
    window = round(20 / (0.5 + 1.5 * float(torch.rand(()))))
    torch.randint(60 - window + 1, ()), torch.randint(70 - window + 1, ()), torch.rand(1)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("scale", [(1.0, 1.0), (0.5, 2.0)])
def test_all_maps_of_an_image_move_alike_and_a_labeling_can_be_replayed(squares, scale):
    source = squares(4)
    for index in range(4):  # seeds, guide and mask that say the same
        mask = source[index].mask
        guide = mask[None].to(torch.int32) * 70000 + 7
        seeds = torch.where(torch.rand(mask.shape) < 0.05, mask, VOID)
        source.broken[index] = dataclasses.replace(source[index], seeds=seeds, guide=guide)
    latents = LatentStore()
    latents.begin("first")
    seen = Loaded(None, source[1].image, source[1].seeds, source[1].tags, 0, None, source[1].guide)
    latents.put("picture_1", source[1].mask.numpy(), seen.checksum())
    transform = training_transform(32, scale, **EVERYTHING)
    data, voids = SegmentationDataset(source, 3, transform, seed=5), 0
    for epoch in range(12):
        references = [latents.reference("picture_1") if index == 1 else None for index in range(4)]
        batch = collate([data[epoch, index, references[index]] for index in range(4)], latents)
        valid, mask = batch["valid"], batch["mask"]
        assert torch.equal(valid, mask != VOID)
        assert torch.equal(batch["guide"][:, 0], torch.where(valid, mask.int() * 70000 + 7, 0))
        assert ((batch["seeds"] == VOID) | (batch["seeds"] == mask)).all()
        assert torch.equal(batch["latent"][1], mask[1])
        assert set(batch["whole"]) == {0, 2, 3}
        for index, whole in batch["whole"].items():
            assert torch.equal(replay(transform, source[index].mask, whole["draw"], whole["seeds"]), mask[index])
        voids += int((~valid).sum())
    assert voids > 1000


def test_boxes_enclose_their_objects(squares):
    data = SegmentationDataset(squares(2, boxes=True), 3, training_transform(32, **EVERYTHING))
    seen = 0
    for epoch in range(40):
        item = data[epoch, 1]
        rows, columns = (item["mask"] == 2).nonzero(as_tuple=True)
        if len(rows) == 0:
            continue
        seen += 1
        x1, y1, x2, y2, label = item["boxes"][0].tolist()
        assert label == 2
        assert x1 - 1 <= int(columns.min())
        assert int(columns.max()) + 1 <= x2 + 1
        assert y1 - 1 <= int(rows.min())
        assert int(rows.max()) + 1 <= y2 + 1
    assert seen > 20


def test_runs_repeat_whatever_the_workers_and_go_on_within_an_epoch(make_data):
    alone, shared, resumed = (make_data(num_workers=n, **EVERYTHING).train_dataloader() for n in (0, 2, 0))
    for epoch in (0, 3):
        resumed.load_state_dict({"batches": 1})
        for loader in (alone, shared, resumed):
            loader.sampler.set_epoch(epoch)
        first, second, rest = list(alone), list(shared), list(resumed)
        for left, right in (*zip(first, second, strict=True), *zip(first[1:], rest, strict=True)):
            assert left["id"] == right["id"]
            assert all(torch.equal(left[name], right[name]) for name in ("image", "seeds", "mask", "valid"))
    plain = list(make_data().train_dataloader())
    assert not torch.equal(plain[0]["image"], next(iter(make_data(noise=0.2).train_dataloader()))["image"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rotation": -1.0}, "`rotation` must be between 0 and 180, got -1.0"),
        ({"rotation": 181}, "`rotation` must be between 0 and 180"),
        ({"noise": 1.5}, "`noise` must be between 0 and 1, got 1.5"),
        ({"balanced_crops": 2}, "`balanced_crops` must be between 0 and 1, got 2"),
    ],
)
def test_options_out_of_range_are_named_before_files_are_looked_for(make_data, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_data(**arguments)
