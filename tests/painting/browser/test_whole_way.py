"""From images to masks as a new user goes: strokes through the page, then each command as it is printed."""

import os
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from processes import start, wait_for
from tab import LAYERS, Tab

IMAGES = int(os.environ.get("WEAKSEG_PAINTED", "4"))  # 30 take minutes
STEPS = os.environ.get("WEAKSEG_PAINTED_STEPS", "3")


def chosen(root: Path) -> list[tuple[str, int]]:
    """Images that show one kind of animal, and its class in VOC."""
    found = []
    for name in (root / "ImageSets/SegmentationAug/train.txt").read_text().split():
        with Image.open(root / f"pascal_2012_scribble/{name}.png") as image:
            shown = set(np.unique(np.array(image)).tolist()) - {0, 255}
        if len(shown) == 1 and (kind := shown.pop()) in (8, 12):
            found.append((name, kind))
    return found[:: max(1, len(found) // IMAGES)][:IMAGES]


def strokes(path: Path, value: int) -> list[tuple[int, int]]:
    """Where a hand would draw: three points along the longest part of VOC's scribble, from left to right."""
    with Image.open(path) as image:
        y, x = np.nonzero(np.array(image) == value)
    order = np.argsort(x, kind="stable")[[0, len(x) // 2, -1]]
    return [(int(x[place]), int(y[place])) for place in order]


def printed_command(out: str) -> list[str]:
    (line,) = [line for line in out.splitlines() if line.startswith("  weakseg ")][-1:]
    return shlex.split(line)[1:]


def weakseg(folder: Path, *words: str) -> str:
    """Run the command as a user would, in a process of its own, and return what it prints."""
    out, err = (folder / f"{words[0]}.{stream}" for stream in ("out", "err"))
    (code,) = wait_for([start("weakseg_lightning", *words, out=out, err=err, folder=folder)], 3600)
    assert code == 0, f"{words}: {out.read_text()[-2000:]}{err.read_text()[-2000:]}"
    return out.read_text()


def draw(painting, browser, data: Path, root: Path, name: str, kind: int) -> None:
    """Draw a stroke of the animal and one of the background."""
    scribbles = root / f"pascal_2012_scribble/{name}.png"
    shown = Tab(browser, painting, name, size=size_of(data, name))
    shown.press("2" if kind == 8 else "3")
    shown.stroke(*strokes(scribbles, kind))
    shown.press("1")
    shown.stroke(*strokes(scribbles, 0))
    shown.saved()
    shown.page.close()


def size_of(data: Path, name: str) -> tuple[int, int]:
    with Image.open(data / f"images/{name}.jpg") as image:
        return image.size


def learn_and_go_on(painting, browser, data: Path, bare: list[str]) -> None:
    """See a labeling of an image without a stroke; go on to the one where a stroke helps most."""
    shown = Tab(browser, painting, bare[0], size=size_of(data, bare[0]))
    shown.page.locator(".latency", has_text="learned from ").wait_for()
    shown.wait(f"{LAYERS}('labeling')")
    shown.press("u")
    shown.wait(f"{LAYERS}('uncertainty')")
    shown.press("n")
    others = " || ".join(f"location.search === '?image={name}'" for name in bare[1:])
    shown.wait(others)
    shown.page.close()


def train(painting, browser, data: Path, name: str) -> None:
    """Train by the recipe that is there, until the network labels the image."""
    shown = Tab(browser, painting, name, size=size_of(data, name))
    shown.page.locator(".train").click()
    shown.page.locator(".training", has_text="done").wait_for(timeout=3_600_000)
    shown.page.locator(".latency", has_text="by the trained network").wait_for()
    shown.wait(f"{LAYERS}('labeling')")
    shown.page.close()


def test_from_images_to_masks_without_any_edit_but_of_the_steps(shared, browser, run_paint, tmp_path):
    root, data = shared / "data/VOCdevkit/VOC2012", tmp_path / "photos"
    weights = shared / "weights/tf_efficientnet_lite0.in1k.safetensors"  # where there is no network to fetch them
    learning = ("--encoder", "tf_efficientnet_lite0", "--encoder_weights", str(weights))
    (data / "images").mkdir(parents=True)
    images = chosen(root)
    for name, _ in images:
        shutil.copy(root / f"JPEGImages/{name}.jpg", data / "images")

    painting = run_paint(data, "--classes", "background", "cat", "dog", *learning)
    half = len(images) // 2
    for name, kind in images[:half]:
        draw(painting, browser, data, root, name, kind)
    learn_and_go_on(painting, browser, data, [name for name, _ in images[half:]])
    for name, kind in images[half:]:
        draw(painting, browser, data, root, name, kind)
    status, out = painting.end()
    assert status == 0
    assert len(list((data / "scribbles").iterdir())) == len(images)

    command = printed_command(out)
    assert command == ["check", str(data)] or command == ["check", "photos"]
    out = weakseg(tmp_path, *command)
    out = weakseg(tmp_path, *printed_command(out), "--encoder_weights", str(weights))
    assert printed_command(out)[0] == "fit"
    if STEPS != "all":
        recipe = tmp_path / "photos.yaml"
        text, cut = re.subn(r"max_steps: \d+", f"max_steps: {STEPS}", recipe.read_text())
        assert cut == 1
        recipe.write_text(text)

    painting = run_paint(data, *learning)
    train(painting, browser, data, images[0][0])
    assert painting.end()[0] == 0
    out = (tmp_path / "runs/photos/training.log").read_text()
    out = weakseg(tmp_path, *printed_command(out), "--trainer.enable_progress_bar", "false")
    labels = sorted(tmp_path.rglob("labels/*.png"))
    assert [path.stem for path in labels] == sorted(name for name, _ in images)
    assert printed_command(out)[0] == "report"
    weakseg(tmp_path, *printed_command(out))
    assert len(list(tmp_path.rglob("*.html"))) == 1
