"""The search of `weakseg crf-search`: sets of parameters, tried on stored predictions."""

import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from weakseg_lightning.cli.commands.evaluation import followed
from weakseg_lightning.metrics.segmentation import confusion_matrix, segmentation_scores
from weakseg_lightning.solvers import Refinement

__all__ = ["NAMES", "Trials", "by_coordinates", "by_grid", "count", "mapping"]

Parameters = tuple[float, ...]  # the values of NAMES
Counts = NDArray[np.int64]  # confusion matrices (n, K, K)
Mapped = Callable[[Callable[[Path], Counts], Sequence[Path]], Iterable[Counts]]

NAMES = ("spatial_sigma", "spatial_weight", "bilateral_sigma_xy", "bilateral_sigma_rgb", "bilateral_weight")
PUBLISHED = ((6.0, 6.0, 50.0, 4.0, 5.0), (19.0, 15.0, 61.0, 10.0, 35.0))  # CCNN: untuned, tuned
# The weight of colors first: it decides most.
_ORDER = (4, 3, 2, 1, 0)


class Trials:
    """Scores of the parameters that were tried, in the order in which they were.

    Args:
        paths: files of the predictions, see :func:`count`.
        make: makes a refinement of the parameters by name.
        num_classes: classes K.
        mapped: a `map` that keeps the order.
    """

    def __init__(
        self, paths: Sequence[Path], make: Callable[..., Refinement], num_classes: int, mapped: Mapped = map
    ) -> None:
        self.paths = paths
        self.make = make
        self.num_classes = num_classes
        self.mapped = mapped
        self.scores: dict[Parameters, dict[str, float]] = {}
        self.unrefined = self._scores([None])[0]

    def best(self, candidates: Iterable[Parameters]) -> Parameters:
        """Try those that have not been tried yet; of equal scores the first is the best."""
        candidates = list(dict.fromkeys(candidates))
        new = [parameters for parameters in candidates if parameters not in self.scores]
        if new:
            self.scores |= dict(zip(new, self._scores(new), strict=True))
        return max(candidates, key=lambda parameters: self.scores[parameters]["miou"])

    def _scores(self, tried: Sequence[Parameters | None]) -> list[dict[str, float]]:
        made = [None if values is None else dict(zip(NAMES, values, strict=True)) for values in tried]
        work = partial(count, self.make, made, self.num_classes)
        total = np.zeros((len(tried), self.num_classes, self.num_classes), dtype=np.int64)
        for counts in followed(self.mapped(work, self.paths), f"{len(tried)} sets of parameters", len(self.paths)):
            total += counts
        scores = map(segmentation_scores, torch.from_numpy(total))
        return [{name: float(score[name]) for name in ("miou", "pixel_accuracy")} for score in scores]


def by_grid(trials: Trials, lists: Sequence[Sequence[float]]) -> None:
    """Try every combination of the values."""
    trials.best(product(*lists))


def by_coordinates(trials: Trials, lists: Sequence[Sequence[float]]) -> None:
    """Change one parameter at a time to its best value, from the better of the published sets, to the end."""
    starts = [
        tuple(min(values, key=lambda value: abs(value - wanted)) for values, wanted in zip(lists, start, strict=True))
        for start in PUBLISHED
    ]
    best, before = trials.best(starts), None
    while best != before:
        before = best
        for place in _ORDER:
            # The one in hand first, so that an equal score changes nothing and the search ends.
            others = [(*best[:place], value, *best[place + 1 :]) for value in lists[place]]
            best = trials.best([best, *others])


def count(
    make: Callable[..., Refinement], tried: Sequence[Mapping[str, float] | None], num_classes: int, path: Path
) -> Counts:
    """Refine the predictions for one image with several sets of parameters.

    Args:
        make: makes a refinement of the parameters by name.
        tried: the sets of parameters; None does not refine.
        num_classes: classes K.
        path: npz file of ``logits`` ``(1, K, H, W)``, ``image``, ``mask`` and ``valid``.

    Returns:
        A confusion matrix of each set, int64 ``(len(tried), K, K)``.
    """
    with np.load(path) as stored:
        logits, image, mask, valid = (torch.from_numpy(stored[name]) for name in ("logits", "image", "mask", "valid"))
    answers = (logits if one is None else make(**one).refine(logits, image, valid) for one in tried)
    return np.stack([confusion_matrix(answer.argmax(1), mask, num_classes).numpy() for answer in answers])


@contextmanager
def mapping(processes: int) -> Iterator[Mapped]:
    """A `map` over processes, in order; threads would wait for Python's lock."""
    if processes == 1:
        yield map
        return
    with ProcessPoolExecutor(processes, get_context("spawn"), _begin_worker) as pool:
        yield pool.map


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
