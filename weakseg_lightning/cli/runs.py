"""The folder of a run, and the files written into it by default."""

import shutil
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning_utilities.core.rank_zero import rank_zero_only
from typing_extensions import override

from weakseg_lightning.modules.core.resuming import read_checkpoint

Metrics = dict[str, int | str | float | dict[str, float]]


# ---- folders ------------------------------------------------------------------------------------------------


def new_folder(parent: Path, stem: str, *, numbered: bool) -> Path:
    """Make a folder that no other run uses, also not one that starts at the same moment.

    Args:
        parent: folder to make it in.
        stem: beginning of its name.
        numbered: whether the first one has a number too.

    Returns:
        ``parent/stem_0`` (or ``parent/stem``), or the next that is free. Ranks other than 0 get a name alone: they
        write nothing, and Lightning tells them the folder of rank 0.
    """
    number = 0
    while True:
        folder = parent / (f"{stem}_{number}" if numbered or number else stem)
        number += 1
        if folder.exists():
            continue
        if getattr(rank_zero_only, "rank", 0) != 0:
            return folder
        try:
            folder.mkdir(parents=True)
        except FileExistsError:  # another process was faster
            continue
        return folder


@dataclass(frozen=True)
class RunFolder:
    """The folder for the results of a command.

    Attributes:
        path: the folder.
        kept: the innermost folder around it that had been there before.
    """

    path: Path
    kept: Path

    @classmethod
    def make(cls, command: str, root: Path, name: str, checkpoint: str | None) -> "RunFolder":
        """Choose and make it.

        Args:
            command: ``fit``, ``validate``, ``test`` or ``predict``.
            root: folder of all runs.
            name: name of this run.
            checkpoint: the checkpoint that the command reads.

        Returns:
            ``root/name/version_<n>`` for ``fit``; for the others a folder named after the command in the folder of the
            run that wrote the checkpoint.
        """
        of_run = command != "fit" and checkpoint is not None and Path(checkpoint).parent.name == "checkpoints"
        parent = Path(checkpoint).parent.parent if of_run and checkpoint is not None else root / name
        kept = next(path for path in (parent.absolute(), *parent.absolute().parents) if path.is_dir())
        stem = "version" if command == "fit" else command
        return cls(new_folder(parent, stem, numbered=not of_run), kept)

    def discard(self) -> None:
        """Remove it after a start that failed, and the folders around it that are empty and were made for it."""
        discard(self.path)
        for folder in self.path.absolute().parents:
            if folder == self.kept or not _removed_if_empty(folder):
                return


@rank_zero_only
def discard(folder: Path) -> None:
    """Remove the folder of a run that failed before it began."""
    shutil.rmtree(folder, ignore_errors=True)


def _removed_if_empty(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:  # another run has made a folder in it
        return False
    return True


def warn_if_done(checkpoint: str, max_steps: int) -> None:
    """Warn if a run that is to go on has taken all its steps."""
    if not Path(checkpoint).is_file():
        return
    step = read_checkpoint(checkpoint).get("global_step", 0)
    if 0 <= max_steps <= step:
        print(
            f"weakseg: warning: {checkpoint} is at iteration {step} of {max_steps}, so that no training is left: raise "
            "--trainer.max_steps to train longer",
            file=sys.stderr,
        )


def default_loggers(folder: Path, *, tensorboard: bool) -> list[Logger]:
    """Loggers that write ``folder/metrics.csv`` and, where tensorboard is installed, ``folder/tensorboard/``."""
    save_dir, name, version = folder.parent.parent, folder.parent.name, folder.name
    loggers: list[Logger] = [CSVLogger(save_dir, name, version)]
    if tensorboard and find_spec("tensorboard") is not None:
        loggers.append(TensorBoardLogger(save_dir, name, version, default_hp_metric=False, sub_dir="tensorboard"))
    return loggers


# ---- callbacks ----------------------------------------------------------------------------------------------


def without_replaced(defaults: list[Callback], given: list[Callback]) -> list[Callback]:
    """Those of the default callbacks whose kind the user has not given."""
    kinds = tuple(type(callback) for callback in given)
    return [callback for callback in defaults if not issubclass(type(callback), kinds)]


class ConfigWriter(Callback):
    """Writes the run's whole configuration into its folder.

    Args:
        folder: the folder.
        text: the configuration as YAML.
    """

    def __init__(self, folder: Path, text: str) -> None:
        self.folder = folder
        self.text = text

    @override
    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if trainer.is_global_zero:
            (self.folder / "config.yaml").write_text(self.text, encoding="utf-8")


class FinalValidation(Callback):
    """Validates after the last iteration, also if `max_steps` ends the run within an epoch."""

    @override
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if 0 <= trainer.max_steps <= trainer.global_step:
            trainer.check_val_every_n_epoch = 1
            trainer.should_stop = True  # Lightning validates before it stops, but not at `max_steps`


class ProgressBar(RichProgressBar):
    """Lightning's progress bar that says which iteration it is, where those are what ends the run."""

    def __init__(self) -> None:
        super().__init__(leave=True)

    @override
    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> Metrics:
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics if trainer.max_steps < 0 else {"step": f"{trainer.global_step}/{trainer.max_steps}", **metrics}

    @override
    def _get_train_description(self, current_epoch: int) -> str:
        counted_in_epochs = self.trainer.max_epochs is not None and self.trainer.max_epochs > 0
        return super()._get_train_description(current_epoch) if counted_in_epochs else f"Epoch {current_epoch}"


class BatchReached(Callback):
    """Remembers if the first batch has been reached, and else undoes what was made for the run.

    Attributes:
        yes: whether it has.
        folder: the folder of the run, once there is one.
    """

    yes = False
    folder: RunFolder | None = None

    def undo(self) -> None:
        """Remove the folder of a run that ends before its first batch; of others it keeps what is in it."""
        if self.folder is not None and not self.yes:
            self.folder.discard()

    def _reach(self, *_: Any, **__: Any) -> None:
        self.yes = True

    on_train_batch_start = on_validation_batch_start = on_test_batch_start = on_predict_batch_start = _reach
