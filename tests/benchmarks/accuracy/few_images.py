"""From a folder of few images with strokes to masks of others: mIoU and wall time of several ways, as one table.

Each way begins with the folder and ends with a label map of each test image. What is learned and tested on is one of
the tasks of ``tasks.py``: ``pets`` (cats and dogs of PASCAL VOC), ``whole`` (all of it), ``heart`` (slices with
human scribbles), ``scenes`` (generated)::

    python tests/benchmarks few_images --data DATASETS --weights tf_efficientnet_lite0.safetensors --images 5 30

Ways: `head` is what ``weakseg init`` writes (a head on a frozen encoder, fitted in rounds with graph cuts, then robust
trust region or, of more than 50 images, ADM); `adm`, `trust_region`, `soft`, `grid_gd`, `grid_gd_quadratic`,
`dense_gd`, `gated_crf` and, of ``--annotation boxes``, `proposals` the same with that method; `pce` the same head
without a solver; `network` is ``weakseg init --learns network``; `unfrozen` is ``weakseg init --learns encoder``;
`masks` is `pce` on full masks; `forest` a random forest on filters, as interactive tools have it (scikit-image's
``multiscale_basic_features``, scikit-learn). Settings were chosen on ``--tune``: training images kept out, in place of
the test images. Further words of ``weakseg fit`` follow ``--``.
"""

import argparse
import copy
import shutil
import sys
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
import yaml
from measuring import Clock, command_line, machine, markdown, newest, parse_own, resolved, run_python
from numpy.typing import NDArray
from PIL import Image
from skimage.feature import multiscale_basic_features
from tasks import Heart, Pets, Task, Tide, Whole

from weakseg_lightning.data.scribbles.strokes import shorten_labels
from weakseg_lightning.data.weak_labels import boxes_from_mask
from weakseg_lightning.metrics import SegmentationScores

TASKS = {"pets": Pets, "whole": Whole, "heart": lambda root: Heart(root / "acdc"), "scenes": lambda root: Tide()}
_WITHOUT_SOLVER = ["--model.gamma", "0", "--model.network.latent_rounds", "0"]
OPTIONS = {"pce": _WITHOUT_SOLVER}

_OF_BATCHES = {"labels": "seeds", "latent_pixels": "unlabelled", "latent_grid": "map"}
MODELS: dict[str, dict[str, Any]] = {  # in place of the method that `weakseg init` chose, and its own arguments
    "adm": {
        "class_path": "ADMModule",
        "init_args": {
            "solver": {"class_path": "AlphaExpansion", "init_args": {"potts": {"weight": 10.0, "connectivity": 4}}},
            "gamma": 1.0,
            **_OF_BATCHES,
        },
    },
    "soft": {
        "class_path": "SoftLabelModule",
        "init_args": {
            "solver": {"class_path": "SoftPotts", "init_args": {"potts": {"weight": 50.0, "connectivity": 4}}},
            "eta": 1.0,
            **_OF_BATCHES,
        },
    },
    "trust_region": {
        "class_path": "TrustRegionModule",
        "init_args": {
            "solver": {
                "class_path": "AlphaExpansion",
                "init_args": {"potts": {"weight": 100.0, "normalize_edges": True}, "unary_weight": 0.3},
            },
            "eps": 0.9912,
        },
    },
    "proposals": {
        "class_path": "ProposalModule",
        "init_args": {"solver": {"class_path": "GrabCut"}, "labels": "boxes"},
    },
}
_REGULARIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "grid_gd": ("GridPottsLoss", {"potts": {"weight": 7.0, "connectivity": 8}, "relaxation": "bilinear"}),
    "grid_gd_quadratic": ("GridPottsLoss", {"potts": {"weight": 7.0, "connectivity": 8}, "relaxation": "quadratic"}),
    "dense_gd": ("DenseCRFLoss", {"weight": 2.2e-7, "sigma_rgb": 15.0, "sigma_xy": 100.0, "scale": 0.5}),
    "gated_crf": ("GatedCRFLoss", {"weight": 0.1}),
}
for _name, (_loss, _settings) in _REGULARIZERS.items():
    _regularizer = {"class_path": _loss, "init_args": _settings}
    MODELS[_name] = {"class_path": "RegularizedLossModule", "init_args": {"regularizer": _regularizer}}
OF_CCNN = {"constraints", "map_stride", "mask_weight", "link"}
OF_ADM = {"solver", "gamma", "labels", "hard_seeds", "latent_pixels", "latent_grid", "on_unsolved", "latent_lag"}
OF_TRUST_REGION = {"eps", "eps_unit", "learn_eps", "normalizer", "epochs_per_cycle", "warm_start", "store"}
WAYS = ["head", "masks", "unfrozen", "network", "forest", *OPTIONS, *MODELS]


def main() -> None:
    """Run each way with each number of images and each seed, and print the table."""
    options = parse()
    task = TASKS[options.task](options.data)
    rows = []
    for images in options.images:
        train, test = task.few(images, options.tune)
        print(f"{len(train)} images to learn from, {len(test)} to test; {machine()}, {options.threads} threads")
        for way in options.ways:
            found = [run(way, seed, task, train, test, options) for seed in options.seeds]
            scores, seconds = zip(*found, strict=True)
            each = ", ".join(f"{100 * value:.1f}" for value in scores)
            rows.append([str(len(train)), way, each, f"{100 * mean(scores):.1f}", f"{mean(seconds):.0f}"])
            print(" ".join(rows[-1]), flush=True)
    seeds = " ".join(map(str, options.seeds))
    print(markdown(["images", "way", f"mIoU, seeds {seeds}", "mean", "seconds"], rows))


def run(
    way: str, seed: int, task: Task, train: list[str], test: list[str], options: argparse.Namespace
) -> tuple[float, float]:
    """Go one way; mIoU and seconds from the folder to the label maps."""
    annotation = "masks" if way == "masks" else options.annotation
    home: Path = options.out / f"{options.task}-{annotation}-{way}-{len(train)}-{options.length:g}-{seed}"
    shutil.rmtree(home, ignore_errors=True)
    for folder, names in (("learned/images", train), ("new", test)):
        (home / folder).mkdir(parents=True)
        for name in names:
            shutil.copy(task.image(name), home / folder)
    annotate(home / "learned", task, train, annotation, options.length)
    with Clock() as clock:
        labels = forest(home, train, seed) if way == "forest" else by_command(way, home, seed, options)
    scores = SegmentationScores(len(task.classes))
    for name in test:
        truth = torch.from_numpy(task.truth(name))[None]
        scores.update(torch.from_numpy(np.array(Image.open(labels / f"{name}.png")))[None], truth)
    return float(scores.compute()["iou"][task.counted].nanmean()), clock.wall


def annotate(folder: Path, task: Task, names: list[str], annotation: str, length: float) -> None:
    """Write the annotations of images in the layout of a folder of one's own."""
    (folder / "classes.yaml").write_text(f"classes: [{', '.join(task.classes)}]\n")
    if annotation in ("strokes", "masks"):
        labels = folder / {"strokes": "scribbles", "masks": "masks"}[annotation]
        labels.mkdir()
        for name in names:
            drawn = task.truth(name) if annotation == "masks" else shorten_labels(task.scribbles(name), length)
            Image.fromarray(drawn).save(labels / f"{name}.png")
        return
    lines = ["image,x1,y1,x2,y2,class" if annotation == "boxes" else "image,class"]
    for name in names:
        boxes = boxes_from_mask(torch.from_numpy(task.truth(name))).tolist()
        if annotation == "boxes":
            lines += [",".join([name, *(f"{x:g}" for x in box), task.classes[int(label)]]) for *box, label in boxes]
        else:
            lines.append(f"{name},{'|'.join(task.classes[int(label)] for label in sorted({box[4] for box in boxes}))}")
    (folder / f"{annotation}.csv").write_text("\n".join([*lines, ""]))


def by_command(way: str, home: Path, seed: int, options: argparse.Namespace) -> Path:
    """Label the images by the commands of this package; the folder of the label maps."""
    recipe, runs = home / "recipe.yaml", home / "runs" / "recipe"
    learns = {"network": "network", "unfrozen": "encoder"}.get(way, "head")
    chosen = ["--learns", learns, "--encoder_weights", str(options.weights)]
    weakseg(home, "init", str(home / "learned"), "--output", str(recipe), *chosen, threads=options.threads)
    if way != "network":
        change_method(recipe, way)
    quiet = ["--seed_everything", str(seed), "--trainer.default_root_dir", str(home / "runs"), *OPTIONS.get(way, [])]
    if way != "network":
        quiet += ["--model.network.cache.folder", str(options.features or home / "features")]
    weakseg(home, "fit", "--config", str(recipe), *quiet, *options.fit, threads=options.threads)
    config, checkpoint = newest(runs, "config.yaml"), newest(runs, "checkpoints/last.ckpt")
    given = ["--config", str(config), "--ckpt_path", str(checkpoint), str(home / "new")]
    output = ["--predictions.output_dir", str(home / "masks"), "--predictions.overlays", "false"]
    weakseg(home, "predict", *given, *output, threads=options.threads)
    return home / "masks" / "labels"


def change_method(recipe: Path, way: str) -> None:
    """Put another method into a recipe in place of the one that was chosen."""
    if way not in (*MODELS, *OPTIONS):
        return
    content = yaml.safe_load(recipe.read_text())
    given, model = content["model"]["init_args"], copy.deepcopy(MODELS["adm" if way in OPTIONS else way])
    shared = {name: value for name, value in given.items() if name not in OF_ADM | OF_CCNN | OF_TRUST_REGION}
    content["model"] = {**model, "init_args": {**shared, **model["init_args"]}}
    recipe.write_text(yaml.safe_dump(content, sort_keys=False))


def weakseg(home: Path, command: str, *words: str, threads: int) -> None:
    """Run a command of the package; what it says goes to a file."""
    run_python(["-m", "weakseg_lightning", command, *words], home / f"{command}.txt", threads)


def forest(home: Path, train: list[str], seed: int) -> Path:
    """Label the images by a random forest on filters; the folder of the label maps."""
    from sklearn.ensemble import RandomForestClassifier

    features, labels = [], []
    for name in train:
        seeds = np.array(Image.open(home / "learned" / "scribbles" / f"{name}.png"))
        features.append(filters(next((home / "learned" / "images").glob(f"{name}.*")))[seeds != 255])
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
    parser.add_argument("--data", type=resolved, required=True, help="the folder that holds VOCdevkit and acdc")
    parser.add_argument("--task", choices=list(TASKS), default="pets")
    parser.add_argument("--weights", type=resolved, required=True, help="the encoder's ImageNet weights")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=["head", "pce", "network", "forest"])
    parser.add_argument("--images", type=int, nargs="+", default=[30])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--annotation",
        choices=["strokes", "boxes", "tags"],
        default="strokes",
        help="taken from strokes or masks",
    )
    parser.add_argument("--length", type=float, default=1.0, help="fraction of each stroke that is kept; 0 = a click")
    parser.add_argument("--features", type=resolved, help="folder of features that runs share; else each has its own")
    parser.add_argument("--tune", action="store_true", help="test on training images that are kept out")
    parser.add_argument("--out", type=resolved, default=Path("few_images").resolve())
    options, fit = parse_own(parser, sys.argv[1:])
    options.fit = fit
    return options


if __name__ == "__main__":
    main()
