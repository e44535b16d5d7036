"""Polylines: read, shortened, drawn."""

import itertools

import numpy as np
import pytest
from scipy import ndimage

from weakseg_lightning.data import BadSampleError
from weakseg_lightning.data.images.reading import read_labels
from weakseg_lightning.data.scribbles.strokes import (
    Stroke,
    draw_strokes,
    read_scribble_xml,
    recover_strokes,
    shorten,
    shorten_labels,
)

CLASSES = ["background", "cat", "dog"]


def write_xml(path, *scribbles, size=(20, 10)):
    """Each scribble: class name and points."""
    parts = [
        f"<polygon><tag>{tag}</tag>" + "".join(f"<point><X>{x}</X><Y>{y}</Y></point>" for x, y in points) + "</polygon>"
        for tag, points in scribbles
    ]
    stated = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    path.write_text(f"<annotation><filename>a.jpg</filename>{stated}{''.join(parts)}</annotation>")
    return path


def polyline(*points) -> np.ndarray:
    return np.array(points, dtype=np.float64)


def length_of(points: np.ndarray) -> float:
    return float(np.hypot(*np.diff(points, axis=0).T).sum())


def test_xml_is_read_in_order(tmp_path):
    path = write_xml(tmp_path / "a.xml", ("dog", [(1, 2), (3.5, 4)]), (" Background ", [(5, 6)]))
    strokes = read_scribble_xml(path, CLASSES)
    assert [stroke.label for stroke in strokes] == [2, 0]
    assert strokes[0].points.tolist() == [[1, 2], [3.5, 4]]
    assert strokes[1].points.tolist() == [[5, 6]]


def test_xml_without_scribbles_is_empty(tmp_path):
    assert read_scribble_xml(write_xml(tmp_path / "a.xml"), CLASSES) == []


def test_xml_of_another_image_is_refused(tmp_path):
    path = write_xml(tmp_path / "a.xml", ("dog", [(1, 2)]))
    assert len(read_scribble_xml(path, CLASSES, (20, 10))) == 1
    with pytest.raises(BadSampleError, match=r"a\.xml was drawn on an image of 20 x 10 pixels, its image has 10 x 20"):
        read_scribble_xml(path, CLASSES, (10, 20))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<annotation>", "not valid XML"),
        (
            "<a><polygon><tag>cow</tag><point><X>1</X><Y>1</Y></point></polygon></a>",
            "'cow', expected one of background",
        ),
        ("<a><polygon><tag>cat</tag><point><X>one</X><Y>1</Y></point></polygon></a>", "without numbers"),
        ("<a><polygon><tag>cat</tag><point><X>1</X></point></polygon></a>", "without numbers"),
    ],
)
def test_bad_xml_is_named(tmp_path, content, message):
    (tmp_path / "a.xml").write_text(content)
    with pytest.raises(BadSampleError, match=rf"a\.xml .*{message}"):
        read_scribble_xml(tmp_path / "a.xml", CLASSES)


def test_missing_xml_is_named(tmp_path):
    with pytest.raises(BadSampleError, match=r"a\.xml cannot be read"):
        read_scribble_xml(tmp_path / "a.xml", CLASSES)


@pytest.mark.parametrize("ratio", [1.0, 0.8, 0.5, 0.3, 1e-6])
def test_shorter_polyline_has_the_length_and_the_middle(ratio):
    rng = np.random.default_rng(0)
    for count in range(2, 12):
        whole = rng.uniform(0, 100, (count, 2))
        kept = shorten(whole, ratio)
        assert length_of(kept) == pytest.approx(ratio * length_of(whole), abs=1e-6)
        assert len(kept) >= 2
        assert shorten(kept, 0)[0] == pytest.approx(shorten(whole, 0)[0])
        inner = {tuple(point) for point in kept[1:-1]}
        assert inner <= {tuple(point) for point in whole}


def test_ratio_one_changes_nothing():
    whole = polyline((0, 0), (3, 4), (3, 10))
    assert shorten(whole, 1.0).tolist() == whole.tolist()


def test_ratio_zero_is_the_middle_by_arc_length():
    assert shorten(polyline((0, 0), (10, 0), (10, 2)), 0).tolist() == [[6, 0]]


@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("points", [[(3, 4)], [(3, 4), (3, 4)], [(3, 4), (3, 4), (3, 4)]])
def test_a_point_stays_a_point(points, ratio):
    kept = shorten(polyline(*points), ratio)
    assert len(kept) >= 1
    assert set(map(tuple, kept)) == {(3, 4)}


def test_repeated_vertices_do_no_harm():
    whole = polyline((0, 0), (0, 0), (4, 0), (4, 0), (8, 0), (8, 0))
    assert shorten(whole, 0.5)[[0, -1]].tolist() == [[2, 0], [6, 0]]


@pytest.mark.parametrize("ratio", [-0.1, 1.1])
def test_ratio_out_of_range(ratio):
    with pytest.raises(ValueError, match="`ratio` must be between 0 and 1"):
        shorten(polyline((0, 0), (1, 1)), ratio)


def distance_to_polyline(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """Distance of every pixel to a polyline: an independent reference."""
    pixels = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(float)
    best = np.full((height, width), np.inf)
    for a, b in itertools.pairwise(points):
        along = np.clip(((pixels - a) @ (b - a)) / max((b - a) @ (b - a), 1e-9), 0, 1)
        best = np.minimum(best, np.linalg.norm(pixels - a - along[..., None] * (b - a), axis=-1))
    return best


def test_lines_are_three_pixels_wide_and_closed():
    rng = np.random.default_rng(1)
    for _ in range(50):
        points = rng.integers(3, 37, (rng.integers(2, 6), 2)).astype(float)
        drawn = draw_strokes([Stroke(points, 1)], 40, 40) == 1
        distance = distance_to_polyline(points, 40, 40)
        assert drawn[distance <= 0.7].all()
        assert not drawn[distance > 2.13].any()  # half a pixel of rounding and the corner of a 3 x 3 pen, at most


def test_straight_lines_and_clicks_are_exact():
    row = draw_strokes([Stroke(polyline((5, 5), (14, 5)), 3)], 20, 20)
    expected = np.full((20, 20), 255)
    expected[4:7, 4:16] = 3
    assert (row == expected).all()
    click = draw_strokes([Stroke(polyline((9.4, 2.6)), 0)], 20, 20)
    expected = np.full((20, 20), 255)
    expected[2:5, 8:11] = 0
    assert (click == expected).all()


def test_later_strokes_win():
    strokes = [Stroke(polyline((0, 5), (10, 5)), 1), Stroke(polyline((5, 0), (5, 10)), 2)]
    assert draw_strokes(strokes, 11, 11)[5, 5] == 2
    assert draw_strokes(strokes[::-1], 11, 11)[5, 5] == 1


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (30, 1), (2, 3)])
def test_strokes_outside_move_to_the_border(size):
    drawn = draw_strokes([Stroke(polyline((-50, -50), (-40, 1000), (1000, 1000)), 1)], *size)
    assert drawn.shape == size
    assert drawn.dtype == np.uint8
    assert (drawn == 1).any()


def test_no_strokes_no_labels():
    assert (draw_strokes([], 4, 5) == 255).all()


# ---- from label maps --------------------------------------------------------------------------------------------


def dense(points: np.ndarray, count: int = 400) -> np.ndarray:
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    places = np.linspace(0, along[-1], count)
    return np.stack([np.interp(places, along, points[:, axis]) for axis in (0, 1)], 1)


def hausdorff(a: np.ndarray, b: np.ndarray) -> float:
    apart = np.linalg.norm(dense(a)[:, None] - dense(b)[None], axis=-1)
    return float(max(apart.min(0).max(), apart.min(1).max()))


def random_curve(rng) -> np.ndarray:
    """A polyline that keeps a distance of 8 pixels from itself."""
    while True:
        angles = rng.uniform(0, 6.3) + np.cumsum(rng.uniform(-0.9, 0.9, rng.integers(1, 6)))
        steps = rng.uniform(8, 40, (len(angles), 1)) * np.stack([np.cos(angles), np.sin(angles)], 1)
        points = np.cumsum(np.concatenate([rng.uniform(20, 160, (1, 2)), steps]), axis=0)
        places = dense(points)
        apart = np.linalg.norm(places[:, None] - places[None], axis=-1)
        along = np.abs(np.subtract.outer(np.arange(400), np.arange(400))) * length_of(points) / 400
        if points.min() >= 0 and points.max() <= 179 and not ((apart < 8) & (along > 14)).any():
            return points


@pytest.mark.parametrize("ratio", [1.0, 0.8, 0.5, 0.3, 0.0])
def test_a_recovered_stroke_shortens_like_the_one_that_was_drawn(ratio):
    rng = np.random.default_rng(2)
    for _ in range(20):
        points = random_curve(rng)
        (found,) = recover_strokes(draw_strokes([Stroke(points, 3)], 180, 180))
        assert found.label == 3
        expected, kept = shorten(points, ratio), shorten(found.points, ratio)
        assert hausdorff(expected, kept) <= 2
        assert length_of(kept) == pytest.approx(length_of(expected), rel=0.06, abs=2)


@pytest.mark.parametrize("ratio", [0.8, 0.5, 0.3, 0.0])
def test_shortened_labels_are_those_of_the_shortened_polyline(ratio):
    rng = np.random.default_rng(3)
    for _ in range(20):
        points = random_curve(rng)
        whole = draw_strokes([Stroke(points, 3)], 180, 180)
        expected = draw_strokes([Stroke(shorten(points, ratio), 3)], 180, 180) == 3
        found = shorten_labels(whole, ratio) == 3
        assert not (found & (whole == 255)).any()
        assert found.sum() == pytest.approx(expected.sum(), rel=0.2, abs=9)
        assert (found & ~ndimage.binary_dilation(expected, np.ones((5, 5)))).sum() == 0


@pytest.mark.parametrize("ratio", [0.999, 0.8, 0.5, 0.3, 0.0])
def test_any_label_map_keeps_a_pixel_of_each_part_and_nobody_elses(ratio):
    rng = np.random.default_rng(4)
    for round_ in range(30):
        height, width = rng.integers(1, 40, 2)
        noise = ndimage.gaussian_filter(rng.normal(size=(4, height, width)), (0, *[rng.uniform(0.3, 2)] * 2))
        labels = np.array([0, 1, 2, 255], np.uint8)[noise.argmax(0)]
        shorter = shorten_labels(labels, ratio)
        assert ((shorter == labels) | (shorter == 255)).all(), round_
        for label in (0, 1, 2):
            parts, count = ndimage.label(labels == label, np.ones((3, 3)))
            kept = set(parts[shorter == label].tolist())
            assert kept == set(range(1, count + 1)), round_


def test_ratio_one_gives_the_label_map_back():
    labels = np.random.default_rng(5).choice(np.array([0, 3, 255], np.uint8), (30, 40))
    same = shorten_labels(labels, 1.0)
    assert (same == labels).all()
    assert same is not labels


def test_a_click_is_a_click_in_the_middle():
    labels = draw_strokes([Stroke(polyline((5, 10), (35, 10)), 4)], 20, 40)
    click = shorten_labels(labels, 0)
    assert np.argwhere(click == 4).mean(0) == pytest.approx([10, 20], abs=0.51)
    assert (click == 4).sum() == 9
    assert (shorten_labels(click, 0) == click).all()
    assert (shorten_labels(click, 0.5) == click).all()


def test_a_stroke_that_another_one_cuts_is_two():
    strokes = [Stroke(polyline((2, 20), (78, 20)), 1), Stroke(polyline((40, 2), (40, 38)), 2)]
    labels = draw_strokes(strokes, 41, 81)
    assert sorted(stroke.label for stroke in recover_strokes(labels)) == [1, 1, 2]
    shorter = shorten_labels(labels, 0.5)
    assert ndimage.label(shorter == 1)[1] == 2
    assert ((shorter == labels) | (shorter == 255)).all()


def test_a_stroke_along_the_border_keeps_to_it():
    labels = draw_strokes([Stroke(polyline((0, 0), (59, 0)), 1)], 30, 60)
    assert (labels[2:] == 255).all()
    kept = np.argwhere(shorten_labels(labels, 0.5) == 1)
    assert kept[:, 0].max() <= 1
    assert 30 <= np.ptp(kept[:, 1]) <= 34


def test_a_thick_blob_becomes_a_line_through_its_middle():
    labels = np.full((60, 100), 255, np.uint8)
    labels[20:41, 10:90] = 1
    rows, columns = np.nonzero(shorten_labels(labels, 0.5) == 1)
    assert set(rows) <= set(range(28, 33))
    assert 20 < np.ptp(columns) < 45


@pytest.mark.parametrize("ratio", [-0.5, 1.5])
def test_ratio_of_labels_out_of_range(ratio):
    with pytest.raises(ValueError, match="`ratio` must be between 0 and 1"):
        shorten_labels(np.full((3, 3), 255, np.uint8), ratio)


@pytest.mark.parametrize("ratio", [0.8, 0.5, 0.3, 0.0])
def test_real_scribbles_shorten_like_the_ready_ones(shared, ratio):
    # Those were made by another tool from the same strokes, before they became pixels.
    voc = shared / "data" / "VOCdevkit" / "VOC2012"
    ours = theirs = close = 0
    for path in sorted((voc / "pascal_2012_scribble").glob("*.png"))[::30]:
        labels = read_labels(path).numpy()
        ready = read_labels(voc / f"pascal_2012_scribble{ratio:g}" / path.name).numpy()
        shorter = shorten_labels(labels, ratio)
        assert len(recover_strokes(shorter)) == len(recover_strokes(labels))
        ours, theirs = ours + (shorter != 255).sum(), theirs + (ready != 255).sum()
        close += ((ready != 255) & ndimage.binary_dilation(shorter != 255, np.ones((3, 3)), 2)).sum()
    assert ours / theirs == pytest.approx(1, abs=0.05 if ratio else 0.12)
    assert close / theirs > 0.98
