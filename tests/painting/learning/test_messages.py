"""Annotations reach the learner small, and nothing of them is lost."""

import numpy as np
import pytest

from weakseg_lightning.painting.document import Click, ImageAnnotation
from weakseg_lightning.painting.learning.features import size_for_encoder
from weakseg_lightning.painting.learning.messages import reduced_seeds, reduced_size


@pytest.mark.parametrize(
    ("size", "reduced", "seen"),
    [
        ((375, 500), (288, 384), (288, 384)),
        ((80, 120), (80, 120), (256, 384)),
        ((4000, 10), (384, 1), (384, 4)),
        ((40, 50), (40, 50), (160, 200)),
    ],
)
def test_images_are_reduced_and_seen_by_the_encoder_in_whole_cells_small_ones_enlarged(size, reduced, seen):
    assert reduced_size(*size) == reduced
    assert size_for_encoder(*size, 4) == seen


def test_the_thinnest_stroke_of_a_large_image_and_a_click_at_its_border_arrive():
    labels = np.full((1536, 2048), 255, dtype=np.uint8)
    labels[101, 400:440] = 2
    reduced = reduced_seeds("a", 7, ImageAnnotation(labels, (Click(2048.0, 0.0, 1),)))
    assert (reduced.name, reduced.version, reduced.size) == ("a", 7, (288, 384))
    found = np.full(reduced.size, 255)
    found.reshape(-1)[reduced.cells] = reduced.labels
    assert (found[18, 75:83] == 2).all()
    assert (found[:2, 382:] == 1).all()
    assert (found != 255).sum() == 8 + 4
