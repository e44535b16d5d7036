"""Images shared by tabs, saved as they are drawn on."""

import asyncio
import errno
import functools
import shutil
from types import SimpleNamespace

import pytest

from weakseg_lightning.errors import UserError
from weakseg_lightning.painting.document import AddClick, Click, Stroke, Tag
from weakseg_lightning.painting.folder import PaintFolder
from weakseg_lightning.painting.session import SAVE_AFTER, Session
from weakseg_lightning.visualization.panels import full_palette

LEFT, RIGHT = Stroke(((20.0, 40.0), (30.0, 40.0)), 3, 1), Stroke(((90.0, 40.0), (99.0, 40.0)), 3, 0)


@pytest.fixture
def folder(data):
    return PaintFolder(data, ["background", "cat", "dog"])


@pytest.fixture
def session(folder):
    return Session(folder)


def in_a_loop(test):
    """Run a test that is a coroutine."""
    return functools.wraps(test)(lambda **fixtures: asyncio.run(test(**fixtures)))


def on_disk(folder, name="a"):
    return folder.read(name, (80, 120))


@in_a_loop
async def test_drawing_is_labelled_and_saved_by_itself(session, folder):
    image = await session.open("a")
    states = []
    image.watchers.append(lambda: states.append((image.unsaved, image.labeling is not None)))
    session.change(image, LEFT, ("tab", 1))
    session.change(image, RIGHT, ("tab", 2))
    assert image.unsaved
    await asyncio.sleep(SAVE_AFTER)
    while image.unsaved or image.labeling is None:
        await asyncio.sleep(0.05)
    assert states[0] == (True, False)
    assert states[-1] == (False, True)
    assert image.layer("labeling", full_palette(folder.classes.palette)).startswith(b"\x89PNG")
    assert image.document.current.same_as(on_disk(folder))


@in_a_loop
async def test_a_change_that_comes_twice_is_made_once(session):
    image = await session.open("a")
    for _ in range(2):
        session.change(image, LEFT, ("tab", 1))
    session.change(image, Tag(1, True))
    session.change(image, Tag(1, True))
    assert len(image.document.done) == 3
    assert await session.save_all() == []


@in_a_loop
async def test_tabs_share_an_image_even_when_they_open_it_at_once(session, folder):
    first, second = await asyncio.gather(session.open("a"), session.open("a"))
    assert first is second
    session.change(first, LEFT)
    saving = [asyncio.create_task(session.save(first)) for _ in range(3)]
    await asyncio.sleep(0)
    session.change(second, RIGHT)
    await asyncio.gather(*saving)
    await session.save_all()
    assert not first.unsaved
    assert first.document.current.same_as(on_disk(folder))
    assert (on_disk(folder).labels == 0).any()


@in_a_loop
async def test_what_another_program_writes_meanwhile_stays(session, folder):
    image = await session.open("a")
    session.change(image, AddClick(Click(5.5, 6.0, 2)))
    await session.save(image)
    folder.write("a", RIGHT.applied_to(on_disk(folder)))
    session.change(image, LEFT)
    await session.save(image)
    assert image.trouble == ""
    found = on_disk(folder)
    assert {0, 1} <= set(found.labels.flat)
    assert found.clicks == (Click(5.5, 6.0, 2),)


@in_a_loop
async def test_what_cannot_be_saved_is_kept_and_said(session, folder, monkeypatch):
    def full(*_):
        raise OSError("no space left")

    image = await session.open("a")
    session.change(image, LEFT)
    with monkeypatch.context() as patched:
        patched.setattr(folder, "write", full)
        assert await session.save_all() == ["a: no space left"]
    assert image.unsaved
    assert await session.save_all() == []
    assert (on_disk(folder).labels == 1).any()


@in_a_loop
async def test_an_image_that_cannot_be_opened_is_marked(session, folder, data):
    (data / "images" / "a.png").write_bytes(b"gone")
    with pytest.raises(ValueError, match=r"a\.png is not an image"):
        await session.open("a")
    assert "is not an image" in folder.entries["a"].problem


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied"),
        (RuntimeError("DataLoader"), "DataLoader"),
        (MemoryError(), "MemoryError"),
    ],
)
@in_a_loop
async def test_whatever_keeps_an_image_from_being_opened_is_said_until_it_is(session, monkeypatch, error, reason):
    def fail(name):
        raise error

    entry = session.folder.entries["a"]
    with monkeypatch.context() as patched:
        patched.setattr(session.folder, "read_image", fail)
        with pytest.raises(ValueError, match=rf"a\.png cannot be opened \({reason}\)$"):
            await session.open("a")
        assert entry.problem == f"{entry.path} cannot be opened ({reason})"
    await session.open("a")
    assert entry.problem is None


@in_a_loop
async def test_strokes_that_wait_at_the_end_for_an_image_are_saved_or_said_not_to_be(session, folder, data):
    image = data / "images" / "a.png"
    image.rename(data / "away.png")
    for number, stroke in enumerate((LEFT, RIGHT), 1):
        assert not session.receive("a", stroke, ("tab", number))
    (told,) = await session.save_all()
    assert told.startswith(f"a: 2 changes that only the browser has: {image} is missing")
    (data / "away.png").rename(image)
    assert await session.save_all() == []
    assert {0, 1} <= set(on_disk(folder).labels.flat)


@in_a_loop
async def test_images_that_cannot_be_opened_are_passed_with_one_message(data, monkeypatch):
    page = pytest.importorskip("weakseg_lightning.painting.page", reason="the extra `app` is not installed")
    a, b, c = (data / "images" / f"{name}.png" for name in "abc")
    shutil.copy(a, c)
    said, shown = [], page.PaintPage(Session(PaintFolder(data, ["background", "cat"])))
    monkeypatch.setattr(page.ui, "notify", lambda text, **_: said.append(text))
    monkeypatch.setattr(shown, "_show", lambda image: said.append(image.name))
    shown.list = SimpleNamespace(refresh=lambda entries: None)
    for path in (a, b):
        path.rename(path.with_suffix(".away"))
    assert await shown.go("a", "b", "c")
    told = said.pop()
    assert told.startswith(f"{a} is missing")
    assert told.endswith(" (and 1 more)")
    assert await shown.go("a", "b", "c")
    assert said == ["c", "c"], "the list says why"
    assert not await shown.go("a")
    assert said[2:] == [told.removesuffix(" (and 1 more)")]
    b.with_suffix(".away").rename(b)
    assert await shown.go("a", "b", "c")
    assert said[3:] == ["b"]


@in_a_loop
async def test_images_that_nobody_looks_at_are_closed_once_saved(session, folder, monkeypatch):
    monkeypatch.setattr("weakseg_lightning.painting.session._KEPT_OPEN", 1)
    image = await session.open("a")
    session.change(image, LEFT)
    await session.open("b")
    assert "a" in session.images
    await session.save_all()
    while image in session._solving:
        await asyncio.sleep(0.02)
    session._close_oldest()
    assert "a" not in session.images
    assert (await session.open("a")).document.current.same_as(on_disk(folder))


@in_a_loop
async def test_tabs_are_told_what_need_not_be_sent_again_of_images_that_they_do_not_show(session, monkeypatch):
    monkeypatch.setattr("weakseg_lightning.painting.session.SAVE_AFTER", 0.05)
    told = []
    session.receipts.append(lambda image: told.append((image.name, image.safe)))
    image = await session.open("a")
    for number in range(1, 402):
        session.change(image, LEFT, ("tab", number))
    session.change(image, "undo", ("tab", 402))
    assert told == []
    while image.unsaved:
        await asyncio.sleep(0.02)
    session.change(image, LEFT, ("tab", 402))  # it comes again
    session.change(image, None, ("other", 1))  # nonsense
    assert told == [("a", {"tab": 402})] * 2 + [("a", {"tab": 402, "other": 1})]
    assert len(image.document.done) == 400


@in_a_loop
async def test_what_never_ceases_to_change_is_saved_all_the_same(session, monkeypatch):
    for name, seconds in (("SAVE_AFTER", 0.2), ("SAVE_AT_LATEST", 0.3)):
        monkeypatch.setattr(f"weakseg_lightning.painting.session.{name}", seconds)
    image = await session.open("a")
    async with asyncio.timeout(20):
        while not image.saved:
            session.change(image, LEFT)
            await asyncio.sleep(0.01)


@in_a_loop
async def test_an_undo_is_made_once_and_known_even_after_its_image_was_closed(session, monkeypatch):
    monkeypatch.setattr("weakseg_lightning.painting.session._KEPT_OPEN", 1)
    image = await session.open("a")
    for number, change in enumerate([LEFT, RIGHT, "undo", "undo", "redo"], 1):
        session.change(image, change, ("tab", number))
    session.change(image, "undo", ("tab", 3))
    assert [*image.document.done] == [LEFT]
    await session.save_all()
    while image in session._solving:
        await asyncio.sleep(0.02)
    await session.open("b")
    again = await session.open("a")
    assert again is not image
    session.change(again, RIGHT, ("tab", 2))
    assert again.document.done == []


@in_a_loop
async def test_strokes_on_an_image_that_cannot_be_opened_for_a_while_are_taken_in_order_later(session, monkeypatch):
    page = pytest.importorskip("weakseg_lightning.painting.page", reason="the extra `app` is not installed")
    said, told, read = [], [], session.folder.read_image
    troubles = [OSError("the drive is gone"), OSError("it is still gone")]

    def read_later(name):
        if troubles:
            raise troubles.pop(0)
        return read(name)

    monkeypatch.setattr(page.ui, "notify", lambda text, **_: said.append(text))
    monkeypatch.setattr(session.folder, "read_image", read_later)
    session.receipts.append(lambda image: told.append(image.safe))
    shown = page.PaintPage(session)
    for number in (1, 2, 3):
        stroke = {"name": "a", "id": f"tab-{number}", "points": [[9 * number, 9]], "width": 3, "label": 1}
        if (taking := shown._drawn(stroke)) is not None:
            await taking
        assert told == []
    path = session.folder.entries["a"].path
    assert said == [f"{path} cannot be opened ({why})" for why in ("the drive is gone", "it is still gone")]
    image = session.images["a"]
    assert [change.points[0][0] for change in image.document.done] == [9, 18, 27]
    await session.save(image)
    assert told == [{"tab": 3}]


@in_a_loop
async def test_what_could_not_be_saved_is_tried_again_and_not_trained_without(folder, monkeypatch):
    monkeypatch.setattr("weakseg_lightning.painting.session.TRY_AGAIN_AFTER", 0.1)
    started = []

    async def start() -> None:
        started.append(True)

    session = Session(folder, training=SimpleNamespace(watchers=[], start=start))
    write, full = folder.write, OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(folder, "write", lambda *_: (_ for _ in ()).throw(full))
    image = await session.open("a")
    session.change(image, LEFT)
    await asyncio.sleep(SAVE_AFTER + 0.2)
    with pytest.raises(UserError, match=r"not saved, so that training would not know it: a: .*No space left"):
        await session.train()
    assert not started
    monkeypatch.setattr(folder, "write", write)
    while image.unsaved:
        await asyncio.sleep(0.05)
    assert image.document.current.same_as(on_disk(folder))
    await session.train()
    assert started
