"""Scores the cases of a folder of slices on two ranks: ``two_ranks_cases.py DATA FOLDER``."""

import sys

from slices import PATTERN
from small_runs import CoarseNetwork, quiet_trainer

from weakseg_lightning.callbacks import CaseWriter
from weakseg_lightning.data import FolderDataModule
from weakseg_lightning.modules import RegularizedLossModule


class Shifted(RegularizedLossModule):
    """Predicts the ground truth, two rows lower."""

    def _predict(self, batch):
        return batch["mask"].roll(2, 1)


def score(root: str, folder: str, **ranks: object) -> dict[str, float]:
    """Validate, and leave ``cases.csv`` in a folder."""
    data = FolderDataModule(root, cases=PATTERN, spacing=(8.0, 1.5, 1.25), val_fraction=0.99, num_workers=0)
    trainer = quiet_trainer(folder, limit_val_batches=1.0, callbacks=[CaseWriter()], **ranks)
    (logged,) = trainer.validate(Shifted(CoarseNetwork(), 3), data, verbose=False)
    return logged


if __name__ == "__main__":
    score(*sys.argv[1:], strategy="ddp", devices=2)
