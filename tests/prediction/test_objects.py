"""Objects against scipy's labels of the whole map, whatever the rows they come in."""

import csv

import numpy as np
import pytest
from scipy import ndimage

from weakseg_lightning.prediction.objects import COLUMNS, ImageObjects, ObjectTable

NAMES = ["background", "leaf", "spot", "stem"]


def measured(labels, pixels, heights):
    objects, row = ImageObjects(labels.shape[1]), 0
    for height in heights:
        objects.add(labels[row : row + height], pixels[row : row + height])
        row += height
    assert row == len(labels)
    return objects.table(NAMES)


def expected(labels, pixels):
    """The same by scipy, class by class, in the order of first pixels."""
    found = []
    for k in range(1, len(NAMES)):
        numbers, count = ndimage.label(labels == k)
        for number, (rows, columns) in enumerate(ndimage.find_objects(numbers), 1):
            inside = numbers == number
            y, x = np.nonzero(inside)
            box = (columns.start, rows.start, columns.stop, rows.stop)
            values = (x.mean() + 0.5, y.mean() + 0.5, *pixels[inside].mean(0))
            found.append((np.flatnonzero(inside)[0], [NAMES[k], inside.sum(), *box, *values]))
        assert count == numbers.max()
    return [row for _, row in sorted(found, key=lambda one: one[0])]


@pytest.mark.parametrize("heights", [[40], [1] * 40, [7, 1, 30, 2], [39, 1]])
@pytest.mark.parametrize("smooth", [0, 1, 3])
def test_objects_are_those_of_the_whole_map(heights, smooth):
    draw = np.random.default_rng(smooth)
    noise = ndimage.gaussian_filter(draw.random((4, 40, 55)), (0, smooth, smooth))
    labels = noise.argmax(0).astype(np.uint8)
    labels[draw.random(labels.shape) < 0.05] = 255
    pixels = draw.integers(0, 256, (40, 55, 3), dtype=np.uint8)
    ours, theirs = measured(labels, pixels, heights), expected(labels, pixels)
    assert [row[:6] for row in ours] == [row[:6] for row in theirs]
    np.testing.assert_allclose([row[6:] for row in ours], [row[6:] for row in theirs], atol=0.0051)
    assert len(ours) > 5


def test_arms_that_meet_below_are_one_object():
    labels = np.array([[1, 0, 1, 0, 2], [1, 0, 1, 0, 1], [1, 1, 1, 0, 1]], dtype=np.uint8)
    pixels = np.zeros((3, 5, 3), dtype=np.uint8)
    pixels[..., 0] = labels * 10
    assert measured(labels, pixels, [1, 1, 1]) == [
        ["leaf", 7, 0, 0, 3, 3, 1.5, 1.64, 10.0, 0.0, 0.0],
        ["spot", 1, 4, 0, 5, 1, 4.5, 0.5, 20.0, 0.0, 0.0],
        ["leaf", 2, 4, 1, 5, 3, 4.5, 2.0, 10.0, 0.0, 0.0],
    ]


def test_a_map_of_background_has_none():
    assert measured(np.zeros((4, 5), np.uint8), np.zeros((4, 5, 3), np.uint8), [2, 2]) == []


def test_the_table_of_a_run_is_a_csv_file(tmp_path):
    table = ObjectTable(NAMES)
    for name in ("a, b.png", "ä.png"):
        objects = ImageObjects(3)
        objects.add(np.array([[0, 3, 3]], np.uint8), np.full((1, 3, 3), 7, np.uint8))
        table.add(name, objects)
    table.write(tmp_path / "objects.csv")
    with (tmp_path / "objects.csv").open(encoding="utf-8", newline="") as stream:
        header, *rows = csv.reader(stream)
    assert tuple(header) == COLUMNS
    assert rows == [
        [name, "stem", "2", "1", "0", "3", "1", "2.0", "0.5", "7.0", "7.0", "7.0"] for name in ("a, b.png", "ä.png")
    ]
