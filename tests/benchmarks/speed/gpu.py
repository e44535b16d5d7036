"""Step times of the methods on a GPU: images per second, memory, the solver's part, what ``latent_lag`` gains, a trace.

On generated scenes with random weights, nothing to download; some minutes on one GPU, for 2 networks and 7 methods::

    python tests/benchmarks gpu --out runs/gpu
    python tests/benchmarks gpu --out runs/gpu --accelerator sim --quick    # tiny, on the simulated device; or cpu

Every network first learns by partial cross-entropy for some steps, so that solvers see scores of a network that knows
something; each method goes on from there, is warmed up and timed by the clock of ``throughput.py``, which says how to
read the numbers. Images come whole from memory, so that loading them costs little: ``waiting for data`` shows it.
Written are ``gpu.md``, ``gpu.json``, and of some steps of ADM ``trace.json.gz`` (for chrome://tracing or Perfetto) and
``trace.txt``. A method that fails has its error in the table, and the others go on.
"""

import argparse
import gc
import json
import sys
import time
import traceback
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.profilers import SimpleProfiler
from lightning.pytorch.strategies import SingleDeviceStrategy
from measuring import HERE, command_line, cores, machine, markdown, resolved
from step_clock import StepClock
from throughput import numbers, percent
from torch.profiler import ProfilerActivity, profile

from weakseg_lightning.callbacks import NetworkSpeed
from weakseg_lightning.data import ScenesDataModule
from weakseg_lightning.energies import GridPotts
from weakseg_lightning.losses import DenseCRFLoss, GridPottsLoss
from weakseg_lightning.modules import ADMModule, RegularizedLossModule, SoftLabelModule, TrustRegionModule
from weakseg_lightning.networks import SMPNetwork
from weakseg_lightning.solvers import AlphaExpansion

Row = dict[str, Any]

_GRID = AlphaExpansion(GridPotts(80.0))
_STAGE_A = AlphaExpansion(GridPotts(100.0, normalize_edges=True), unary_weight=0.05, start="zeros")
METHODS: dict[str, tuple[type[LightningModule], dict[str, Any]]] = {
    "pCE": (RegularizedLossModule, {}),
    "Grid-GD": (RegularizedLossModule, {"regularizer": GridPottsLoss()}),
    "Dense-GD": (RegularizedLossModule, {"regularizer": DenseCRFLoss()}),
    "ADM": (ADMModule, {"solver": _GRID}),
    "ADM, latent_lag 1": (ADMModule, {"solver": _GRID, "latent_lag": 1}),
    "trust region": (TrustRegionModule, {"solver": _STAGE_A}),
    "soft labels": (SoftLabelModule, {}),
}
FULL = {
    "size": 513,
    "batch": 12,
    "images": 96,
    "learning": 40,
    "channels": 256,
    "networks": ["resnet101", "mobilenet_v2"],
}
QUICK = {"size": 64, "batch": 2, "images": 6, "learning": 1, "channels": 16, "networks": ["mobilenet_v2"]}


class Trace(Callback):
    """Profiles some steps of a run, writes what it found, and ends the run."""

    def __init__(self, folder: Path, first: int, last: int) -> None:
        self.folder, self.first, self.last = folder, first, last
        kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
        self.profile = profile(activities=kinds)

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.first:
            self.profile.start()

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.last:
            self.profile.stop()
            trainer.should_stop = True
            self.profile.export_chrome_trace(str(self.folder / "trace.json.gz"))
            order = "self_device_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
            text = self.profile.key_averages().table(sort_by=order, row_limit=40, max_name_column_width=80)
            (self.folder / "trace.txt").write_text(text)


# ---- one run ------------------------------------------------------------------------------------------------


class Bench:
    """What all runs share: the settings, the data, and the weights that each network learned first."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.data = ScenesDataModule(
            num_train=options.images,
            num_val=1,
            size=options.size,
            crop_size=options.size,
            batch_size=options.batch,
            flip=False,
            num_workers=options.workers,
        )
        self.steps_per_epoch = options.images // options.batch
        self.learned: dict[str, dict[str, torch.Tensor]] = {}

    def measure(self, encoder: str, method: str) -> Row:
        """Time a method: in the second half of an epoch that begins a cycle of trust region, and the one after it."""
        warmup = max(2, self.steps_per_epoch // 2)
        if encoder not in self.learned:  # by the first method, pCE
            warmup += self.options.learning
        path = self.folder / "found.json"
        memory = torch.get_device_module(self.options.accelerator)
        if hasattr(memory, "reset_peak_memory_stats"):
            memory.reset_peak_memory_stats()
        clock = StepClock(str(path), warmup, 3 * self.steps_per_epoch // 2)
        self.train(encoder, method, clock)
        found = json.loads(path.read_text())
        peak = memory.max_memory_allocated() / 2**30 if hasattr(memory, "max_memory_allocated") else None
        return {"device": found["device"], "peak_gib": peak, **numbers(found)}

    def train(self, encoder: str, method: str, callback: Callback) -> None:
        """Train until the callback ends it, from the weights that the network learned first."""
        seed_everything(0, verbose=False)
        made, arguments = METHODS[method]
        network = SMPNetwork("deeplabv3plus", encoder, None, output_stride=16, decoder_channels=self.options.channels)
        module = made(network, self.data.num_classes, pce_fraction=0.0, **arguments)
        if encoder in self.learned:
            module.net.load_state_dict(self.learned[encoder])
        trainer = self.trainer([callback, NetworkSpeed(channels_last=self.options.accelerator == "cuda")])
        trainer.fit(module, self.data)
        if encoder not in self.learned:
            self.learned[encoder] = {name: value.cpu() for name, value in module.net.state_dict().items()}

    def trainer(self, callbacks: list[Callback]) -> Trainer:
        """A trainer on the device that validates, keeps and shows nothing."""
        where: dict[str, Any] = {"accelerator": self.options.accelerator, "devices": 1}
        if self.options.accelerator == "sim":
            from simulated import SimAccelerator

            where = {"accelerator": SimAccelerator(), "strategy": SingleDeviceStrategy(torch.device("sim", 0))}
        silent = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
        return Trainer(
            **where,
            **dict.fromkeys(silent, False),
            precision=self.options.precision,
            benchmark=True,
            max_steps=1_000_000,
            max_epochs=-1,
            limit_val_batches=0,
            default_root_dir=str(self.folder),
            profiler=SimpleProfiler(dirpath=str(self.folder), filename="profile"),
            callbacks=callbacks,
        )


def attempt(bench: Bench, encoder: str, method: str) -> Row:
    """Measure a method, or say what kept it from being measured."""
    try:
        return bench.measure(encoder, method)
    except Exception as error:  # the others go on: a GPU may not be there again
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
    finally:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


# ---- tables -------------------------------------------------------------------------------------------------


def table(rows: list[Row]) -> str:
    """A Markdown table, one row per network and method."""
    columns = ["network", "method", "images/s", "of pCE", "step, ms", "solver", "waiting for data", "peak memory, GiB"]
    return markdown(columns, [_cells(row, rows) for row in rows])


def _cells(row: Row, rows: list[Row]) -> list[str]:
    names = [row["network"], row["method"]]
    if "error" in row:
        return [*names, row["error"].replace("|", "/"), *[""] * 5]
    base = speed_of(rows, row["network"], "pCE")
    speed, memory = row["images_per_second"], row["peak_gib"]
    cells = [f"{speed:.1f}", percent(base and speed / base), f"{row['step_ms']:.1f}", percent(row["solver"])]
    return [*names, *cells, percent(row["waiting"]), "-" if memory is None else f"{memory:.1f}"]


def speed_of(rows: list[Row], network: str, method: str) -> float | None:
    """Images per second of a row; None where it was not measured."""
    found = [row for row in rows if (row["network"], row["method"]) == (network, method)]
    return found[0].get("images_per_second") if found else None


def gains(rows: list[Row]) -> dict[str, float]:
    """How many more images per second ADM trains with a lag, as a fraction, by network."""
    pairs = {
        name: (speed_of(rows, name, "ADM"), speed_of(rows, name, "ADM, latent_lag 1"))
        for name in dict.fromkeys(row["network"] for row in rows)
    }
    return {name: late / now - 1 for name, (now, late) in pairs.items() if now and late}


def report(rows: list[Row], options: argparse.Namespace) -> str:
    """All that was found, in Markdown."""
    device = next((row["device"] for row in rows if "device" in row), options.accelerator)
    given = f"crops of {options.size}, batch {options.batch}, {options.precision}, {options.workers} loader workers"
    told = [
        f"`latent_lag: 1` changes the images per second of ADM with {name} by {percent(gain)}."
        for name, gain in gains(rows).items()
    ]
    return "\n\n".join([f"{device}, {machine()}; {given}", table(rows), *told]) + "\n"


# ---- the program --------------------------------------------------------------------------------------------


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = command_line(__doc__)
    parser.add_argument("--accelerator", default="cuda", choices=("cuda", "cpu", "sim"))
    parser.add_argument("--precision", help="bf16-mixed on a GPU, 32-true elsewhere by default")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--networks", nargs="+", help="encoders of smp")
    parser.add_argument("--workers", type=int, help="processes that load data; a quarter of the cores by default")
    parser.add_argument("--seconds", type=float, default=240, help="what has not begun by then is left out")
    parser.add_argument("--quick", action="store_true", help="tiny images, to try the script")
    parser.add_argument("--out", type=resolved, required=True)
    options = parser.parse_args(arguments)
    for name, value in (QUICK if options.quick else FULL).items():
        setattr(options, name, getattr(options, name, None) or value)
    options.precision = options.precision or ("bf16-mixed" if options.accelerator == "cuda" else "32-true")
    if options.workers is None:
        options.workers = 0 if options.quick else max(1, cores() // 4)
    return options


def main() -> int:
    """Measure all methods, write the table after each, and a trace of ADM; 1 if any failed."""
    options, began = parse(sys.argv[1:]), time.perf_counter()
    if options.accelerator == "sim":
        sys.path.append(str(HERE.parent / "devices"))
        from simulated import load

        load()
    options.out.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    with TemporaryDirectory() as folder:
        bench = Bench(options, Path(folder))
        for encoder in options.networks:
            for method in options.methods:
                late = time.perf_counter() - began > options.seconds
                found = {"error": "left out, as time was up"} if late else attempt(bench, encoder, method)
                rows.append({"network": encoder, "method": method, **found})
                text = report(rows, options)
                (options.out / "gpu.md").write_text(text)
                (options.out / "gpu.json").write_text(json.dumps({"rows": rows, "gains_of_lag": gains(rows)}, indent=1))
                print(f"{time.perf_counter() - began:.0f} s: {rows[-1]}", file=sys.stderr, flush=True)
        if "ADM" in options.methods:
            bench.train(options.networks[0], "ADM", Trace(options.out, 2, 4))
    print(text)
    return int(any("error" in row for row in rows))


if __name__ == "__main__":
    sys.exit(main())
