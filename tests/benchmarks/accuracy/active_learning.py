"""What annotating in the suggested order is worth: mIoU after 5, 10, ... images against a random order, as one table.

Pools are drawn from the training images with a cat or a dog of ``few_images.py``, one per seed; the test images are
those of that script. Five images at a time are annotated with the dataset's scribbles, and the learner of
``weakseg paint`` learns from all so far. Suggested: the first five of the order that the page then shows, taken in one
go; at the beginning nothing is known but the features. Masks are the head's scores, without a graph cut::

    python tests/benchmarks active_learning --data DATASETS --weights tf_efficientnet_lite0.safetensors

The way of ordering was chosen with ``--tune`` and other seeds: training images kept out, in place of the test images.
"""

import argparse
import random
from statistics import mean

import numpy as np
import torch
from measuring import command_line, machine, markdown, resolved
from tasks import Pets, Task
from torch.nn import functional as F

from weakseg_lightning.metrics import SegmentationScores
from weakseg_lightning.painting.document import ImageAnnotation
from weakseg_lightning.painting.learning.learner import Learner
from weakseg_lightning.painting.learning.messages import LearningSettings, reduced_seeds
from weakseg_lightning.painting.learning.ordering import by_need, uncertainty_of

AT_ONCE = 5


def main() -> None:
    """Annotate each pool in both orders, and print the table."""
    options = parse()
    torch.set_num_threads(options.threads)
    task = Pets(options.data, options.test)
    test = task.train[: options.test] if options.tune else task.test
    drawn = task.train[options.test :] if options.tune else task.train
    settings = LearningSettings(encoder_weights=str(options.weights))
    images = {name: task.image(name) for name in [*drawn, *test]}
    features = Learner(settings, images, len(task.classes)).features
    found: dict[str, list[list[float]]] = {"suggested": [], "random": []}
    for seed in options.seeds:
        pool = random.Random(seed).sample(drawn, options.pool)
        for way, curves in found.items():
            learner = Learner(settings, images, len(task.classes), seed)
            learner.features = features
            curves.append(curve(way, learner, pool, test, task, options.images))
    print(f"pools of {options.pool} images, {len(test)} to test; {machine()}, {options.threads} threads")
    print(markdown(["order", *(f"{count} images" for count in options.images)], rows(found)))


def rows(found: dict[str, list[list[float]]]) -> list[list[str]]:
    """Each way's mean, and its values with each seed."""
    return [
        [
            way,
            *(
                f"**{mean(values):.1f}** ({', '.join(f'{v:.1f}' for v in values)})"
                for values in zip(*curves, strict=True)
            ),
        ]
        for way, curves in found.items()
    ]


def curve(way: str, learner: Learner, pool: list[str], test: list[str], task: Task, counts: list[int]) -> list[float]:
    """MIoU in percent once so many images are annotated."""
    annotated: list[str] = []
    scores = {}
    while len(annotated) < max(counts):
        chosen = suggested(learner, pool, annotated) if way == "suggested" else pool[len(annotated) :]
        for name in chosen[:AT_ONCE]:
            annotated.append(name)
            learner.annotate(reduced_seeds(name, 0, ImageAnnotation(task.scribbles(name))))
            learner.take(name)
        learner.adapt()
        while learner.settle():
            pass
        if len(annotated) in counts:
            scores[len(annotated)] = 100 * miou(learner, test, task)
    return [scores[count] for count in counts]


def suggested(learner: Learner, pool: list[str], annotated: list[str]) -> list[str]:
    """The pool's other images in the page's order."""
    for name in pool:
        learner.features.maps(name)
    descriptors = np.stack([learner.features.descriptors[name] for name in pool])
    scores = [learner.scores(name) for name in pool]
    uncertainties = np.array([1.0 if found is None else uncertainty_of(found.values) for found in scores], np.float32)
    order = by_need(descriptors, uncertainties, np.array([name in annotated for name in pool]))
    return [pool[number] for number in order]


def miou(learner: Learner, test: list[str], task: Task) -> float:
    """MIoU of the head's masks of the test images."""
    scores = SegmentationScores(len(task.classes))
    for name in test:
        found, truth = learner.scores(name), torch.from_numpy(task.truth(name))[None]
        assert found is not None
        full = F.interpolate(torch.from_numpy(found.values).float()[None], size=truth.shape[1:], mode="bilinear")
        scores.update(full.argmax(1), truth)
    return float(scores.compute()["miou"])


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = command_line(__doc__)
    parser.add_argument("--data", type=resolved, required=True, help="the folder that holds VOCdevkit")
    parser.add_argument("--weights", type=resolved, required=True, help="the encoder's ImageNet weights")
    parser.add_argument("--images", type=int, nargs="+", default=[5, 10, 15, 20], help="multiples of five")
    parser.add_argument("--pool", type=int, default=100)
    parser.add_argument("--test", type=int, default=60)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tune", action="store_true", help="test on training images that are kept out")
    return parser.parse_args()


if __name__ == "__main__":
    main()
