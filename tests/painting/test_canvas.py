"""What the browser sends."""

import pytest

from weakseg_lightning.painting.document import AddClick, Click, Stroke

canvas = pytest.importorskip("weakseg_lightning.painting.canvas", reason="the extra `app` is not installed")


def test_strokes_and_clicks_are_read():
    stroke = canvas.read_change({"points": [[1, 2.5], [3, 4]], "width": 3, "label": 255}, 3)
    assert stroke == Stroke(((1.0, 2.5), (3.0, 4.0)), 3.0, 255)
    assert canvas.read_change({"x": 1.23456, "y": 2, "label": 2}, 3) == AddClick(Click(1.2, 2.0, 2))


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"label": 1},
        {"label": 3, "x": 1, "y": 2},
        {"label": 255, "x": 1, "y": 2},
        {"label": -1, "points": [[1, 2]], "width": 3},
        {"label": 1, "points": [], "width": 3},
        {"label": 1, "points": [[1]], "width": 3},
        {"label": 1, "points": [[1, None]], "width": 3},
        {"label": 1, "points": 7, "width": 3},
        {"label": 1, "points": [[1, 2]], "width": 0},
        {"label": "cat", "points": [[1, 2]], "width": 3},
        {"label": 1, "x": float("nan"), "y": 1},
    ],
)
def test_nonsense_is_refused(sent):
    with pytest.raises(ValueError, match="the browser sent something else"):
        canvas.read_change(sent, 3)
