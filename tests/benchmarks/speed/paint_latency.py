"""Latency of `weakseg paint` in headless Chromium on real photographs: from a stroke to the learned preview, the pen.

    python tests/benchmarks paint_latency --source JPEGImages --weights tf_efficientnet_lite0.safetensors
    python tests/benchmarks paint_latency --source JPEGImages --weights FILE --images 500

It prints a table of the 50th and 95th percentile and the memory of both processes. Strokes are drawn by playwright's
mouse; the time from the end of a stroke, or from a movement of the pointer, to the frame that shows it is taken in the
page by its own clock. Run it on an idle machine.
"""

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from measuring import command_line, machine, resolved
from PIL import Image
from playwright.sync_api import sync_playwright

sys.path += [
    str(Path(__file__).resolve().parents[2] / folder) for folder in ("painting", "painting/browser", "programs")
]
from conftest import Page
from tab import LAYERS, Tab

# A frame that is asked for after the canvas has asked for its own comes with it, after it has painted.
CLOCK = """() => {
  const canvas = document.querySelector('canvas');
  window.pen = [];
  canvas.addEventListener('pointermove', (event) =>
    requestAnimationFrame(() => window.pen.push(performance.now() - event.timeStamp)));
  canvas.addEventListener('pointerup', (event) => {
    window.preview = null;
    const look = () => {
      if (canvas.dataset.learned !== '' && Number(canvas.dataset.learned) >= window.version)
        window.preview = performance.now() - event.timeStamp;
      else requestAnimationFrame(look);
    };
    look();
  });
}"""


class Timed:
    """A tab whose strokes are timed, in milliseconds."""

    def __init__(self, browser: Any, painting: Page, data: Path, name: str) -> None:
        self.data, self.random = data, random.Random(name)
        self.tab = Tab(browser, painting, name)
        self.versions: dict[str, int] = {}
        self.pen: list[float] = []
        self.show(name)
        self.tab.page.evaluate(CLOCK)

    def show(self, name: str) -> None:
        """Take note of the image that is shown."""
        self.name = name
        self.tab.wait(f"location.search === '?image={name}' && {LAYERS}('image')")
        with Image.open(self.data / f"images/{name}.jpg") as image:
            self.tab.size = image.size

    def stroke(self, learned: bool) -> float:
        """Draw a stroke somewhere; return the time until the preview has learned from it."""
        self.versions[self.name] = self.versions.get(self.name, 0) + 1
        self.tab.page.evaluate(f"window.version = {self.versions[self.name]}")
        self.tab.press(str(1 + self.versions[self.name] % 2))
        width, height = self.tab.size
        points = [(self.random.uniform(0.1, 0.9) * width, self.random.uniform(0.1, 0.9) * height) for _ in range(3)]
        self.tab.stroke(*points)
        if not learned:
            time.sleep(0.5)
            return float("nan")
        self.tab.wait("window.preview")
        return float(self.tab.page.evaluate("window.preview"))

    def next(self, names: list[str]) -> None:
        """Go to the image after this one."""
        self.tab.press("d")
        self.show(names[(names.index(self.name) + 1) % len(names)])

    def close(self) -> list[float]:
        """Close the tab and return the latencies of its pen."""
        pen: list[float] = self.tab.page.evaluate("window.pen")
        self.tab.page.close()
        return pen


def make_folder(root: Path, source: Path, count: int) -> list[str]:
    """Copy so many photographs, evenly from all; return their names."""
    (root / "images").mkdir(parents=True)
    found = sorted(source.glob("*.jpg"))
    chosen = found[:: max(len(found) // count, 1)][:count]
    for path in chosen:
        shutil.copy(path, root / "images")
    return [path.stem for path in chosen]


def says(tab: Tab, text: str) -> bool:
    """True if the line about learning says so."""
    return text in tab.page.locator(".learning").inner_text()


def new_images(browser: Any, painting: Page, data: Path, names: list[str]) -> list[float]:
    """Time strokes on images whose features are not known yet, as long as there are such."""
    first = Timed(browser, painting, data, names[0])
    while not (says(first.tab, "features of") or says(first.tab, "learned from")):
        time.sleep(0.05)
    first.stroke(False)  # of two classes there is something to learn
    first.stroke(True)
    times = []
    for name in names[: len(names) // 2 : -2]:
        if not says(first.tab, "features of"):
            break
        shown = Timed(browser, painting, data, name)
        times.append(shown.stroke(True))
        shown.close()
    while says(first.tab, "features of"):
        time.sleep(0.2)
    first.close()
    return times


def cached_images(
    browser: Any, painting: Page, data: Path, names: list[str], strokes: int, learned: bool
) -> tuple[list[float], list[float]]:
    """Time strokes on the images one by one, five on each: until the preview, and the pen."""
    shown = Timed(browser, painting, data, names[1])
    times = []
    for drawn in range(strokes):
        if drawn and drawn % 5 == 0:
            shown.next(names)
        times.append(shown.stroke(learned))
    return times, shown.close()


def memory(pid: int) -> tuple[int, int]:
    """MB in use now and at most, of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    now, most = (int(fields[name].split()[0]) // 1024 for name in ("VmRSS", "VmHWM"))
    return now, most


def learner_of(pid: int) -> int | None:
    """The process of the page's that has been spawned to learn."""
    started_by_threads = Path(f"/proc/{pid}/task").glob("*/children")
    for child in " ".join(path.read_text() for path in started_by_threads).split():
        if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text():
            return int(child)
    return None


def row(measured: str, times: list[float]) -> str:
    """A row of the table."""
    if not times:
        return f"| {measured} | - | - | 0 |"
    middle, most = np.percentile(times, [50, 95])
    return f"| {measured} | {middle:.0f} | {most:.0f} | {len(times)} |"


def measure(browser: Any, root: Path, options: argparse.Namespace, learned: bool) -> list[str]:
    """Start a page on a folder of its own, draw, and return rows of the table and lines about memory."""
    data = root / ("learned" if learned else "alone")
    names = make_folder(data, options.source, options.images)
    encoder = (options.encoder, "--encoder_weights", str(options.weights)) if learned else ("null",)
    words = ["paint", str(data), "--no-browser", "--port", "0", "--classes", "background", "object"]
    command = [sys.executable, "-m", "weakseg_lightning", *words, "--encoder", *encoder]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        try:
            return measure_page(browser, process, data, names, options.strokes, learned)
        finally:
            process.send_signal(signal.SIGINT)


def measure_page(
    browser: Any, process: subprocess.Popen[str], data: Path, names: list[str], strokes: int, learned: bool
) -> list[str]:
    """Draw on a page that starts, and return rows of the table and lines about memory."""
    assert process.stdout is not None
    painting = Page.named_in(process.stdout.readline())
    rows = []
    if learned:
        rows.append(row("stroke to learned preview, new image", new_images(browser, painting, data, names)))
    times, pen = cached_images(browser, painting, data, names, strokes, learned)
    if learned:
        rows.append(row("stroke to learned preview, features cached", times))
    rows.append(row(f"pen, {'learning' if learned else '--encoder null'}", pen))
    for name, pid in {"page": process.pid, "learner": learner_of(process.pid)}.items():
        if pid is not None:
            rows.append("| memory of the {}: {} MB, at most {} MB | | | |".format(name, *memory(pid)))
    return rows


def main() -> None:
    """Measure with and without learning, and print the table."""
    parser = command_line(__doc__)
    parser.add_argument("--source", type=resolved, required=True, help="folder of photographs, *.jpg")
    parser.add_argument("--weights", type=resolved, required=True, help="of the encoder, a file")
    parser.add_argument("--encoder", default="tf_efficientnet_lite0")
    parser.add_argument("--images", type=int, default=30)
    parser.add_argument("--strokes", type=int, default=60)
    options = parser.parse_args()
    if options.strokes > 2.5 * options.images:
        parser.error("`--strokes`: five are drawn on an image, on half of the images at most")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as running:
        browser = running.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        rows = [each for learned in (False, True) for each in measure(browser, Path(folder), options, learned)]
        browser.close()
    print(f"{machine()}; {options.images} images, times in ms:\n\n| measured | p50 | p95 | n |\n|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
