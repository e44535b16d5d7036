"""Scores of the single cases of a validation or a test."""

import warnings
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from typing_extensions import override

from weakseg_lightning.callbacks.drawing import run_folder
from weakseg_lightning.files import replacing
from weakseg_lightning.modules import WeakSegModule
from weakseg_lightning.visualization.cases import write_cases


class CaseWriter(Callback):
    """Writes the scores of each case into ``cases.csv`` in the run's folder, after a validation or a test.

    Data that name no cases leave no file. During training, a validation replaces the file of the one before.

    Example:
        >>> from lightning.pytorch import Trainer
        >>> trainer = Trainer(callbacks=[CaseWriter()], logger=False, enable_checkpointing=False)
    """

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            _write(trainer, pl_module)

    @override
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        _write(trainer, pl_module)


def _write(trainer: Trainer, module: LightningModule) -> None:
    folder = run_folder(trainer)
    if not isinstance(module, WeakSegModule) or not module.case_scores:
        return
    if trainer.is_global_zero and not getattr(trainer, "fast_dev_run", False):
        _keep(module, folder)


def _keep(module: WeakSegModule, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / "cases.csv") as path:
            write_cases(path, module.case_scores, module.names_or_numbers[1:])
    except OSError as error:  # the means are logged, and training may go on
        warnings.warn(f"{error}; the run goes on without the scores of its cases", stacklevel=2)
    else:
        rank_zero_info(f"Scores of {len(module.case_scores)} cases are in {folder / 'cases.csv'}")
