"""The page's process is killed while strokes are drawn: what it had called saved is on the disk, and whole."""

import random
import time

import numpy as np
from PIL import Image
from processes import kill
from tab import SAVED, Tab, eventually

from weakseg_lightning.painting.folder import PaintFolder

ROWS = range(4, 80, 4)


def draw_until(tab, ends):
    """Draw strokes and clicks, one per row, and change the tag, until then; return the rows that were called saved."""
    drawn, saved = [], []
    for row in ROWS:
        tab.stroke((20, row), (60, row))
        drawn.append(row)
        # Called saved: nothing is on its way, and the mark says so.
        if tab.page.evaluate(f"document.querySelector('canvas').dataset.pending === '0' && {SAVED}"):
            saved = list(drawn)
        tab.press("Shift+Digit2")
        while time.monotonic() < ends and not saved:
            if tab.page.evaluate(f"document.querySelector('canvas').dataset.pending === '0' && {SAVED}"):
                saved = list(drawn)
        if time.monotonic() > ends:
            break
    return saved


def test_kill_9_loses_nothing_that_was_called_saved(data, run_paint, browser):
    moment = random.uniform(1.0, 5.0)
    started = run_paint(data, "--classes", "background", "cat", "dog")
    tab = Tab(browser, started, "a")
    tab.press("2")
    saved = draw_until(tab, time.monotonic() + moment)
    time.sleep(random.uniform(0, 0.9))  # changes are written 0.7 s after the last one
    kill([started.process])
    tab.page.close()

    folder = PaintFolder(data)  # reads all tables, and raises if one is not whole
    found = folder.read("a", (80, 120))
    missing = [row for row in saved if found.labels[row, 40] != 1]
    assert not missing, f"killed after {moment} s"
    for picture in (data / "scribbles").glob("[!.]*"):
        with Image.open(picture) as image:
            assert set(np.unique(np.array(image))) <= {1, 255}
    again = Tab(browser, run_paint(data), "a")
    again.press("3")
    again.stroke((100, 10), (100, 70))
    again.saved()
    again.page.close()
    assert (folder.read("a", (80, 120)).labels[20:60, 100] == 2).all()


def test_a_tab_that_is_open_goes_on_with_the_next_page_and_loses_nothing_at_all(data, run_paint, browser):
    started = run_paint(data, "--classes", "background", "cat", "dog", program="writes_late.py")
    tab = Tab(browser, started, "a")
    tab.press("2")
    for row in (10, 20, 30):
        tab.stroke((20, row), (60, row))
    tab.press("c")
    tab.page.mouse.click(*tab.at(100, 40))
    kill([started.process])  # before changes are written
    assert not (data / "scribbles" / "a.png").exists()

    again = run_paint(data, "--port", str(started.port))
    assert again.token == started.token
    eventually((data / "scribbles" / "a.png").exists)
    tab.saved()
    tab.page.close()
    found = PaintFolder(data).read("a", (80, 120))
    assert (found.labels[[10, 20, 30], 40] == 1).all()
    assert [(round(click.x), round(click.y), click.label) for click in found.clicks] == [(100, 40, 1)]
