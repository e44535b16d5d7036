"""Folders of small images, the server in a process of its own, and a real browser."""

import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import urlencode

import numpy as np
import pytest
from PIL import Image
from processes import start, wait_for, wait_for_text

WIDTH, HEIGHT = 120, 80


def halves() -> Image.Image:
    """The left half red, the right half blue, with a little noise."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    pixels[:, : WIDTH // 2, 0] = pixels[:, WIDTH // 2 :, 2] = 200
    noise = np.random.default_rng(0).integers(0, 20, pixels.shape, dtype=np.uint8)
    return Image.fromarray(pixels + noise)


def make_folder(root: Path, *names: str) -> Path:
    """A folder with such images of these names."""
    (root / "images").mkdir(parents=True)
    for name in names:
        halves().save(root / "images" / name)
    return root


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with two images."""
    return make_folder(tmp_path / "data", "a.png", "b.png")


@dataclass
class Page:
    """Where a page is, and what lets one in."""

    address: str
    token: str

    @classmethod
    def named_in(cls, printed: str) -> "Page":
        found = re.search(r"(http://127\.0\.0\.1:\d+)/\?token=(\S+)", printed)
        assert found is not None
        return cls(found[1], found[2])

    def link(self, path: str = "/", **asked: str) -> str:
        """An address that is let in."""
        return f"{self.address}{path}?{urlencode({'token': self.token, **asked})}"

    @property
    def port(self) -> int:
        return int(self.address.rsplit(":", 1)[1])


@dataclass
class Painting(Page):
    """A running `weakseg paint`."""

    process: ForkServerProcess
    printed: Path

    def end(self) -> tuple[int, str]:
        """Press Ctrl-C: exit status, and what was printed since the address."""
        if self.process.exitcode is None:
            os.kill(self.process.pid or 0, signal.SIGINT)
        (status,) = wait_for([self.process], 60)
        return status, self.printed.read_text().partition(self.token)[2].partition("\n")[2]


def start_paint(data: Path, *options: str, program: str = "") -> Painting:
    """Start `weakseg paint`, or a program of its options, and wait for its address."""
    options = options if "--encoder" in options else (*options, "--encoder", "null")
    command = (str(Path(__file__).parent / "browser" / program),) if program else ("weakseg_lightning", "paint")
    return launch(data.parent, *command, str(data), "--no-browser", "--port", "0", *options)


def launch(folder: Path, program: str, *words: str) -> Painting:
    """Start a program that serves the page and wait for its address."""
    pytest.importorskip("nicegui", reason="the extra `app` is not installed")
    printed = folder / f"printed-{time.monotonic_ns()}.txt"
    with mock.patch.dict(os.environ):
        os.environ.pop("PYTEST_CURRENT_TEST", None)  # NiceGUI behaves differently where it sees pytest
        process = start(program, *words, out=printed, folder=folder)
    wait_for_text(printed, "?token=", [process])
    page = Page.named_in(printed.read_text())
    return Painting(page.address, page.token, process, printed)


@pytest.fixture
def run_paint() -> Iterator[Callable[..., Painting]]:
    """Starts servers, or a program that serves the page in a manner of its own; they end with the test."""
    started: list[Painting] = []

    def run(data: Path, *options: str, program: str = "") -> Painting:
        started.append(start_paint(data, *options, program=program))
        return started[-1]

    yield run
    for painting in started:
        painting.end()


@pytest.fixture(scope="module")
def painting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Painting, Path]]:
    """One server for the tests of a module, each of which has images of its own."""
    names = [f"{name}.png" for name in ("draw", "undo", "tabs", "kept", "mouse", "early", "erase", "palm")]
    data = make_folder(tmp_path_factory.mktemp("painting") / "data", *names)
    (data / "images" / "kept broken.jpg").write_bytes(b"no image")
    halves().save(data / "images" / "large.tif")
    started = start_paint(data, "--classes", "background", "cat", "dog")
    yield started, data
    started.end()


class Browser:
    """A browser that is started again should it have crashed."""

    def __init__(self, launch: Callable[[], Any]) -> None:
        self.launch = launch
        self.running = launch()

    def new_page(self, **options: Any) -> Any:
        if not self.running.is_connected():
            self.running = self.launch()
        return self.running.new_page(**options)


@pytest.fixture(scope="module")  # closed with its module: while it is open, nothing else in the process can run asyncio
def browser() -> Iterator[Browser]:
    """Chromium without a window; tests are skipped where it or playwright is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no chromium found (Debian: apt-get install chromium)")
    switches = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with playwright.sync_playwright() as running:
        opened = Browser(lambda: running.chromium.launch(executable_path=found, args=switches))
        yield opened
        opened.running.close()
