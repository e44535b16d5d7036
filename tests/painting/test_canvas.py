"""What the browser sends."""

import pytest

from weakseg_lightning.painting.document import AddClick, Clear, Click, Stroke, Tag, Unaccept

canvas = pytest.importorskip("weakseg_lightning.painting.canvas", reason="the extra `app` is not installed")


def test_strokes_and_clicks_are_read():
    stroke = canvas.read_change({"points": [[1, 2.5], [3, 4]], "width": 3, "label": 255}, 3)
    assert stroke == Stroke(((1.0, 2.5), (3.0, 4.0)), 3.0, 255)
    assert canvas.read_change({"x": 1.23456, "y": 2, "label": 2}, 3) == AddClick(Click(1.2, 2.0, 2))
    assert [canvas.read_change({"step": step}, 3) for step in ("undo", "clear")] == ["undo", Clear()]
    assert canvas.read_change({"step": "unaccept"}, 3) == Unaccept()
    assert canvas.read_change({"tag": False, "label": 2}, 3) == Tag(2, False)
    assert canvas.read_key({"id": "f00-12"}) == ("f00", 12)


SPOT, STROKE = {"label": 1, "x": 1, "y": 2}, {"label": 1, "points": [[1, 2]], "width": 3}
NO_SPOTS = [SPOT | wrong for wrong in ({"label": 3}, {"label": 255}, {"label": 3, "tag": True}, {"x": float("nan")})]
NO_POINTS = [STROKE | {"points": wrong} for wrong in ([], [[1]], [[1, None]], 7)]
NO_STROKES = [STROKE | wrong for wrong in ({"label": -1}, {"label": "cat"}, {"width": 0})]


@pytest.mark.parametrize("sent", [{}, {"label": 1}, {"step": "jump"}, *NO_SPOTS, *NO_POINTS, *NO_STROKES])
def test_nonsense_raises(sent):
    with pytest.raises(ValueError, match="the browser sent something else"):
        canvas.read_change(sent, 3)
