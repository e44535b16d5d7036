"""`weakseg crf-search`: parameters of a dense CRF that suit a trained network, found on some validation images."""

import csv
import shlex
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from math import isnan
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
import yaml
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from weakseg_lightning.checks import at_least
from weakseg_lightning.cli.commands.crf.trials import (
    NAMES,
    Parameters,
    Trials,
    by_coordinates,
    by_grid,
    mapping,
)
from weakseg_lightning.cli.commands.evaluation import choose, find_device, followed, load_trained
from weakseg_lightning.cli.commands.places import shown
from weakseg_lightning.cli.errors.signatures import imported, known_classes, options_of
from weakseg_lightning.cli.runs import discard, new_folder
from weakseg_lightning.data import SegmentationDataModule, collate, decode_batch
from weakseg_lightning.errors import UserError, did_you_mean
from weakseg_lightning.hyperparameters import describe
from weakseg_lightning.modules import WeakSegModule
from weakseg_lightning.modules.core.guides import colors_of
from weakseg_lightning.solvers import Refinement

__all__ = ["crf_search"]

SPATIAL_SIGMA = [3.0, 6.0, 19.0]
SPATIAL_WEIGHT = [3.0, 6.0, 15.0]
BILATERAL_SIGMA_XY = [30.0, 50.0, 61.0, 80.0]
BILATERAL_SIGMA_RGB = [3.0, 4.0, 6.0, 10.0]
BILATERAL_WEIGHT = [3.0, 5.0, 10.0, 35.0]


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
    refinement: str = "MeanField",
    root: str | None = None,
    output: Path | None = None,
    processes: int = 1,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    allow_other_classes: bool = False,
) -> None:
    """Find the parameters of a dense CRF that suit a trained network, on some of the validation images.

    The network predicts the images once; every set of parameters that is tried refines the same predictions. Results
    are a table, search.csv, and best.yaml, an overlay for `weakseg validate`, `test` and `predict`. Equal arguments
    give equal results. The best score is that of images that the parameters were chosen on: a little too good.

    100 images of VOC take about a minute per set on one core; the default search tries 15 to 40 sets. Meanwhile the
    predictions lie in the output folder, 16 MB for 375 x 500 pixels and 21 classes. Of a search that is interrupted,
    search.csv has what was tried in full.

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
        bilateral_sigma_rgb: widths of the bilateral Gaussian in color to try, of 0..255.
        bilateral_weight: weights of the bilateral Gaussian to try.
        iterations: iterations of mean field.
        refinement: the class that refines, by its name, or its import path.
        root: folder of the data set, if it is not where the run had it.
        output: folder for the results; RUN/crf_search by default.
        processes: how many images are refined at once.
        device: what the network runs on; a GPU by default, if there is one.
        allow_other_classes: go on where the classes of the data have other names than those of the checkpoint.
    """
    lists = [spatial_sigma, spatial_weight, bilateral_sigma_xy, bilateral_sigma_rgb, bilateral_weight]
    _check(lists, images, processes)
    make = _maker(refinement, iterations, lists)
    config = run / "config.yaml" if run.is_dir() else run
    module, data = load_trained(run, ckpt_path, root, "validate", allow_other_classes)
    chosen, where = choose(len(data.val_dataloader().dataset), images, seed), find_device(device)  # type: ignore[arg-type]
    folder = new_folder(*_place(run, output), numbered=False)
    trials: Trials | None = None
    try:
        with tempfile.TemporaryDirectory(dir=folder) as kept, mapping(processes) as mapped:
            paths = _predict(module, data, chosen, Path(kept), where)
            begun = Trials(paths, make, module.num_classes, mapped)
            if isnan(begun.unrefined["miou"]):
                raise UserError(
                    f"none of the {len(chosen)} validation images has a mask, so no search can compare them"
                )
            trials = begun
            (by_grid if search == "grid" else by_coordinates)(begun, lists)
    except BaseException:  # also an interruption, after hours maybe
        _write_csv(folder / "search.csv", trials) if trials else discard(folder)
        raise
    command = ["weakseg", "test", "--config", shown(config), "--config", shown(folder / "best.yaml")]
    command += ["--ckpt_path", shown(ckpt_path), *([] if root is None else ["--data.root", root])]
    _report(trials, folder, f"{len(chosen)} validation images, seed {seed}", shlex.join(command))


# ---- what is searched on ----------------------------------------------------------------------------------------


@torch.no_grad()
def _predict(
    module: WeakSegModule, data: SegmentationDataModule, chosen: Sequence[int], folder: Path, device: str
) -> list[Path]:
    """Write the predictions for the chosen images, a file each."""
    module.to(device).eval()
    subset = Subset(data.val_dataloader().dataset, chosen)
    paths: list[Path] = []
    for batch in map(decode_batch, followed(DataLoader(subset, collate_fn=collate), "Predictions", len(chosen))):
        logits: Tensor = module(batch["image"].to(device)).float().cpu()
        if not logits.isfinite().all():
            raise UserError(f"the scores of the network for {batch['id'][0]} are not finite: use another checkpoint")
        paths.append(folder / f"{len(paths)}.npz")
        parts = {"image": colors_of(batch).numpy(), **{name: batch[name].numpy() for name in ("mask", "valid")}}
        np.savez(paths[-1], logits=logits.numpy(), **parts)
    return paths


# ---- arguments --------------------------------------------------------------------------------------------------


def _check(lists: Sequence[Sequence[float]], images: int, processes: int) -> None:
    for name, values in zip(NAMES, lists, strict=True):
        if not values:
            raise UserError(f"`{name}` must be one value or several, got none")
    at_least("images", images, 1)
    at_least("processes", processes, 1)


def _maker(refinement: str, iterations: int, lists: Sequence[Sequence[float]]) -> Callable[..., Refinement]:
    """The class with the number of iterations; raises for what is out of range, before anything runs."""
    make: Callable[..., Refinement] = partial(cast(Any, _refinement_class(refinement)), iterations=iterations)
    for combination in product(*([min(values), max(values)] for values in lists)):
        make(**dict(zip(NAMES, combination, strict=True)))
    return make


def _refinement_class(name: str) -> type[Refinement]:
    cls = imported(name if "." in name else f"weakseg_lightning.solvers.{name}")
    if cls is None or not issubclass(cls, Refinement):
        known = known_classes(Refinement)
        raise UserError(f"`refinement`: `{name}` is no Refinement{did_you_mean(name, known)}")
    if lacking := {*NAMES, "iterations"} - set(options_of(cls)):
        raise UserError(f"`refinement`: `{name}` does not take {', '.join(sorted(lacking))}, which are searched for")
    return cls


def _place(run: Path, output: Path | None) -> tuple[Path, str]:
    folder = (run if run.is_dir() else run.parent) / "crf_search" if output is None else output
    return folder.absolute().parent, folder.name


# ---- results ----------------------------------------------------------------------------------------------------


def _report(trials: Trials, folder: Path, what: str, command: str) -> None:
    ranked = sorted(trials.scores, key=lambda parameters: -trials.scores[parameters]["miou"])  # stable
    best = trials.scores[ranked[0]]["miou"]
    gain = f"mIoU {best:.4f}, without refinement {trials.unrefined['miou']:.4f}"
    _write_csv(folder / "search.csv", trials)
    head = f"# Overlay: the best of {len(ranked)} sets of parameters on {what}: {gain}.\n#\n#   {command}\n\n"
    overlay = {"refine": _named(trials.make(**dict(zip(NAMES, ranked[0], strict=True))))}
    (folder / "best.yaml").write_text(head + yaml.safe_dump(overlay, sort_keys=False), encoding="utf-8")
    Console().print(_table(trials, ranked, what))
    if best <= trials.unrefined["miou"]:
        print("No set of parameters is better than no refinement.")
    print(f"Results are in {shown(folder)}. To test with the best, {gain}:\n  {command}")


def _named(refinement: Refinement) -> dict[str, Any]:
    """As a recipe has it, the classes of this package by their short names."""
    described = describe(refinement)
    path = described["class_path"]
    return {**described, "class_path": path.rpartition(".")[2] if path.startswith("weakseg_lightning.") else path}


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
