"""Label maps as drawing programs write them."""

import numpy as np
import pytest
from PIL import Image

from weakseg_lightning.data.folder.classes import Classes
from weakseg_lightning.data.folder.label_maps import map_values, read_map

RED_AND_BLUE = Classes(["background", "red", "blue"], {1: (255, 0, 0), 2: (0, 0, 255)})
LABELS = np.array([[0, 1, 2], [2, 1, 255]], dtype=np.uint8)


def indexed(path, labels, *colors) -> None:
    image = Image.fromarray(labels)
    image.putpalette(np.array(colors, dtype=np.uint8).tobytes())
    image.save(path)


def read(path, classes=RED_AND_BLUE) -> list:
    return read_map(path, classes, scribbles=False).tolist()


def test_a_renumbered_palette_is_read_by_its_colors(tmp_path):
    indexed(tmp_path / "a.png", np.array([[0, 1], [2, 2]], np.uint8), (0, 0, 255), (0, 0, 0), (255, 0, 0))
    assert read(tmp_path / "a.png") == [[2, 0], [1, 1]]


def test_a_palette_of_other_colors_is_read_by_its_indices(tmp_path):
    indexed(tmp_path / "a.png", np.array([[0, 1], [2, 2]], np.uint8), (9, 9, 9), (7, 7, 0), (0, 99, 9))
    assert read(tmp_path / "a.png") == [[0, 1], [2, 2]]
    # Without colors of their own, classes are indices, whatever the palette.
    indexed(tmp_path / "b.png", np.array([[0, 1], [2, 2]], np.uint8), (0, 128, 0), (0, 0, 0), (128, 0, 0))
    assert read(tmp_path / "b.png", Classes(["background", "x", "y"])) == [[0, 1], [2, 2]]


def test_a_palette_that_is_all_black_is_read_by_its_indices(tmp_path):
    indexed(tmp_path / "a.png", LABELS, *[(0, 0, 0)] * 256)
    assert read(tmp_path / "a.png") == LABELS.tolist()


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16", "LA"])
def test_gray_values_are_classes_in_every_mode(tmp_path, mode):
    gray = Image.fromarray(LABELS)
    image = Image.fromarray(LABELS.astype(np.uint16)) if mode == "I;16" else gray.convert(mode)
    image.save(tmp_path / "a.png")
    assert read(tmp_path / "a.png") == LABELS.tolist()
    assert map_values(tmp_path / "a.png") == [0, 1, 2, 255]


def test_two_values_of_one_bit_are_two_classes(tmp_path):
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "a.png")
    assert read(tmp_path / "a.png") == [[1, 0]]


def test_what_is_transparent_has_no_label(tmp_path):
    pixels = np.array([[(255, 0, 0, 255), (255, 0, 0, 0), (0, 0, 255, 3)]], dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert read(tmp_path / "a.png") == [[1, 255, 2]]
    assert map_values(tmp_path / "a.png") is None


@pytest.mark.parametrize("kind", ["TIFF", "BMP"])
@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
def test_another_format_under_the_name_of_a_png_is_read_all_the_same(tmp_path, kind, mode):
    Image.fromarray(np.array([[0, 1, 2], [2, 1, 0]], dtype=np.uint8)).convert(mode).save(tmp_path / "a.png", kind)
    assert read(tmp_path / "a.png", Classes(["background", "x", "y"])) == [[0, 1, 2], [2, 1, 0]]
    assert map_values(tmp_path / "a.png") == [0, 1, 2]
