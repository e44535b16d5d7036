"""A validation that a run was ended in, or killed in: the run that goes on begins with it."""

import math
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loops.evaluation_loop import RestartStage


class InterruptedValidation:
    """The validation that the run of a checkpoint was ended in, if it was.

    Lightning (2.6) goes on after it, as it does after one that was due when the checkpoint had been written. Here the
    training loop is put where a validation is begun, and a run that has no step left is kept open until then.

    Args:
        checkpoint: the checkpoint of a run.
    """

    def __init__(self, checkpoint: dict[str, Any]) -> None:
        loops = checkpoint["loops"]["fit_loop"]
        images, batches = (loops[f"epoch_loop.{name}batch_progress"] for name in ("val_loop.", ""))
        self._pending = images["current"]["ready"] > 0 and not images["is_last_batch"]
        self._maybe_due = batches["total"]["completed"] < batches["total"]["processed"] and not batches["is_last_batch"]
        self._step: int = checkpoint["global_step"]
        self._max_steps: int | None = None

    def keep_open(self, trainer: Trainer) -> None:
        """Have the training loop begin, also where no step is left; before it does."""
        if self._pending and trainer.enable_validation and 0 <= trainer.max_steps <= self._step:
            self._max_steps = trainer.max_steps
            trainer.fit_loop.epoch_loop.max_steps = self._step + 1

    def take_up(self, trainer: Trainer) -> None:
        """Have the training loop, which has loaded the checkpoint and begins, validate before anything else."""
        loop, fetcher = trainer.fit_loop.epoch_loop, trainer.fit_loop._data_fetcher
        if self._maybe_due and fetcher is not None and loop._should_check_val_fx(fetcher):
            self._pending = True
            if not loop._should_accumulate():
                loop._batches_that_stepped -= 1  # Lightning counts the step both before the validation and after it
        self._maybe_due = False
        if not self._pending:
            return
        loop.val_loop.setup_data()
        if loop.val_loop.skip:
            self.close(trainer)
            return
        loop.val_loop.batch_progress.reset()  # all images again: what was counted is lost
        loop.val_loop._restart_stage = RestartStage.RESTARTED_MID_EVALUATION
        trainer._last_val_time = -math.inf  # type: ignore[attr-defined]  # due by time, too, if validation goes by that
        if self._max_steps is not None:  # nothing but the validation follows, which may be due for having been the last
            trainer.check_val_every_n_epoch = 1
            trainer.val_check_batch = 1
            trainer._val_check_time_interval = None  # type: ignore[attr-defined]

    def close(self, trainer: Trainer) -> None:
        """Let the run end where it is to, once the validation has begun."""
        self._pending = False
        if self._max_steps is not None:
            trainer.fit_loop.epoch_loop.max_steps, self._max_steps = self._max_steps, None
