"""Trains on a folder of images with five channels, on as many ranks as its environment says: ``... FOLDER OUT``."""

import os
import sys

import torch
from lightning.pytorch import seed_everything
from lightning.pytorch.strategies import DDPStrategy
from small_runs import quiet_trainer

from weakseg_lightning.data import FolderDataModule
from weakseg_lightning.losses import GridPottsLoss
from weakseg_lightning.modules import Optimizer, RegularizedLossModule
from weakseg_lightning.networks import FrozenFeatures

folder, out = sys.argv[1:]
world = int(os.environ.get("WORLD_SIZE", 1))
ranks = {"devices": world, "strategy": "auto" if world == 1 else "ddp"}
if world > 1 and torch.__version__ < "2.12":
    ranks["strategy"] = DDPStrategy(broadcast_buffers=False)
seed_everything(1, verbose=False)
given = {"crop_size": 32, "scale_range": (0.5, 1.0), "batch_size": 4 // world, "num_workers": 0, "val_fraction": 0.0}
data = FolderDataModule(
    folder, "full", channels=["red", "green", "blue", "nir", "swir"], guide=["swir", "nir", "red"], **given
)
network = FrozenFeatures("test_efficientnet", None, hidden=8, dropout=0.0)
module = RegularizedLossModule(
    network.for_channels(*data.channels.normalization),
    data.num_classes,
    regularizer=GridPottsLoss(),
    optimizer=Optimizer("sgd", 0.3, 0.9, 1e-4, 1.0, "poly"),
)
trainer = quiet_trainer(out, max_epochs=2, **ranks)
trainer.fit(module, data)
trainer.save_checkpoint(f"{out}/{world}.ckpt")
