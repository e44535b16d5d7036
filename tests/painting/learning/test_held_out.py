"""Every fifth stroke of a class is held out, and never learned from."""

import numpy as np
import pytest
from photographs import NAMES, draw

from weakseg_lightning.networks.frozen.head import MapHead
from weakseg_lightning.painting.document import ImageAnnotation
from weakseg_lightning.painting.learning.held_out import fraction_right, held_out_strokes, strokes_of


def test_strokes_are_what_touches_at_corners_too_of_one_class():
    labels = np.full((5, 6), 255, dtype=np.uint8)
    labels[0, 0] = labels[1, 1] = labels[4, 0] = 1
    labels[0, 1] = labels[1, 2] = 0
    expected = np.full((5, 6), -1)
    expected[0, 1] = expected[1, 2] = 0
    expected[0, 0] = expected[1, 1] = 1
    expected[4, 0] = 2
    assert np.array_equal(strokes_of(labels), expected)


def test_every_fifth_of_each_class_by_the_names_of_images():
    classes = {"b": np.array([0, 1, 1, 1]), "a": np.array([0, 0, 0, 0, 1, 1])}
    chosen = held_out_strokes(classes)
    assert chosen["a"].tolist() == [False] * 6
    assert chosen["b"].tolist() == [True, False, False, True]
    assert {name: found.tolist() for name, found in held_out_strokes(dict(reversed(classes.items()))).items()} == {
        name: found.tolist() for name, found in chosen.items()
    }


def test_the_fraction_is_the_mean_of_the_classes():
    labels = np.array([0] * 8 + [2] * 2)
    assert fraction_right(labels, np.array([0] * 8 + [0, 2])) == 0.75
    assert fraction_right(labels[:0], labels[:0]) is None


def test_what_is_held_out_is_never_learned_from_by_the_head_that_is_tried_on_it(photographs, monkeypatch):
    learner = photographs.learner()
    for name in NAMES:
        draw(learner, name, photographs.annotation(name))
    seen, fit = [], MapHead.fitting

    def watch(self, features, labels):
        seen.append(features)
        return fit(self, features, labels, 40)

    monkeypatch.setattr(MapHead, "fitting", watch)
    assert learner.held_out is None
    while learner.validate():
        pass
    last = "2011_001369"  # the fifth by name with a stroke of the background, of which no other class has five
    chosen, features = learner._pixels[last].chosen, learner._pixels[last].features
    is_held_out = chosen.strokes == 0
    assert learner.held_out_strokes == 1
    assert 0.3 < learner.held_out <= 1
    known = {row.tobytes() for row in seen[0].numpy()}
    assert not known & {row.tobytes() for row in features[is_held_out].numpy()}
    assert known >= {row.tobytes() for row in features[~is_held_out].numpy()}


@pytest.mark.parametrize("labels", [np.zeros((4, 4), np.uint8), np.full((4, 4), 255, np.uint8)])
def test_without_enough_strokes_there_is_no_number(photographs, labels):
    learner = photographs.learner()
    draw(learner, NAMES[0], photographs.annotation(NAMES[0]))
    draw(learner, NAMES[1], ImageAnnotation(labels))
    while learner.validate():
        pass
    assert (learner.held_out, learner.held_out_strokes) == (None, 0)
