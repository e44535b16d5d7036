"""From a folder of few images with strokes to masks of others: mIoU and wall time of several ways, as one table.

The folder holds images of PASCAL VOC's training list (a part of it may do) that show a cat or a dog and not both, drawn
with ``random.Random(0)``, and their scribbles; classes background, cat, dog. Tested on the first images of the
validation list with a cat or a dog. Each way begins with the folder and ends with a label map of each test image::

    python tests/benchmarks/few_images.py --voc DATASETS --weights tf_efficientnet_lite0.safetensors

Ways: `adm` is what ``weakseg init`` writes (a head on a frozen encoder, graph cuts); `pce` the same head without
a solver; `network` is ``weakseg init --learns network``; `forest` a random forest on filters, as interactive tools have
it (scikit-image's ``multiscale_basic_features``, scikit-learn). Other settings were chosen on ``--tune``: training
images kept out, in place of the test images.
"""

import argparse
import random
import shutil
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from measuring import Clock, command_line, machine, markdown, newest, resolved, run_python
from numpy.typing import NDArray
from PIL import Image
from skimage.feature import multiscale_basic_features

from weakseg_lightning.metrics import SegmentationScores

CLASSES = {0: 0, 8: 1, 12: 2}  # of VOC: background, cat, dog
NAMES = ["background", "cat", "dog"]
ANIMALS = {8, 12}
Labels = NDArray[np.uint8]


class VOC:
    """Images, masks and scribbles of the part of VOC that is there."""

    def __init__(self, root: Path) -> None:
        self.root = root / "VOCdevkit" / "VOC2012"

    def names(self, split: str) -> list[str]:
        """Names of a list, those of images with one animal or, to test, with any."""
        listed = (self.root / "ImageSets" / "SegmentationAug" / f"{split}.txt").read_text().split()
        shown = {name: ANIMALS & set(np.unique(self._mask(name)).tolist()) for name in listed}
        return [name for name, animals in shown.items() if len(animals) == 1 or (split == "val" and animals)]

    def image(self, name: str) -> Path:
        """File of an image."""
        return self.root / "JPEGImages" / f"{name}.jpg"

    def truth(self, name: str) -> Labels:
        """Mask in the three classes."""
        return _three(self._mask(name))

    def scribbles(self, name: str) -> Labels:
        """Scribbles in the three classes, 255 = none."""
        return _three(np.array(Image.open(self.root / "pascal_2012_scribble" / f"{name}.png")))

    def _mask(self, name: str) -> Labels:
        folders = (self.root / folder / f"{name}.png" for folder in ("SegmentationClassAug", "SegmentationClass"))
        return np.array(Image.open(next(path for path in folders if path.is_file())))


def _three(labels: Labels) -> Labels:
    found = np.where(labels == 255, 255, 0).astype(np.uint8)
    for theirs, ours in CLASSES.items():
        found[labels == theirs] = ours
    return found


def main() -> None:
    """Run each way with each seed, and print the table."""
    options = parse()
    voc = VOC(options.voc)
    drawn = sorted(voc.names("train"))
    random.Random(0).shuffle(drawn)
    train, kept_out = drawn[: options.images], drawn[options.images : options.images + options.test]
    test = kept_out if options.tune else voc.names("val")[: options.test]
    print(f"{len(train)} images to learn from, {len(test)} to test; {machine()}, {options.threads} threads")
    rows = []
    for way in options.ways:
        found = [run(way, seed, voc, train, test, options) for seed in options.seeds]
        scores, seconds = zip(*found, strict=True)
        each = ", ".join(f"{100 * value:.1f}" for value in scores)
        rows.append([way, each, f"{100 * mean(scores):.1f}", f"{mean(seconds):.0f}"])
    print(markdown(["way", f"mIoU, seeds {' '.join(map(str, options.seeds))}", "mean", "seconds"], rows))


def run(
    way: str, seed: int, voc: VOC, train: list[str], test: list[str], options: argparse.Namespace
) -> tuple[float, float]:
    """Go one way; mIoU and seconds from the folder to the label maps."""
    home: Path = options.out / f"{way}-{len(train)}-{seed}"
    shutil.rmtree(home, ignore_errors=True)
    for folder in ("strokes/images", "strokes/scribbles", "new"):
        (home / folder).mkdir(parents=True)
    for name in train:
        shutil.copy(voc.image(name), home / "strokes" / "images")
        Image.fromarray(voc.scribbles(name)).save(home / "strokes" / "scribbles" / f"{name}.png")
    for name in test:
        shutil.copy(voc.image(name), home / "new")
    (home / "strokes" / "classes.yaml").write_text(f"classes: [{', '.join(NAMES)}]\n")
    with Clock() as clock:
        labels = forest(home, train, seed) if way == "forest" else by_command(way, home, seed, options)
    scores = SegmentationScores(len(NAMES))
    for name in test:
        truth = torch.from_numpy(voc.truth(name))[None]
        scores.update(torch.from_numpy(np.array(Image.open(labels / f"{name}.png")))[None], truth)
    return float(scores.compute()["miou"]), clock.wall


def by_command(way: str, home: Path, seed: int, options: argparse.Namespace) -> Path:
    """Label the images by the commands of this package; the folder of the label maps."""
    recipe, runs = home / "recipe.yaml", home / "runs" / "recipe"
    learns = "network" if way == "network" else "head"
    chosen = ["--learns", learns, "--encoder_weights", str(options.weights)]
    weakseg(home, "init", str(home / "strokes"), "--output", str(recipe), *chosen, threads=options.threads)
    quiet = ["--seed_everything", str(seed), "--trainer.default_root_dir", str(home / "runs")]
    if way != "network":
        quiet += ["--model.network.cache.folder", str(home / "features")]
    if way == "pce":
        quiet += ["--model.gamma", "0"]
    weakseg(home, "fit", "--config", str(recipe), *quiet, threads=options.threads)
    config, checkpoint = newest(runs, "config.yaml"), newest(runs, "checkpoints/last.ckpt")
    given = ["--config", str(config), "--ckpt_path", str(checkpoint), str(home / "new")]
    output = ["--predictions.output_dir", str(home / "masks"), "--predictions.overlays", "false"]
    weakseg(home, "predict", *given, *output, threads=options.threads)
    return home / "masks" / "labels"


def weakseg(home: Path, command: str, *words: str, threads: int) -> None:
    """Run a command of the package; what it says goes to a file."""
    run_python(["-m", "weakseg_lightning", command, *words], home / f"{command}.txt", threads)


def forest(home: Path, train: list[str], seed: int) -> Path:
    """Label the images by a random forest on filters; the folder of the label maps."""
    from sklearn.ensemble import RandomForestClassifier

    features, labels = [], []
    for name in train:
        seeds = np.array(Image.open(home / "strokes" / "scribbles" / f"{name}.png"))
        features.append(filters(home / "strokes" / "images" / f"{name}.jpg")[seeds != 255])
        labels.append(seeds[seeds != 255])
    trees = RandomForestClassifier(
        100, max_depth=15, max_samples=0.3, class_weight="balanced", n_jobs=2, random_state=seed
    ).fit(np.concatenate(features), np.concatenate(labels))
    output = home / "masks"
    output.mkdir()
    for path in (home / "new").iterdir():
        found = filters(path)
        predicted = trees.predict(found.reshape(-1, found.shape[-1])).reshape(found.shape[:2])
        Image.fromarray(predicted.astype(np.uint8)).save(output / f"{path.stem}.png")
    return output


def filters(path: Path) -> NDArray[np.float32]:
    """Intensity, edges and texture at five scales, ``(H, W, C)``."""
    pixels = np.asarray(Image.open(path).convert("RGB")) / 255
    found: NDArray[np.float32] = multiscale_basic_features(pixels, channel_axis=-1, sigma_min=1, sigma_max=16)
    return found


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = command_line(__doc__)
    parser.add_argument("--voc", type=resolved, required=True, help="the folder that holds VOCdevkit")
    parser.add_argument("--weights", type=resolved, required=True, help="the encoder's ImageNet weights")
    parser.add_argument("--ways", nargs="+", default=["adm", "pce", "network", "forest"])
    parser.add_argument("--images", type=int, default=30)
    parser.add_argument("--test", type=int, default=60)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tune", action="store_true", help="test on training images that are kept out")
    parser.add_argument("--out", type=resolved, default=Path("few_images").resolve())
    return parser.parse_args()


if __name__ == "__main__":
    main()
