"""Beginning with a checkpoint: its file, and the loops where it was written."""

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.loops.loop import _Loop

from weakseg_lightning.errors import MissingFileError, UserError
from weakseg_lightning.hyperparameters import with_current_names


def restore_progress(trainer: Trainer) -> None:
    """Go on exactly where the checkpoint was written, at the end of an epoch or within one.

    Args:
        trainer: a trainer that has loaded its checkpoint, if any, and not yet begun to train.
    """
    close_finished_epoch(trainer)
    _count_steps_once(trainer)
    # Lightning made the loader before it read the checkpoint, if only to count the batches, and does not ask again.
    trainer.fit_loop._load_combined_loader_states()


def close_finished_epoch(trainer: Trainer) -> None:
    """Begin the next epoch where the checkpoint was written at the end of one, or after it.

    Lightning (2.6; its issue 19403) does this only for runs that `max_epochs` ends. For one that `max_steps` ends it
    takes up the finished epoch again, and unless that epoch ended with a validation it trains one batch too many in it;
    a checkpoint of after the hooks of the end, as SIGTERM leaves it, would have it skip the next epoch.

    Args:
        trainer: a trainer that has loaded its checkpoint and not yet begun to train.
    """
    loop = trainer.fit_loop
    progress: Any = loop.epoch_progress.total
    finished = progress.processed == progress.ready
    if not (loop.restarting and finished and loop.epoch_loop._num_ready_batches_reached()):
        return
    if loop.restarted_on_epoch_end:
        loop.epoch_progress.increment_completed()
    loop.reset_restart_stage()
    loop.epoch_loop.reset_restart_stage()
    _Loop.restarting.fset(loop, False)  # type: ignore[attr-defined]  # the loop's own setter raises


def _count_steps_once(trainer: Trainer) -> None:
    """Log under the numbers of the undisturbed run where the checkpoint was written after a validation.

    Lightning logs by a count of the steps, which it raises once more for the step before that validation. SIGTERM ends
    a run after the count was raised, and others save before that.
    """
    loop, fetcher = trainer.fit_loop.epoch_loop, trainer.fit_loop._data_fetcher
    stepped = loop.restarted_on_last and not loop._should_accumulate()
    if fetcher is not None and stepped and loop._should_check_val_fx(fetcher):
        loop._batches_that_stepped = min(loop._batches_that_stepped, trainer.global_step - 1)


def warn_of_another_run(trainer: Trainer, method: str, checkpoint: dict[str, Any]) -> None:
    """Warn where training goes on with another method, or from averaged weights as if they were those it had reached.

    Args:
        trainer: of the run.
        method: the import path of its module.
        checkpoint: what it goes on from.
    """
    before = with_current_names(checkpoint.get("hyper_parameters", {})).get("_class_path", method)
    if trainer.state.fn == "fit" and before != method:
        earlier, now = (path.rpartition(".")[2] for path in (before, method))
        warnings.warn(
            f"{trainer.ckpt_path} is of {earlier}, and {now} goes on from its iteration, with its optimizer: to take "
            "its weights alone, begin a new run with `model.start_from`",
            stacklevel=2,
        )
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by a connector
    averages = any(isinstance(callback, WeightAveraging) for callback in callbacks)
    if trainer.state.fn == "fit" and "current_model_state" in checkpoint and not averages:
        text = "add the callback AveragedWeights to go on as before, or begin a new run with `model.start_from`"
        warnings.warn(
            f"{trainer.ckpt_path} holds averaged weights, and training goes on from these: {text}", stacklevel=2
        )


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint, without running any code that it may hold; tensors stay in the file until they are used.

    Args:
        path: a checkpoint as ``weakseg fit`` or a Lightning trainer writes it.

    Returns:
        The checkpoint, with ``state_dict`` in it, on the CPU.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no checkpoint of a run, or damaged.
    """
    if Path(path).is_dir():
        last = Path(path) / "checkpoints" / "last.ckpt"
        hint = f": name {last}" if last.is_file() else ""
        raise UserError(f"`{path}` is a folder, not a checkpoint{hint}")
    if not Path(path).is_file():
        raise MissingFileError(f"no checkpoint `{path}` (looked in {Path(path).resolve().parent})")
    try:
        content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise UserError(f"`{path}` is no checkpoint, or a damaged one, or one that holds code") from error
    if not isinstance(content, dict) or not {"pytorch-lightning_version", "state_dict"} <= content.keys():
        raise UserError(f"`{path}` is no checkpoint of a whole run, as `weakseg fit` writes it")
    return content
