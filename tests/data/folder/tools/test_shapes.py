"""Geometry of turned boxes and ellipses."""

import pickle

import numpy as np
import pytest
from skimage.draw import disk
from skimage.draw import ellipse as draw_ellipse

from weakseg_lightning.data.folder.tools.shapes import cut_polygon, ellipse, enclosing_box, turn


def drawn(bitmap, height: int, width: int) -> np.ndarray:
    pixels = bitmap.read()
    canvas = np.zeros((height, width), dtype=bool)
    canvas[bitmap.top : bitmap.top + pixels.shape[0], bitmap.left : bitmap.left + pixels.shape[1]] = pixels
    return canvas


@pytest.mark.parametrize("degrees", [0, 30, 90, 137.5, -20, 360])
@pytest.mark.parametrize("center", [(30.2, 25.7), (3.0, 4.0), (58.1, 2.3), (20, 49)])
def test_ellipses_are_those_of_another_library(center, degrees):
    canvas = np.zeros((50, 60), dtype=bool)
    x, y = center
    # scikit-image counts from the center of the first pixel, and angles against the clock
    rows, columns = draw_ellipse(y - 0.5, x - 0.5, 7.3, 15.9, canvas.shape, np.deg2rad(-degrees))
    canvas[rows, columns] = True
    assert (drawn(ellipse(center, (15.9, 7.3), degrees, (60, 50)), 50, 60) == canvas).all()


def test_large_circles_have_no_corners():
    canvas = np.zeros((1400, 1500), dtype=bool)
    canvas[disk((700.25 - 0.5, 750.75 - 0.5), 611.4, shape=canvas.shape)] = True
    assert (drawn(ellipse((750.75, 700.25), (611.4, 611.4)), 1400, 1500) == canvas).all()


@pytest.mark.parametrize("radii", [(0, 3), (3, -1), (float("nan"), 3), (float("inf"), 3)])
def test_ellipses_that_cover_nothing_are_named(radii):
    with pytest.raises(ValueError, match="radii"):
        ellipse((5, 5), radii)


def test_boxes_around_what_is_turned():
    corners = turn([[14, 18], [34, 18], [34, 22], [14, 22]], 90, about=[24, 20])
    assert np.allclose(enclosing_box(corners), [[22, 10], [26, 30]])
    assert np.allclose(enclosing_box(corners, (25, 28)), [[22, 10], [25, 28]])


@pytest.mark.parametrize(
    "bitmap",
    [
        ellipse((70, 20), (5, 5), size=(48, 40)),
        ellipse((-9, -9), (5, 5), 30, (48, 40)),
        ellipse((20, 20), (0.1, 0.1), size=(48, 40)),
        cut_polygon(np.array([[50, 5], [60, 5], [60, 15.0]]), (48, 40)),
    ],
)
def test_what_covers_no_pixel_is_named(bitmap):
    with pytest.raises(ValueError, match="it covers no pixel"):
        bitmap.read()


def test_workers_get_shapes_by_pickle():
    for bitmap in (ellipse((5, 5), (3, 2)), cut_polygon(np.array([[1, 1], [9, 1], [9, 9.0]]), (12, 12))):
        assert (pickle.loads(pickle.dumps(bitmap)).read() == bitmap.read()).all()
