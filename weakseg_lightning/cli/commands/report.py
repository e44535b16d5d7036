"""`weakseg report`: a run as one page of HTML."""

import argparse
import re
from collections.abc import Callable, Iterator
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from weakseg_lightning.callbacks.checkpoints import BestCheckpoint
from weakseg_lightning.checks import at_least
from weakseg_lightning.cli.commands.evaluation import Batch, choose, find_device, load_trained, predict_labels
from weakseg_lightning.cli.commands.places import file_of_run, shown
from weakseg_lightning.data import SegmentationDataModule
from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.errors import MissingFileError, UserError
from weakseg_lightning.metrics.segmentation import confusion_matrix, segmentation_scores
from weakseg_lightning.modules import WeakSegModule
from weakseg_lightning.modules.core.guides import colors_of
from weakseg_lightning.modules.core.resuming import read_checkpoint
from weakseg_lightning.reporting import Page, Picture
from weakseg_lightning.reporting.metrics import (
    best_of,
    case_table,
    class_table,
    curves_figure,
    latest,
    read_metrics,
    solver_table,
)
from weakseg_lightning.visualization.cases import cases_figure, read_cases
from weakseg_lightning.visualization.panels import PanelRow, draw_panels
from weakseg_lightning.visualization.trimap import read_trimap, trimap_figure

__all__ = ["report"]

Trained = tuple[Path, WeakSegModule, SegmentationDataModule]
"""A checkpoint, its module, and the data of its run."""

Earlier = tuple[Path, str, float]
"""A checkpoint, what it is the best by, and how good it is."""

_IN_NAME = re.compile(r"val_(?:miou|dice_mean)=(\d\.\d+)")
_TILE = 300  # longest side of an image in a panel, in pixels


def report(
    run: Path,
    output: Path | None = None,
    images: int = 200,
    panels: int = 3,
    seed: int = 0,
    root: str | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    allow_other_classes: bool = False,
) -> None:
    """Make one page of HTML of a run: results, curves, classes, boundaries, solver, pictures, configuration.

    The page needs no other file and no network. The trimap curve and the scores of the test are there once `weakseg
    test` has been run. For the pictures the best checkpoint predicts validation images; shown are those with the best,
    the median and the worst mIoU over the classes of the image; where no validation image has a mask, training images
    with what is drawn on them. Without the data or a checkpoint the page says so. The best checkpoint of a resumed run
    may be that of the run which it goes on from.

    Args:
        run: folder of the run, as runs/adm_grid/version_0.
        output: the page; by default report.html in the folder of the run.
        images: how many validation images are predicted to choose the pictures from, 0 for no pictures.
        panels: pictures of each kind (best, median, worst).
        seed: which images are used, if there are more.
        root: folder of the data set, if it is not where the run had it.
        device: what the network runs on; a GPU by default, if there is one.
        allow_other_classes: go on where the classes of the data have other names than those of the checkpoint.
    """
    at_least("images", images, 0)
    at_least("panels", panels, 1)
    metrics, config = read_metrics(run / "metrics.csv"), file_of_run(run / "config.yaml")
    folder = run.absolute()
    page = Page(f"{folder.parent.name} / {folder.name}")
    earlier = _earlier_best(run)
    _add_results(page, metrics, run, earlier)
    page.section("Images")
    if images:
        load = partial(_load, run, earlier, find_device(device), root, allow_other_classes)
        _add_pictures(page, load, images, panels, seed)
    else:
        page.text("Not predicted (--images 0).")
    page.section("Configuration")
    page.folded("config.yaml", config.read_text(encoding="utf-8"))
    output = output or run / "report.html"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(page.html(), encoding="utf-8")
    print(f"Wrote {shown(output)}: open it in a browser")


def _add_results(page: Page, metrics: dict[str, Any], run: Path, earlier: Earlier | None) -> None:
    tested = latest(run, "test*/metrics.csv")
    test = read_metrics(tested) if tested else {}
    page.facts([*_facts(metrics, test), *_earlier_facts(earlier)])
    if (drawn := curves_figure(metrics)) is not None:
        page.section("Curves")
        page.figure(drawn, "Training and validation against the iteration")
    if (classes := class_table(metrics, test)) is not None:
        page.section("Classes")
        page.table(classes)
    _add_cases(page, metrics, run)
    page.section("Near boundaries")
    if (trimap := latest(run, "test*/trimap.csv")) is not None:
        page.figure(trimap_figure({"": read_trimap(trimap)}), "Scores of the test against the width of the trimap")
    else:
        page.text(
            "No trimap curve: with images that have masks, run 'weakseg test', as 'weakseg fit' prints it at its end, "
            "and make this page again."
        )
    if (solver := solver_table(metrics)) is not None:
        page.section("Solver")
        page.table(solver)


def _add_cases(page: Page, metrics: dict[str, Any], run: Path) -> None:
    found = latest(run, "test*/cases.csv") or latest(run, "validate*/cases.csv")
    if found is not None:
        scores = read_cases(found)
        page.section("Cases")
        page.table(case_table(scores))
        page.figure(cases_figure(scores), f"Scores of the cases of {found.parent.name}: median, quartiles, range")
    elif "val_dice_mean" in metrics:
        page.section("Cases")
        page.text("No scores of single cases: run 'weakseg test', and make this page again.")


def _facts(metrics: dict[str, Any], test: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if (best := best_of(metrics)) is not None:
        yield "best validation mIoU", f"{100 * best[1]:.1f} %"
        yield "at iteration", str(best[0])
        yield "last validation mIoU", f"{100 * metrics['val_miou'][-1][1]:.1f} %"
    if (best := best_of(metrics, "val_dice_mean")) is not None:
        yield "best validation Dice per case", f"{100 * best[1]:.1f} %"
    for name, title in (("test_miou", "test mIoU"), ("test_dice_mean", "test Dice per case")):
        if name in test:
            yield title, f"{100 * test[name][-1][1]:.1f} %"
    if steps := [step for curve in metrics.values() for step, _ in curve]:
        yield "iterations", str(max(steps))


def _earlier_best(run: Path) -> Earlier | None:
    """The best checkpoint of the run that this one goes on from, where none of its own is better."""
    own = run / "checkpoints"
    try:
        callbacks = read_checkpoint(own / "last.ckpt").get("callbacks", {})
    except (OSError, ValueError):
        return None
    for key, state in callbacks.items():
        path = Path(state["best_model_path"]) if key.startswith(BestCheckpoint.__name__) else own
        if path.is_file() and not (own / path.name).exists():
            newer = max((_score_in_name(path) for path in _named(own)), default=-inf)
            score = float(state["best_model_score"])
            return (path, state["monitor"], score) if score >= newer else None  # nan, where nothing had a mask, is not
    return None


def _earlier_facts(earlier: Earlier | None) -> Iterator[tuple[str, str]]:
    if earlier is not None:
        path, monitor, score = earlier
        yield f"best {monitor}, before this run was resumed", f"{100 * score:.1f} %: {shown(path)}"


# ---- pictures -------------------------------------------------------------------------------------------------


def _load(run: Path, earlier: Earlier | None, device: str, root: str | None, allow_other_classes: bool) -> Trained:
    checkpoint = _best_checkpoint(run) if earlier is None else earlier[0]
    try:
        module, data = load_trained(run, checkpoint, root, "validate", allow_other_classes)
    except UserError:  # nothing is held out, maybe
        module, data = load_trained(run, checkpoint, root, "fit", allow_other_classes)
    return checkpoint, module.to(device), data


def _add_pictures(page: Page, load: Callable[[], Trained], images: int, panels: int, seed: int) -> None:
    try:
        checkpoint, module, data = load()
        found = data.whole_images("val")
        chosen = choose(len(found), images, seed)
        predicted = predict_labels(module, found, chosen, "validation images")
        scores = np.array([_score(labels, batch["mask"], module.num_classes) for batch, labels in predicted])
    except (OSError, ValueError, ImportError, argparse.ArgumentError) as error:
        page.text(f"No pictures: {' '.join(str(error).split())}")
        return
    order = [int(index) for index in np.argsort(-scores, kind="stable") if not np.isnan(scores[index])]
    if not order:
        _add_training_images(page, (checkpoint, module, data), 3 * panels, seed)
        return
    page.text(f"By {checkpoint.name}, of {len(order)} validation images; mIoU over the classes of the image.")
    extremes = list(_extremes(order, panels))
    predicted = predict_labels(module, found, [chosen[index] for _, index in extremes], "pictures")
    for (kind, index), (batch, labels) in zip(extremes, predicted, strict=True):
        page.picture(_picture(data, batch, labels[0], f"{kind}, mIoU {100 * scores[index]:.1f} %"))


def _add_training_images(page: Page, trained: Trained, images: int, seed: int) -> None:
    checkpoint, module, data = trained
    try:
        data.setup("fit")
        found = data.whole_images("train")
        rows = [*predict_labels(module, found, choose(len(found), images, seed), "pictures")]
    except (OSError, ValueError) as error:
        page.text(f"No pictures: no validation image has a mask, and of training images {error}")
        return
    page.text(f"No validation image has a mask: {len(rows)} training images by {checkpoint.name}.")
    for batch, labels in rows:
        row = PanelRow(colors_of(batch)[0], seeds=batch["seeds"][0], prediction=labels[0])
        picture = draw_panels([row], data.class_names, data.palette, tile=_TILE)
        page.picture(Picture(picture, batch["id"][0], "Image, what is drawn on it, and prediction side by side."))


def _best_checkpoint(run: Path) -> Path:
    """The checkpoint with the highest `val_miou` in its name, else the last one."""
    best = max(_named(run / "checkpoints"), key=lambda path: (_score_in_name(path), path.stat().st_mtime), default=None)
    last = run / "checkpoints" / "last.ckpt"
    if best is None and not last.is_file():
        raise MissingFileError(f"there is no checkpoint in {run / 'checkpoints'}")
    return best or last


def _named(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*.ckpt") if _IN_NAME.search(path.name)]


def _score_in_name(path: Path) -> float:
    found = _IN_NAME.search(path.name)
    assert found is not None
    return float(found[1])


def _score(labels: Tensor, mask: Tensor, num_classes: int) -> float:
    """MIoU over the classes of the image, nan without a mask."""
    counts = confusion_matrix(labels, mask, num_classes)
    return float(segmentation_scores(counts)["miou"]) if counts.sum() else float("nan")


def _extremes(order: list[int], panels: int) -> Iterator[tuple[str, int]]:
    """The first, middle and last of a list, none of them twice."""
    middle = max(0, (len(order) - panels) // 2)
    kinds = {"best": order[:panels], "median": order[middle : middle + panels], "worst": order[-panels:]}
    seen: set[int] = set()
    for kind in ("best", "worst", "median"):
        kinds[kind] = [index for index in kinds[kind] if index not in seen]
        seen.update(kinds[kind])
    for kind, indices in kinds.items():
        yield from ((kind, index) for index in indices)


def _picture(data: SegmentationDataModule, batch: Batch, labels: Tensor, what: str) -> Picture:
    truth = batch["mask"][0]
    row = PanelRow(colors_of(batch)[0], prediction=labels, truth=truth)
    present = [data.class_names[k] for k in sorted(set(truth.unique().tolist()) - {VOID})]
    text = f"Image, prediction and ground truth side by side; in the ground truth are {', '.join(present)}."
    name = batch["id"][0]
    return Picture(draw_panels([row], data.class_names, data.palette, tile=_TILE), f"{name}: {what}", text)
