"""Train with scribbles of several lengths and print one table and one plot: score against length.

For each length and seed: a first phase of partial cross-entropy, then from its weights a second phase of each method
with the same budget, as in the paper (Marin and Boykov, Robust Trust Region, ICCV 2021, table 1 and figure 5); full
supervision has masks in both phases. Run from the project's root; whatever follows ``--`` goes to every
``weakseg fit`` as it stands::

    python tests/benchmarks lengths --seeds 0 1 --jobs 2 -- --config recipes/hardware/cpu.yaml --data.root DATASETS

Every run keeps its log, configuration and checkpoint under ``--out``; a run that has finished is not run again.
"""

import argparse
import shlex
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean

from matplotlib.figure import Figure
from measuring import ROOT, command_line, markdown, newest, parse_own, resolved
from methods import score, train

TRUST_REGION = {length: f"trust_region_grid_{name}" for length, name in ((0.8, "80"), (0.5, "50"), (0.3, "30"))}
TRUST_REGION |= {1.0: "trust_region_grid", 0.0: "trust_region_grid_clicks"}
METHODS = ("pCE", "Grid-GD", "Grid-TR")
FULL = "full supervision"
_OTHER_SEEDS = 10  # the second phase shuffles otherwise than the first


def main() -> None:
    """Train all, then print the table and draw the plot."""
    options, extra = parse(sys.argv[1:])
    with ThreadPoolExecutor(options.jobs) as pool:
        firsts = [(length, seed) for seed in options.seeds for length in (*options.lengths, None)]
        list(pool.map(lambda job: phase(*job, first_recipe(job[0]), "first", options, extra), firsts))
        seconds = [(*job, name) for job in firsts for name in (METHODS if job[0] is not None else (FULL,))]
        runs = dict(zip(seconds, pool.map(lambda job: second(*job, options, extra), seconds), strict=True))
    scores = {name: curve(runs, name, options) for name in (*METHODS, FULL)}
    print(table(scores, options.lengths))
    plot(scores, options.lengths, options.plot)


def parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Split the arguments at ``--``: ours, and those of ``weakseg fit``."""
    parser = command_line(__doc__)
    parser.add_argument("--lengths", nargs="+", type=float, default=[1.0, 0.5, 0.0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; each gets cores / jobs threads")
    parser.add_argument("--iterations", type=int, default=240, help="of the second phase")
    parser.add_argument("--lr", default="1e-4", help="of the second phase, at its beginning")
    parser.add_argument("--grid_gd", type=shlex.split, default=[], help="more options of Grid-GD, in one string")
    parser.add_argument("--grid_tr", type=shlex.split, default=[], help="more options of Grid-TR, in one string")
    parser.add_argument("--out", type=resolved, default=ROOT / "runs" / "lengths")
    parser.add_argument("--plot", type=Path, default=Path("lengths.png"))
    parser.add_argument("--classes", nargs="*", default=[], help="the score is the mIoU over these classes; else all")
    return parse_own(parser, arguments)


def first_recipe(length: float | None) -> str:
    """Recipe of the first phase."""
    return "full" if length is None else "pce"


def phase(
    length: float | None, seed: int, recipe: str, name: str, options: argparse.Namespace, extra: list[str]
) -> dict[str, float]:
    """Train one phase at one length, or with full masks (None)."""
    folder = "full" if length is None else f"{length:g}"
    arguments = [] if length is None else ["--data.scribble_length", folder]
    changed = {"out": options.out / name / folder, "start_from": None, "trimap": []}
    where = argparse.Namespace(**{**vars(options), **changed})
    if name == "first":
        return train(recipe, seed, where, [*extra, *arguments])
    begun = newest(options.out / "first" / folder / f"{first_recipe(length)}-{seed}", "checkpoints/last.ckpt")
    steps = str(options.iterations)
    arguments += ["--trainer.max_steps", steps, "--trainer.val_check_interval", steps]
    arguments += ["--model.start_from", str(begun), "--model.pce_fraction", "0", "--model.optimizer.lr", options.lr]
    return train(recipe, seed + _OTHER_SEEDS, where, [*extra, *arguments])


def second(
    length: float | None, seed: int, name: str, options: argparse.Namespace, extra: list[str]
) -> dict[str, float]:
    """Train the second phase of a method."""
    own = {"Grid-GD": options.grid_gd, "Grid-TR": options.grid_tr}
    recipe = {"pCE": "pce", "Grid-GD": "grid_gd", FULL: "full"}.get(name) or TRUST_REGION[length or 0.0]
    return phase(length, seed, recipe, "second", options, [*extra, *own.get(name, [])])


def curve(runs: dict[tuple, dict[str, float]], name: str, options: argparse.Namespace) -> list[list[float]]:
    """Scores in per cent of a method: for each length, for each seed."""
    lengths = [None] if name == FULL else options.lengths
    return [[100 * score(runs[length, seed, name], options.classes) for seed in options.seeds] for length in lengths]


def table(scores: dict[str, list[list[float]]], lengths: list[float]) -> str:
    """A Markdown table: one row a method, each length with its seeds, mean and fraction of full supervision."""
    best = mean(scores[FULL][0])
    rows = []
    for name, values in scores.items():
        cells = [f"{' '.join(f'{v:.1f}' for v in some)}: {mean(some):.1f} ({mean(some) / best:.0%})" for some in values]
        rows.append([name, *cells * (len(lengths) if name == FULL else 1)])
    return markdown(["method", *(f"length {length:g}" for length in lengths)], rows)


def plot(scores: dict[str, list[list[float]]], lengths: list[float], path: Path) -> None:
    """Draw the means over the seeds as lines, the seeds as points."""
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.add_subplot()
    for name, values in scores.items():
        x = [min(lengths), max(lengths)] if name == FULL else lengths
        means = [mean(some) for some in values] * (2 if name == FULL else 1)
        (line,) = axes.plot(x, means, "k--" if name == FULL else "o-", label=name)
        if name != FULL:
            for length, some in zip(lengths, values, strict=True):
                axes.plot([length] * len(some), some, ".", color=line.get_color(), alpha=0.5)
    axes.set(xlabel="scribble length (0: clicks)", ylabel="mIoU, %")
    axes.legend()
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
