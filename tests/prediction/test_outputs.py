"""Files written by rows are what Pillow and NumPy read."""

import numpy as np
import pytest
import torch
from PIL import Image

from weakseg_lightning.prediction.outputs import LabelRows, PalettePng, Reduced
from weakseg_lightning.prediction.tiling import Block, Span
from weakseg_lightning.visualization import voc_palette


def test_an_indexed_png_by_rows_is_the_same_to_pillow(tmp_path):
    labels = np.random.default_rng(0).integers(0, 256, (37, 53), dtype=np.uint8)
    with PalettePng(tmp_path / "a.png", 53, 37, voc_palette()) as png:
        for rows in np.split(labels, [1, 1, 20, 36]):
            png.write(rows)
    with Image.open(tmp_path / "a.png") as image:
        image.verify()
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "P"
        assert image.getpalette() == voc_palette().flatten().tolist()
        np.testing.assert_array_equal(np.array(image), labels)


def test_a_png_with_missing_rows_is_no_success(tmp_path):
    png = PalettePng(tmp_path / "a", 2, 2, voc_palette())
    png.write(np.zeros((1, 2), dtype=np.uint8))
    with pytest.raises(ValueError, match="1 of 2 rows were written"), png:
        pass


def test_blocks_become_rows():
    scores = torch.zeros(3, 4, 10)
    scores[1, :, 4:] = 1
    gathered = LabelRows(10)
    assert gathered.add(Block(Span(5, 9), Span(0, 6), scores[:, :, :6])) is None
    rows = gathered.add(Block(Span(5, 9), Span(6, 10), scores[:, :, 6:]))
    assert rows is not None
    assert rows.tolist() == [[0] * 4 + [1] * 6] * 4


@pytest.mark.parametrize(("limit", "step"), [(100, 1), (20, 3), (7, 8)])
def test_a_reduced_picture_has_every_nth_pixel(limit, step):
    labels = np.random.default_rng(0).integers(0, 256, (50, 31), dtype=np.uint8)
    reduced = Reduced(50, 31, limit)
    for first, stop in [(0, 7), (5, 20), (20, 21), (21, 50)]:  # rows may come twice
        reduced.add(first, labels[first:stop])
    np.testing.assert_array_equal(reduced.pixels, labels[::step, ::step])
    assert max(reduced.pixels.shape) <= limit
