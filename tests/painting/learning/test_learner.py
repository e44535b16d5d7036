"""Learning stroke by stroke from real photographs: bounded, repeatable, as good as all at once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from photographs import NAMES, draw, settle
from PIL import Image

from weakseg_lightning.data.samples import BadSampleError
from weakseg_lightning.networks.frozen.head import MapHead
from weakseg_lightning.painting.document import ImageAnnotation, Stroke
from weakseg_lightning.painting.learning import learner as module
from weakseg_lightning.painting.learning.features import ImageFeatures
from weakseg_lightning.painting.learning.messages import reduced_seeds
from weakseg_lightning.painting.learning.worker import Desk

CAT, DOG = NAMES[0], NAMES[1]


@pytest.fixture
def learner(photographs):
    return photographs.learner()


def accuracy(learner, photographs, name):
    """Fraction of the annotated pixels of an image that get their class."""
    seeds = reduced_seeds(name, 0, photographs.annotation(name))
    values = torch.from_numpy(learner.scores(name).values).float()[None]
    labels = torch.nn.functional.interpolate(values, size=seeds.size, mode="bilinear")[0].argmax(0)
    return np.mean(labels.numpy().reshape(-1)[seeds.cells] == seeds.labels)


def test_a_few_steps_already_follow_the_strokes(learner, photographs):
    for version, annotation in enumerate(photographs.stroke_by_stroke(CAT)):
        draw(learner, CAT, annotation, version)
    found = learner.scores(CAT)
    assert (found.version, found.source, found.values.dtype) == (1, "head", np.float16)
    assert np.allclose(np.exp(found.values.astype(np.float32)).sum(0), 1, atol=0.01)
    assert accuracy(learner, photographs, CAT) > 0.9
    assert learner.scores(DOG).version == -1


def test_strokes_one_by_one_come_to_the_head_of_all_at_once(learner, photographs):
    for name in (DOG, CAT):
        for version, annotation in enumerate(photographs.stroke_by_stroke(name)):
            draw(learner, name, annotation, version)
    erased = NAMES[2]
    draw(learner, erased, photographs.annotation(erased))
    draw(learner, erased, ImageAnnotation.empty(*photographs.annotation(erased).labels.shape), 1)
    quick = accuracy(learner, photographs, DOG)
    settle(learner)
    cold = photographs.learner()
    for name in (CAT, DOG):
        cold.annotate(reduced_seeds(name, 0, photographs.annotation(name)))
        cold.take(name)
    settle(cold)
    assert np.array_equal(learner.scores(erased).values, cold.scores(erased).values)
    assert accuracy(cold, photographs, DOG) > quick - 0.01
    assert (learner.num_learned, set(learner.annotated)) == (2, {CAT, DOG})


def test_the_same_messages_give_the_same_scores_whatever_else_draws_numbers(photographs):
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        learner = photographs.learner()
        for name in (CAT, DOG):
            draw(learner, name, photographs.annotation(name))
        assert torch.initial_seed() == seed
        found.append(learner.scores(DOG).values)
    assert np.array_equal(*found)


def test_new_pixels_are_in_every_quick_step_however_much_else_is_drawn(learner, photographs, monkeypatch):
    before = photographs.annotation(CAT)
    draw(learner, CAT, before)
    after = Stroke(((300.0, 300.0), (330.0, 300.0)), 3, 2).applied_to(before)
    batches, learn = [], MapHead.learn
    monkeypatch.setattr(MapHead, "learn", lambda *a: (batches.append(a[3]), learn(*a)))
    draw(learner, CAT, after, 1)
    assert len(batches) == module._QUICK_STEPS
    assert all((labels == 2).sum() >= module._FRESH for labels in batches)
    assert max(map(len, batches)) <= 1024


def test_one_class_alone_is_nothing_to_learn_from(learner, photographs):
    only_dog = NAMES[2]
    draw(learner, only_dog, photographs.annotation(only_dog))
    assert learner.scores(only_dog) is None
    draw(learner, CAT, photographs.annotation(CAT))
    assert learner.scores(only_dog) is not None
    draw(learner, CAT, ImageAnnotation.empty(375, 500), 1)
    assert (learner.scores(only_dog), learner.num_learned) == (None, 0)


def test_scores_cover_the_image_and_not_the_padding(photographs, tmp_path):
    picture = Image.open(photographs.images[CAT]).resize((201, 90))
    picture.save(tmp_path / "a.png")
    learner = module.Learner(photographs.settings, {"a": tmp_path / "a.png"}, 3)
    stroke, other = Stroke(((10.0, 20.0), (60.0, 20.0)), 5, 0), Stroke(((150.0, 60.0), (190.0, 60.0)), 5, 1)
    draw(learner, "a", other.applied_to(stroke.applied_to(ImageAnnotation.empty(90, 201))))
    maps = learner.features.maps("a")
    assert maps[0].shape[2:] == (48, 96)  # of 192 x 384 pixels
    assert learner.scores("a").values.shape == (3, 43, 96)


def test_of_many_strokes_the_small_ones_are_learned_from_as_well(learner, photographs):
    drawn = Stroke(((100.0, 100.0), (400.0, 300.0)), 60, 0).applied_to(ImageAnnotation.empty(375, 500))
    draw(learner, CAT, Stroke(((20.0, 350.0), (30.0, 350.0)), 3, 1).applied_to(drawn))
    labels = learner._pixels[CAT].chosen.labels
    assert len(labels) == module.PIXELS_PER_IMAGE
    assert (labels == 1).sum() >= 10


def test_pixels_of_500_annotated_images_stay_within_their_budget(learner, photographs, monkeypatch):
    monkeypatch.setattr(module, "MAX_PIXELS", 20_000)
    monkeypatch.setattr(ImageFeatures, "at_cells", lambda self, name, cells, size: torch.zeros(len(cells), 496).half())
    seeds = reduced_seeds(CAT, 0, photographs.annotation(CAT))
    held = []
    for number in range(500):
        learner.annotate(replace(seeds, name=str(number)))
        learner.take(str(number))
        held.append(sum(pixels.features.untyped_storage().nbytes() for pixels in learner._pixels.values()))
    assert max(held) <= 20_000 * 496 * 2
    assert min(len(pixels.features) for pixels in learner._pixels.values()) == 37


def test_features_stay_within_their_memory(photographs):
    learner = photographs.learner(memory=1.6 * 640_000 / 2**30)
    for name in NAMES[:3]:
        learner.features.maps(name)
    assert not learner.features.has_room
    assert Desk(learner).report().full
    assert learner.features._cache._kept_bytes <= 1.6 * 640_000
    draw(learner, CAT, photographs.annotation(CAT))  # its features are made again
    assert learner.scores(CAT) is not None


def test_an_image_that_cannot_be_read_is_left_out(photographs, tmp_path):
    learner = module.Learner(photographs.settings, {**photographs.images, "gone": Path(tmp_path / "gone.png")}, 3)
    learner.annotate(reduced_seeds("gone", 0, photographs.annotation(CAT)))
    with pytest.raises(BadSampleError, match=r"gone\.png is missing"):
        learner.take("gone")
    assert learner.pending == []
    assert "gone" not in learner.order()
