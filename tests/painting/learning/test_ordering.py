"""The order prefers images that are uncertain and unlike what is annotated."""

import numpy as np
import pytest
import torch
from photographs import NAMES, draw

from weakseg_lightning.painting.learning.ordering import by_need, descriptor_of, uncertainty_of


def order(places, uncertainties, annotated):
    descriptors = np.array(places, dtype=np.float32)[:, None]
    return by_need(descriptors, np.array(uncertainties, np.float32), np.isin(range(len(places)), annotated))


def test_the_unlike_come_first_where_all_are_as_uncertain():
    assert order([0, 1, 6], [1, 1, 1], [0]) == [2, 1]


def test_the_uncertain_come_first_where_all_are_as_far():
    assert order([0, 1, -1, 1], [1, 0.1, 0.9, 0.1], [0])[0] == 2


def test_one_of_two_like_images_follows_late():
    assert order([0, 10, 10.1, -4], [1, 1, 1, 1], [0])[1] == 3


def test_an_outlier_comes_after_a_group_that_it_does_not_belong_to():
    first, second = order([0, 3, 3.1, 3.2, 7], [1, 1, 1, 1, 1], [0])[:2]
    assert first in (2, 3)
    assert second == 4


def test_without_annotation_the_most_typical_is_first():
    assert order([-9, 0, 1, 9, 1.5], [1, 1, 1, 1, 1], [])[0] == 2


def test_a_large_folder_is_ordered_by_a_part_of_it():
    places = np.random.default_rng(0).normal(size=1200)
    found = order(places, np.ones(1200), [0])
    assert sorted(found) == list(range(1, 1200))
    assert abs(places[found[:5]]).max() > 1


@pytest.mark.parametrize("annotated", [[], [0], [0, 1, 2]])
def test_each_that_is_not_annotated_comes_once(annotated):
    generator = np.random.default_rng(0)
    places, uncertainties = generator.normal(size=70), generator.uniform(size=70)
    found = order(places, uncertainties, annotated)
    assert sorted(found) == [number for number in range(70) if number not in annotated]


def test_all_annotated_leaves_nothing():
    assert order([1, 2], [1, 1], [0, 1]) == []


def test_uncertainty_is_the_entropy_as_a_fraction():
    even = np.log(np.full((3, 4, 5), 1 / 3)).astype(np.float16)
    sure = np.full((3, 4, 5), -80, dtype=np.float16)
    sure[1] = 0
    assert uncertainty_of(even) == pytest.approx(1, abs=1e-3)
    assert uncertainty_of(sure) == pytest.approx(0, abs=1e-6)
    assert 0.4 < uncertainty_of(np.concatenate([even, sure], 1)) < 0.6


def test_descriptors_leave_the_padding_out():
    features = torch.ones(1, 2, 8, 8)
    features[:, 1] = 3
    features[:, :, 6:], features[..., 4:] = 100, 100
    assert descriptor_of(features, (24, 16), (32, 32)).tolist() == [1, 3]


def test_the_learner_leaves_annotated_images_out_and_those_without_features_to_the_end(photographs):
    learner = photographs.learner()
    draw(learner, NAMES[2], photographs.annotation(NAMES[2]))
    for name in NAMES[3:5]:
        learner.features.maps(name)
    found = learner.order()
    assert set(found[:2]) == set(NAMES[3:5])
    assert found[2:] == (NAMES[0], NAMES[1], NAMES[5])
