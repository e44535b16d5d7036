"""Two programs that write the annotation of one image: nothing of either is lost."""

import asyncio

import numpy as np
import pytest

from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.painting.document import Accept, AddClick, Clear, Click, Stroke, Tag, Unaccept
from weakseg_lightning.painting.folder import PaintFolder
from weakseg_lightning.painting.session import Session

CLASSES = ["background", "cat", "dog"]
SIZE = (80, 120)
LINE, OTHER = (Stroke(((10.0, y), (50.0, y)), 3, 1) for y in (20.0, 60.0))


def area(label: int, top: int, bottom: int) -> np.ndarray:
    labels = np.full(SIZE, VOID, dtype=np.uint8)
    labels[top:bottom] = label
    return labels


def both(data, ours, theirs, then):
    """Open an image, make and save changes; another program makes its own; then more are made here."""

    async def run():
        session, another = Session(PaintFolder(data, CLASSES)), Session(PaintFolder(data, CLASSES))
        image = await session.open("a")
        for change in ours:
            session.change(image, change)
        await session.save(image)
        for change in theirs:
            another.change(await another.open("a"), change)
        assert not await another.save_all()
        for change in then:
            session.change(image, change)
        assert not await session.save_all()

    asyncio.run(run())
    return PaintFolder(data).read("a", SIZE)


def test_accepted_labels_of_two_programs_are_joined(data):
    found = both(data, [LINE], [Accept(area(2, 40, 60)), Tag(2, True)], [Accept(area(1, 0, 20)), Tag(1, True)])
    assert np.array_equal(found.accepted, np.where(area(2, 40, 60) == 2, 2, area(1, 0, 20)))
    assert found.tags == {1, 2}


@pytest.mark.parametrize("then", [AddClick(Click(3.0, 3.0, 1)), LINE])
def test_what_was_removed_here_before_is_not_removed_there(data, then):
    ours = [OTHER, Clear(), Accept(area(1, 0, 30)), Unaccept()]
    found = both(data, ours, [OTHER, AddClick(Click(5.0, 5.0, 2)), Accept(area(1, 0, 30))], [then])
    assert found.labels[60, 30] == 1
    assert Click(5.0, 5.0, 2) in found.clicks
    assert np.array_equal(found.accepted, area(1, 0, 30))


def test_removing_takes_what_was_there_not_what_has_come(data):
    found = both(data, [LINE, Accept(area(1, 0, 30))], [OTHER, Accept(area(1, 0, 40))], [Clear(), Unaccept()])
    assert (found.labels[20] == VOID).all()
    assert found.labels[60, 30] == 1
    assert np.array_equal(found.accepted, area(1, 30, 40))


def test_a_stroke_that_was_written_before_the_disk_was_full_can_be_erased(data, monkeypatch):
    async def run():
        session = Session(PaintFolder(data, CLASSES))
        image = await session.open("a")
        session.change(image, LINE)
        session.change(image, AddClick(Click(3.0, 3.0, 1)))
        with monkeypatch.context() as full:
            full.setattr("weakseg_lightning.painting.folder.write_rows", no_space)
            assert await session.save_all() == ["a: [Errno 28] No space left on device"]
        assert (data / "scribbles" / "a.png").is_file()
        session.change(image, Stroke(((10.0, 20.0), (50.0, 20.0)), 9, VOID))
        assert not await session.save_all()

    asyncio.run(run())
    found = PaintFolder(data).read("a", SIZE)
    assert (found.labels == VOID).all()
    assert found.clicks == (Click(3.0, 3.0, 1),)


def no_space(*_):
    raise OSError(28, "No space left on device")
