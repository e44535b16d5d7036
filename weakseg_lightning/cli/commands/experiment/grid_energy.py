"""`weakseg experiment grid-energy`: the grid CRF's energy of runs, at their end and while they trained."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from matplotlib.figure import Figure

from weakseg_lightning.checks import at_least
from weakseg_lightning.cli.commands.evaluation import choose, find_device, load_trained, predict_labels
from weakseg_lightning.cli.commands.places import file_of_run, shown
from weakseg_lightning.data import SegmentationDataModule
from weakseg_lightning.errors import UserError
from weakseg_lightning.metrics import MeanGridEnergy, SegmentationScores
from weakseg_lightning.modules import WeakSegModule
from weakseg_lightning.modules.core.guides import colors_of

__all__ = ["energy_figure", "grid_energy", "read_curve"]

Split = Literal["train", "val"]
Curve = list[tuple[int, float]]

_COLUMNS = ("train_grid_energy", "val_grid_energy", "train_miou", "val_miou")
_LOGGED = "val_grid_energy"


def grid_energy(
    runs: list[Path],
    names: list[str] = [],  # noqa: B006 - never changed, and the default has to show in --help
    images: int = 1000,
    seed: int = 0,
    root: str | None = None,
    output: Path = Path("grid_energy"),
    device: Literal["auto", "cpu", "cuda"] = "auto",
    allow_other_classes: bool = False,
) -> None:
    """Compare runs by the grid CRF's energy of what their networks predict, on training and validation images.

    Table 1 of Marin et al. (CVPR 2019), and the plot of its figure 3. The last checkpoint of each run predicts the same
    training and validation images, whole; the table has the mean over the images of the grid Potts energy of the
    labels, per edge, at weight 80, and the mIoU against the full masks. The plot has `val_grid_energy` as the runs
    logged it, against the iteration: validate often for it, as with `--trainer.val_check_interval 500`.

    The table is printed as Markdown. OUTPUT/table.csv and OUTPUT/energy.png hold table and plot.

    Args:
        runs: folders of the runs, as runs/adm_grid/version_0, with config.yaml, metrics.csv and checkpoints/last.ckpt.
        names: what to call them; by default the names of their folders.
        images: how many training and how many validation images are predicted; all if there are fewer.
        seed: which images are used.
        root: folder of the data set, if it is not where the runs had it.
        output: folder for the results.
        device: what the networks run on; a GPU by default, if there is one.
        allow_other_classes: go on where the classes of the data have other names than those of the checkpoints.
    """
    titles = names or [f"{run.absolute().parent.name}/{run.absolute().name}" for run in runs]
    if not runs or len(titles) != len(runs) or len(set(titles)) < len(titles):
        raise UserError(f"`names` must be as many as `runs` ({len(runs)}, at least 1), all different, got {titles}")
    at_least("images", images, 1)
    named, where = dict(zip(titles, runs, strict=True)), find_device(device)
    curves = {title: read_curve(run / "metrics.csv") for title, run in named.items()}  # before time is spent
    trained = {  # before time is spent, too
        title: load_trained(run, run / "checkpoints" / "last.ckpt", root, "fit", allow_other_classes)
        for title, run in named.items()
    }
    table = {}
    for title in named:
        module, data = trained.pop(title)
        table[title] = _measured(module.to(where), data, title, images, seed)
    output.mkdir(parents=True, exist_ok=True)
    with (output / "table.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("run", *_COLUMNS), *([title, *row] for title, row in table.items())])
    energy_figure(curves).savefig(output / "energy.png", dpi=130)
    print(_markdown(table))
    print(f"\nTable and plot are in {shown(output)}.")


def read_curve(path: Path) -> Curve:
    """Read the validations of a run.

    Args:
        path: its metrics.csv.

    Returns:
        Iteration and ``val_grid_energy`` of each.

    Raises:
        MissingFileError: if there is no such file.
        UserError: if it has no validation.
    """
    with file_of_run(path, "runs", "the folders of runs").open(newline="", encoding="utf-8") as file:
        found = [(int(row["step"]) + 1, float(row[_LOGGED])) for row in csv.DictReader(file) if row.get(_LOGGED)]
    if not found:
        raise UserError(f"`runs`: {path} has no `{_LOGGED}`: the run was not validated")
    return found


def energy_figure(curves: Mapping[str, Curve]) -> Figure:
    """Draw the energy on validation images against the iteration, a line per run."""
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.add_subplot()
    for title, curve in curves.items():
        axes.plot(*zip(*curve, strict=True), ".-", label=title)
    axes.set(xlabel="iteration", ylabel="grid CRF energy, validation")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


def _measured(module: WeakSegModule, data: SegmentationDataModule, title: str, images: int, seed: int) -> list[float]:
    """The values of :data:`_COLUMNS`."""
    splits: tuple[Split, ...] = ("train", "val")
    scores = [_scores(module, data, split, f"{title}, {split}", images, seed) for split in splits]
    return [value for pair in zip(*scores, strict=True) for value in pair]


def _scores(
    module: WeakSegModule, data: SegmentationDataModule, split: Split, what: str, images: int, seed: int
) -> tuple[float, float]:
    """Mean energy and mIoU of the predictions for some whole images of a split."""
    found, segmentation, energy = data.whole_images(split), SegmentationScores(module.num_classes), MeanGridEnergy()
    chosen = choose(len(found), images, seed)
    for batch, labels in predict_labels(module, found, chosen, what):
        segmentation.update(labels, batch["mask"])
        energy.update(labels, colors_of(batch), batch["valid"])
    return float(energy.compute()), float(segmentation.compute()["miou"])


def _markdown(table: Mapping[str, list[float]]) -> str:
    lines = [
        "| run | energy, training | energy, validation | mIoU, training | mIoU, validation |",
        "|---|---|---|---|---|",
    ]
    for title, (train, val, *mious) in table.items():
        cells = [f"{train:.3f}", f"{val:.3f}", *(f"{100 * miou:.1f}" for miou in mious)]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)
