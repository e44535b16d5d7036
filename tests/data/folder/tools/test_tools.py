"""Shapes mean the same whichever tool has drawn them."""

import numpy as np
import pytest
from exports import (
    SQUARE,
    annotate,
    cvat,
    cvat_image,
    faults,
    filled,
    label_studio,
    mask_of,
    opened,
    percent,
    region,
    task,
)
from skimage.draw import ellipse


@pytest.fixture(params=["labelme", "cvat", "label_studio"])
def tool(request) -> str:
    return request.param


@pytest.mark.parametrize("seed", range(5))
def test_polygons_are_those_of_another_library(bare, tool, seed):
    points = np.random.default_rng(seed).uniform(0.01, 1, (7, 2)) * (47.9, 39.9)
    annotate(bare, tool, ("region", points.tolist(), "cat"), ("region", SQUARE, "dog"))
    expected = filled(points).astype(np.uint8)
    expected[10:20, 8:28] = 2  # later shapes lie above
    assert (mask_of(bare) == expected).all()


@pytest.mark.parametrize("tool", ["cvat", "label_studio"])
@pytest.mark.parametrize(
    ("center", "radii", "degrees"),
    [
        ((24.2, 20.3), (15, 7), 0),
        *(((24.2, 20.3), (15, 7), 30), ((24.2, 20.3), (14, 6), 340), ((3.1, 38.2), (14, 6), 75)),
        *(((3.1, 4.2), (9, 20), 75.5), ((46.4, 38.3), (8, 3), 310)),
    ],
)
def test_ellipses_turn_about_their_center_and_end_at_the_border(bare, tool, center, radii, degrees):
    (x, y), (across, down) = center, radii
    if tool == "cvat":
        place = f'cx="{x}" cy="{y}" rx="{across}" ry="{down}" rotation="{degrees}"'
        cvat(bare, cvat_image(f'<ellipse label="cat" {place} z_order="0"/>'))
    else:
        names = ("x", "y", "radiusX", "radiusY")
        value = dict(zip(names, np.ravel(percent([center, radii])).tolist(), strict=True))
        label_studio(bare, task(region("ellipselabels", {**value, "rotation": degrees})))
    expected = np.zeros((40, 48), dtype=np.uint8)
    expected[ellipse(y - 0.5, x - 0.5, down, across, (40, 48), np.deg2rad(-degrees))] = 1
    assert (mask_of(bare) == expected).all()


@pytest.mark.parametrize(
    ("kind", "points", "text"),
    [
        ("region", [[8, 10], [28, 10]], "region of 2 points, expected 3"),
        ("region", [[8, 10], [28, 10], [28, 10], [8, 10]], "region of 2 points, expected 3"),
        ("region", [[8, 10], [28, float("nan")], [28, 20]], "coordinates that are no numbers"),
        ("region", [[1, 1], [57.6, 0.4], [9, 9]], "reaches (57.6, 0.4), outside its image"),
        ("box", [[8, 10], [70, 20]], "outside its image"),
        ("box", [[1, 1], [1, 9]], "has an empty box"),
    ],
)
def test_damaged_shapes_are_named(bare, tool, kind, points, text):
    annotate(bare, tool, (kind, points, "cat"))
    assert text in faults(bare)


@pytest.mark.parametrize("size", [(40, 48), (96, 80), (480, 40)])
def test_an_image_of_another_size_is_named(bare, tool, size):
    annotate(bare, tool, ("region", SQUARE, "cat"), size=size)
    assert f"was drawn on an image of {size[0]} x {size[1]} pixels" in faults(bare)


@pytest.mark.parametrize("seven", [7, "7"])
def test_numbers_are_names(bare, tool, seven):
    (bare / "classes.yaml").unlink()
    annotate(bare, tool, ("region", SQUARE, seven), ("region", [[0, 0], [5, 0], [5, 5], [0, 5]], "0"))
    assert opened(bare).classes.names == ["background", "0", "7"]
    assert (mask_of(bare)[15, 15], mask_of(bare)[2, 2]) == (2, 1)
