"""What the browser gets to see."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.painting.pictures import (
    MAX_SIDE,
    image_layer,
    labeling_layer,
    reduced,
    scribble_layer,
    uncertainty_layer,
)
from weakseg_lightning.visualization import voc_palette


def decoded(content: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(content)))


def test_large_images_are_reduced_and_small_ones_are_not():
    wide = torch.full((3, 100, 4000), 90, dtype=torch.uint8)
    assert reduced(wide, 400).size == (400, 10)
    assert reduced(wide[:, :, :50], 400).size == (50, 100)
    shown = decoded(image_layer(wide))
    assert shown.shape == (40, MAX_SIDE, 3)
    assert abs(int(shown.mean()) - 90) <= 1


def test_scribbles_have_their_colors_and_a_white_rim():
    labels = np.full((1000, 1000), VOID, dtype=np.uint8)
    labels[500, 100:200] = 2
    layer = decoded(scribble_layer(labels, voc_palette()))
    assert layer.shape == (1000, 1000, 4)
    assert layer[500, 150].tolist() == [*voc_palette()[2], 255]
    assert layer[501, 150, :3].tolist() == [255, 255, 255]
    assert layer[510, 150, 3] == 0


def test_no_stroke_is_too_thin_for_the_browser():
    labels = np.full((50, 9 * MAX_SIDE - 5), VOID, dtype=np.uint8)
    labels[33, 7] = 0
    layer = decoded(scribble_layer(labels, voc_palette()))
    assert layer.shape[1] == MAX_SIDE
    assert layer[33 // 9, 0].tolist() == [0, 0, 0, 255]


def test_the_background_of_a_labeling_is_fainter():
    layer = decoded(labeling_layer(np.array([[0, 1, VOID]], dtype=np.uint8), voc_palette()))
    assert 0 < layer[0, 0, 3] < layer[0, 1, 3]
    assert layer[0, 1, :3].tolist() == voc_palette()[1].tolist()
    assert layer[0, 2, 3] == 0


@pytest.mark.parametrize("classes", [1, 2, 21])
def test_certain_pixels_are_transparent_and_others_are_not(classes):
    probabilities = np.zeros((classes, 1, 3))
    probabilities[:, 0, 0] = np.eye(classes)[0]
    probabilities[:, 0, 1] = 1 / classes
    probabilities[:, 0, 2] = 0.25 / max(classes - 1, 1)
    probabilities[0, 0, 2] = 0.75 if classes > 1 else 1
    with np.errstate(divide="ignore"):
        layer = decoded(uncertainty_layer(np.log(probabilities).astype(np.float16)))
    entropy = -np.sum(probabilities[:, 0, 2] * np.log(probabilities[:, 0, 2])) / np.log(classes) if classes > 1 else 0
    assert layer.shape == (1, 3, 4)
    assert layer[0, :, 3].tolist() == [0, 255 if classes > 1 else 0, round(255 * entropy)]
