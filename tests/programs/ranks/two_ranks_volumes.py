"""Predicts a folder of volumes on two ranks: ``two_ranks_volumes.py DATA FOLDER``."""

import sys
from pathlib import Path

from small_runs import CoarseNetwork, quiet_trainer

from weakseg_lightning.callbacks import PredictionWriter
from weakseg_lightning.data import FolderDataModule
from weakseg_lightning.modules import RegularizedLossModule


class Bright(RegularizedLossModule):
    """Labels what is bright, and notes in which slices."""

    def _predict(self, batch):
        with Path(folder, f"{self.global_rank}.txt").open("a") as file:
            file.writelines(f"{name}\n" for name in batch["id"])
        return batch["image"][:, 0] > 0.5


root, folder = sys.argv[1:]
trainer = quiet_trainer(folder, callbacks=[PredictionWriter(f"{folder}/out")], strategy="ddp", devices=2)
data = FolderDataModule(root, num_workers=0)
trainer.predict(Bright(CoarseNetwork(), 2), data, return_predictions=False)
