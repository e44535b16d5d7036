"""Trains trust region on two ranks: ``two_ranks_amortized.py FOLDER STORE WORKERS``; tests import how it is built."""

import sys

import torch
from lightning.pytorch import Callback, seed_everything
from small_runs import quiet_trainer

from weakseg_lightning.data import ScenesDataModule
from weakseg_lightning.energies import GridPotts
from weakseg_lightning.modules import Optimizer, TrustRegionModule
from weakseg_lightning.modules.core.latent_store import LatentStore
from weakseg_lightning.networks import SMPNetwork
from weakseg_lightning.solvers import AlphaExpansion


def make_data(num_workers: int = 0) -> ScenesDataModule:
    # no smaller crops: batch norm on two values at the deepest layer makes the gradients explode
    return ScenesDataModule(num_train=14, num_val=1, size=64, crop_size=48, batch_size=2, num_workers=num_workers)


def make_module(path: str | None, classes: int) -> TrustRegionModule:
    solver = AlphaExpansion(GridPotts(100, normalize_edges=True), unary_weight=0.5, start="zeros")
    network = SMPNetwork(architecture="unet", encoder="mobilenet_v2", encoder_weights=None)
    seed_everything(1, verbose=False)
    cycles = {"epochs_per_cycle": 2, "pce_fraction": 0.0, "optimizer": Optimizer(lr=0.05)}
    return TrustRegionModule(network, classes, solver, store=LatentStore(path), **cycles)


class Count(Callback):
    """Notes what is solved for, and saves within the first epoch."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.solved: list[tuple[int, str]] = []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.solved += [(trainer.current_epoch, batch["id"][position]) for position in batch.get("whole", {})]

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == (0, 1):
            trainer.save_checkpoint(self.folder + "/within.ckpt")
            torch.save(self.solved, self.folder + f"/within-{trainer.global_rank}")


def train(folder: str, path: str, workers: str) -> None:
    data, count = make_data(int(workers)), Count(folder)
    module = make_module(path or None, data.num_classes)
    trainer = quiet_trainer(folder, strategy="ddp", devices=2, max_epochs=4, callbacks=[count])
    trainer.fit(module, data)
    trainer.save_checkpoint(folder + "/trained.ckpt")
    torch.save(count.solved, folder + f"/solved-{trainer.global_rank}")


if __name__ == "__main__":
    train(*sys.argv[1:])
