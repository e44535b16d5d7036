"""Strokes, clicks, tags; undo and redo."""

import numpy as np
import pytest

from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.painting.document import (
    Accept,
    AddClick,
    Clear,
    Click,
    ImageAnnotation,
    Stroke,
    Tag,
    Unaccept,
)
from weakseg_lightning.painting.history import Document

EMPTY = ImageAnnotation.empty(40, 60)


def painted(*changes) -> Document:
    document = Document(EMPTY)
    for change in changes:
        document.apply(change)
    return document


def goes_through(document: Document, states: list[ImageAnnotation]) -> None:
    """Undo and redo lead through these states."""
    for state in reversed(states[:-1]):
        assert document.undo()
        assert document.current.same_as(state)
    assert not document.undo()
    for state in states[1:]:
        assert document.redo()
        assert document.current.same_as(state)
    assert not document.redo()


def area(label: int, top: int, bottom: int) -> np.ndarray:
    """Labels of these rows."""
    labels = np.full((40, 60), VOID, dtype=np.uint8)
    labels[top:bottom] = label
    return labels


def distance(points: list[tuple[float, float]], height: int = 40, width: int = 60) -> np.ndarray:
    """How far each pixel's center is from a polyline, by the formula for segments."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    at = np.stack([columns, rows], axis=-1)
    best = np.full((height, width), np.inf)
    for first, last in zip(points, [*points[1:], points[-1]], strict=True):
        along = np.subtract(last, first)
        share = np.clip(((at - first) @ along) / max(along @ along, 1e-12), 0, 1)
        best = np.minimum(best, np.linalg.norm(at - (first + share[..., None] * along), axis=-1))
    return best


LINES = [[(10.5, 10.5), (40.5, 10.5)], [(8.0, 30.0), (30.0, 8.0), (52.0, 33.0)], [(5.2, 7.7), (44.1, 29.4)]]


@pytest.mark.parametrize("width", [1, 2, 3, 5, 8, 13])
@pytest.mark.parametrize("points", [[(20.0, 20.0)], *LINES])
def test_a_stroke_covers_what_the_pen_covers(points, width):
    drawn = Stroke(tuple(points), width, 1).applied_to(EMPTY).labels == 1
    assert drawn.any()
    assert (drawn == (distance(points) <= max(width / 2, 0.71))).all()


@pytest.mark.parametrize("points", [[(-50.0, -50.0)], [(-9.0, 20.0), (90.0, 20.0)], [(59.9, 39.9)], [(1e9, -1e9)]])
def test_a_stroke_may_leave_the_image(points):
    drawn = Stroke(tuple(points), 5, 1).applied_to(EMPTY).labels
    assert drawn.shape == (40, 60)
    assert (drawn == 1).any() == (distance(points) < 2).any()


@pytest.mark.parametrize(("points", "width"), [((), 3), (((float("nan"), 1.0),), 3), (((1.0, 1.0),), 0)])
def test_nonsense_raises(points, width):
    with pytest.raises(ValueError, match=r"`points`|`width`"):
        Stroke(points, width, 1)


def test_erasing_takes_scribbles_and_clicks_under_the_pen():
    near, far = Click(30.2, 20.4, 1), Click(30.2, 35.4, 1)
    line, eraser = Stroke(((5.0, 20.0), (55.0, 20.0)), 3, 2), Stroke(((30.0, 20.0),), 9, VOID)
    found = painted(line, AddClick(near), AddClick(far), eraser).current
    assert found.labels[20, 30] == VOID
    assert found.labels[20, 10] == 2
    assert found.clicks == (far,)


def test_accepted_labels_lie_apart_from_what_is_drawn():
    accepted = painted(Accept(area(1, 10, 30))).current
    assert not accepted.is_drawn
    assert not accepted.is_empty
    assert not accepted.same_as(EMPTY)
    stroke = Stroke(((5.0, 20.0), (55.0, 20.0)), 3, 2)
    found = painted(Accept(area(1, 10, 30)), stroke).current
    assert (found.accepted == area(1, 10, 30)).all()
    assert found.labels[20, 30] == 2
    cleared = Clear().applied_to(found)
    assert cleared.same_as(accepted)
    with pytest.raises(ValueError, match=r"the accepted labels are \(4, 4\), their image is \(40, 60\)"):
        Accept(np.zeros((4, 4), dtype=np.uint8)).applied_to(EMPTY)


def test_accepting_or_leaving_nothing_is_as_if_nothing_had_been_accepted():
    assert Accept(area(1, 0, 0)).applied_to(EMPTY).accepted is None
    wiped = painted(Accept(area(1, 10, 12)), Stroke(((0.0, 11.0), (60.0, 11.0)), 9, VOID)).current
    assert wiped.accepted is None
    assert wiped.is_empty


def test_undo_and_redo_lead_through_the_same_states():
    document = Document(EMPTY)
    changes = [
        Stroke(((5.0, 5.0), (20.0, 9.0)), 3, 0),
        Stroke(((9.0, 9.0),), 7, 1),
        AddClick(Click(3.0, 3.0, 1)),
        Tag(1, True),
        Tag(1, False),
        Accept(area(1, 10, 30)),
        Stroke(((20.0, 20.0),), 5, VOID),
        Accept(area(2, 0, 20)),
        Unaccept(),
        Clear(),
    ]
    states = [document.current]
    for change in changes:
        document.apply(change)
        states.append(document.current)
    assert states[4].tags == {1}
    assert states[5].tags is None
    assert (states[6].accepted == area(1, 10, 30)).all()
    assert states[7].accepted[20, 20] == VOID
    assert (states[8].accepted == area(2, 0, 20)).all()
    assert states[9].same_as(states[5])
    assert states[10].same_as(EMPTY)
    goes_through(document, states)


def test_a_new_change_ends_what_could_be_redone():
    document = painted(Tag(1, True))
    document.undo()
    document.apply(Tag(2, True))
    assert not document.redo()
    assert document.current.tags == {2}


def test_very_old_changes_stay_but_cannot_be_undone(monkeypatch):
    monkeypatch.setattr("weakseg_lightning.painting.history._MAX_CHANGES", 3)
    document = painted(*(AddClick(Click(float(x), 1.0, 1)) for x in range(5)))
    while document.undo():
        pass
    assert [click.x for click in document.current.clicks] == [0.0, 1.0]


def test_states_are_kept_however_many_changes_there_were(monkeypatch):
    monkeypatch.setattr("weakseg_lightning.painting.history._MAX_CHANGES", 25)
    document, states = painted(), []
    for x in range(58):
        document.apply(AddClick(Click(float(x), 1.0, 1)))
        states.append(document.current)
    assert document._states
    for state in reversed(states[33:57]):
        assert document.undo()
        assert document.current.same_as(state)


def test_undo_and_redo_go_through_every_state():
    strokes = [Stroke(((float(x), 20.0), (float(x), 30.0)), 3, x % 3) for x in range(2, 58)]
    document, states = painted(), [EMPTY]
    for place, stroke in enumerate(strokes):
        document.apply(stroke)
        if place == 30:  # another program, whose change stays
            theirs = AddClick(Click(1.0, 1.0, 1)).applied_to(document.current)
            document.rebase(theirs, document.current)
            states = [AddClick(Click(1.0, 1.0, 1)).applied_to(state) for state in states]
        states.append(document.current)
    goes_through(document, states)


def test_changes_are_made_to_what_another_program_wrote():
    document = painted(Stroke(((5.0, 5.0),), 3, 1), AddClick(Click(9.0, 9.0, 1)))
    theirs = Stroke(((40.0, 30.0),), 3, 2).applied_to(document.current)  # the click is in there already
    document.rebase(theirs, document.current)
    assert document.current.same_as(theirs)
    assert len(document.current.clicks) == 1
    document.undo()
    assert document.current.labels[30, 40] == 2
    with pytest.raises(ValueError, match="have become"):
        document.rebase(ImageAnnotation.empty(4, 4), EMPTY)


# ---- what another program writes ----------------------------------------------------------------------------

LINE = Stroke(((5.0, 20.0), (55.0, 20.0)), 3, 1)


def drawn(annotation: ImageAnnotation, *changes) -> ImageAnnotation:
    for change in changes:
        annotation = change.applied_to(annotation)
    return annotation


@pytest.mark.parametrize("ours", [Clear(), Unaccept(), Stroke(((30.0, 20.0),), 9, VOID), Accept(area(2, 0, 9))])
def test_what_another_program_writes_later_stays_whatever_is_done_here(ours):
    document = painted(LINE, Accept(area(1, 10, 30)), Tag(1, True), ours)
    known = document.current
    added = [Stroke(((5.0, 20.0), (20.0, 20.0)), 3, 1), AddClick(Click(50.0, 4.0, 2)), Tag(2, True)]
    accepted = np.where(area(1, 32, 38) == 1, 1, known.accepted_map)
    theirs = drawn(known, *added, Accept(accepted))
    document.rebase(theirs, known)
    assert document.current.same_as(theirs)
    document.apply(Stroke(((3.0, 3.0),), 3, 2))
    assert document.current.same_as(drawn(theirs, Stroke(((3.0, 3.0),), 3, 2)))
    assert document.undo()
    assert document.undo()
    assert (document.current.labels[20, 5:20] == 1).all()
    assert (document.current.accepted[32:38] == 1).all()
    assert document.current.tags == {1, 2}
    assert Click(50.0, 4.0, 2) in document.current.clicks


def test_what_is_not_written_yet_is_not_lost_either():
    document = painted(LINE)
    known = document.current
    document.apply(AddClick(Click(9.0, 9.0, 2)))
    document.apply(Tag(2, True))
    document.apply(Accept(area(1, 10, 30)))
    document.rebase(drawn(known, Tag(1, True), Stroke(((40.0, 35.0),), 3, 2), Accept(area(2, 30, 35))), known)
    assert document.current.clicks == (Click(9.0, 9.0, 2),)
    assert document.current.tags == {1, 2}
    assert document.current.labels[35, 40] == 2
    assert np.unique(document.current.accepted[10:30]) == [1]
    assert np.unique(document.current.accepted[30:35]) == [2]


def test_what_another_program_removes_is_gone():
    document = painted(LINE, AddClick(Click(9.0, 9.0, 2)), Tag(1, True), Accept(area(1, 10, 30)))
    document.rebase(EMPTY, document.current)
    assert document.current.is_empty
    assert document.undo()
    assert document.current.is_empty


def test_undo_and_redo_pass_over_what_another_program_wrote():
    document = painted(LINE)
    theirs = drawn(document.current, Tag(2, True))
    document.rebase(theirs, document.current)
    document.undo()
    assert not document.undo()
    assert document.current.same_as(drawn(EMPTY, Tag(2, True)))
    document.redo()
    assert document.current.same_as(theirs)


def test_label_maps_kept_for_undo_are_bounded():
    document = painted(*(Accept(area(1, 0, rows)) for rows in range(1, 31)))
    assert len(document.done) == 20
    while document.undo():
        pass
    assert (document.current.accepted == area(1, 0, 10)).all()
