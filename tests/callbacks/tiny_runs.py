"""A network and data of seconds, trainers without what tests do not need, and runs on two ranks."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import LambdaCallback
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

SIZE = (20, 28)


class Scenes(Dataset):
    """Random images of two classes, padded below and on the right."""

    def __init__(self, ids: list[str]) -> None:
        self.ids = ids

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(index)
        mask = torch.randint(0, 2, SIZE, generator=generator)
        seeds = torch.full(SIZE, 255)
        seeds[4:9, 5] = mask[4:9, 5]
        valid = torch.ones(SIZE, dtype=torch.bool)
        valid[16:], valid[:, 24:] = False, False
        image = torch.rand(3, *SIZE, generator=generator) * valid
        return {"image": image, "seeds": seeds, "mask": mask, "valid": valid, "id": self.ids[index]}


class TwoClasses(LightningDataModule):
    class_names = ("ground", "thing")
    palette = ((10, 20, 30), (200, 100, 0))

    def __init__(self, ids: list[str] | None = None) -> None:
        super().__init__()
        self.ids = ids or [f"im{i}" for i in range(6)]

    def train_dataloader(self) -> DataLoader:
        return DataLoader(Scenes(self.ids), batch_size=3, shuffle=True)

    def predict_dataloader(self) -> DataLoader:
        return DataLoader(Scenes(self.ids), batch_size=1)


class Tiny(LightningModule):
    """Batch norm, dropout, and a part that is frozen in evaluation mode: whatever a picture could disturb."""

    def __init__(self, latent: bool = True) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Conv2d(4, 2, 1))
        self.frozen = nn.BatchNorm2d(3)
        self.latent = latent
        self.latent_labels: Tensor | None = None
        self.modes: list[bool] = []

    def forward(self, images: Tensor) -> Tensor:
        self.modes.append(self.net.training)
        return self.net(self.frozen(images))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        self.frozen.eval()
        if self.latent:
            self.latent_labels = batch["mask"].to(torch.uint8)
        return nn.functional.cross_entropy(self(batch["image"]), batch["mask"])

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        return {"id": batch["id"], "labels": self(batch["image"]).argmax(1).to(torch.uint8)}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1, momentum=0.9)


def losses_to(found: list[float]) -> Callback:
    """A callback that appends the loss of every step."""
    return LambdaCallback(on_train_batch_end=lambda *given: found.append(given[2]["loss"].item()))


def make_trainer(folder: Path, *callbacks: Callback, **options: Any) -> Trainer:
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    settings = {"default_root_dir": folder, "accelerator": "cpu", "log_every_n_steps": 1, "max_epochs": 1}
    return Trainer(**quiet | settings | options, callbacks=list(callbacks))  # type: ignore[arg-type]


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def on_two_ranks(program: str, out: Path) -> list[str]:
    """Run a program of this folder, which starts its second rank by itself, and list what it wrote."""
    command = [sys.executable, str(Path(__file__).with_name(program)), str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    return files_in(out)
