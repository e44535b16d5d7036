"""Label maps as drawing programs write them."""

import numpy as np
import pytest
from PIL import Image

from weakseg_lightning.data.folder.classes import Classes
from weakseg_lightning.data.folder.label_maps import map_values, read_map
from weakseg_lightning.data.samples import BadSampleError

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
    # Without colors of their own, classes are indices, unless the palette has their default colors in another order.
    indexed(tmp_path / "b.png", np.array([[0, 1], [2, 2]], np.uint8), (0, 128, 0), (0, 0, 0), (128, 0, 0))
    with pytest.raises(BadSampleError, match=r"value 0 has the color of 'y' \(class 2\), and classes.yaml names no"):
        read(tmp_path / "b.png", Classes(["background", "x", "y"]))
    black_ink = [(255, 255, 255), *[(0, 0, 0)] * 255]
    indexed(tmp_path / "c.png", np.array([[1, 1], [1, 255]], np.uint8), *black_ink)
    assert read(tmp_path / "c.png", Classes(["background", "x", "y"])) == [[1, 1], [1, 255]]


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


def gray(path, values, depth=8):
    """Write a gray PNG of some bits per pixel."""
    values = np.array(values, np.uint8)
    if depth == 1:
        Image.fromarray(values.astype(bool)).save(path)
    else:
        Image.fromarray(values).save(path)


BLACK_LEAVES = Classes(["background", "leaf"], {0: (255, 255, 255), 1: (0, 0, 0)})
WHITE_LEAVES = Classes(["background", "spot", "leaf"], {1: (255, 0, 0), 2: (255, 255, 255)})


@pytest.mark.parametrize(
    ("classes", "values", "depth", "found"),
    [
        (BLACK_LEAVES, [[0, 1], [1, 1]], 1, r"its value 0 means background, its color leaf: save it as RGB"),
        (BLACK_LEAVES, [[0, 255], [255, 255]], 8, r"its value 0 means background, its color leaf"),
        (WHITE_LEAVES, [[0, 1], [1, 1]], 1, r"its value 1 means spot, its color leaf"),
        (WHITE_LEAVES, [[0, 255], [255, 255]], 8, r"its value 255 means void, its color leaf"),
        (WHITE_LEAVES, [[0, 1], [2, 255]], 8, [[0, 1], [2, 255]]),  # two values are no colors
        (Classes(["background", "leaf"], {1: (255, 255, 255)}), [[0, 1], [1, 1]], 1, [[0, 1], [1, 1]]),
        (Classes(["background", "leaf"], {1: (99, 99, 99)}), [[0, 99], [99, 0]], 8, [[0, 1], [1, 0]]),
    ],
)
def test_grays_that_are_colors_of_classes_are_refused_where_they_are_values_too(
    tmp_path, classes, values, depth, found
):
    gray(tmp_path / "a.png", values, depth)
    if isinstance(found, list):
        assert read(tmp_path / "a.png", classes) == found
        return
    with pytest.raises(BadSampleError, match=found):
        read(tmp_path / "a.png", classes)


def test_maps_beside_one_say_whether_grays_are_values(tmp_path):
    gray(tmp_path / "a.png", [[0, 255]])
    with pytest.raises(BadSampleError, match="its value 255 means void, its color leaf"):
        read(tmp_path / "a.png", WHITE_LEAVES)
    gray(tmp_path / "b.png", [[0, 1]])
    assert read(tmp_path / "a.png", WHITE_LEAVES) == [[0, 255]]


def test_scribbles_whose_unlabelled_color_is_gray_are_colors_in_gray_files_too(tmp_path):
    classes = Classes(["background", "leaf"], {0: (255, 255, 255)}, unlabelled=(0, 0, 0))
    gray(tmp_path / "a.png", [[0, 255], [0, 0]])
    assert read_map(tmp_path / "a.png", classes, scribbles=True).tolist() == [[255, 0], [255, 255]]


def test_the_index_of_the_background_may_have_been_given_away(tmp_path):
    labels = np.array([[0, 1], [2, 2]], np.uint8)
    indexed(tmp_path / "a.png", labels, (255, 255, 255), (255, 0, 0), (0, 0, 0))
    with pytest.raises(BadSampleError, match=r"value 2 has the color of 'background' \(class 0\), but other values"):
        read(tmp_path / "a.png")
    indexed(tmp_path / "b.png", labels, (0, 0, 0), (9, 9, 9), (0, 0, 0))  # padded with black
    assert read(tmp_path / "b.png") == labels.tolist()


def test_values_from_1_are_named(tmp_path):
    Image.fromarray(np.array([[1, 2], [3, 3]], np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(BadSampleError, match=r"holds the values 3, .*values seem to count from 1, subtract 1"):
        read(tmp_path / "a.png")


def test_values_from_1_beside_0_for_no_label_are_told_how_to_shift(tmp_path):
    labels = np.array([[0, 0, 0], [1, 2, 3], [0, 0, 0]], np.uint8)
    Image.fromarray(labels).save(tmp_path / "a.png")
    with pytest.raises(BadSampleError, match=r"holds the values 3, .*name more classes.*subtract 1 in 8 bits: 0 beco"):
        read(tmp_path / "a.png")
    Image.fromarray(labels - np.uint8(1)).save(tmp_path / "a.png")  # as the message says
    assert read(tmp_path / "a.png") == [[255] * 3, [0, 1, 2], [255] * 3]


@pytest.mark.parametrize("kind", ["WEBP", "JPEG"])
def test_formats_for_photographs_are_refused(tmp_path, kind):
    Image.fromarray(LABELS).convert("RGB").save(tmp_path / "a.png", kind)
    with pytest.raises(BadSampleError, match=f"is a {kind} file, which does not keep the values of pixels"):
        read(tmp_path / "a.png")
