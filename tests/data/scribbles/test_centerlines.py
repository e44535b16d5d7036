"""Center lines and skeletons."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage
from skimage.morphology import skeletonize

from weakseg_lightning.data.scribbles.centerlines import (
    EIGHT,
    centre_line,
    longest_path,
    middle_path,
    open_loops,
    thickness,
)
from weakseg_lightning.data.scribbles.strokes import Stroke, draw_strokes


def picture(text: str) -> np.ndarray:
    return np.array([[character == "#" for character in line.strip()] for line in text.split()])


def drawn(*points, size=(60, 80)) -> np.ndarray:
    return draw_strokes([Stroke(np.array(points, float), 1)], *size) == 1


def length_of(points) -> float:
    return float(np.hypot(*np.diff(points, axis=0).T).sum())


def chessboard(region) -> np.ndarray:
    """Steps of a king to the outside, by peeling."""
    depth, rest = np.zeros(region.shape, int), np.pad(region, 1)
    while rest.any():
        depth += rest[1:-1, 1:-1]
        rest = ndimage.binary_erosion(rest, EIGHT)
    return depth


def test_thickness_against_peeling():
    region = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(40, 50)), 3) > 0
    assert (thickness(region) == chessboard(region)).all()


@pytest.mark.parametrize("points", [[(10, 10), (60, 10)], [(10, 50), (30, 10), (70, 30)], [(0, 0), (79, 59)]])
def test_a_line_is_found_with_its_ends(points):
    line = centre_line(drawn(*points))
    ends = sorted(map(tuple, line[[0, -1]]))
    assert np.abs(np.array(ends) - np.array(sorted([points[0], points[-1]]))).max() <= 2
    assert length_of(line) == pytest.approx(length_of(np.array(points, float)), abs=4)


@pytest.mark.parametrize(
    "stroke",
    ["#", "##", "#\n#", "#.\n.#", "###\n###\n###", "##\n##", "####\n####", "#..\n.#.\n..#"],
)
def test_the_smallest_strokes_have_a_line_too(stroke):
    pixels = picture(stroke)
    line = centre_line(pixels)
    assert len(line) >= 1
    x, y = np.floor(line.mean(axis=0) + 0.5).astype(int)
    assert ndimage.binary_dilation(pixels, EIGHT)[y, x]


def test_of_two_strokes_that_cross_the_longer_is_followed():
    cross = drawn((5, 30), (75, 30)) | drawn((40, 15), (40, 45))
    line = centre_line(cross)
    assert np.ptp(line[:, 0]) >= 68
    assert np.ptp(line[:, 1]) <= 2


def test_a_ring_is_opened_and_followed_all_the_way_round():
    ring = drawn((20, 10), (60, 10), (60, 50), (20, 50), (20, 10))
    assert length_of(centre_line(ring)) == pytest.approx(160, abs=12)


def test_a_line_into_a_ring_is_followed_and_then_the_ring():
    six = drawn((5, 30), (20, 30), (20, 10), (60, 10), (60, 50), (20, 50), (20, 30))
    line = centre_line(six)
    assert min(np.hypot(*(line[[0, -1]] - (5, 30)).T)) < 3
    assert length_of(line) == pytest.approx(15 + 160, abs=14)


def test_a_line_inside_a_ring_is_no_reason_to_lose_the_ring():
    inward = drawn((20, 10), (60, 10), (60, 50), (20, 50), (20, 10)) | drawn((20, 30), (40, 30))
    assert length_of(centre_line(inward)) == pytest.approx(160 + 20, abs=14)


def loops(skeleton) -> int:
    """By Euler: holes in a picture of one piece."""
    return ndimage.label(np.pad(~skeleton, 1, constant_values=True))[1] - 1


def pieces(skeleton) -> int:
    return ndimage.label(skeleton, EIGHT)[1]


def test_opening_loops_removes_them_all_and_keeps_one_piece():
    rng = np.random.default_rng(0)
    opened_some = 0
    for _ in range(60):
        blob = ndimage.gaussian_filter(rng.normal(size=(60, 60)), 2) > 0
        parts, _ = ndimage.label(blob, EIGHT)
        blob = parts == np.bincount(parts.ravel())[1:].argmax() + 1
        skeleton = np.pad(skeletonize(np.pad(blob, 1), method="lee").astype(bool), 1)
        opened = open_loops(skeleton)
        opened_some += loops(skeleton)
        assert loops(opened) == 0
        assert pieces(opened) == pieces(skeleton) == 1
        assert not (opened & ~skeleton).any()
        assert (skeleton & ~opened).sum() <= 2 * loops(skeleton) + 2
    assert opened_some > 60


def test_longest_path_of_a_tree_against_all_pairs():
    tree = picture(
        """
        #......#.
        .#....#..
        ..####...
        ..#......
        ..#...#..
        ...###.#.
        """
    )
    pixels = [tuple(map(int, pixel)) for pixel in np.argwhere(tree)]
    steps = np.full((len(pixels), len(pixels)), 99)
    for i, a in enumerate(pixels):
        for j, b in enumerate(pixels):
            steps[i, j] = min(max(abs(a[0] - b[0]), abs(a[1] - b[1])), 2) if i != j else 0
    steps[steps == 2] = 99
    for k in range(len(pixels)):
        steps = np.minimum(steps, steps[:, k : k + 1] + steps[k : k + 1])
    path = longest_path(tree, pixels[3])
    assert len(path) - 1 == steps.max()
    assert all(max(abs(a - c), abs(b - d)) == 1 for (a, b), (c, d) in pairwise(path))


def test_the_middle_path_stays_out_of_thin_limbs():
    region = np.zeros((40, 80), bool)
    region[10:31, 5:40] = True
    region[19:22, 40:78] = True
    assert max(x for _, x in middle_path(region, 0.5)) < 40
    assert max(x for _, x in middle_path(region, 0.1)) > 60
