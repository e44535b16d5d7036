"""What the session tells the learner and does with its scores, without its process."""

import asyncio
import functools
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from fakes import Learner

from weakseg_lightning.painting.document import Stroke, Unaccept
from weakseg_lightning.painting.folder import PaintFolder
from weakseg_lightning.painting.session import Session

LEFT = Stroke(((20.0, 40.0), (30.0, 40.0)), 3, 1)


def in_a_loop(test):
    """Run a test that is a coroutine."""
    return functools.wraps(test)(lambda **fixtures: asyncio.run(test(**fixtures)))


async def labeled(session, learner):
    """The image `a`, shown and labeled by the learner's scores."""
    image = await session.open("a")
    session.watch(image, lambda: None)
    learner.find("a", -1)
    await until(lambda: image.labeling is not None)
    return image


@pytest.fixture
def learner():
    return Learner()


@pytest.fixture
def folder(data):
    shutil.copy(data / "images/a.png", data / "images/c.png")
    return PaintFolder(data, ["background", "cat", "dog"])


@pytest.fixture
def session(folder, learner):
    return Session(folder, learner)


async def until(condition):
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


@in_a_loop
async def test_an_image_without_a_stroke_is_labeled_once_there_are_scores(session, learner):
    image = await session.open("a")
    session.watch(image, lambda: None)
    await until(lambda: image.labeling_version == 0)
    assert image.labeling is None
    learner.find("a", -1)
    await until(lambda: image.labeling is not None)
    height, width = image.labeling.labels.shape
    assert image.labeling.labels[height // 2, [width // 4, 3 * width // 4]].tolist() == [1, 0]
    assert image.layer("uncertainty", None).startswith(b"\x89PNG")


@in_a_loop
async def test_a_stroke_is_cut_at_once_with_old_scores_and_again_with_new_ones(session, learner):
    image = await session.open("a")
    session.watch(image, lambda: None)
    learner.find("a", -1)
    await until(lambda: image.labelings and image.scores is not None)
    session.change(image, LEFT)
    assert learner.told[-1][:2] == ("a", 1)
    await until(lambda: image.labeling_version == 1)
    assert image.scores.version == -1
    cut = image.labelings
    for version in range(1, 6):  # those that come while one is cut are taken together
        learner.find("a", version)
    await until(lambda: image.scores.version == 5)
    assert image.labelings - cut <= 2


@in_a_loop
async def test_scores_of_images_that_nobody_looks_at_wait(session, learner):
    image = await session.open("a")
    await until(lambda: image.labeling_version == 0)
    learner.find("a", -1)
    await asyncio.sleep(0.05)
    assert image.labeling is None
    session.watch(image, lambda: None)
    await until(lambda: image.labeling is not None)


@in_a_loop
async def test_without_its_learner_each_image_is_on_its_own(session, learner):
    image = await labeled(session, learner)
    told = []
    session.watchers.append(lambda: told.append(session.learning_state.text))
    learner.tell(phase="off", text="learning is off: its process ended 3 times")
    await until(lambda: image.labeling is None)
    assert image.scores is None
    assert told == ["learning is off: its process ended 3 times"]


@in_a_loop
async def test_the_learner_is_told_what_was_drawn_before_and_what_is_shown(session, folder, learner):
    for name in ("a", "c"):
        folder.write(name, LEFT.applied_to(folder.read(name, (80, 120))))
    learning = asyncio.create_task(session.learn())
    await until(lambda: len(learner.told) == 2)
    assert [(name, version) for name, version, _ in learner.told] == [("a", 0), ("c", 0)]
    assert all(pixels > 20 for *_, pixels in learner.told)
    image = await session.open("b")
    session.watch(image, lambda: None)
    assert learner.shown == [["b", "c", "a"]]
    learner.tell(order=("a",))
    assert learner.shown[1:] == [["b", "a", "c"]]
    learner.tell(cached=1)
    assert len(learner.shown) == 2
    learning.cancel()


@in_a_loop
async def test_images_are_needed_in_the_learners_order_but_those_about_which_something_is_known(session, learner):
    assert session.needed() == ["a", "b", "c"]
    learner.tell(order=("c", "a", "b"))
    session.folder.entries["a"].accepted = True
    assert session.needed() == ["c", "b"]
    session.folder.entries["c"].annotated = True
    assert session.needed() == ["b"]


@in_a_loop
async def test_an_accepted_labeling_is_shown_and_kept_where_it_is_probable(session, folder, learner):
    image = await session.open("a")
    with pytest.raises(ValueError, match="no labeling to accept"):
        await session.accept(image, 0.9)
    session.watch(image, lambda: None)
    learner.find("a", -1)
    await until(lambda: image.labeling is not None)
    with pytest.raises(ValueError, match=r"probability of 0\.99: lower the threshold"):
        await session.accept(image, 0.99)
    await session.accept(image, 0.9)
    assert image.shows_accepted
    accepted = image.document.current.accepted
    assert accepted[40, 20] == 1
    assert accepted[40, 70] == 0
    assert accepted[40, 119] == 255
    await session.save(image)
    assert folder.entries["a"].accepted
    assert np.array_equal(folder.read("a", (80, 120)).accepted, accepted)
    session.change(image, LEFT)
    assert not image.shows_accepted
    session.change(image, Unaccept())
    await session.save(image)
    assert folder.read("a", (80, 120)).accepted is None


@in_a_loop
async def test_a_network_that_was_trained_gives_the_scores(folder, learner, tmp_path):
    training = SimpleNamespace(watchers=[], state=SimpleNamespace(phase="running", checkpoint=None))
    session = Session(folder, learner, training)
    told = []
    session.watchers.append(lambda: told.append(session.has_network))
    for phase, checkpoint in (("failed", None), ("running", None), ("done", tmp_path), ("done", tmp_path)):
        training.state = SimpleNamespace(phase=phase, checkpoint=checkpoint)
        training.watchers[0]()
    assert learner.networks == [tmp_path]
    assert told == [False, False, True, True, True]  # as its own state has changed, too
    session.use_network(False)
    session.use_network(True)
    assert learner.networks == [tmp_path, None, tmp_path]


@in_a_loop
async def test_once_all_strokes_are_gone_nothing_is_left_of_what_was_learned_from_them(session, learner):
    image = await labeled(session, learner)
    learner.forget()
    await until(lambda: image.labeling is None)


@in_a_loop
async def test_an_image_that_is_opened_early_is_told_to_the_learner_with_its_strokes(folder, learner):
    first = Session(folder)
    image = await first.open("a")
    first.change(image, LEFT)
    await first.save(image)
    session = Session(folder, learner)
    await session.open("a")
    learning = asyncio.create_task(session.learn())
    await until(lambda: any(name == "a" for name, *_ in learner.told))
    learning.cancel()


@in_a_loop
async def test_a_labeling_that_is_older_than_the_last_stroke_is_not_accepted(session, learner):
    image = await session.open("a")
    session.watch(image, lambda: None)
    learner.find("a", -1)
    await until(lambda: image.labeling is not None)
    session.change(image, LEFT)
    with pytest.raises(ValueError, match="the labeling does not know the last stroke yet"):
        await session.accept(image, 0.9)
    await until(lambda: image.labeling_version == image.document.version)
    await session.accept(image, 0.9)


@in_a_loop
async def test_the_learner_is_told_what_another_program_wrote_while_an_image_was_closed(session, folder, learner):
    folder.write("a", LEFT.applied_to(folder.read("a", (80, 120))))
    learning = asyncio.create_task(session.learn())
    await until(lambda: len(learner.told) == 1)
    (folder.root / "scribbles/a.png").unlink()
    await session.open("a")
    assert learner.told[1:] == [("a", 0, 0)]
    assert not folder.entries["a"].annotated
    learning.cancel()
