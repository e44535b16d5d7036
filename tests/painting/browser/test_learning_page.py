"""The page of what is learned, in a real browser, with stand-ins for the learner and the training."""

import shutil

import numpy as np
import pytest
from PIL import Image
from tab import LAYERS, Tab, eventually


@pytest.fixture
def painting(data, run_paint):
    shutil.copy(data / "images/a.png", data / "images/c.png")
    return run_paint(data, program="fakes.py")


@pytest.fixture
def tab(painting, browser):
    opened = []

    def open_tab(image):
        opened.append(Tab(browser, painting, image))
        return opened[-1]

    yield open_tab
    for each in opened:
        each.page.close()


def says(tab, place, text):
    tab.page.locator(f".{place}", has_text=text).wait_for()


def test_an_image_without_a_stroke_is_labeled_and_the_next_is_where_it_helps_most(tab):
    shown = tab("a")
    shown.wait(f"{LAYERS}('labeling')")
    says(shown, "latency", "learned from 1 image, found in")
    says(shown, "held-out", "88% correct on 4 held-out strokes")
    says(shown, "learning", "learned from 1 of 3 images")
    reddish = shown.color(30, 60)  # the cat's half, over a red image
    assert "uncertainty" not in shown.page.evaluate("document.querySelector('canvas').dataset.shown")
    assert not [address for address in shown.asked if "/layer/uncertainty" in address]
    shown.press("u")
    shown.wait(f"{LAYERS}('uncertainty')")
    assert shown.color(30, 60) != reddish or shown.color(115, 40)[0] > 120  # where all classes are equally probable
    shown.press("u")
    shown.wait(f"!{LAYERS}('uncertainty')")

    assert rows(shown) == ["a", "b", "c"]
    shown.page.locator(".sorting").get_by_text("where it helps").click()
    shown.press("n")
    shown.wait("location.search === '?image=c'")
    eventually(lambda: rows(shown) == ["c", "b", "a"])
    shown.page.locator(".need").click()
    shown.wait("location.search === '?image=b'")


def rows(tab):
    return tab.page.locator("[data-state]").evaluate_all("found => found.map((each) => each.dataset.name)")


def state(tab, name):
    return tab.page.locator(f"[data-name='{name}']").get_attribute("data-state")


def test_an_accepted_labeling_is_told_apart_until_it_is_removed(data, tab):
    shown = tab("a")
    shown.wait(f"{LAYERS}('labeling')")
    says(shown, "accepted", "of the pixels at probability 0.90")
    assert state(shown, "a") == "nothing"
    shown.page.locator("canvas").first.focus()
    shown.press("Enter")
    says(shown, "latency", "accepted labels")
    eventually((data / "accepted/a.png").is_file)
    eventually(lambda: state(shown, "a") == "accepted")
    assert "1 accepted" in shown.page.locator(".summary").inner_text()
    with Image.open(data / "accepted/a.png") as image:
        labels = np.array(image)
    assert (labels[40, 20], labels[40, 70], labels[40, 119]) == (1, 0, 255)
    assert not (data / "scribbles").exists()

    shown.stroke((20, 20), (40, 20))
    says(shown, "latency", "learned from 1 image")
    eventually(lambda: state(shown, "a") == "both")
    shown.page.locator(".unaccept").click()
    eventually(lambda: not (data / "accepted/a.png").exists())
    eventually(lambda: state(shown, "a") == "drawn")
    shown.press("Control+z", "Control+z")  # the accepted labels are back, under the stroke no longer
    eventually((data / "accepted/a.png").is_file)


def test_training_has_a_curve_and_an_end_and_its_network_labels_the_images(data, tab):
    shown = tab("a")
    shown.wait(f"{LAYERS}('labeling')")
    assert not shown.page.locator(".source").is_visible()
    train = shown.page.locator(".train")
    train.click()
    says(shown, "training", "of 30, loss 0.")
    assert train.inner_text() == "Stop"
    shown.page.locator(".curve canvas").wait_for()
    train.click()
    says(shown, "training", "stopped: ")
    says(shown, "latency", "by the trained network")
    shown.page.locator(".source").get_by_text("strokes").click()
    says(shown, "latency", "learned from 1 image")
    assert {address.split("/")[2] for address in shown.asked if address.startswith("http")} == {shown.host}

    (data / "fail").touch()
    train.click()
    says(shown, "training", "the disk is full (all that was printed: training.log)")
    assert train.inner_text() == "Train"
    shown.stroke((20, 20), (40, 20))
    shown.saved()
    assert (data / "scribbles/a.png").is_file()


def test_of_500_images_only_what_has_changed_is_sent(data, run_paint, browser):
    for number in range(500):
        shutil.copy(data / "images/a.png", data / f"images/image {number}.png")
    shown = Tab(browser, run_paint(data, program="fakes.py"), "a")
    assert "image 300" in shown.page.evaluate("fetch('/').then((answer) => answer.text())")
    del shown.received[:]
    shown.stroke((20, 20), (40, 20))
    shown.saved()
    eventually(lambda: state(shown, "a") == "drawn")
    shown.press("d")
    shown.wait("location.search === '?image=b'")
    assert shown.received
    assert not [frame for frame in shown.received if "image 300" in frame]
    shown.page.close()


def test_without_weights_one_line_says_so_and_the_page_works(data, run_paint, browser):
    missing = ("--encoder", "tf_efficientnet_lite0", "--encoder_weights", "none.safetensors")
    shown = Tab(browser, run_paint(data, "--classes", "background", "cat", *missing), "a")
    says(shown, "learning", "none.safetensors")
    shown.press("2")
    shown.stroke((20, 20), (40, 20))
    shown.press("1")
    shown.stroke((80, 60), (100, 60))
    says(shown, "latency", "from this image alone, found in")
    assert not shown.page.locator(".accept").is_enabled()
    shown.saved()
    shown.page.close()
