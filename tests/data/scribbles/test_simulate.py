"""Scribbles from masks."""

import numpy as np
import pytest
from scipy import ndimage

from weakseg_lightning.data.scribbles.simulate import simulate_scribbles
from weakseg_lightning.data.voc.files import VOCFiles, read_mask

EIGHT = np.ones((3, 3), int)


def scene() -> np.ndarray:
    mask = np.zeros((90, 120), np.uint8)
    mask[9:61, 9:81], mask[10:60, 10:80] = 255, 3
    mask[70:80, 90:101] = 4  # 110 pixels
    mask[2:4, 100:110] = 4  # 20 pixels
    mask[85, 5:8] = 5  # 3 pixels, all there is
    return mask


def random_masks(count: int):
    rng = np.random.default_rng(0)
    for _ in range(count):
        height, width = rng.integers(5, 90, 2)
        noise = ndimage.gaussian_filter(rng.normal(size=(4, height, width)), (0, *[rng.uniform(0.5, 6)] * 2))
        yield np.array([0, 1, 2, 255], np.uint8)[noise.argmax(0)]


@pytest.mark.parametrize("length", [1.0, 0.5, 0.0])
def test_every_class_is_labelled_and_rightly(length):
    for mask in random_masks(40):
        scribbles = simulate_scribbles(mask, length=length)
        labelled = scribbles != 255
        assert (scribbles == mask)[labelled].all()
        assert set(np.unique(scribbles[labelled])) == set(np.unique(mask[mask != 255]))


def test_what_parts_get():
    scribbles = simulate_scribbles(scene())
    parts = {label: ndimage.label(scribbles == label, EIGHT) for label in (0, 3, 4, 5)}
    assert {label: count for label, (_, count) in parts.items()} == {0: 1, 3: 1, 4: 1, 5: 1}
    assert (scribbles == 3).sum() > 9  # a stroke
    assert (scribbles == 4).sum() == 9  # a click
    assert (scribbles[2:4, 100:110] == 255).all()  # nothing
    assert (scribbles == 5).sum() == 3  # the largest of its class


def test_strokes_keep_away_from_outlines():
    mask = scene()
    depth = ndimage.distance_transform_cdt(np.pad(mask == 3, 1), "chessboard")[1:-1, 1:-1]
    for name in "abcdef":
        scribbles = simulate_scribbles(mask, name)
        assert depth[scribbles == 3].min() >= 0.35 * depth.max() - 2
        assert (scribbles[[0, -1]] != 0).all()


def test_the_seed_and_the_name_decide():
    mask = next(read for read in random_masks(5) if read.size > 2000)
    first = simulate_scribbles(mask, "a", seed=1)
    assert (simulate_scribbles(mask, "a", seed=1) == first).all()
    others = [simulate_scribbles(mask, name, seed) for name, seed in [("b", 1), ("a", 2), ("c", 1), ("d", 3)]]
    assert any((other != first).any() for other in others)


def test_shorter_strokes_have_fewer_pixels():
    counts = [(simulate_scribbles(scene(), length=length) != 255).sum() for length in (1, 0.8, 0.5, 0.3, 0)]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] <= 4 * 9


def test_a_mask_of_void_has_no_scribbles():
    assert (simulate_scribbles(np.full((9, 9), 255, np.uint8)) == 255).all()


def test_length_out_of_range():
    with pytest.raises(ValueError, match="`length` must be between 0 and 1, got 2"):
        simulate_scribbles(scene(), length=2)


def test_real_masks(shared):
    files = VOCFiles(shared / "data")
    shares = []
    for name in files.names("train")[::40]:
        mask = read_mask(files.mask(name)).numpy()
        scribbles = simulate_scribbles(mask, name)
        labelled = scribbles != 255
        assert (scribbles == mask)[labelled].all()
        assert set(np.unique(scribbles[labelled])) == set(np.unique(mask[mask != 255]))
        shares.append(labelled.mean())
    assert 0.008 < np.mean(shares) < 0.03
