"""Small runs that end before their time, and notes of what a run does."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from small_runs import CoarseNetwork
from torch import Tensor

from weakseg_lightning.callbacks.checkpoints import LastCheckpoint
from weakseg_lightning.cli.runs import FinalValidation
from weakseg_lightning.data import ScenesDataModule
from weakseg_lightning.modules import RegularizedLossModule

ENDS: dict[str, dict[str, Any]] = {
    "epochs": {"max_epochs": 2},
    "steps": {"max_epochs": -1, "max_steps": 7, "check_val_every_n_epoch": None},
    "summed": {"max_epochs": 2, "accumulate_grad_batches": 3},  # epochs of two steps, the first validated within
}


class KilledError(Exception):
    """Ends a run at once, without anything being saved."""


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def die() -> None:
    raise KilledError


class Ending(Callback):
    """Ends its own process in the n-th call of a hook at a step, by SIGTERM unless told otherwise."""

    def __init__(self, hook: str, step: int, call: int = 1, end: Callable[[], None] = terminate) -> None:
        calls = iter(range(1, 100))

        def send(trainer: Trainer, *_: object) -> None:
            if trainer.global_step == step and next(calls) == call:
                end()

        setattr(self, hook, send)


class Diary(Callback):
    """Notes the batches, validations and ends of epochs, with the numbers that they are logged under."""

    def __init__(self) -> None:
        self.entries: list[tuple[Any, ...]] = []

    def _note(self, trainer: Trainer, *what: object) -> None:
        logged = trainer.fit_loop.epoch_loop._batches_that_stepped
        self.entries.append((*what, trainer.current_epoch, trainer.global_step, logged))

    def on_train_batch_start(self, trainer: Trainer, module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._note(trainer, "batch", batch_idx, *batch["id"])

    def on_validation_end(self, trainer: Trainer, module: LightningModule) -> None:
        self._note(trainer, "validation", float(trainer.callback_metrics["val_grid_energy"]))

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        self._note(trainer, "end")


Run = tuple[dict[str, Tensor], list[tuple[Any, ...]]]


def run(
    folder: Path,
    end: str,
    ending: Callback | None = None,
    resumed: Path | None = None,
    minutes: float = 5.0,
    **more: Any,
) -> Run:
    """Epochs of four steps, validated after every two, and last; saving takes long, so that few epochs are saved."""
    seed_everything(0, verbose=False)
    data = ScenesDataModule(num_train=8, num_val=3, size=32, crop_size=32, batch_size=2, num_workers=0)
    module, diary = RegularizedLossModule(CoarseNetwork(), data.num_classes), Diary()
    last = LastCheckpoint(str(folder), minutes)
    last._seconds_to_save = 1e9
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
    loops = {"val_check_interval": 2, "num_sanity_val_steps": 0, "log_every_n_steps": 1}
    callbacks = [FinalValidation(), diary, *([] if ending is None else [ending]), last]
    trainer = Trainer(accelerator="cpu", callbacks=callbacks, **quiet | loops | ENDS[end] | more)
    try:
        trainer.fit(module, data, ckpt_path=resumed, weights_only=True)
    except (SystemExit, KilledError):
        assert ending is not None
    return module.state_dict(), diary.entries
