"""Annotations reach the learner small, and nothing of them is lost."""

import numpy as np
import pytest

from weakseg_lightning.painting.document import Click, ImageAnnotation
from weakseg_lightning.painting.learning.messages import reduced_seeds, reduced_size


@pytest.mark.parametrize(
    ("size", "multiple", "expected"),
    [((375, 500), 1, (288, 384)), ((375, 500), 4, (288, 384)), ((80, 120), 1, (80, 120)), ((4000, 10), 4, (384, 4))],
)
def test_images_are_reduced_to_whole_cells(size, multiple, expected):
    assert reduced_size(*size, multiple) == expected


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
