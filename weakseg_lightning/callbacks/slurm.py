"""Jobs of SLURM that are ended and started again: saved in time, requeued, gone on with."""

import os
import signal
import subprocess
import warnings
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning_utilities.core.rank_zero import rank_zero_only
from typing_extensions import override

from weakseg_lightning.callbacks.checkpoints import LastCheckpoint

__all__ = ["Requeue", "checkpoint_of_job", "job_id", "sign"]

_MARK = "slurm_job.txt"
_STATES = ("last", "previous")


def job_id() -> str | None:
    """The SLURM job that this process is of, None elsewhere. It stays the same when the job is requeued."""
    if (array := os.environ.get("SLURM_ARRAY_JOB_ID")) is not None:
        return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID")


@rank_zero_only
def sign(folder: Path) -> None:
    """Write into the folder of a run which job it is of."""
    if (job := job_id()) is not None:
        (folder / _MARK).write_text(job, encoding="utf-8")


def checkpoint_of_job(runs: Path) -> str | None:
    """Find the checkpoint that a job goes on from after it was started again.

    Args:
        runs: the folder of all runs of one name.

    Returns:
        The newest last checkpoint that this very job has written there; None if it has none, or was not requeued.
    """
    if int(os.environ.get("SLURM_RESTART_COUNT") or 0) == 0:
        return None
    signed = [mark.parent for mark in runs.glob(f"*/{_MARK}") if mark.read_text(encoding="utf-8") == job_id()]
    found = [path for folder in signed for path in (folder / "checkpoints").glob("*.ckpt") if path.stem in _STATES]
    newest = max(found, key=lambda path: path.stat().st_mtime, default=None)
    # The name by which the one before it is found, too, should a crash have left that alone.
    return None if newest is None else str(newest.with_name("last.ckpt"))


class Requeue(Callback):
    """Saves a run at the end of the step in which SLURM announces the job's end, and has the job requeued.

    Lightning would do both within the signal's handler: anywhere in a step, on each rank in another one. Training goes
    on until SLURM ends the job.

    Args:
        last: writes the checkpoint.
    """

    def __init__(self, last: LastCheckpoint) -> None:
        self.last = last
        self._announced = False
        self._requeued = False
        self._signal: int | None = None
        self._before: Any = None

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Listen to the signal, where SLURM started the ranks; Lightning leaves a signal alone that is taken."""
        environment = trainer._accelerator_connector.cluster_environment
        if stage != "fit" or not isinstance(environment, SLURMEnvironment) or not environment.auto_requeue:
            return
        if (wanted := environment.requeue_signal) is not None:
            self._signal, self._before = wanted, signal.signal(wanted, self._note)

    @override
    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self._signal is not None:
            signal.signal(self._signal, self._before)
            self._signal = None

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._announced = True

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._signal is None or not self.last.can_save_within(trainer):
            return
        # The signal reaches the ranks in different steps, and all have to save in the same one.
        if trainer.strategy.broadcast(self._announced and not self._requeued):
            self.last.save_now(trainer)
            self._requeue(trainer)

    @override
    def on_validation_batch_end(self, trainer: Trainer, *given: Any, **named: Any) -> None:
        """Requeue with the checkpoint that there is: validation may take longer than is left."""
        if self._announced and not self._requeued:
            self._requeue(trainer)

    def _requeue(self, trainer: Trainer) -> None:
        self._requeued = True
        job = job_id()
        if not trainer.is_global_zero or job is None:
            return
        command = ["scontrol", "requeue", job]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            said = (getattr(error, "stderr", None) or str(error)).strip()
            warnings.warn(f"`{' '.join(command)}` failed ({said}): start the job again by hand", stacklevel=2)
