"""`weakseg experiment ccnn-bounds`: constrained CNNs with each of their bounds changed in turn."""

import csv
import shlex
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
from weakseg_lightning.files import replacing
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
    overlays = {bounds: _overlay(constraints, bounds) for bounds in table}
    runs = {bounds: [_Run(output / f"{bounds}_seed{seed}", seed) for seed in seeds] for bounds in table}
    settings = {"recipes": [Path(path).read_text(encoding="utf-8") for path in paths], "options": shlex.split(options)}
    for bounds, of_bounds in runs.items():  # raises before anything runs
        for run in of_bounds:
            run.require_same(settings | overlays[bounds])
    scores = {
        bounds: [run.score(paths, overlays[bounds], settings) for run in of_bounds]
        for bounds, of_bounds in runs.items()
    }
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


@dataclass(frozen=True)
class _Run:
    """One training run, below its own folder; `done.yaml` there has its score and all that it was trained with."""

    folder: Path
    seed: int

    @property
    def done(self) -> Path:
        return self.folder / "done.yaml"

    def require_same(self, settings: dict[str, Any]) -> None:
        """Make sure that a finished run is one of these settings."""
        if self.done.is_file() and yaml.safe_load(self.done.read_text(encoding="utf-8"))["settings"] != settings:
            raise UserError(
                f"{self.folder} holds a run of other recipes, constraints or options: name another folder (`output`)"
            )

    def score(self, recipes: Sequence[str], overlay: dict[str, Any], settings: dict[str, Any]) -> float:
        """Train once, unless that has been done; final mIoU."""
        if self.done.is_file():
            return float(yaml.safe_load(self.done.read_text(encoding="utf-8"))["miou"])
        self.folder.mkdir(parents=True, exist_ok=True)
        bounds, log = self.folder / "bounds.yaml", self.folder / "log.txt"
        bounds.write_text(yaml.safe_dump(overlay, sort_keys=False), encoding="utf-8")
        configs = chain.from_iterable(("--config", path) for path in (*recipes, str(bounds)))
        place = ["--trainer.default_root_dir", str(self.folder), "--name", "run", "--seed_everything", str(self.seed)]
        command = [sys.executable, "-m", "weakseg_lightning", "fit", *configs, *place, *settings["options"]]
        with log.open("w", encoding="utf-8") as file:
            status = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
        if status != 0:
            lines = log.read_text(encoding="utf-8").strip().splitlines()
            raise FileError(f"`weakseg fit` ended with status {status}, see {log}: {lines[-1] if lines else ''}")
        newest = max((self.folder / "run").glob("version_*/metrics.csv"), key=lambda path: path.stat().st_mtime)
        found = _last(newest, "val_miou")
        finished = {"miou": found, "settings": settings | overlay}
        with replacing(self.done) as path:
            path.write_text(yaml.safe_dump(finished, sort_keys=False), encoding="utf-8")
        return found


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
