"""The page in a real browser, from the drawing to the files."""

import io
import json
import urllib.request

import numpy as np
import pytest
from lightning.pytorch import Trainer
from PIL import Image
from tab import LAYERS, Tab, eventually

from weakseg_lightning import FolderDataModule, RegularizedLossModule, SMPNetwork
from weakseg_lightning.painting.canvas import key_of

CLASSES = ["background", "cat", "dog"]


@pytest.fixture
def painted(painting):
    """The folder of the one server."""
    return painting[1]


@pytest.fixture
def tab(painting, browser):
    """Opens tabs."""
    opened = []

    def open_tab(image, **options):
        opened.append(Tab(browser, painting[0], image, **options))
        return opened[-1]

    yield open_tab
    for each in opened:
        each.page.close()


def scribbles(data, name):
    with Image.open(data / "scribbles" / f"{name}.png") as image:
        return np.array(image)


def test_draw_click_tag_save_reload(painting, tab):
    started, data = painting
    shown = tab("draw")
    shown.stroke((20, 20), (40, 30))
    shown.press("1")
    shown.stroke((80, 60), (100, 50))  # at once: the key's effect does not wait for the server
    shown.wait(f"{LAYERS}('labeling')")
    shown.press("c", "3")
    shown.page.mouse.click(*shown.at(30.25, 60.25))
    shown.press("Shift+Digit2")
    eventually((data / "tags.csv").is_file)
    shown.saved()

    labels = scribbles(data, "draw")
    assert labels.shape == (80, 120)
    assert labels[25, 30] == 1
    assert labels[55, 90] == 0
    assert labels[60, 30] == labels[5, 5] == 255
    with Image.open(data / "scribbles" / "draw.png") as image:
        assert image.mode == "P"
    points = (data / "points.csv").read_text().splitlines()
    assert points[0] == "image,x,y,class"
    image, x, y, name = points[1].split(",")
    assert (image, name) == ("draw.png", "dog")
    assert abs(float(x) - 30.25) < 0.3
    assert abs(float(y) - 60.25) < 0.3
    assert (data / "tags.csv").read_text() == "image,class\ndraw.png,cat\n"

    # The labeling follows the colors, but for the dog's click.
    with urllib.request.urlopen(started.link("/layer/labeling/draw")) as answer:
        layer = np.array(Image.open(io.BytesIO(answer.read())))
    assert layer[20, 10, :3].tolist() == [128, 0, 0]
    assert layer[20, 110, :3].tolist() == [0, 0, 0]
    assert "found in" in shown.page.locator(".latency").inner_text()

    shown.page.reload()
    shown.wait(f"{LAYERS}('scribbles') && {LAYERS}('image')")
    eventually(lambda: shown.color(30, 25) == [128, 0, 0])
    assert shown.color(90, 55) == [0, 0, 0]
    assert shown.color(30.25, 60.25) == [0, 128, 0]
    assert {url.split("/")[2] for url in shown.asked if url.startswith(("http", "ws"))} == {started.address[7:]}


def test_undo_redo_and_erase(painted, tab):
    shown = tab("undo")
    shown.stroke((20, 20), (40, 20))
    shown.stroke((20, 60), (40, 60))
    shown.saved()
    shown.press("Control+z")
    eventually(lambda: scribbles(painted, "undo")[60, 30] == 255)
    assert scribbles(painted, "undo")[20, 30] == 1
    shown.press("Control+y")
    eventually(lambda: scribbles(painted, "undo")[60, 30] == 1)
    shown.press("e")
    shown.stroke((30, 10), (30, 70))
    shown.press("Control+s")
    eventually(lambda: scribbles(painted, "undo")[20, 30] == 255)
    assert scribbles(painted, "undo")[20, 22] == 1
    shown.press("Control+z", "Control+z", "Control+z")
    eventually(lambda: not (painted / "scribbles" / "undo.png").exists())


def test_two_tabs_lose_nothing(painted, tab):
    first, second = tab("tabs"), tab("tabs")
    for row in range(5, 75, 10):
        first.press("2")
        first.stroke((10, row), (25, row))
        second.press("3")
        second.stroke((90, row), (105, row))
    first.saved()
    second.saved()
    eventually(lambda: (scribbles(painted, "tabs")[5:75:10, [15, 100]] == [1, 2]).all())
    eventually(lambda: first.color(100, 35) == [0, 128, 0])
    eventually(lambda: second.color(15, 35) == [128, 0, 0])


def test_a_stroke_whose_connection_was_lost_is_sent_again(painted, tab):
    shown = tab("kept")
    stroke = {"name": "kept", "id": "lost-1", "points": [[10, 10], [30, 10]], "width": 3, "label": 2}
    key = f"weakseg paint {key_of(painted)} kept"
    shown.page.evaluate("([key, text]) => sessionStorage.setItem(key, text)", [key, json.dumps([stroke])])
    shown.page.reload()
    eventually((painted / "scribbles" / "kept.png").is_file)
    assert scribbles(painted, "kept")[10, 20] == 2
    shown.saved()
    assert shown.page.evaluate("key => sessionStorage.getItem(key)", key) is None


def test_an_undo_that_is_sent_again_takes_back_nothing_but_what_was_sent_again_before_it(painted, tab):
    shown = tab("erase")
    shown.press("3")
    shown.stroke((20, 20), (40, 20))
    shown.saved()
    stroke = {"points": [[10, 60], [30, 60]], "width": 3, "label": 2}
    made = [{"step": "undo"}, {"step": "redo"}, stroke, {"step": "undo"}, {"step": "redo"}, {"step": "redo"}]
    sent = [{"name": "erase", "id": f"restarted-{number}", **change} for number, change in enumerate(made, 1)]
    key = f"weakseg paint {key_of(painted)} erase"
    shown.page.evaluate("([key, text]) => sessionStorage.setItem(key, text)", [key, json.dumps(sent)])
    shown.page.reload()
    shown.page.get_by_text("The last undo of erase could not be repeated").wait_for()
    eventually(lambda: scribbles(painted, "erase")[60, 20] == 2)
    eventually(lambda: not kept_by(shown))
    assert scribbles(painted, "erase")[20, 30] == 2
    shown.press("Control+z")  # the history has one stroke of each
    eventually(lambda: scribbles(painted, "erase")[60, 20] == 255)
    assert scribbles(painted, "erase")[20, 30] == 2


def kept_by(tab):
    """Names of what the tab would send again."""
    return tab.page.evaluate("Object.keys(sessionStorage).filter((key) => key.startsWith('weakseg paint'))")


def test_of_an_image_that_was_left_at_once_the_tab_keeps_no_stroke_once_it_is_saved(painted, tab):
    shown = tab("kept")
    shown.stroke((20, 70), (40, 70))
    shown.press("Control+z")
    shown.page.locator("[data-name='large']").click()
    shown.wait("location.search === '?image=large'")
    eventually(lambda: not kept_by(shown))
    drawn = painted / "scribbles" / "kept.png"
    assert not drawn.is_file() or scribbles(painted, "kept")[70, 30] == 255


def test_what_is_drawn_while_the_connection_is_lost_comes_in_order_when_it_is_back(painted, tab):
    shown = tab("undo")
    # The first stroke is lost with the socket; the rest is made before it is back.
    shown.page.evaluate("window.socket.io.engine.transport.ws.send = () => {}")
    shown.press("2")
    shown.stroke((20, 30), (40, 30))
    shown.page.evaluate("window.socket.io.engine.close()")
    shown.wait("!window.socket.connected")
    shown.stroke((20, 50), (40, 50))
    shown.press("Control+z")
    shown.page.locator("[data-name='large']").click(no_wait_after=True)
    shown.wait("window.socket.connected")
    eventually(lambda: (painted / "scribbles/undo.png").is_file() and scribbles(painted, "undo")[30, 30] == 1)
    eventually(lambda: not kept_by(shown))
    assert scribbles(painted, "undo")[50, 30] == 255


def test_tags_and_commands_do_not_overtake_strokes_that_wait_for_the_connection(painted, tab):
    shown = tab("early")
    shown.page.evaluate("window.socket.disconnect()")
    shown.press("2")
    shown.stroke((20, 30), (40, 30))
    shown.press("Shift+Digit2", "Control+z")
    shown.page.locator(".tag-2").click()
    shown.page.locator(".tag-0").click(click_count=2)
    shown.press("d")
    shown.page.get_by_text("The connection is lost").wait_for()
    shown.page.evaluate("window.socket.connect()")
    shown.saved()
    assert scribbles(painted, "early")[30, 30] == 1
    tags = (painted / "tags.csv").read_text().splitlines()
    assert [tag for tag in tags if tag.startswith("early")] == ["early.png,dog"]
    assert shown.page.evaluate("location.search") == "?image=early"


def test_the_next_image_is_one_that_can_be_read(tab):
    shown = tab("kept")
    assert "1 unusable" in shown.page.locator(".summary").inner_text()
    shown.press("d")  # over `kept broken`
    shown.wait("location.search === '?image=large'")
    shown.press("a")
    shown.wait("location.search === '?image=kept'")
    shown.page.locator("[data-name='kept broken']").click()
    shown.page.get_by_text("is not an image that can be read").wait_for()


def test_zoomed_in_the_pen_draws_where_it_is(painted, tab):
    shown = tab("mouse")
    shown.page.mouse.move(*shown.at(30, 40))
    for _ in range(6):
        shown.page.mouse.wheel(0, -100)
    shown.page.mouse.move(*shown.at(30.5, 40.5))  # this point of the image is where it was: the wheel zooms about it
    shown.page.mouse.down()
    shown.page.mouse.up()
    shown.saved()
    drawn = np.argwhere(scribbles(painted, "mouse") == 1)
    assert np.abs(drawn.mean(0) - [40, 30]).max() <= 1


def test_ctrl_c_at_once_loses_nothing_and_names_the_next_command(data, run_paint, browser):
    started = run_paint(data, "--classes", *CLASSES)
    shown = Tab(browser, started, "a")
    shown.stroke((20, 20), (40, 20))
    shown.wait("document.querySelector('canvas').dataset.pending === '0'")
    status, printed = started.end()
    shown.page.close()
    assert status == 0
    # On a machine that is very busy, the server says before that it waited.
    assert printed.endswith(f"1 of 2 images are annotated. Next:\n  weakseg check {data}\n")
    assert scribbles(data, "a")[20, 30] == 1

    again = Tab(browser, run_paint(data), "a")
    eventually(lambda: again.color(30, 20) == [128, 0, 0])
    again.stroke((20, 60), (40, 60))
    again.saved()
    again.page.close()
    assert (scribbles(data, "a")[[20, 60], 30] == 1).all()


def test_what_was_painted_trains(painting, tab):
    _, data = painting
    for name in ("early", "erase"):
        shown = tab(name)
        shown.stroke((20, 20), (40, 30))
        shown.press("1")
        shown.stroke((80, 60), (100, 50))
        shown.saved()
    (data / "images" / "kept broken.jpg").unlink()
    (data / "tags.csv").unlink(missing_ok=True)  # of other tests, which contradict their strokes
    training = FolderDataModule(data, batch_size=2, crop_size=64, num_workers=0)
    assert training.class_names == CLASSES
    network = SMPNetwork(encoder="timm-mobilenetv3_small_minimal_100", encoder_weights=None)
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = Trainer(max_steps=2, limit_val_batches=0, accelerator="cpu", **quiet)
    trainer.fit(RegularizedLossModule(network, 3), training)


def test_a_second_finger_neither_ends_a_stroke_nor_joins_it(painting, tab):
    _, data = painting
    shown = tab("palm")
    touch = """(kind, x, y) => document.querySelector('canvas').dispatchEvent(new PointerEvent(kind,
        { pointerId: 77, pointerType: 'touch', clientX: x, clientY: y, bubbles: true }))"""

    def palm(kind, x, y):
        shown.page.evaluate(f"([kind, x, y]) => ({touch})(kind, x, y)", [kind, *shown.at(x, y)])

    shown.press("2")
    shown.page.mouse.move(*shown.at(10, 70))
    shown.page.mouse.down()
    palm("pointerdown", 100, 10)
    palm("pointermove", 110, 12)
    shown.page.mouse.move(*shown.at(60, 70), steps=6)
    palm("pointerup", 110, 12)
    shown.page.mouse.move(*shown.at(100, 70), steps=6)
    shown.page.mouse.up()
    shown.saved()
    labels = scribbles(data, "palm")
    assert (labels[70, 12:99] == 1).all()
    assert (labels[:20, 70:] == 255).all()
