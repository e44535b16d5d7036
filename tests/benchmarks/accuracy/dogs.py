"""Dogs from tags: the decomposition against the classifier's own activation maps and against CCNN, on VOC's masks.

Run from the project's root; DATA holds ``imagenet`` (a folder for each wnid), ``dogs_vs_cats`` (``dog``, ``cat``) and
``VOCdevkit/VOC2012``, WEIGHTS the encoder's weights for ImageNet (timm's tf_efficientnet_lite0)::

    python tests/benchmarks dogs --data DATA --weights tf_efficientnet_lite0.safetensors --seeds 0 1

For each seed the classifier is trained first; then the decomposition, the same with a penalty against masks of absent
classes in which cats count more, each for as many iterations and from its encoder; and CCNN from tags, from ImageNet
weights, for as many iterations as classifier and decomposition have together. All see the same batches. Dog IoU is that
of VOC's validation images with a dog, whole, and of all of them; false positives are the fraction of the pixels called
dog on those without one. The accuracy of the classifier is that of the held-out photographs. Every run keeps its log,
configuration and checkpoint under ``--out``; a run that has finished is not run again.
"""

import argparse
import json
import sys
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from measuring import ROOT, command_line, markdown, newest, resolved, run_once

from weakseg_lightning import ImageNetDogDataModule, load_module
from weakseg_lightning.data import decode_batch
from weakseg_lightning.metrics import SegmentationScores, TagScores

PENALTY = {"weight": 1.0, "confusing_classes": [], "confusing_images": ["cat/*"], "factor": 5.0}
METHODS = {
    "cam": "class activation maps of the classifier",
    "decompose": "decomposition",
    "penalty": "decomposition, penalty against absent classes, cats 5 x",
    "ccnn": "CCNN, tags",
}


def main() -> None:
    """Run everything that has not been run, and print the table."""
    options = parse(sys.argv[1:])
    scores = {(name, seed): measured(name, seed, options) for seed in options.seeds for name in METHODS}
    print(table(scores, options.seeds))


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = command_line(__doc__)
    parser.add_argument("--data", type=resolved, required=True)
    parser.add_argument("--weights", type=resolved, required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument(
        "--steps", type=int, default=400, help="iterations of the classifier, and of each method after it"
    )
    parser.add_argument("--size", type=int, default=128, help="side of the training images in pixels")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--images", type=int, help="VOC images that are looked at; all by default")
    parser.add_argument("--out", type=resolved, default=ROOT / "runs" / "dogs")
    return parser.parse_args(arguments)


# ---- training ---------------------------------------------------------------------------------------------------


def trained(name: str, seed: int, options: argparse.Namespace) -> Path:
    """Train one method with one seed in its own process, if that is not done yet; its checkpoint."""
    folder = options.out / f"{name}-{seed}"

    def words() -> list[str]:
        (folder / "data.json").write_text(json.dumps(data_overlay(options)))
        return command(name, seed, options)

    run_once(words, folder)
    return newest(folder, "checkpoints/last.ckpt")


def command(name: str, seed: int, options: argparse.Namespace) -> list[str]:
    """The `weakseg fit` of one run."""
    recipe, overlay = {
        "classifier": ("decompose_dog_classifier", "cpu_classifier"),
        "ccnn": ("ccnn_tags", "cpu_whole"),
    }.get(name, ("decompose_dog", "cpu_decompose"))
    folder = options.out / f"{name}-{seed}"
    words = ["-m", "weakseg_lightning", "fit", "--config", f"recipes/{recipe}.yaml"]
    words += ["--config", f"recipes/hardware/{overlay}.yaml", "--config", str(folder / "data.json")]
    words += ["--seed_everything", str(seed), "--trainer.default_root_dir", str(options.out), "--name", folder.name]
    # The decomposition has the classifier's iterations besides its own, CCNN has no classifier.
    steps = 2 * options.steps if name == "ccnn" else options.steps
    words += ["--trainer.max_steps", str(steps), "--trainer.limit_val_batches", "2"]
    words += ["--model.network.input_scale", "1"]
    if name in ("classifier", "ccnn"):
        words += ["--model.network.encoder_weights", str(options.weights)]
    else:
        classifier = trained("classifier", seed, options)
        words += ["--model.classifier.input_scale", "1", "--model.classifier_checkpoint", str(classifier)]
        words += ["--model.absence.weight", "0"] if name == "decompose" else ["--model.absence", json.dumps(PENALTY)]
    return words


def data_overlay(options: argparse.Namespace) -> dict[str, Any]:
    """The data of all runs, as an overlay."""
    return {
        "data": {"class_path": "ImageNetDogDataModule", "init_args": data_arguments(options)},
        "trainer": {"val_check_interval": None, "check_val_every_n_epoch": 1},
    }


def data_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """Arguments of the data module."""
    return {
        "root": str(options.data / "imagenet"),
        "positive": [str(options.data / "dogs_vs_cats" / "dog")],
        "negative": [str(options.data / "dogs_vs_cats" / "cat")],
        "masks_root": str(options.data),
        "size": options.size,
        "batch_size": options.batch_size,
        "num_workers": 0,
        **dict.fromkeys(("num_positive", "num_negative", "crop_size")),
    }


# ---- measuring --------------------------------------------------------------------------------------------------


def measured(name: str, seed: int, options: argparse.Namespace) -> dict[str, float]:
    """Scores of one method and seed, computed once."""
    run = "classifier" if name == "cam" else name
    kept = options.out / f"{run}-{seed}" / f"scores-{options.images or 'all'}.json"
    checkpoint = trained(run, seed, options)
    if not kept.exists():
        kept.write_text(json.dumps(scores_of(checkpoint, name == "cam", options)))
    found: dict[str, float] = json.loads(kept.read_text())
    return found | {"seconds": float((options.out / f"{run}-{seed}" / "seconds.txt").read_text())}


@torch.no_grad()
def scores_of(checkpoint: Path, classifies: bool, options: argparse.Namespace) -> dict[str, float]:
    """Dog IoU, false positives, and for a classifier the accuracy on the held-out photographs."""
    torch.set_num_threads(1)
    module, data = load_module(checkpoint), ImageNetDogDataModule(**data_arguments(options))
    data.setup("validate")
    everywhere, with_dogs, dogless, accuracy = SegmentationScores(2), SegmentationScores(2), TagScores(2), []
    seen = 0
    for batch in map(decode_batch, data.val_dataloader()):
        masked = bool((batch["mask"] != 255).any())
        if masked and (options.images is None or seen < options.images):
            seen += 1
            labels = labelled(module, batch["image"], options.size)
            everywhere.update(labels, batch["mask"])
            if batch["tags"][0, 1]:
                with_dogs.update(labels, batch["mask"])
            dogless.update(labels, batch["tags"], batch["valid"])
        elif not masked and classifies:
            accuracy.append(bool((module.net.tag_logits(batch["image"]) > 0) == batch["tags"][:, 1:]))
    found = {"dog": float(with_dogs.compute()["iou"][1]), "dog_everywhere": float(everywhere.compute()["iou"][1])}
    found["false"] = float(dogless.compute()["false_area"])
    return found | ({"accuracy": mean(accuracy)} if classifies else {})


def labelled(module: Any, image: torch.Tensor, size: int) -> torch.Tensor:
    """Label a photograph, shown to the network at the size that it was trained with."""
    height, width = image.shape[-2:]
    scale = size / min(height, width)
    small = torch.nn.functional.interpolate(
        image, size=(round(scale * height), round(scale * width)), mode="bilinear", antialias=True
    )
    scores = module(small)
    return torch.nn.functional.interpolate(scores, size=(height, width), mode="bilinear").argmax(1)


# ---- the table --------------------------------------------------------------------------------------------------


def table(scores: dict[tuple[str, int], dict[str, float]], seeds: list[int]) -> str:
    """A Markdown table, a row a method, and the classifier's accuracy below it."""
    titles = ["method", f"dog IoU, seeds {' '.join(map(str, seeds))}", "mean", "on all images", "false positives"]
    rows = []
    for name, title in METHODS.items():
        group = [scores[name, seed] for seed in seeds]
        dogs = ", ".join(f"{100 * one['dog']:.1f}" for one in group)
        means = [100 * mean(one[key] for one in group) for key in ("dog", "dog_everywhere", "false")]
        shown = [f"{means[0]:.1f}", f"{means[1]:.1f}", f"{means[2]:.1f} %"]
        rows.append([title, dogs, *shown, f"{mean(one['seconds'] for one in group):.0f}"])
    accuracy = ", ".join(f"{100 * scores['cam', seed]['accuracy']:.1f}" for seed in seeds)
    below = f"Accuracy of the classifier on held-out photographs: {accuracy} %."
    return f"{markdown([*titles, 'seconds'], rows)}\n\n{below}"


if __name__ == "__main__":
    main()
