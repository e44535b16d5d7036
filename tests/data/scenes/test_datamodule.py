import hashlib
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import ndimage

from weakseg_lightning.data.batches import decode_batch
from weakseg_lightning.data.scenes.annotate import MINIMUM_PIXELS, click, frame, scribble
from weakseg_lightning.data.scenes.datamodule import Scenes, ScenesDataModule
from weakseg_lightning.data.scenes.drawing import CLASS_NAMES, draw_scene
from weakseg_lightning.metrics import SegmentationScores

K = len(CLASS_NAMES)
EIGHT = np.ones((3, 3), int)
SCENES = [draw_scene(seed=0, index=index) for index in range(40)]


def digest(scene):
    return hashlib.sha256(scene.image.tobytes() + scene.mask.tobytes() + scene.instances.tobytes()).hexdigest()[:16]


def small(**kwargs):
    return ScenesDataModule(**{"num_train": 6, "num_val": 3, "size": 64, "crop_size": 48, "batch_size": 2, **kwargs})


# ---- the picture ------------------------------------------------------------------------------------------------


def test_the_same_bytes_on_every_platform():
    # Written down once: a change here changes every published number on scenes.
    assert digest(SCENES[0]) == "7e56a44495e2abb5"
    assert digest(draw_scene(seed=7, index=123, size=96, split=1)) == "a74efe9eefc15b14"


def test_a_scene_depends_on_its_arguments_alone():
    draw_scene(seed=0, index=8)
    np.random.default_rng(1).random(5)
    torch.manual_seed(3)
    assert digest(draw_scene(seed=0, index=5)) == digest(SCENES[5])


def test_scenes_differ_between_indices_seeds_and_splits():
    drawn = [*SCENES, draw_scene(seed=1, index=0), draw_scene(seed=0, index=0, split=1)]
    assert len({digest(scene) for scene in drawn}) == len(drawn)


@pytest.mark.parametrize("size", [32, 45, 96, 128, 200])
def test_shapes_and_ranges(size):
    for index in range(5):
        scene = draw_scene(seed=0, index=index, size=size)
        assert scene.image.shape == (size, size, 3)
        assert scene.image.dtype == scene.mask.dtype == scene.instances.dtype == np.uint8
        assert scene.mask.shape == scene.instances.shape == (size, size)
        assert scene.mask.max() < K
        assert np.array_equal(scene.mask > 0, scene.instances > 0)
        assert 10 < scene.image.mean() < 245


def test_each_object_has_one_class_and_remains_visible():
    for scene in SCENES:
        numbers = np.unique(scene.instances)
        assert len(numbers) >= 2
        assert numbers.tolist() == list(range(len(numbers)))
        for number in numbers[1:]:
            own = scene.instances == number
            assert len(np.unique(scene.mask[own])) == 1
            assert own.sum() >= MINIMUM_PIXELS


def test_classes_are_balanced():
    area = np.bincount(np.concatenate([scene.mask.ravel() for scene in SCENES]), minlength=K) / (40 * 128 * 128)
    assert 0.55 < area[0] < 0.8
    assert area[1:].max() < 2 * area[1:].min()
    shown = sum(np.isin(np.arange(1, K), scene.mask) for scene in SCENES)
    assert shown.min() > 0.3 * len(SCENES)


def test_objects_hide_each_other():
    touching = 0
    for scene in SCENES:
        pairs = zip(scene.instances[:, :-1].ravel(), scene.instances[:, 1:].ravel(), strict=True)
        touching += any(a and b and a != b for a, b in pairs)
    assert touching > len(SCENES) / 4


def test_outlines_have_more_contrast_than_the_insides():
    inside, across = [], []
    for scene in SCENES:
        image = scene.image.astype(float) / 255
        step = ((image[:, 1:] - image[:, :-1]) ** 2).sum(-1)
        edge = scene.instances[:, 1:] != scene.instances[:, :-1]
        inside.append(step[~edge].mean())
        across.append(step[edge].mean())
    assert np.median(np.array(across) / np.array(inside)) > 4


def test_a_single_pixel_does_not_tell_the_class():
    # Nearest class mean of the color: far better than chance, far from solved.
    pixels = np.concatenate([scene.image.reshape(-1, 3) for scene in SCENES]).astype(float)
    labels = np.concatenate([scene.mask.ravel() for scene in SCENES])
    means = np.stack([pixels[labels == k].mean(0) for k in range(K)])
    guess = ((pixels[:, None] - means) ** 2).sum(-1).argmin(1)
    recall = np.mean([(guess[labels == k] == k).mean() for k in range(K)])
    assert 1.2 / K < recall < 0.75


# ---- strokes, clicks, boxes ---------------------------------------------------------------------------------------


def regions(scene, number):
    parts, count = ndimage.label(scene.instances == number, EIGHT)
    return [part for k in range(1, count + 1) if (part := parts == k).sum() >= MINIMUM_PIXELS]


@pytest.mark.parametrize("length", [0.0, 0.3, 1.0])
def test_strokes_stay_inside_their_class(length):
    for scene in SCENES:
        seeds = scribble(scene.mask, scene.instances, length)
        drawn = seeds != 255
        assert np.array_equal(seeds[drawn], scene.mask[drawn])


@pytest.mark.parametrize("length", [0.0, 0.5, 1.0])
def test_every_visible_region_gets_one_connected_stroke(length):
    for scene in SCENES:
        seeds = scribble(scene.mask, scene.instances, length)
        assert (seeds == 0).any()
        for number in range(1, scene.instances.max() + 1):
            for region in regions(scene, number):
                _, count = ndimage.label((seeds != 255) & region, EIGHT)
                assert count == 1


def test_regions_too_small_to_see_get_nothing():
    instances = np.zeros((64, 64), np.uint8)
    instances[10:14, 10:15] = 1  # 20 pixels
    instances[30:50, 30:50] = 2
    mask = instances * 2
    assert np.unique(scribble(mask, instances)).tolist() == [0, 4, 255]
    assert np.unique(click(mask, instances)).tolist() == [0, 4, 255]
    assert frame(mask, instances).tolist() == [[30, 30, 50, 50, 4]]


def test_strokes_are_short_central_and_three_pixels_wide():
    instances = np.zeros((64, 64), np.uint8)
    instances[20:41, 8:57] = 1  # a bar of 21 x 49 pixels: its axis is row 30
    seeds = scribble(instances * 3, instances)
    rows, columns = np.nonzero(seeds == 3)
    middle = (columns > 24) & (columns < 40)
    assert set(rows[middle]) == {29, 30, 31}
    assert 25 < columns.max() - columns.min() < 45
    distance = ndimage.distance_transform_edt(instances)
    assert distance[rows, columns].min() > 3


def test_scribbles_shorten_towards_dots():
    counts = []
    for length in (1.0, 0.8, 0.5, 0.3, 0.0):
        counts.append(sum(int((scribble(s.mask, s.instances, length) != 255).sum()) for s in SCENES[:10]))
    assert all(more > fewer for more, fewer in pairwise(counts))
    dots = sum(len(regions(s, n)) for s in SCENES[:10] for n in range(s.instances.max() + 1))
    assert counts[-1] <= 9 * (dots + 10)


def test_clicks_hit_every_object_and_the_background():
    for scene in SCENES:
        clicks = click(scene.mask, scene.instances)
        drawn = clicks != 255
        assert np.array_equal(clicks[drawn], scene.mask[drawn])
        for number in range(scene.instances.max() + 1):
            if regions(scene, number):
                assert 1 <= drawn[scene.instances == number].sum() <= 9


def test_boxes_frame_the_visible_pixels():
    for scene in SCENES:
        boxes = frame(scene.mask, scene.instances)
        expected = []
        for number in range(1, scene.instances.max() + 1):
            rows, columns = np.nonzero(scene.instances == number)
            label = scene.mask[rows[0], columns[0]]
            expected.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1, label])
        assert boxes.dtype == np.float32
        assert boxes.tolist() == expected


def test_an_empty_scene_has_background_only():
    nothing = np.zeros((40, 40), np.uint8)
    assert np.unique(scribble(nothing, nothing)).tolist() == [0, 255]
    assert np.unique(click(nothing, nothing)).tolist() == [0, 255]
    assert frame(nothing, nothing).shape == (0, 5)


# ---- the source and the data module -------------------------------------------------------------------------------


def test_samples_do_not_depend_on_the_number_of_scenes_or_the_order():
    few, many = Scenes("train", 3, size=64), Scenes("train", 30, size=64)
    last = many[2]
    assert torch.equal(few[2].image, last.image)
    assert torch.equal(few[2].seeds, last.seeds)
    assert few.ids[2] == many.ids[2] == last.id
    with pytest.raises(IndexError, match="there are 3"):
        few[3]


def test_tags_agree_with_the_mask():
    for sample in (Scenes("train", 20)[index] for index in range(20)):
        expected = set(sample.mask.unique().tolist()) | {0}
        assert set(sample.tags.nonzero().flatten().tolist()) == expected


def test_supervision_decides_the_seeds():
    samples = {name: Scenes("train", 4, supervision=name)[3] for name in ("full", "scribble", "point", "tags", "box")}
    mask = samples["full"].mask
    assert torch.equal(samples["full"].seeds, mask)
    assert (samples["tags"].seeds == 255).all()
    labelled = {name: int((sample.seeds != 255).sum()) for name, sample in samples.items()}
    assert 0 < labelled["point"] < labelled["scribble"] < 0.1 * mask.numel()
    assert samples["box"].boxes.shape[1] == 5
    assert samples["scribble"].boxes is None
    outside = samples["box"].seeds == 0
    assert (mask[outside] == 0).all()
    assert outside.any()
    for x1, y1, x2, y2, label in samples["box"].boxes.int().tolist():
        assert (samples["box"].seeds[y1:y2, x1:x2] == 255).all()
        assert (mask[y1:y2, x1:x2] == label).any()


def test_batches_hold_what_modules_read():
    data = small()
    data.setup("fit")
    batch = decode_batch(next(iter(data.train_dataloader())))
    assert batch["image"].shape == (2, 3, 48, 48)
    assert batch["image"].isfinite().all()
    assert 0 <= batch["image"].min() < batch["image"].max() <= 1
    labelled = batch["seeds"] != 255
    assert torch.equal(batch["seeds"][labelled], batch["mask"][labelled])
    assert batch["tags"].shape == batch["seed_labels"].shape == (2, K)
    assert len(data.train_dataloader()) == 3
    assert [b["id"] for b in data.val_dataloader()] == [["val_00000"], ["val_00001"], ["val_00002"]]
    assert next(iter(data.val_dataloader()))["image"].shape == (1, 3, 64, 64)


def test_box_batches_hold_boxes():
    batch = next(iter(small(supervision="box").train_dataloader()))
    assert [boxes.shape[1] for boxes in batch["boxes"]] == [5, 5]


def test_batches_do_not_depend_on_the_number_of_workers():
    batches = [list(small(num_workers=workers).train_dataloader()) for workers in (0, 2)]
    for a, b in zip(*batches, strict=True):
        assert a["id"] == b["id"]
        assert torch.equal(a["image"], b["image"])
        assert torch.equal(a["seeds"], b["seeds"])


def test_class_names_and_palette_need_no_setup():
    data = small()
    assert data.class_names[0] == "background"
    assert data.num_classes == len(data.palette) == K


def test_what_background_everywhere_scores():
    """The number that results on the scenes are told beside: 11.4 mIoU on the 100 scenes of the validation."""
    data, scores = ScenesDataModule(), SegmentationScores(K)
    data.setup("validate")
    for batch in data.val_dataloader():
        scores.update(torch.zeros_like(batch["mask"]), batch["mask"])
    found = scores.compute()
    assert found["miou"].item() == pytest.approx(0.114, abs=5e-4)
    assert found["miou"].item() == pytest.approx(found["pixel_accuracy"].item() / K)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_train": 0}, "`num_train` must be at least 1, got 0"),
        ({"num_val": 0}, "`num_val`"),
        ({"size": 16}, "`size` must be at least 32"),
        ({"supervision": "scribbles"}, "`supervision` must be one of 'full', 'scribble', 'point', 'tags', 'box'"),
        ({"scribble_length": 1.5}, "`scribble_length` must be between 0"),
        ({"scene_seed": -1}, "`scene_seed`"),
    ],
)
def test_wrong_arguments_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        small(**wrong)
