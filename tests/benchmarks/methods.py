"""Train recipes with the same budget and seeds and print one table of their scores.

Run from the project's root; whatever follows ``--`` goes to every ``weakseg fit`` as it stands::

    python tests/benchmarks/methods.py --recipes pce adm_grid --seeds 0 1 2 -- --config recipes/data/scenes.yaml

Every run keeps its log, configuration and checkpoint under ``--out``; a run that has finished is not run again. With
``--trimap 16 8`` the table has the pixel accuracy within so many pixels of class boundaries, too, as table 3 of the ADM
paper (Marin et al., CVPR 2019): ``weakseg test`` finds it for the last checkpoint of each run.
"""

import argparse
import csv
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean

from weakseg_lightning.visualization.trimap import read_trimap

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Run all (recipe, seed) pairs, ``--jobs`` at a time, and print the table."""
    options, extra = parse(sys.argv[1:])
    pairs = [(recipe, seed) for seed in options.seeds for recipe in options.recipes]
    with ThreadPoolExecutor(options.jobs) as pool:
        runs = dict(zip(pairs, pool.map(lambda pair: train(*pair, options, extra), pairs), strict=True))
    print(table(runs, options))


def parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Split the arguments at ``--``: ours, and those of ``weakseg fit``."""
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=["pce", "grid_gd", "adm_grid", "full"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; each gets cores / jobs threads")
    parser.add_argument("--out", type=lambda text: Path(text).resolve(), default=ROOT / "runs" / "methods")
    parser.add_argument("--start_from", help="begin with last.ckpt of the newest run in START_FROM-<seed>")
    parser.add_argument("--trimap", nargs="*", type=int, default=[], help="widths: also print accuracy near boundaries")
    parser.add_argument("--classes", nargs="*", default=[], help="also print the mIoU over these classes")
    return parser.parse_args(arguments[:cut]), arguments[cut + 1 :]


def train(recipe: str, seed: int, options: argparse.Namespace, extra: list[str]) -> dict[str, float]:
    """Train one recipe with one seed in its own process and read its last validation."""
    folder = options.out / f"{recipe}-{seed}"
    done = folder / "seconds.txt"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "weakseg_lightning", "fit", "--config", f"recipes/{recipe}.yaml", *extra]
        command += [
            "--seed_everything",
            str(seed),
            "--trainer.default_root_dir",
            str(options.out),
            "--name",
            folder.name,
        ]
        if options.start_from is not None:
            first = newest(Path(f"{options.start_from}-{seed}"), "checkpoints/last.ckpt")
            command += ["--model.start_from", str(first)]
        start = time.perf_counter()
        with (folder / "log.txt").open("w") as log:
            environment = {**os.environ, "OMP_NUM_THREADS": threads_of(options)}
            subprocess.run(command, check=True, cwd=ROOT, stdout=log, stderr=log, env=environment)
        done.write_text(f"{time.perf_counter() - start:.1f}")
    scores = {**last_validation(newest(folder, "metrics.csv")), "seconds": float(done.read_text())}
    return scores | (near_boundaries(newest(folder, "checkpoints/last.ckpt"), options) if options.trimap else {})


def near_boundaries(checkpoint: Path, options: argparse.Namespace) -> dict[str, float]:
    """Test a run, if that is not done yet, and read its accuracy near class boundaries."""
    run = checkpoint.parents[1]
    found = run / "test" / "trimap.csv"
    if not found.exists():
        command = [sys.executable, "-m", "weakseg_lightning", "test", "--config", str(run / "config.yaml")]
        command += ["--ckpt_path", str(checkpoint), "--trimap.max_width", str(max(40, *options.trimap))]
        with (run / "test.txt").open("w") as log:
            environment = {**os.environ, "OMP_NUM_THREADS": threads_of(options)}
            subprocess.run(command, check=True, cwd=ROOT, stdout=log, stderr=log, env=environment)
    accuracy = read_trimap(found)["trimap_boundary_pixel_accuracy"]
    return {f"within_{width}": float(accuracy[width - 1]) for width in options.trimap}


def threads_of(options: argparse.Namespace) -> str:
    """Threads of each run."""
    return str(max(1, len(os.sched_getaffinity(0)) // options.jobs))


def newest(folder: Path, name: str) -> Path:
    """The file of this name in the newest run of a folder."""
    return max(folder.resolve().glob(f"version_*/{name}"), key=lambda path: path.stat().st_mtime)


def last_validation(metrics: Path) -> dict[str, float]:
    """Scores of the last validation that a run logged."""
    with metrics.open() as file:
        rows = [row for row in csv.DictReader(file) if row.get("val_miou")]
    return {name: float(value) for name, value in rows[-1].items() if value and name.startswith("val_")}


def table(runs: dict[tuple[str, int], dict[str, float]], options: argparse.Namespace) -> str:
    """A Markdown table: one row a recipe, mIoU for each seed, the means, the fraction of the last recipe's mean."""
    scores = {name: [score(runs[name, seed], options.classes) for seed in options.seeds] for name in options.recipes}
    best = mean(scores[options.recipes[-1]])
    lines = [
        f"| recipe | mIoU{f'-{len(options.classes)}' if options.classes else ''}, seeds {options.seeds} | mean "
        f"| fraction of {options.recipes[-1]} | all classes | pixel accuracy "
        + "".join(f"| within {width} px " for width in options.trimap)
        + "| grid energy | seconds |",
        "|---|---|---|---|---|---|---|---|" + "---|" * len(options.trimap),
    ]
    for name, values in scores.items():
        group = [runs[name, seed] for seed in options.seeds]
        keys = ("val_miou", "val_pixel_accuracy", *(f"within_{width}" for width in options.trimap))
        columns = [100 * mean(run[key] for run in group) for key in keys]
        lines.append(
            f"| {name} | {', '.join(f'{100 * v:.1f}' for v in values)} | {100 * mean(values):.1f} "
            f"| {100 * mean(values) / best:.0f} % | {' | '.join(f'{column:.1f}' for column in columns)} "
            f"| {mean(run['val_grid_energy'] for run in group):.3f} | {mean(run['seconds'] for run in group):.0f} |"
        )
    return "\n".join(lines)


def score(run: dict[str, float], classes: list[str]) -> float:
    """Mean IoU over the given classes, or over all that occur."""
    return mean(run[f"val_iou_{name}"] for name in classes) if classes else run["val_miou"]


if __name__ == "__main__":
    main()
