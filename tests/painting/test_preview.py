"""The labeling that follows the pen."""

import numpy as np
import pytest
import torch

from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.painting.document import AddClick, Click, ImageAnnotation, Stroke
from weakseg_lightning.painting.preview import LONGEST_SIDE, Preview


def two_colors(height: int, width: int) -> torch.Tensor:
    """The left half red, the right half blue."""
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    image[0, :, : width // 2] = image[2, :, width // 2 :] = 200
    return image


def drawn(height, width, *changes):
    annotation = ImageAnnotation.empty(height, width)
    for change in changes:
        annotation = change.applied_to(annotation)
    return annotation


@pytest.mark.parametrize(("height", "width"), [(40, 60), (900, 1400), (1, 50)])
@pytest.mark.parametrize("classes", [(0, 1), (7, 3), (254, 0)])
def test_each_color_gets_the_class_drawn_on_it(height, width, classes):
    middle = height / 2
    left, right = (Stroke(((x * width, middle),), 1, label) for x, label in zip((0.2, 0.8), classes, strict=True))
    found = Preview(two_colors(height, width)).solve(drawn(height, width, left, right))
    assert max(found.labels.shape) == min(width, LONGEST_SIDE)
    columns = found.labels.shape[1]
    assert (found.labels[:, : columns // 2] == classes[0]).all()
    assert (found.labels[:, -(columns // 2) :] == classes[1]).all()
    assert found.seconds > 0


def test_clicks_count_like_scribbles():
    clicks = (AddClick(Click(5.0, 5.0, 1)), AddClick(Click(59.9, 39.9, 0)))
    found = Preview(two_colors(40, 60)).solve(drawn(40, 60, *clicks))
    assert found.labels[:, :30].all()
    assert not found.labels[:, 30:].any()


@pytest.mark.parametrize("changes", [(), (Stroke(((5.0, 5.0),), 3, 1),), (AddClick(Click(5.0, 5.0, 1)),)])
def test_one_class_alone_gives_no_labeling(changes):
    assert Preview(two_colors(40, 60)).solve(drawn(40, 60, *changes)) is None


def test_no_stroke_is_too_thin_for_the_reduced_image():
    annotation = drawn(3000, 3000, Stroke(((200.0, 100.0), (2900.0, 2500.0)), 1, 1))
    seeds = Preview(two_colors(3000, 3000))._seeds(annotation)
    assert (seeds == 1).sum() >= 0.85 * LONGEST_SIDE
    assert set(np.unique(seeds)) == {1, VOID}
