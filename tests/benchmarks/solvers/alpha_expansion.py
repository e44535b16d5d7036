"""Time alpha-expansion on photographs against GCO and PyMaxflow, where they are installed.

From the project's root, in an environment with the extra ``bench`` (see `instances` for where photographs are)::

    python tests/benchmarks alpha_expansion --quick                             # 8 cells, some minutes
    python tests/benchmarks alpha_expansion --csv runs/expansion.csv            # 72 cells, an hour or two
    python tests/benchmarks alpha_expansion --classes 21 --sizes 321x321 --weights 80 --repeats 1
    python tests/benchmarks alpha_expansion --classes 2 --against gco_cut pymaxflow
    python tests/benchmarks alpha_expansion --threads                           # 12 images on 2 threads and on 1

What is timed, on one thread:
    - ours: `AlphaExpansion.solve` whole, from tensors: edge weights, softmax, expansion, start coarse.
    - gco: GCO called directly: building its graph and expanding, from zeros, its own start. Rounding the costs to
      integers is not timed.
    - gco_coarse: the same from our start and in the order of our moves, the labels that are cheapest on the most pixels
      first. Making the start and handing it over is not timed.
    - gco_argmin: the same from the cheapest labels.
    - gco_cut: the same from zeros, by a single cut (two labels only).
    - pymaxflow: an expansion on PyMaxflow's grids, start argmin. Rounding is not timed.

All stop after 5 sweeps. They take turns; medians of the repeats count, three times as many for those below 0.2 s, one
alone above 5 s. Our first solve is not counted. Ratios are given by wall time and by the process's CPU time, which
other work on the machine disturbs less. Energies are computed in double precision from the unrounded terms, for all.

Memory is the growth of the process's resident set during its first solve, in bytes a pixel; "core" is the part within
our compiled code, that is what each worker thread needs.

Whatever else runs on the machine takes memory bandwidth from all, not in equal parts: numbers to be quoted need an
idle one. With ``--csv`` each instance is written down once it is done, and those in the file are not run again.
"""

import argparse
import csv
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import geometric_mean, mean, median

import torch
from contestants import CONTESTANTS, Process, Run
from instances import CONFIDENCES, SIZES, Case, Instance, make, matrix
from measuring import Clock, command_line, interleaved
from torch import Tensor

from weakseg_lightning import AlphaExpansion, GridPotts
from weakseg_lightning.energies import potts_energy, unary_energy, unary_potentials

Row = dict[str, float | str]


def main() -> None:
    """Run the chosen cells and print a line for each and the means."""
    torch.set_num_threads(1)  # before the first operation: the contestants are forks
    options = parse()
    options.against = [name for name in options.against if installed(name)]
    cases = matrix(options.classes, options.sizes, options.weights, options.confidences, options.photographs)
    if options.threads:
        compare_threads(cases, options)
        return
    rows = read(options.csv) if options.csv else []
    for case in quick(cases) if options.quick else cases:
        if any(row["case"] == case.name for row in rows):
            continue
        rows.append(measure(make(case), options))
        print(line(rows[-1], options.against), flush=True)
        if options.csv:
            write(options.csv, rows)
    print("\n".join(summary(rows, options.against)))


def parse() -> argparse.Namespace:
    """Command line."""
    parser = command_line(__doc__)
    parser.add_argument("--classes", nargs="+", type=int, default=[2, 3, 5, 21])
    parser.add_argument("--sizes", nargs="+", type=size, default=list(SIZES), help="as 321x321")
    parser.add_argument("--weights", nargs="+", type=float, default=[10.0, 80.0])
    parser.add_argument("--confidences", nargs="+", type=float, default=list(CONFIDENCES))
    parser.add_argument("--photographs", type=int, default=1, help="for each cell of the matrix")
    parser.add_argument("--against", nargs="+", choices=list(CONTESTANTS)[1:], default=["gco", "gco_coarse"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one cell for each K and weight")
    parser.add_argument("--threads", action="store_true", help="12 images on 2 threads against 1 instead")
    parser.add_argument("--csv", type=Path, help="file to write to, and to go on from")
    return parser.parse_args()


def size(text: str) -> tuple[int, int]:
    """Parse ``HEIGHTxWIDTH``."""
    height, width = text.split("x")
    return int(height), int(width)


def quick(cases: list[Case]) -> list[Case]:
    """For each number of classes and weight the first size and the middle confidence."""
    groups: dict[tuple[int, float], list[Case]] = {}
    for case in cases:
        groups.setdefault((case.classes, case.weight), []).append(case)
    first = [[case for case in group if case.size == group[0].size] for group in groups.values()]
    return [group[len(group) // 2] for group in first]


def installed(name: str) -> bool:
    """Whether a contestant's package is there; says so if not."""
    package = CONTESTANTS[name].package
    if find_spec(package) is None:
        print(f"{name} is left out: `{package}` is not installed (pip install -e '.[bench]')")
        return False
    return True


def read(path: Path) -> list[Row]:
    """Rows written before."""
    if not path.exists():
        return []
    with path.open() as file:
        table = list(csv.DictReader(file))
    return [{k: v if k == "case" else float(v) for k, v in row.items() if v} for row in table]


def write(path: Path, rows: list[Row]) -> None:
    """Write all rows; those of other runs may have other columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)


# ---- one instance --------------------------------------------------------------------------------------------------


def measure(instance: Instance, options: argparse.Namespace) -> Row:
    """Let all contestants take turns, and compare the times and energies."""
    names = [n for n in ("ours", *options.against) if instance.case.classes <= CONTESTANTS[n].most_classes]
    runs: dict[str, list[Run]] = {name: [] for name in names}
    processes = {name: Process(name, instance) for name in runs}
    for _ in range(options.repeats):
        for name, process in processes.items():
            if not runs[name] or runs[name][-1].wall < 5:
                runs[name].append(process.solve())
            again = 2 if runs[name][-1].wall < 0.2 else 0
            runs[name] += [process.solve() for _ in range(again)]
    for process in processes.values():
        process.close()
    row: Row = {"case": instance.case.name, "classes": instance.case.classes, "errors": instance.errors}
    for name, several in runs.items():
        row |= {f"{name}_{key}": value for key, value in _figures(several, instance).items()}
    return row


def _figures(runs: list[Run], instance: Instance) -> dict[str, float]:
    parts = {part: median(run.parts[part] for run in runs) for part in runs[0].parts}
    return {
        "wall": median(run.wall for run in runs),
        "cpu": median(run.cpu for run in runs),
        **parts,
        "energy": energy(instance, runs[-1]),
        "memory": runs[0].memory,
        "core_memory": runs[0].core_memory,
    }


def energy(instance: Instance, run: Run) -> float:
    """Energy of a labeling, in double precision; infinite where it disregards a seed."""
    labels = torch.from_numpy(run.labels).long()[None]
    if instance.seeds is not None and (labels != instance.seeds)[instance.seeds != 255].any():
        return float("inf")
    edges = GridPotts(instance.case.weight).edge_weights(instance.image)
    return float(unary_energy(labels, unary_potentials(instance.logits)) + potts_energy(labels, edges))


# ---- tables --------------------------------------------------------------------------------------------------------


def line(row: Row, against: list[str]) -> str:
    """One instance."""
    parts = [f"{row['case']:42s} errors {100 * row['errors']:4.1f} %  ours {1e3 * row['ours_wall']:6.1f} ms"]
    parts[0] += f" {row['ours_memory']:4.0f} B/px (core {row['ours_core_memory']:.0f})"
    for name in (name for name in against if f"{name}_wall" in row):
        parts.append(
            f"{name} {1e3 * row[f'{name}_wall']:7.1f} ms {row[f'{name}_memory']:4.0f} B/px, "
            f"x {ratio(row, name, 'wall'):5.2f} (cpu {ratio(row, name, 'cpu'):5.2f}), "
            f"energy {100 * difference(row, name):+.5f} %"
        )
    return " | ".join(parts)


def summary(rows: list[Row], against: list[str]) -> list[str]:
    """Ratios and energies by the number of classes and overall."""
    lines = ["", f"{len(rows)} instances; ratio = time of the other / ours; energy = ours above the other's"]
    for name in against:
        for k in (*sorted({int(row["classes"]) for row in rows}), None):
            group = [row for row in rows if f"{name}_wall" in row and k in (None, int(row["classes"]))]
            lines += [_means(name, k, group)] if group else []
    lines += _memory(rows)
    return lines


def _means(name: str, classes: int | None, rows: list[Row]) -> str:
    wall, cpu = ([ratio(row, name, clock) for row in rows] for clock in ("wall", "cpu"))
    above = [difference(row, name) for row in rows]
    equal = sum(abs(value) <= 1e-6 for value in above)
    return (
        f"{name:10s} {'all ' if classes is None else f'K={classes:<2d}'} ratio, geometric mean: "
        f"wall {geometric_mean(wall):5.2f} (least {min(wall):5.2f}), cpu {geometric_mean(cpu):5.2f} "
        f"(least {min(cpu):5.2f}); energy: mean {100 * mean(above):+.5f} %, most {100 * max(above):+.5f} %, "
        f"least {100 * min(above):+.5f} %, equal within 1e-6 in {equal} of {len(rows)}"
    )


def _memory(rows: list[Row]) -> list[str]:
    names = sorted({key for row in rows for key in row if key.endswith("_memory")})
    most = {name: max(float(row.get(name, "nan")) for row in rows) for name in names}
    return [f"{name}: at most {most[name]:.0f} bytes a pixel" for name in names if most[name] == most[name]]


def ratio(row: Row, name: str, clock: str) -> float:
    """How many times longer the other takes."""
    return float(row[f"{name}_{clock}"]) / float(row[f"ours_{clock}"])


def difference(row: Row, name: str) -> float:
    """Our energy above the other's, relative to it."""
    return float(row["ours_energy"]) / float(row[f"{name}_energy"]) - 1


# ---- threads -------------------------------------------------------------------------------------------------------


def compare_threads(cases: list[Case], options: argparse.Namespace, images: int = 12) -> None:
    """Solve batches of 12 images on 2 threads and on 1, in turn: the whole call, and the compiled code within it.

    Needs two idle cores. On a busy machine only the CPU time tells something: it shows what the second thread costs.
    """
    for k in options.classes:
        for weight in options.weights:
            chosen = [c for c in cases if (c.classes, c.weight, c.size) == (k, weight, options.sizes[0])]
            batch = [make(replace(chosen[i % len(chosen)], photograph=i)) for i in range(images)]
            logits, image = (torch.cat([getattr(instance, part) for instance in batch]) for part in ("logits", "image"))
            solvers = {n: AlphaExpansion(GridPotts(weight), num_threads=n) for n in (1, 2)}
            solves = {n: partial(_timed, solver, logits, image, n) for n, solver in solvers.items()}
            runs = interleaved(solves, options.repeats, warm_up=1)
            one, two = ([median(part) for part in zip(*several, strict=True)] for several in runs.values())
            print(
                f"K={k:<2d} weight {weight:g}, {images} images {'x'.join(map(str, options.sizes[0]))}: "
                f"whole {1e3 * one[0]:.0f} ms on 1 thread, x {one[0] / two[0]:.2f} on 2; "
                f"compiled code {1e3 * one[1]:.0f} ms, x {one[1] / two[1]:.2f}; CPU time x {two[2] / one[2]:.2f}",
                flush=True,
            )


def _timed(solver: AlphaExpansion, logits: Tensor, image: Tensor, threads: int) -> tuple[float, float, float]:
    """Seconds of a solve, of the compiled code within it, and of the processor."""
    torch.set_num_threads(threads)  # softmax and edge weights
    with Clock() as clock:
        result = solver.solve(logits, image)
    return clock.wall, result.solve_seconds, clock.cpu


if __name__ == "__main__":
    main()
