"""`weakseg crf-search`: parameters of a dense CRF that suit a trained network, found on some validation images."""

import csv
import os
import shlex
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml
from jsonargparse import ArgumentParser
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from weakseg_lightning.checkpoints import load_module
from weakseg_lightning.cli.runs import discard, new_folder
from weakseg_lightning.cli.signatures import did_you_mean, imported, known_classes, options_of
from weakseg_lightning.data import SegmentationDataModule, collate, scenes, voc  # noqa: F401 - known by short names
from weakseg_lightning.hyperparameters import init_args
from weakseg_lightning.metrics.segmentation import confusion_matrix, segmentation_scores
from weakseg_lightning.modules import WeakSegModule
from weakseg_lightning.solvers import Refinement

__all__ = ["crf_search"]

Parameters = tuple[float, ...]  # the values of NAMES
Counts = NDArray[np.int64]  # confusion matrices (n, K, K)
Mapped = Callable[[Callable[[Path], Counts], Sequence[Path]], Iterable[Counts]]

NAMES = ("spatial_sigma", "spatial_weight", "bilateral_sigma_xy", "bilateral_sigma_rgb", "bilateral_weight")
PUBLISHED = ((6.0, 6.0, 50.0, 4.0, 5.0), (19.0, 15.0, 61.0, 10.0, 35.0))  # CCNN: untuned, tuned
SPATIAL_SIGMA = [3.0, 6.0, 19.0]
SPATIAL_WEIGHT = [3.0, 6.0, 15.0]
BILATERAL_SIGMA_XY = [30.0, 50.0, 61.0, 80.0]
BILATERAL_SIGMA_RGB = [3.0, 4.0, 6.0, 10.0]
BILATERAL_WEIGHT = [3.0, 5.0, 10.0, 35.0]
# The weight of colours first: it decides most.
_ORDER = (4, 3, 2, 1, 0)


def crf_search(
    run: Path,
    ckpt_path: Path,
    images: int = 100,
    seed: int = 0,
    search: Literal["coordinates", "grid"] = "coordinates",
    spatial_sigma: list[float] = SPATIAL_SIGMA,
    spatial_weight: list[float] = SPATIAL_WEIGHT,
    bilateral_sigma_xy: list[float] = BILATERAL_SIGMA_XY,
    bilateral_sigma_rgb: list[float] = BILATERAL_SIGMA_RGB,
    bilateral_weight: list[float] = BILATERAL_WEIGHT,
    iterations: int = 10,
    refinement: str = "PyDenseCRF",
    root: str | None = None,
    output: Path | None = None,
    processes: int = 1,
    device: str = "auto",
) -> None:
    """Find the parameters of a dense CRF that suit a trained network, on some of the validation images.

    The network predicts the images once; every set of parameters that is tried refines the same predictions. Results
    are a table, search.csv, and best.yaml, an overlay for `weakseg validate`, `test` and `predict`. Equal arguments
    give equal results. The best score is that of images that the parameters were chosen on: a little too good.

    100 images of VOC take about half a minute a set on one core; the default search tries 15 to 40 sets. Meanwhile the
    predictions lie in the output folder, 16 MB for 375 x 500 pixels and 21 classes.

    Args:
        run: folder of a run, or its config.yaml, which says what the data are.
        ckpt_path: checkpoint of the run.
        images: how many validation images are used; all if there are fewer.
        seed: which images are used.
        search: coordinates changes one parameter at a time, from the better of the two published sets, until nothing
            improves (the published sets are moved to the nearest values in the lists); grid tries everything.
        spatial_sigma: widths of the spatial Gaussian to try, in pixels.
        spatial_weight: weights of the spatial Gaussian to try.
        bilateral_sigma_xy: widths of the bilateral Gaussian in space to try, in pixels.
        bilateral_sigma_rgb: widths of the bilateral Gaussian in colour to try, of 0..255.
        bilateral_weight: weights of the bilateral Gaussian to try.
        iterations: iterations of mean field.
        refinement: the class that refines, by its name, or its import path.
        root: folder of the data set, if it is not where the run had it.
        output: folder for the results; RUN/crf_search by default.
        processes: how many images are refined at once.
        device: what the network runs on, as cpu or cuda; a GPU by default, if there is one.
    """
    lists = [spatial_sigma, spatial_weight, bilateral_sigma_xy, bilateral_sigma_rgb, bilateral_weight]
    _check(lists, images, processes)
    make = partial(_refinement_class(refinement), iterations=iterations)
    described = init_args(make(**dict(zip(NAMES, [values[0] for values in lists], strict=True))))
    for combination in product(*([min(values), max(values)] for values in lists)):
        make(**dict(zip(NAMES, combination, strict=True)))  # refuses what is out of range, before anything runs
    config = run / "config.yaml" if run.is_dir() else run
    module, data = load_module(ckpt_path), _load_data(_read(config), root)
    if module.num_classes != data.num_classes:
        raise ValueError(f"`ckpt_path` has {module.num_classes} classes, the data of `run` {data.num_classes}")
    chosen = _choose(data, images, seed)
    folder = new_folder(*_place(run, output), numbered=False)
    try:
        with tempfile.TemporaryDirectory(dir=folder) as kept, _mapping(processes) as mapped:
            paths = _predict(module, data, chosen, Path(kept), _device(device))
            trials = Trials(paths, make, module.num_classes, mapped)
            (by_grid if search == "grid" else by_coordinates)(trials, lists)
    except BaseException:
        discard(folder)
        raise
    command = ["weakseg", "test", "--config", _shown(config), "--config", _shown(folder / "best.yaml")]
    command += ["--ckpt_path", _shown(ckpt_path), *([] if root is None else ["--data.root", root])]
    _report(trials, described, folder, f"{len(chosen)} validation images, seed {seed}", make.func, shlex.join(command))


# ---- the search -----------------------------------------------------------------------------------------------


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
        for counts in _followed(self.mapped(work, self.paths), f"{len(tried)} sets of parameters", len(self.paths)):
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
def _mapping(processes: int) -> Iterator[Mapped]:
    """A `map` over processes, in order; threads would wait for Python's lock."""
    if processes == 1:
        yield map
        return
    with ProcessPoolExecutor(processes, get_context("spawn"), _begin_worker) as pool:
        yield pool.map


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)


# ---- what is searched on ----------------------------------------------------------------------------------------


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"`run`: no file {path} (working directory: {Path.cwd()}): name the folder of a run")
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict) or "class_path" not in (found.get("data") or {}):
        raise ValueError(
            f"`run`: {path} does not say what the data are: expected a config.yaml that `weakseg fit` wrote"
        )
    return found


def _load_data(config: Mapping[str, Any], root: str | None) -> SegmentationDataModule:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(SegmentationDataModule, "data")
    described = config["data"]
    if root is not None:
        described = {**described, "init_args": {**described.get("init_args", {}), "root": root}}
    data: SegmentationDataModule = parser.instantiate_classes(parser.parse_object({"data": described})).data
    data.prepare_data()
    data.setup("validate")
    return data


def _choose(data: SegmentationDataModule, images: int, seed: int) -> list[int]:
    """Indices of the images, in order."""
    available = len(data.val_dataloader().dataset)  # type: ignore[arg-type]
    shuffled = torch.randperm(available, generator=torch.Generator().manual_seed(seed))
    return sorted(shuffled[:images].tolist())


@torch.no_grad()
def _predict(
    module: WeakSegModule, data: SegmentationDataModule, chosen: Sequence[int], folder: Path, device: str
) -> list[Path]:
    """Write the predictions for the chosen images, a file each."""
    module.to(device).eval()
    subset = Subset(data.val_dataloader().dataset, chosen)
    paths = []
    for batch in _followed(DataLoader(subset, collate_fn=collate), "Predictions", len(chosen)):
        logits: Tensor = module(batch["image"].to(device)).float().cpu()
        if not logits.isfinite().all():
            raise ValueError(f"the scores of the network for {batch['id'][0]} are not finite: use another checkpoint")
        paths.append(folder / f"{len(paths)}.npz")
        parts = {name: batch[name].numpy() for name in ("image", "mask", "valid")}
        np.savez(paths[-1], logits=logits.numpy(), **parts)
    return paths


def _device(given: str) -> str:
    if given != "auto":
        return given
    return "cuda" if torch.cuda.is_available() else "cpu"


# ---- arguments --------------------------------------------------------------------------------------------------


def _check(lists: Sequence[Sequence[float]], images: int, processes: int) -> None:
    for name, values in zip(NAMES, lists, strict=True):
        if not values:
            raise ValueError(f"`{name}` must be one value or several, got none")
    for name, number in (("images", images), ("processes", processes)):
        if number < 1:
            raise ValueError(f"`{name}` must be at least 1, got {number}")


def _refinement_class(name: str) -> type[Refinement]:
    cls = imported(name if "." in name else f"weakseg_lightning.solvers.{name}")
    if cls is None or not issubclass(cls, Refinement):
        known = known_classes(Refinement)
        raise ValueError(f"`refinement`: `{name}` is no Refinement{did_you_mean(name, known)}")
    if lacking := {*NAMES, "iterations"} - set(options_of(cls)):
        raise ValueError(f"`refinement`: `{name}` does not take {', '.join(sorted(lacking))}, which are searched for")
    return cls


def _place(run: Path, output: Path | None) -> tuple[Path, str]:
    folder = (run if run.is_dir() else run.parent) / "crf_search" if output is None else output
    return folder.absolute().parent, folder.name


# ---- results ----------------------------------------------------------------------------------------------------


def _report(trials: Trials, described: Mapping[str, Any], folder: Path, what: str, cls: type, command: str) -> None:
    ranked = sorted(trials.scores.items(), key=lambda item: -item[1]["miou"])  # stable: of equals the first tried
    best, score = ranked[0]
    _write_csv(folder / "search.csv", trials)
    overlay = folder / "best.yaml"
    gain = f"mIoU {score['miou']:.4f}, without refinement {trials.unrefined['miou']:.4f}"
    path = cls.__name__ if cls.__module__.startswith("weakseg_lightning.") else f"{cls.__module__}.{cls.__qualname__}"
    content = {"refine": {"class_path": path, "init_args": {**described, **dict(zip(NAMES, best, strict=True))}}}
    head = f"# Overlay: the best of {len(ranked)} sets of parameters on {what}: {gain}.\n#\n#   {command}\n\n"
    overlay.write_text(head + yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    Console().print(_table(trials, [parameters for parameters, _ in ranked], what))
    if score["miou"] <= trials.unrefined["miou"]:
        print("No set of parameters is better than no refinement.")
    print(f"Results are in {_shown(folder)}. To test with the best, {gain}:\n  {command}")


def _write_csv(path: Path, trials: Trials) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*NAMES, "miou", "pixel_accuracy"])
        writer.writerow([*[""] * len(NAMES), *trials.unrefined.values()])
        writer.writerows([*parameters, *score.values()] for parameters, score in trials.scores.items())


def _table(trials: Trials, ranked: Sequence[Parameters], what: str) -> Table:
    table = Table(title=what)
    for name in (*NAMES, "mIoU", "pixel accuracy"):
        table.add_column(name.replace("_", " "), justify="right")
    rows = [(["none", *[""] * (len(NAMES) - 1)], trials.unrefined)]
    rows += [([f"{value:g}" for value in parameters], trials.scores[parameters]) for parameters in ranked]
    for cells, score in rows:
        table.add_row(*cells, *(f"{value:.4f}" for value in score.values()))
    return table


def _shown(path: Path) -> str:
    return os.path.relpath(path) if path.absolute().is_relative_to(Path.cwd()) else str(path)


def _followed(items: Iterable[Any], description: str, total: int) -> Iterable[Any]:
    console = Console(stderr=True)
    return track(items, description, total, console=console, transient=True, disable=not sys.stderr.isatty())
