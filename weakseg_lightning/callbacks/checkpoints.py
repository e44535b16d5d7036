"""The checkpoints that a run keeps: the best, the last, and the one before it."""

import shutil
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import SIGTERMException
from typing_extensions import override

from weakseg_lightning.callbacks.interrupted import InterruptedValidation
from weakseg_lightning.checks import at_least
from weakseg_lightning.errors import FileError

PREVIOUS = "previous.ckpt"
"""The checkpoint before ``last.ckpt``."""

TIME_FRACTION = 0.005
"""Fraction of the training time that saving, and that drawing, may take where epochs are short."""

_FILES_KEPT = 3  # best, last, previous
_STATES_OF_OPTIMIZER = 2  # of Adam, for each weight


class BestCheckpoint(ModelCheckpoint):
    """Keeps the best checkpoint; a resumed run, which has a folder of its own, goes on from the best so far."""

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # In another folder ModelCheckpoint would forget the best score. It removes no file outside its own folder.
        if Path(state_dict["best_model_path"]).is_file():
            super().load_state_dict({**state_dict, "dirpath": self.dirpath})


class LastCheckpoint(BestCheckpoint):
    """Keeps a late state of the run, in the end the last, as ``last.ckpt``, and the state before that.

    It saves at the ends of epochs, but for those that come so fast that saving would take more than half a percent of
    the time. A run resumed from either file ends as the undisturbed one. ``ModelCheckpoint(save_last=True)`` writes
    only when the monitored metric improves. A run of one process that gets SIGTERM (``kill PID``) ends after the step
    that it is in, all of whose batches it still takes, with that step saved; a validation that it is in is done again
    by the run that goes on.

    Args:
        dirpath: the folder; that of the run by default.
        every_n_minutes: the longest time between two saves, within an epoch, too: what a killed run can lose.

    Raises:
        ValueError: if an argument is out of range.
        OSError: when training starts, if the disk has no room for the checkpoints.
    """

    def __init__(self, dirpath: str | None = None, every_n_minutes: float = 5.0) -> None:
        at_least("every_n_minutes", every_n_minutes, 0)
        super().__init__(dirpath, filename="last", enable_version_counter=False, save_on_train_epoch_end=True)
        self.every_n_minutes = every_n_minutes
        self._saved_at = self._seconds_to_save = 0.0
        self._interrupted: InterruptedValidation | None = None

    @override
    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._interrupted = InterruptedValidation(checkpoint)
        # Sharded weights are loaded after `on_fit_start`.
        if trainer.strategy.restore_checkpoint_after_setup and trainer.state.fn == TrainerFn.FITTING:
            self._interrupted.keep_open(trainer)

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.world_size == 1:
            trainer._signal_connector = _EndOfStep(trainer)  # which Lightning has listen to the signals next
        if self._interrupted is not None:
            self._interrupted.keep_open(trainer)

    @override
    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._interrupted is not None:
            self._interrupted.close(trainer)

    @override
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if self._interrupted is not None:
            self._interrupted.take_up(trainer)
        self._saved_at = time.monotonic()
        if trainer.is_global_zero and self.dirpath is not None and "://" not in str(self.dirpath):
            require_room(Path(self.dirpath), pl_module)

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self.can_save_within(trainer):
            return
        due = time.monotonic() - self._saved_at >= 60 * self.every_n_minutes
        # The clocks of the ranks differ, and all have to save or none.
        if trainer.strategy.broadcast(due):
            self.save_now(trainer)

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pause = min(60 * self.every_n_minutes, self._seconds_to_save / TIME_FRACTION)
        due = is_last_epoch(trainer) or time.monotonic() - self._saved_at >= pause
        if trainer.strategy.broadcast(due):
            super().on_train_epoch_end(trainer, pl_module)

    @override
    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        # Raised between two steps. Ranks get the signal in different ones, and cannot save together.
        if isinstance(exception, SIGTERMException) and trainer.world_size == 1:
            if trainer.validating:
                self._last_global_step_saved = 0  # what was saved in this step does not know of the validation
            self.save_now(trainer)

    def can_save_within(self, trainer: Trainer) -> bool:
        """True where a run can be saved at the end of this batch.

        The end of the epoch and that of the run, behind its last validation, save by themselves; a step that is half
        summed up cannot be saved.
        """
        at_an_end = trainer.is_last_batch or _has_done_all_steps(trainer)
        return not (at_an_end or trainer.fit_loop.epoch_loop._should_accumulate())

    def save_now(self, trainer: Trainer) -> None:
        """Save at the end of a batch within an epoch; all ranks have to call it."""
        if not self._should_skip_saving_checkpoint(trainer):
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))

    @override
    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        start = time.monotonic()
        if trainer.is_global_zero and Path(filepath).is_file():
            Path(filepath).replace(Path(filepath).with_name(PREVIOUS))
        super()._save_checkpoint(trainer, filepath)
        self._saved_at = time.monotonic()
        self._seconds_to_save = self._saved_at - start


class _EndOfStep(_SignalConnector):
    """Has SIGTERM end a run once its step is whole: gradients that are half summed up cannot be saved."""

    _received = False

    @property
    def received_sigterm(self) -> bool:
        return self._received and not self.trainer.fit_loop.epoch_loop._should_accumulate()

    @received_sigterm.setter
    def received_sigterm(self, received: bool) -> None:
        self._received = received


def is_last_epoch(trainer: Trainer) -> bool:
    """True at the end of the epoch that training ends with, by epochs, steps or whatever asks for a stop."""
    by_steps = _has_done_all_steps(trainer)
    return trainer.should_stop or by_steps or trainer.current_epoch + 1 == trainer.max_epochs


def _has_done_all_steps(trainer: Trainer) -> bool:
    return 0 <= trainer.max_steps <= trainer.global_step


def require_room(folder: Path, module: LightningModule) -> None:
    """Raise now, not after hours, if the disk has no room for the checkpoints of a run.

    Args:
        folder: where they are to go; it may not exist yet.
        module: what is to be saved.

    Raises:
        OSError: if they have not.
    """
    weights = sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())
    needed = _FILES_KEPT * (1 + _STATES_OF_OPTIMIZER) * weights
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise FileError(
            f"the disk of `{folder}` has {free / 1e6:.0f} MB left, the checkpoints of this run take up to "
            f"{needed / 1e6:.0f} MB: free some, or write elsewhere with --trainer.default_root_dir"
        )
