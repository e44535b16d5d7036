"""`weakseg experiment ccnn-bounds`: constrained CNNs with each of their bounds changed in turn."""

import csv
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from weakseg_lightning.cli.recipes import find_recipe
from weakseg_lightning.constraints import preset
from weakseg_lightning.constraints.presets import PresetName
from weakseg_lightning.errors import FileError, UserError
from weakseg_lightning.hyperparameters import describe

__all__ = ["ccnn_bounds"]

FOREGROUND_LOWER = [0.1, 0.2, 0.3, 0.4]
BACKGROUND_LOWER = [0.2, 0.1, 0.3, 0.4, 0.5]
BACKGROUND_UPPER = [0.7, 0.5, 0.6, 0.8]


@dataclass(frozen=True)
class Bounds:
    """One row of the table.

    Args:
        foreground_lower: a_l of eq. 8, fraction of the image.
        background_lower: a_0 of eq. 9.
        background_upper: b_0 of eq. 9.
    """

    foreground_lower: float
    background_lower: float
    background_upper: float

    def __str__(self) -> str:
        return f"fg{self.foreground_lower:g}_bg{self.background_lower:g}-{self.background_upper:g}"


def ccnn_bounds(
    recipes: list[str],
    output: Path = Path("runs/ccnn_bounds"),
    constraints: PresetName = "tags_size",
    foreground_lower: list[float] = FOREGROUND_LOWER,
    background_lower: list[float] = BACKGROUND_LOWER,
    background_upper: list[float] = BACKGROUND_UPPER,
    seeds: list[int] = [0],  # noqa: B006 - never changed, and the default has to show in --help
    options: str = "",
) -> None:
    """Train with each bound of the constraints changed in turn, the others fixed, and print the table.

    Table 4 of Pathak et al. (ICCV 2015). The first value of each list is the default that stays fixed while another
    bound changes. Every set of bounds is one `weakseg fit` for each seed, one after the other; the runs are below
    OUTPUT. Runs that are finished are not repeated when the command is given again. OUTPUT/table.csv holds the table.

    Args:
        recipes: recipe and overlays, as after `--config` of `weakseg fit`.
        output: folder for the runs and the table.
        constraints: set of constraints whose bounds are changed.
        foreground_lower: least areas of tagged classes (with sizes: of large ones), as fractions of the image.
        background_lower: least areas of the background.
        background_upper: greatest areas of the background.
        seeds: seeds of the runs; the table has the mean over them.
        options: more options for each `weakseg fit`, in one text.
    """
    paths = [find_recipe(recipe) for recipe in recipes]
    table = line_search(foreground_lower, background_lower, background_upper)
    overlays = {bounds: _overlay(constraints, bounds) for bounds in table}  # raises before anything runs
    scores: dict[Bounds, list[float]] = {}
    for bounds in table:
        scores[bounds] = [
            _trained(paths, overlays[bounds], output / f"{bounds}_seed{seed}", seed, options.split()) for seed in seeds
        ]
    _report(scores, output)


def line_search(*lists: Sequence[float]) -> list[Bounds]:
    """List the sets of bounds: the first of each list, then the others of one list at a time.

    Raises:
        UserError: if a list is empty.

    Example:
        >>> [str(bounds) for bounds in line_search([0.1, 0.2], [0.3], [0.7, 0.8])]
        ['fg0.1_bg0.3-0.7', 'fg0.2_bg0.3-0.7', 'fg0.1_bg0.3-0.8']
    """
    names = ("foreground_lower", "background_lower", "background_upper")
    for name, values in zip(names, lists, strict=True):
        if not values:
            raise UserError(f"`{name}` needs at least one value, the default, got none")
    default = [values[0] for values in lists]
    changed = [
        [*default[:place], value, *default[place + 1 :]] for place, values in enumerate(lists) for value in values[1:]
    ]
    return [Bounds(*values) for values in dict.fromkeys(map(tuple, chain([default], changed)))]


def _overlay(constraints: PresetName, bounds: Bounds) -> dict[str, Any]:
    rules = preset(constraints, bounds.foreground_lower, bounds.background_lower, bounds.background_upper)
    return {"model": {"init_args": {"constraints": [describe(rule) for rule in rules]}}}


def _trained(recipes: Sequence[str], overlay: dict[str, Any], folder: Path, seed: int, options: Sequence[str]) -> float:
    """Train once, unless that has been done; final mIoU."""
    if (done := folder / "miou.txt").is_file():
        return float(done.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bounds.yaml").write_text(yaml.safe_dump(overlay, sort_keys=False), encoding="utf-8")
    configs = chain.from_iterable(("--config", path) for path in (*recipes, str(folder / "bounds.yaml")))
    place = ["--trainer.default_root_dir", str(folder), "--name", "run", "--seed_everything", str(seed)]
    command = [sys.executable, "-m", "weakseg_lightning", "fit", *configs, *place, *options]
    with (folder / "log.txt").open("w", encoding="utf-8") as log:
        status = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    if status != 0:
        lines = (folder / "log.txt").read_text(encoding="utf-8").strip().splitlines()
        raise FileError(
            f"`weakseg fit` ended with status {status}, see {folder / 'log.txt'}: {lines[-1] if lines else ''}"
        )
    newest = max((folder / "run").glob("version_*/metrics.csv"), key=lambda path: path.stat().st_mtime)
    score = _last(newest, "val_miou")
    done.write_text(repr(score))
    return score


def _last(path: Path, column: str) -> float:
    with path.open(newline="", encoding="utf-8") as file:
        values = [row[column] for row in csv.DictReader(file) if row.get(column)]
    if not values:
        raise FileError(f"{path} has no `{column}`: the run was not validated, set `trainer.check_val_every_n_epoch`")
    return float(values[-1])


def _report(scores: dict[Bounds, list[float]], output: Path) -> None:
    columns = ["foreground lower", "background lower", "background upper", "mIoU"]
    table = Table(*columns)
    rows = [
        [bounds.foreground_lower, bounds.background_lower, bounds.background_upper, 100 * fmean(found)]
        for bounds, found in scores.items()
    ]
    for row in rows:
        table.add_row(*[f"{value:g}" for value in row[:3]], f"{row[3]:.2f}")
    with (output / "table.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *rows])
    console = Console()
    console.print(table)
    console.print(f"standard deviation over the rows: {pstdev(row[3] for row in rows):.2f} (paper: 0.73)")
