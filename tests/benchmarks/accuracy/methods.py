"""Train recipes with the same budget and seeds and print one table of their scores.

Run from the project's root; whatever follows ``--`` goes to every ``weakseg fit`` as it stands::

    python tests/benchmarks methods --recipes pce adm_grid --seeds 0 1 2 -- --config recipes/data/scenes.yaml

Every run keeps its log, configuration and checkpoint under ``--out``; a run that has finished is not run again. A
recipe with overlays is written ``acdc/unet+acdc/adm``. Where cases are scored, the table has the mean over cases of the
Dice of each class, too, for each seed. With ``--trimap 16 8`` it has the pixel accuracy within so many pixels of class
boundaries, as table 3 of the ADM paper (Marin et al., CVPR 2019): ``weakseg test`` finds it for the last checkpoint of
each run.
"""

import argparse
import csv
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean

from measuring import ROOT, command_line, cores, markdown, newest, parse_own, resolved, run_once, run_python

from weakseg_lightning.visualization.trimap import read_trimap


def main() -> None:
    """Run all (recipe, seed) pairs, ``--jobs`` at a time, and print the table."""
    options, extra = parse(sys.argv[1:])
    pairs = [(recipe, seed) for seed in options.seeds for recipe in options.recipes]
    with ThreadPoolExecutor(options.jobs) as pool:
        runs = dict(zip(pairs, pool.map(lambda pair: train(*pair, options, extra), pairs), strict=True))
    print(table(runs, options))


def parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Split the arguments at ``--``: ours, and those of ``weakseg fit``."""
    parser = command_line(__doc__)
    parser.add_argument("--recipes", nargs="+", default=["pce", "grid_gd", "adm_grid", "full"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; each gets cores / jobs threads")
    parser.add_argument("--out", type=resolved, default=ROOT / "runs" / "methods")
    parser.add_argument("--start_from", help="begin with last.ckpt of the newest run in START_FROM-<seed>")
    parser.add_argument("--trimap", nargs="*", type=int, default=[], help="widths: also print accuracy near boundaries")
    parser.add_argument("--classes", nargs="*", default=[], help="also print the mIoU over these classes")
    return parse_own(parser, arguments)


def train(recipe: str, seed: int, options: argparse.Namespace, extra: list[str]) -> dict[str, float]:
    """Train one recipe with one seed in its own process and read its last validation."""
    folder = options.out / f"{recipe.replace('/', '_')}-{seed}"

    def words() -> list[str]:
        given = ["-m", "weakseg_lightning", "fit"]
        given += [word for name in recipe.split("+") for word in ("--config", name)] + extra
        given += ["--seed_everything", str(seed), "--trainer.default_root_dir", str(options.out), "--name", folder.name]
        if options.start_from is not None:
            first = newest(Path(f"{options.start_from}-{seed}"), "checkpoints/last.ckpt")
            given += ["--model.start_from", str(first)]
        return given

    seconds = run_once(words, folder, threads_of(options))
    scores = {**last_validation(newest(folder, "metrics.csv")), "seconds": seconds}
    return scores | (near_boundaries(newest(folder, "checkpoints/last.ckpt"), options) if options.trimap else {})


def near_boundaries(checkpoint: Path, options: argparse.Namespace) -> dict[str, float]:
    """Test a run, if that is not done yet, and read its accuracy near class boundaries."""
    run = checkpoint.parents[1]
    found = run / "test" / "trimap.csv"
    if not found.exists():
        words = ["-m", "weakseg_lightning", "test", "--config", str(run / "config.yaml")]
        words += ["--ckpt_path", str(checkpoint), "--trimap.max_width", str(max(40, *options.trimap))]
        run_python(words, run / "test.txt", threads_of(options))
    accuracy = read_trimap(found)["trimap_boundary_pixel_accuracy"]
    return {f"within_{width}": float(accuracy[width - 1]) for width in options.trimap}


def threads_of(options: argparse.Namespace) -> int:
    """Threads of each run."""
    return max(1, cores() // options.jobs)


def last_validation(metrics: Path) -> dict[str, float]:
    """Scores of the last validation that a run logged."""
    with metrics.open() as file:
        rows = [row for row in csv.DictReader(file) if row.get("val_miou")]
    return {name: float(value) for name, value in rows[-1].items() if value and name.startswith("val_")}


def table(runs: dict[tuple[str, int], dict[str, float]], options: argparse.Namespace) -> str:
    """A Markdown table: one row a recipe, mIoU for each seed, the means, the fraction of the last recipe's mean."""
    scores = {name: [score(runs[name, seed], options.classes) for seed in options.seeds] for name in options.recipes}
    best = mean(scores[options.recipes[-1]])
    titles = ["recipe", f"mIoU{f'-{len(options.classes)}' if options.classes else ''}, seeds {options.seeds}", "mean"]
    titles += [f"fraction of {options.recipes[-1]}", "all classes", "pixel accuracy"]
    titles += [*(f"within {width} px" for width in options.trimap), "grid energy", "seconds"]
    dices = [key for key in runs[options.recipes[-1], options.seeds[0]] if key.startswith("val_dice_")]
    titles += [f"Dice {key.removeprefix('val_dice_')}" for key in dices]
    rows = []
    for name, values in scores.items():
        group = [runs[name, seed] for seed in options.seeds]
        keys = ("val_miou", "val_pixel_accuracy", *(f"within_{width}" for width in options.trimap))
        row = [name, ", ".join(f"{100 * v:.1f}" for v in values), f"{100 * mean(values):.1f}"]
        row += [f"{100 * mean(values) / best:.0f} %", *(f"{100 * mean(run[key] for run in group):.1f}" for key in keys)]
        row += [f"{mean(run['val_grid_energy'] for run in group):.3f}", f"{mean(run['seconds'] for run in group):.0f}"]
        row += [", ".join(f"{100 * run[key]:.1f}" for run in group) for key in dices]
        rows.append(row)
    return markdown(titles, rows)


def score(run: dict[str, float], classes: list[str]) -> float:
    """Mean IoU over the given classes, or over all that occur."""
    return mean(run[f"val_iou_{name}"] for name in classes) if classes else run["val_miou"]


if __name__ == "__main__":
    main()
