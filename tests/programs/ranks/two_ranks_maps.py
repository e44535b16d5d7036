"""Writes down the tiles of a folder of maps that each of two ranks trains on: ``two_ranks_maps.py DATA FOLDER``."""

import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from small_runs import quiet_trainer
from torch import Tensor, nn

from weakseg_lightning.data import MapDataModule


class Names(LightningModule):
    """Remembers the epoch and the names of its training images."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.seen: list[tuple[int, str]] = []

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        self.seen += [(self.current_epoch, name) for name in batch["id"]]
        return self.layer(torch.ones(1, 1)).sum()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """There are images to validate on, which ask for this."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def record(root: str | Path, folder: str | Path, ckpt: Path | None = None, **options: Any) -> Names:
    """Train, and return the module that has seen the tiles."""
    data = MapDataModule(root, batch_size=4, crop_size=32, num_workers=0, seed=1)
    module = Names()
    quiet_trainer(str(folder), **options).fit(module, data, ckpt_path=ckpt, weights_only=False)
    return module


if __name__ == "__main__":
    module = record(*sys.argv[1:], max_epochs=2, strategy="ddp", devices=2)
    lines = [f"{epoch} {name}" for epoch, name in module.seen]
    Path(sys.argv[2], f"{module.global_rank}.txt").write_text("\n".join(lines))
