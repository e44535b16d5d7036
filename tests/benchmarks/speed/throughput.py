"""Training images a second of recipes, against partial cross-entropy on as many ranks; where a step's time goes.

Run from the project's root, with nothing else running; whatever follows ``--`` goes to every ``weakseg fit`` as it
stands. Without a data set and without a download::

    python tests/benchmarks throughput --recipes pce adm_grid --ranks 1 2 -- --config recipes/data/scenes.yaml

Every run trains in its second phase alone (``pce_fraction: 0``), by the command itself: its loader, logging, solver.
After ``--warmup`` steps, ``--steps`` steps are timed, from the end of one to the end of the next; ``--repeats`` goes
over all runs so many times, one after the other, and medians over the repeats are printed.

- ``--ranks``: processes, by gloo on CPUs, one a GPU otherwise. Each gets cores / ranks threads, or ``--threads``.
- ``--lag``: values of ``latent_lag``, for recipes that have it.
- ``solver``: what a step waits for the latent labeling, without the forward pass: solve and transfer, or, with a lag,
  waiting for the thread that solves. A regularizer is part of the loss and not counted.
- ``waiting for data``: how long the step asks the loader for its batch (with ``num_workers: 0``, loads it).
- ``--loader``: also the images a second of the loader alone, measured after the steps. Above the images a second of
  the training, the loader is not what limits it.
- Trust region (and whatever else keeps labelings for M epochs): stage A is measured in steps of the epoch in which
  a cycle begins, where every image is solved for; the rest of a step is stage B. Printed is the average over a cycle,
  a step of stage B and an M-th of stage A for its images.
- ``--profile RECIPE``: instead of the table, the parts of one step of a recipe. On a GPU every kernel is waited for
  (CUDA_LAUNCH_BLOCKING), so that times are where the work is; the step takes longer then. Trust region's is a step of
  the epoch in which a cycle begins.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

import yaml
from measuring import ROOT, command_line, cores, import_path, machine, markdown, parse_own, resolved, run_python
from step_clock import LOADER, is_hook

from weakseg_lightning.cli.recipes import find_recipe


class Run(NamedTuple):
    """What is measured."""

    recipe: str
    lag: int | None
    ranks: int


# ---- numbers ------------------------------------------------------------------------------------------------


def numbers(found: dict[str, Any]) -> dict[str, float | None]:
    """What the table has of one run: times of a step in ms, images a second."""
    steps, solver = mean(found["steps_ms"]), mean(found["solves_ms"] or [0.0])
    middle = median(found["steps_ms"])
    if (cycle := found["epochs_per_cycle"]) is not None:
        stage_a, steps, middle = stages(found, cycle)
        solver = stage_a / cycle
        steps, middle = steps + solver, middle + solver
    waiting = sum(value for name, value in found["profile_ms"].items() if name.endswith(LOADER))
    return {
        "images_per_second": 1000 * found["images"] / steps,
        "step_ms": middle,
        "solver": solver / steps if solver else None,
        "waiting": waiting / steps,
        "loader": found["loader"],
    }


def stages(found: dict[str, Any], cycle: int) -> tuple[float, float, float]:
    """Mean of stage A for a batch, mean and median of a step of stage B, in ms."""
    pairs = list(zip(found["hooks_ms"], found["epochs"], strict=True))
    solving = [hook for hook, epoch in pairs if epoch % cycle == 0]
    if not solving:
        raise ValueError(f"no step was in an epoch that begins a cycle of {cycle} epochs: fewer --warmup, more data")
    rest = [step - hook for step, hook in zip(found["steps_ms"], found["hooks_ms"], strict=True)]
    return mean(solving), mean(rest), median(rest)


def parts(found: dict[str, Any]) -> dict[str, float]:
    """Where a step's time goes, in ms: what Lightning's profiler measured, so split that it adds up."""

    def spent(*names: str) -> float:
        return sum(value for key, value in found["profile_ms"].items() if key.endswith(names))

    solve = mean(found["solves_ms"] or [0.0])
    hook = sum(value for key, value in found["profile_ms"].items() if is_hook(key))
    forward, backward = spent("Strategy.training_step"), spent("Strategy.backward")
    found_parts = {
        "waiting for data": spent(LOADER),
        "to the device": spent("Strategy.batch_to_device"),
        "latent labeling: solver": solve,
        "latent labeling: forward, or all of stage A": hook - solve,
        "forward (where not above) and loss": forward,
        "backward": backward,
        "optimizer": spent("Module.optimizer_step") - forward - backward,
    }
    return found_parts | {"other": mean(found["steps_ms"]) - sum(found_parts.values())}


def middles(group: list[dict[str, float | None]]) -> dict[str, float | None]:
    """Median over the repeats of each number."""
    return {name: None if group[0][name] is None else median(run[name] for run in group) for name in group[0]}  # type: ignore[type-var]


# ---- tables -------------------------------------------------------------------------------------------------


def table(measured: dict[Run, dict[str, float | None]], loader: bool = False) -> str:
    """A Markdown table, one row a run."""
    columns = ["recipe", "lag", "ranks", "images/s", "of pCE", "step, ms", "solver", "waiting for data"]
    columns += ["loader alone, images/s"] if loader else []
    rows = []
    for run, found in measured.items():
        base = next((other for key, other in measured.items() if (key.recipe, key.ranks) == ("pce", run.ranks)), None)
        speed = found["images_per_second"]
        assert speed is not None
        cells = [run.recipe, "-" if run.lag is None else str(run.lag), str(run.ranks), f"{speed:.1f}"]
        cells += [percent(None if base is None else speed / (base["images_per_second"] or 1))]
        cells += [f"{found['step_ms']:.1f}", percent(found["solver"]), percent(found["waiting"])]
        cells += [f"{found['loader']:.1f}"] if loader else []
        rows.append(cells)
    return markdown(columns, rows)


def percent(share: float | None) -> str:
    """A share in percent; a dash where there is none."""
    return "-" if share is None else f"{100 * share:.1f} %"


def profile_table(recipe: str, times: dict[str, float]) -> str:
    """A Markdown table of the parts of a step."""
    total = sum(times.values())
    rows = [[name, f"{value:.1f}", percent(value / total)] for name, value in times.items()]
    return f"{markdown([f'a step of {recipe}', 'ms', 'fraction'], rows)}\n| all | {total:.1f} | |"


def circumstances(found: dict[str, Any], options: argparse.Namespace, extra: list[str]) -> str:
    """What the numbers were measured with."""
    return (
        f"{found['device']}, {machine()}; "
        f"{options.steps} steps after {options.warmup}, repeats: {options.repeats}; threads a rank (OMP_NUM_THREADS): "
        f"{', '.join(f'{threads_of(ranks, options)} with {ranks}' for ranks in options.ranks)}; "
        f"loader workers a rank: {found['workers']}; weakseg fit {' '.join(extra)}"
    )


# ---- running ------------------------------------------------------------------------------------------------


def parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Split the arguments at ``--``: ours, and those of ``weakseg fit``."""
    parser = command_line(__doc__)
    recipes = ["pce", "grid_gd", "dense_gd", "adm_grid", "trust_region_grid"]
    parser.add_argument("--recipes", nargs="+", default=recipes)
    parser.add_argument("--ranks", nargs="+", type=int, default=[1])
    parser.add_argument("--lag", nargs="+", type=int, default=[0], choices=(0, 1))
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, help="OMP_NUM_THREADS of each rank; cores / ranks by default")
    parser.add_argument("--loader", action="store_true")
    parser.add_argument("--profile", metavar="RECIPE")
    parser.add_argument("--out", type=resolved, default=ROOT / "runs" / "throughput")
    options, extra = parse_own(parser, arguments)
    if options.warmup < 2 or options.steps < 1:  # the first batch is drawn after its step
        parser.error("--warmup must be at least 2, --steps at least 1")
    return options, extra


def runs_of(options: argparse.Namespace) -> list[Run]:
    """All runs of a sweep."""
    return [
        Run(recipe, lag, ranks)
        for ranks in options.ranks
        for recipe in options.recipes
        for lag in (options.lag if has_lag(recipe) else [None])
    ]


def has_lag(recipe: str) -> bool:
    """Whether the recipe's method can solve beside the step."""
    text = Path(find_recipe(recipe)).read_text(encoding="utf-8")
    return "latent_lag" in yaml.safe_load(text)["model"]["init_args"]


def threads_of(ranks: int, options: argparse.Namespace) -> int:
    """Threads of each rank."""
    return options.threads or max(1, cores() // ranks)


def command(run: Run, options: argparse.Namespace, extra: list[str], path: Path) -> list[str]:
    """The training run that is timed: nothing is validated, drawn after the warm-up, or kept."""
    given = ["--model.pce_fraction=0", "--trainer.max_steps=1000000", "--trainer.max_epochs=-1"]
    given += ["--trainer.limit_val_batches=0", "--trainer.num_sanity_val_steps=0", "--trainer.logger=false"]
    given += ["--trainer.enable_checkpointing=false", "--trainer.enable_progress_bar=false"]
    given += [f"--trainer.devices={run.ranks}", f"--trainer.strategy={'ddp' if run.ranks > 1 else 'auto'}"]
    given += [f"--trainer.default_root_dir={options.out}", "--name=last", "--panels.every_n_epochs=1000000"]
    given += ["--trainer.profiler=simple", "--trainer.callbacks+=step_clock.StepClock"]
    clock = {"path": path, "warmup": options.warmup, "steps": options.steps, "loader": str(options.loader).lower()}
    given += [f"--trainer.callbacks.{name}={value}" for name, value in clock.items()]
    given += [] if run.lag is None else [f"--model.latent_lag={run.lag}"]
    return ["-m", "weakseg_lightning", "fit", "--config", run.recipe, *extra, *given]


def measure(run: Run, options: argparse.Namespace, extra: list[str]) -> dict[str, Any]:
    """Train in processes of its own and read what the clock wrote."""
    options.out.mkdir(parents=True, exist_ok=True)
    path, log = (options.out / f"{run.recipe}-{run.lag}-{run.ranks}.{kind}" for kind in ("json", "txt"))
    path.unlink(missing_ok=True)
    shutil.rmtree(options.out / "last", ignore_errors=True)  # the folder of the run before
    blocking = {"CUDA_LAUNCH_BLOCKING": "1"} if options.profile else {}
    words, threads = command(run, options, extra, path), threads_of(run.ranks, options)
    try:
        run_python(words, log, threads, PYTHONPATH=import_path(), **blocking)
        return json.loads(path.read_text())
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        raise RuntimeError(f"{run} failed (all of it: {log}):\n{log.read_text()[-2000:]}") from error


def main() -> None:
    """Measure all runs in turn, so many times, and print a table of medians; or the profile of one step."""
    options, extra = parse(sys.argv[1:])
    if options.profile:
        options.repeats = 1
        run = Run(options.profile, options.lag[0] if has_lag(options.profile) else None, options.ranks[0])
        found = measure(run, options, extra)
        print(circumstances(found, options, extra), profile_table(run.recipe, parts(found)), sep="\n\n")
        return
    measured: dict[Run, list[dict[str, Any]]] = {run: [] for run in runs_of(options)}
    for turn in range(options.repeats):
        for run, results in measured.items():
            results.append(measure(run, options, extra))
            print(f"{turn + 1}/{options.repeats} {run}", file=sys.stderr, flush=True)
    rows = {run: middles([numbers(found) for found in results]) for run, results in measured.items()}
    first = next(iter(measured.values()))[0]
    print(circumstances(first, options, extra), table(rows, options.loader), sep="\n\n")


if __name__ == "__main__":
    main()
