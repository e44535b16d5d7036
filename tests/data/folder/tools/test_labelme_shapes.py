"""Shapes of LabelMe and its forks become the right pixels, or are named."""

import json

import numpy as np
import pytest
from exports import SIZE, SQUARE, annotations_of, boxes, faults, filled, labelme, mask_of, opened, png, shape
from PIL import Image
from skimage.draw import disk

from weakseg_lightning.data.folder.labels import read_seeds

BLOB = np.random.default_rng(3).uniform(size=(9, 14)) > 0.4
"""A mask that is anything but a rectangle."""


def palette_of_black() -> str:
    """A palette whose second color is black, too: values count, not how bright they are."""
    picture = Image.fromarray(BLOB.astype(np.uint8)).convert("P")
    picture.putpalette([0] * 768)
    return png(picture)


# ---- pixels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("center", "edge"), [((24, 20), (24, 30)), ((3.3, 4.4), (9.9, 1.2)), ((46.5, 20.1), (30.2, 35))]
)
def test_circles_may_reach_outside(bare, center, edge):
    labelme(bare, shape("circle", [center, edge]))
    expected = np.zeros((40, 48), dtype=np.uint8)
    expected[disk((center[1] - 0.5, center[0] - 0.5), np.hypot(*np.subtract(center, edge)) + 1e-9, shape=(40, 48))] = 1
    assert (mask_of(bare) == expected).all()


@pytest.mark.parametrize("kind", ["1 bit", "uint8 of 255", "uint8 of 1", "16 bits", "palette", "data URL"])
def test_masks_of_every_depth(bare, kind):
    kinds = {"1 bit": BLOB, "uint8 of 255": BLOB * np.uint8(255), "16 bits": BLOB * np.uint16(1)}
    text = palette_of_black() if kind == "palette" else png(kinds.get(kind, BLOB * np.uint8(1)))
    before = "data:image/png;base64," if kind == "data URL" else ""
    labelme(bare, shape("mask", [[20, 11], [33, 19]], mask=before + text))
    expected = np.zeros((40, 48), dtype=np.uint8)
    expected[11:20, 20:34] = BLOB
    assert (mask_of(bare) == expected).all()


@pytest.mark.parametrize(
    ("points", "left", "top"),
    [
        ([[20.4, 10.6], [33.4, 18.6]], 20, 11),  # moved after it was drawn: rounded
        ([[20, 11], [34, 20]], 20, 11),  # a box one pixel larger, as rounding makes them
        ([[-5, -3], [8, 5]], -5, -3),  # over the border: cut
        ([[40, 36], [53, 44]], 40, 36),
    ],
)
def test_masks_lie_where_their_box_begins(bare, points, left, top):
    labelme(bare, shape("mask", points, mask=png(BLOB)))
    expected = np.zeros((80, 90), dtype=np.uint8)
    expected[20 + top : 29 + top, 20 + left : 34 + left] = BLOB
    assert (mask_of(bare) == expected[20:60, 20:68]).all()


# ---- boxes, strokes, points ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "points",
    [
        *([[8, 10], [28, 20]], [[28, 20], [8, 10]], [[28, 10], [8, 20]], [[8, 20], [28, 10]]),
        *(SQUARE, SQUARE[::-1], SQUARE[2:] + SQUARE[:2], [SQUARE[0], SQUARE[2], SQUARE[1], SQUARE[3]]),
        [*SQUARE, SQUARE[0]],
    ],
)
def test_rectangles_have_two_corners_or_four_in_any_order(bare, points):
    labelme(bare, shape("rectangle", points))
    assert boxes(bare) == [[8, 10, 28, 20, 1]]


@pytest.mark.parametrize("kind", ["rotation", "oriented_rectangle"])
@pytest.mark.parametrize(
    ("points", "box"),
    [
        ([[20, 10], [30, 20], [20, 30], [10, 20]], [10, 10, 30, 30]),
        ([[10, 12], [18, 18], [15, 22], [7, 16]], [7, 12, 18, 22]),
        ([[-6, 8], [10, -4], [16, 4], [0, 16]], [0, 0, 16, 16]),  # cut at the borders
        ([[40, 20], [60, 35], [50, 45], [30, 30]], [30, 20, 48, 40]),
    ],
)
def test_turned_boxes_are_enclosed(bare, kind, points, box):
    labelme(bare, shape(kind, points, direction=0.6))
    assert boxes(bare) == [[*box, 1]]


@pytest.mark.parametrize(
    "points", [SQUARE, [[5, 3], [30, 8], [26, 33], [2, 20]], [[-9, 5], [60, -7], [33, 55], [10, 38]]]
)
def test_quadrilaterals_are_polygons_that_may_reach_outside(bare, points):
    points = np.add(points, (0.137, 0.211)).tolist()
    labelme(bare, shape("quadrilateral", points))
    assert (mask_of(bare) == filled(points)).all()


def test_lines_and_points(bare):
    labelme(
        bare,
        shape("linestrip", [[8.5, 10.5], [27.5, 10.5]]),
        shape("line", [[8.5, 30.5], [27.5, 30.5]]),
        shape("point", [[30.2, 30.7]], "dog"),
        shape("points", [[40.5, 5.5], [5.5, 5.5]], "dog"),
    )
    seeds = read_seeds(opened(bare), "a", SIZE, "scribble")
    assert np.argwhere(seeds == 1).min(0).tolist() == [9, 7]  # 3 pixels wide about rows 10 and 30
    assert np.argwhere(seeds == 1).max(0).tolist() == [31, 28]
    assert (seeds == 2).sum() == 3 * 9
    assert seeds[30, 30] == seeds[5, 40] == seeds[5, 5] == 2


# ---- points and shapes that LabelMe would not write ------------------------------------------------------------------

FOREIGN = "is not as LabelMe writes it"
MASK = [[0, 0], [13, 8]]


@pytest.mark.parametrize(
    ("damaged", "text"),
    [
        *((broken, FOREIGN) for broken in (None, "polygon", 7, [])),
        ({"shape_type": "polygon", "points": SQUARE}, f"{FOREIGN} (it has no label)"),
        *((shape("polygon", SQUARE, label), f"{FOREIGN} (its label") for label in (True, False, ["cat"], {"a": "cat"})),
        *(
            (shape(kind, SQUARE * 2), f"is of the type '{kind}', which is not read")
            for kind in ("cuboid", "banana", "ellipse")
        ),
        *((shape("circle", points), FOREIGN) for points in ([[24, 20]] * 2, [[24, 20]], [[24, 20], [1, 1], [2, 2]])),
        (shape("circle", [[24, float("nan")], [1, 1]]), FOREIGN),
        (shape("mask", [[0, 0], [40, 30]], mask=png(BLOB)), "has 14 x 9 pixels, its box 41 x 31"),
        (shape("mask", MASK, mask=None), "no `mask`"),
        (shape("mask", MASK, mask=png(np.zeros((9, 14), bool))), "covers no pixel"),
        (shape("mask", [[60, 60], [73, 68]], mask=png(BLOB)), "covers no pixel"),
        (shape("mask", MASK, mask=png(np.zeros((9, 14, 3), np.uint8))), "in colors"),
        (shape("mask", MASK, mask="no picture"), "cannot be read"),
        (shape("mask", [[0, float("nan")], [13, 8]], mask=png(BLOB)), "no numbers"),
    ],
)
def test_damaged_shapes_are_named(bare, damaged, text):
    labelme(bare, shape("polygon", SQUARE), damaged)
    assert "images/a.json: shape 2" in faults(bare)
    assert text in faults(bare)


@pytest.mark.parametrize(
    "points", [None, [], [1, 2, 3, 4], [[1, 2, 3], [4, 5, 6]], [{"x": 1, "y": 2}], "1,2", [["a", 1]]]
)
@pytest.mark.parametrize("kind", ["polygon", "rectangle", "point", "circle"])
def test_points_that_are_none_are_named(bare, points, kind):
    labelme(bare, shape(kind, points))
    assert "images/a.json: shape 1" in faults(bare)
    assert annotations_of(bare) == []


@pytest.mark.parametrize("points", [[[[8, 10]], [[28, 10]], [[28, 20]]], [["8", "10"], ["28", " 10.0"], ["28", "2e1"]]])
def test_contours_of_opencv_and_numbers_as_text_are_read(bare, points):
    labelme(bare, shape("polygon", points))
    assert (mask_of(bare) == filled([[8, 10], [28, 10], [28, 20]])).all()


@pytest.mark.parametrize(
    ("points", "sound"), [([*SQUARE, SQUARE[0]], True), ([SQUARE[0], *SQUARE], True), ([[8, 10]] * 4, False)]
)
def test_corners_that_repeat_are_one(bare, points, sound):
    labelme(bare, shape("polygon", points))
    assert (faults(bare) == "") == sound
    assert sound or "region of 0 points" in faults(bare)


@pytest.mark.parametrize("shapes", [{}, "none", 3])
def test_files_without_a_list_of_shapes_are_named(bare, shapes):
    (bare / "images" / "a.json").write_text(json.dumps({"shapes": shapes, "imagePath": "a.jpg"}))
    assert "images/a.json: has no list `shapes`" in faults(bare)
