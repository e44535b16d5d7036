"""The metrics of a run, as curves and tables."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev

from matplotlib.figure import Figure

from weakseg_lightning.reporting.page import Table

Curve = list[tuple[int, float]]

_PANELS = (
    ("loss", ("train_loss",)),
    ("validation, %", ("val_miou", "val_pixel_accuracy", "val_dice_mean")),
    ("grid CRF energy", ("val_grid_energy",)),
)
_LABELS = {"val_miou": "mIoU", "val_dice_mean": "Dice per case"}
_PERCENT = ("miou", "pixel_accuracy", "dice_mean")
_SOLVER = {
    "hook_forward_ms": "prediction for the solver, ms per batch",
    "hook_solve_ms": "solver, ms per batch",
    "hook_transfer_ms": "transfer to and from the solver, ms per batch",
    "solved_images_per_second": "images solved per second",
}
_CLASS = "iou_"


def read_metrics(path: Path) -> dict[str, Curve]:
    """Read the metrics.csv of a run.

    Args:
        path: the file.

    Returns:
        By the name of the column: iteration (from 1) and value, wherever there is a finite one.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is another kind of file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"`run`: no file {path} (working directory: {Path.cwd()}): name the folder of a run")
    found: dict[str, Curve] = {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        if "step" not in (rows.fieldnames or []):
            raise ValueError(f"`run`: {path} has no column `step`: expected a metrics.csv that `weakseg` wrote")
        for row in rows:
            for name, text in row.items():
                if name not in (None, "step", "epoch") and text and math.isfinite(value := float(text)):
                    found.setdefault(name, []).append((int(float(row["step"])) + 1, value))
    return found


def best_of(metrics: Mapping[str, Curve], name: str = "val_miou") -> tuple[int, float] | None:
    """Iteration and value of the largest value of a metric, the first of equal ones."""
    return max(metrics.get(name, []), key=lambda point: point[1], default=None)


def curves_figure(metrics: Mapping[str, Curve]) -> Figure | None:
    """Draw loss and validations against the iteration, one plot below the other; None if nothing was logged."""
    drawn = [(title, [name for name in names if metrics.get(name)]) for title, names in _PANELS]
    drawn = [(title, names) for title, names in drawn if names]
    if not drawn:
        return None
    figure = Figure(figsize=(6, 2.2 * len(drawn)), layout="constrained")
    for axes, (title, names) in zip(figure.subplots(len(drawn), sharex=True, squeeze=False)[:, 0], drawn, strict=True):
        for number, name in enumerate(names):
            steps, values = zip(*metrics[name], strict=True)
            shown = [100 * value if name.endswith(_PERCENT) else value for value in values]
            label = _LABELS.get(name, name.split("_", 1)[1].replace("_", " "))
            axes.plot(steps, shown, ("-", "--", ":")[number], marker="." if len(steps) < 30 else "", label=label)
        axes.set_ylabel(title)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        if len(names) > 1:
            axes.legend(frameon=False)
    axes.set_xlabel("iteration")
    return figure


def class_table(validation: Mapping[str, Curve], test: Mapping[str, Curve]) -> Table | None:
    """Intersection over union of each class: at the best and at the last validation, and of the test.

    Args:
        validation: metrics of the training.
        test: metrics of the latest test, may be empty.
    """
    best = best_of(validation)
    columns = {}
    if best is not None:
        columns[f"validation, iteration {best[0]} (best)"] = _at(validation, "val_", best[0])
        last = validation["val_miou"][-1][0]
        if last != best[0]:
            columns[f"validation, iteration {last} (last)"] = _at(validation, "val_", last)
    if test.get("test_miou"):
        columns["test"] = _at(test, "test_", test["test_miou"][-1][0])
    names = list(dict.fromkeys(name for column in columns.values() for name in column))
    if not names:
        return None
    rows = [[name, *(_percent(column.get(name)) for column in columns.values())] for name in names]
    return Table("intersection over union, %", ["class", *columns], rows)


def case_table(scores: Mapping[str, Sequence[float]]) -> Table:
    """Mean and standard deviation of each class over the cases, and of the means over the classes.

    Args:
        scores: an entry per case: ``dice_<class>`` in 0..1 and ``hd95_<class>``, the means over the classes as
            ``mean``.
    """
    classes = [name.removeprefix("dice_") for name in scores if name.startswith("dice_")]
    cases = max(map(len, scores.values()), default=0)
    rows = []
    for name in classes:
        dice = [100 * value for value in scores[f"dice_{name}"]]
        rows.append([name, _spread(dice, cases), _spread(scores[f"hd95_{name}"], cases)])
    title = (
        f"mean ± standard deviation over {cases} cases, or as many as in parentheses; HD95 in the unit of the spacing"
    )
    return Table(title, ["class", "Dice, %", "HD95"], rows)


def solver_table(metrics: Mapping[str, Curve]) -> Table | None:
    """Cost of the latent labelings; None for methods without."""
    rows = [
        [title, *map(_number, (mean(values), values[-1], max(values)))]
        for name, title in _SOLVER.items()
        if (values := [value for _, value in metrics.get(name, [])])
    ]
    return Table("cost of the latent labeling", ["what", "mean", "last", "largest"], rows) if rows else None


def _at(metrics: Mapping[str, Curve], stage: str, step: int) -> dict[str, float]:
    """Values by class at an iteration, the mean first."""
    prefix = f"{stage}{_CLASS}"
    found = {
        name.removeprefix(prefix): dict(curve).get(step) for name, curve in metrics.items() if name.startswith(prefix)
    }
    present = {name: value for name, value in found.items() if value is not None}
    return {"mean": dict(metrics[f"{stage}miou"])[step], **present} if present else {}


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def _spread(values: Sequence[float], cases: int) -> str:
    """Mean and standard deviation, and how many values there are, where not all cases have one."""
    if not values:
        return "-"
    spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return f"{mean(values):.1f}{spread}{f' ({len(values)})' * (len(values) < cases)}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def latest(run: Path, pattern: str) -> Path | None:
    """The file of a run that was written last, of those that match."""
    found: Sequence[Path] = [*run.glob(pattern)]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)
