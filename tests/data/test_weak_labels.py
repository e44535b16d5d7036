"""Clicks, boxes and their seeds."""

import json

import numpy as np
import pytest
import torch
from skimage.measure import label, regionprops

from weakseg_lightning.data.weak_labels import boxes_from_mask, draw_clicks, read_clicks, seeds_from_boxes


def test_clicks_of_several_files_are_joined(tmp_path):
    first, second = tmp_path / "objects.json", tmp_path / "background.json"
    first.write_text(json.dumps({"a": [{"y": 2.5, "x": 1.5, "rank": 1, "cls": 16}], "b": []}))
    second.write_text(json.dumps({"a": [{"x": 7, "y": 8, "cls": 0}], "c": [{"x": 0, "y": 0, "cls": 0}]}))
    clicks = read_clicks([first, second])
    assert clicks == {"a": [(1.5, 2.5, 16), (7.0, 8.0, 0)], "b": [], "c": [(0.0, 0.0, 0)]}


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "not valid JSON"), ("[]", "holds a list"), ('{"a": [{"x": 1}]}', "'a' need"), ('{"a": [1]}', "'a' need")],
)
def test_bad_files_of_clicks_are_named(tmp_path, content, message):
    (tmp_path / "clicks.json").write_text(content)
    with pytest.raises(ValueError, match=rf"clicks\.json.*{message}"):
        read_clicks([tmp_path / "clicks.json"])


def test_click_is_a_square_at_its_pixel():
    drawn = draw_clicks([(5.9, 3.1, 4)], 10, 10)
    expected = np.full((10, 10), 255)
    expected[2:5, 4:7] = 4
    assert (drawn == expected).all()


@pytest.mark.parametrize(("x", "y"), [(-3.0, 5.0), (10.0, 5.0), (9.99, 200.0), (-1.0, -1.0), (1e6, 0.0)])
def test_clicks_outside_are_clipped(x, y):
    drawn = draw_clicks([(x, y, 4)], 10, 10)
    column, row = min(max(int(x), 0), 9), min(max(int(y), 0), 9)
    assert drawn[row, column] == 4
    assert (drawn == 4).sum() in (4, 6)


def test_boxes_agree_with_scikit_image():
    rng = np.random.default_rng(0)
    for _ in range(20):
        coarse = rng.choice([0, 0, 0, 3, 7, 255], (9, 12))
        mask = np.kron(coarse, np.ones((3, 2), dtype=np.uint8)).astype(np.uint8)
        expected = {
            (columns, rows, columns_end, rows_end, kind)
            for kind in (3, 7)
            for region in regionprops(label(mask == kind, connectivity=2))
            for rows, columns, rows_end, columns_end in [region.bbox]
        }
        boxes = boxes_from_mask(torch.from_numpy(mask))
        assert boxes.dtype == torch.float32
        assert {tuple(map(int, box)) for box in boxes.tolist()} == expected
        assert len(boxes) == len(expected)


def test_no_object_no_box():
    assert boxes_from_mask(torch.tensor([[0, 255]], dtype=torch.uint8)).shape == (0, 5)


def test_void_is_no_background():
    mask = torch.zeros(4, 6, dtype=torch.uint8)
    mask[1, 1:3], mask[2, 1:5] = 1, 255
    seeds = seeds_from_boxes(boxes_from_mask(mask), 4, 6, mask=mask)
    assert seeds.tolist() == [[0] * 6, [0, 255, 255, 0, 0, 0], [0, 255, 255, 255, 255, 0], [0] * 6]


def test_background_lies_outside_all_boxes():
    mask = torch.zeros(20, 30, dtype=torch.uint8)
    mask[2:8, 3:9], mask[5:15, 7:20] = 1, 2
    seeds = seeds_from_boxes(boxes_from_mask(mask), 20, 30)
    assert set(seeds.unique().tolist()) == {0, 255}
    assert (seeds[mask > 0] == 255).all()
    assert (mask[seeds == 0] == 0).all()
    assert int((seeds == 255).sum()) == 6 * 6 + 10 * 13 - 3 * 2
