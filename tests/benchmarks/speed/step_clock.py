"""A callback that times the steps of a training run, for throughput.py, which has ``weakseg fit`` use it."""

import json
import time
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.profilers import SimpleProfiler

from weakseg_lightning.data import ScenesDataModule
from weakseg_lightning.devices import works_aside

LOADER, HOOK = "].train_dataloader_next", ".on_train_batch_start"
"""How Lightning's profiler names the loader and the module's hook."""


class StepClock(Callback):
    """Times steps of a training run, writes what it found as JSON, and ends the run.

    Args:
        path: file to write.
        warmup: steps that are not timed, at least 2: the first batch is drawn after its step.
        steps: steps that are.
        loader: whether to measure the loader alone, too.
    """

    def __init__(self, path: str, warmup: int = 5, steps: int = 20, loader: bool = False) -> None:
        self.path = path
        self.warmup = warmup
        self.steps = steps
        self.loader = loader
        self.ends: list[float] = []
        self.epochs: list[int] = []
        self.hooks: list[float] = []
        self.solves: list[Any] = []
        self.before: dict[str, float] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Have generated scenes drawn before training, which would wait for it, and before workers are forked."""
        if isinstance(data := trainer.datamodule, ScenesDataModule):  # type: ignore[attr-defined]
            for _ in data.facts_of_training():
                pass

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note a step; at the last one, write."""
        step = len(self.ends) + 1
        # Stage A must not wait for what the step before left for the GPU to do.
        if step in (self.warmup, self.warmup + self.steps) or hasattr(pl_module, "epochs_per_cycle"):
            synchronize(pl_module.device)
        self.ends.append(time.perf_counter())
        self.epochs.append(trainer.current_epoch)
        durations = durations_of(trainer)
        self.hooks.append(next((d[-1] for name, d in durations.items() if is_hook(name)), 0.0))
        self.solves.append(waited_for_solver(trainer.callback_metrics))
        if step == self.warmup:
            self.before = {name: sum(d) for name, d in durations.items()}
        if step == self.warmup + self.steps:
            trainer.should_stop = True
            found = self.found(trainer, pl_module, len(batch["image"]))
            if trainer.is_global_zero:
                Path(self.path).write_text(json.dumps(found))

    def found(self, trainer: Trainer, module: LightningModule, batch: int) -> dict[str, Any]:
        """What was measured, as plain values."""
        spent = {name: sum(d) - self.before.get(name, 0.0) for name, d in durations_of(trainer).items()}
        steps = [1000 * (end - start) for start, end in zip(self.ends[:-1], self.ends[1:], strict=True)]
        return {
            "device": device_name(module.device),
            "images": batch * trainer.world_size,
            "workers": trainer.train_dataloader.num_workers,
            "threads": torch.get_num_threads(),
            "steps_ms": steps[self.warmup - 1 :],
            "hooks_ms": [1000 * value for value in self.hooks[self.warmup :]],
            "epochs": self.epochs[self.warmup :],
            "solves_ms": [float(value) for value in self.solves[self.warmup :] if value is not None],
            "profile_ms": {name: 1000 * seconds / self.steps for name, seconds in spent.items()},
            "epochs_per_cycle": getattr(module, "epochs_per_cycle", None),
            "loader": trainer.world_size * loader_speed(trainer, self.warmup, self.steps) if self.loader else None,
        }


def durations_of(trainer: Trainer) -> dict[str, list[float]]:
    """Seconds of every call, by Lightning's name of what was called."""
    assert isinstance(trainer.profiler, SimpleProfiler)  # type: ignore[attr-defined]
    return trainer.profiler.recorded_durations  # type: ignore[attr-defined]


def is_hook(name: str) -> bool:
    """Whether a name is that of the module's hook, in which latent labelings are found."""
    return name.startswith("[LightningModule]") and name.endswith(HOOK)


def waited_for_solver(metrics: dict[str, Any]) -> Any:
    """What a step logged as the time that it waited for the solver, in ms; None without a solver."""
    if "hook_wait_ms" in metrics:  # a step with a lag; what its hook took otherwise is of the first batch
        return metrics["hook_wait_ms"]
    return metrics["hook_solve_ms"] + metrics["hook_transfer_ms"] if "hook_solve_ms" in metrics else None


def synchronize(device: torch.device) -> None:
    """Wait for a device that works beside the CPU."""
    if works_aside(device):
        torch.get_device_module(device).synchronize()


def device_name(device: torch.device) -> str:
    """Name of the GPU, or ``cpu``."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def loader_speed(trainer: Trainer, warmup: int, count: int) -> float:
    """Images a second that a rank's training loader gives to nobody; its workers start in the warm-up."""
    loader = trainer.datamodule.train_dataloader()  # type: ignore[attr-defined]
    batches = chain.from_iterable(repeat(loader))
    for _ in islice(batches, warmup):
        pass
    start = time.perf_counter()
    images = sum(len(batch["image"]) for batch in islice(batches, count))
    return images / (time.perf_counter() - start)
