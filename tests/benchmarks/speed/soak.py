"""Train for very many short epochs, and see whether memory and open files of every process stay flat.

Run from the project's root; no data are needed::

    python tests/benchmarks soak --recipes adm_grid trust_region_grid --epochs 1500 --ranks 2

Whatever leaks once an epoch (workers, checkpoints, labelings that are kept, exchanges between ranks) shows sooner in
short epochs than in long ones. Every process, the loaders' workers included, is looked at after each epoch; the first
half is warming up. The medians of the last two quarters are compared: memory may grow by 2 %, open files not at all.
"""

import argparse
import csv
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median

from lightning.pytorch import Callback, LightningModule, Trainer
from measuring import ROOT, command_line, import_path, markdown, resolved, run_python

SMALL = [
    *("--config", "recipes/data/scenes.yaml", "--data.num_train", "16", "--data.num_val", "2", "--data.size", "64"),
    *("--data.crop_size", "64", "--data.batch_size", "4", "--data.num_workers", "1", "--model.pce_fraction", "0"),
    *("--trainer.max_steps=-1", "--trainer.check_val_every_n_epoch", "20", "--trainer.log_every_n_steps", "1"),
    *("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
]
ALLOWED_GROWTH = 0.02

Row = tuple[int, int, str, int, int]
"""Epoch, process, its role, resident memory in kB, open files."""


class Watch(Callback):
    """Writes down memory and open files of this rank and of the processes that it started.

    Args:
        folder: where; one file a rank.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at all of them."""
        with (self.folder / f"rank{trainer.global_rank}.csv").open("a", newline="") as file:
            csv.writer(file).writerows(
                (trainer.current_epoch, process, f"{role} of rank {trainer.global_rank}", *looked_at(process))
                for process, role in family(os.getpid())
            )


def family(process: int, role: str = "trainer") -> Iterator[tuple[int, str]]:
    """A process and all that it started, with their roles."""
    yield process, role
    for children in Path(f"/proc/{process}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from family(int(child), "worker")


def looked_at(process: int) -> tuple[int, int]:
    """Resident memory in kB and the number of open files of a process."""
    status = Path(f"/proc/{process}/status").read_text()
    memory = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
    return int(memory), len(list(Path(f"/proc/{process}/fd").iterdir()))


def growth(rows: Iterable[Row]) -> dict[str, tuple[float, int, int]]:
    """How much each process has grown from the third quarter of the epochs to the last.

    Returns:
        By role: relative growth of memory, growth of the number of open files, memory at the end in kB.
    """
    of_process: dict[tuple[str, int], list[Row]] = defaultdict(list)
    for row in rows:
        of_process[row[2], row[1]].append(row)
    last_epoch = max(row[0] for group in of_process.values() for row in group)
    found: dict[str, tuple[float, int, int]] = {}
    for (role, _), group in of_process.items():
        quarters = [
            [row for row in group if quarter * last_epoch / 4 < row[0] <= (quarter + 1) * last_epoch / 4]
            for quarter in (2, 3)
        ]
        if not all(quarters):
            raise ValueError(f"a process, {role}, was there for a part of the second half only")
        before, after = (median(row[3] for row in quarter) for quarter in quarters)
        files = median(row[4] for row in quarters[1]) - median(row[4] for row in quarters[0])
        worse = max((after / before - 1, int(files), int(after)), found.get(role, (-1.0, 0, 0)))
        found[role] = worse
    return found


def soak(recipe: str, options: argparse.Namespace) -> dict[str, tuple[float, int, int]]:
    """Train one recipe."""
    folder: Path = options.out / recipe
    folder.mkdir(parents=True)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(options.ranks)]
    command = [*(launch if options.ranks > 1 else []), "-m", "weakseg_lightning", "fit"]
    command += ["--config", f"recipes/{recipe}.yaml", *SMALL, "--trainer.max_epochs", str(options.epochs)]
    command += ["--trainer.callbacks+=soak.Watch", f"--trainer.callbacks.folder={folder}"]
    command += ["--trainer.default_root_dir", str(folder)]
    if options.ranks > 1:
        command += ["--trainer.devices", str(options.ranks), "--trainer.strategy", "ddp"]
    run_python(command, folder / "log.txt", PYTHONPATH=import_path())
    return growth(row for file in sorted(folder.glob("rank*.csv")) for row in read(file))


def read(path: Path) -> Iterator[Row]:
    """What :class:`Watch` wrote."""
    with path.open(newline="") as file:
        for epoch, process, role, memory, files in csv.reader(file):
            yield int(epoch), int(process), role, int(memory), int(files)


def main() -> int:
    """Soak all recipes, and print one table."""
    parser = command_line(__doc__)
    parser.add_argument("--recipes", nargs="+", default=["adm_grid", "trust_region_grid"])
    parser.add_argument("--epochs", type=int, default=1500)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--out", type=resolved, default=ROOT / "runs" / "soak")
    options = parser.parse_args()
    flat = True
    print(markdown(["recipe", "process", "memory at the end", "growth of memory", "of open files"], []))
    for recipe in options.recipes:
        for role, (memory, files, end) in soak(recipe, options).items():
            print(f"| {recipe} | {role} | {end / 1000:.0f} MB | {100 * memory:+.2f} % | {files:+d} |", flush=True)
            flat = flat and memory <= ALLOWED_GROWTH and files <= 0
    print("flat" if flat else "NOT FLAT")
    return 0 if flat else 1


if __name__ == "__main__":
    sys.exit(main())
