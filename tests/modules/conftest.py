"""A tiny network and tiny data, so that whole training runs take a second."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import LambdaCallback
from small_runs import quiet_trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from weakseg_lightning.data import ScenesDataModule
from weakseg_lightning.networks import Network, SegmentationNet

SIZE, CLASSES = 12, 3


class TinyNet(nn.Module):
    """Two convolutions with batch norm and dropout between."""

    prepare = SegmentationNet.prepare

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Conv2d(8, num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.encoder(images))

    def head_parameters(self) -> list[nn.Parameter]:
        return list(self.head.parameters())


class TinyNetwork(Network):
    def build(self, num_classes: int) -> SegmentationNet:
        torch.manual_seed(0)
        return TinyNet(num_classes)  # type: ignore[return-value]


class TinyScenes(Dataset[dict[str, Any]]):
    """Two flat halves and noise, a handful of seeds."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(index)
        mask = torch.zeros(SIZE, SIZE, dtype=torch.long)
        mask[:, SIZE // 2 :] = 1 + index % 2
        colors = torch.eye(3)[mask].permute(2, 0, 1)
        seeds = torch.full_like(mask, 255)
        seeds[5, 2], seeds[5, 9] = mask[5, 2], mask[5, 9]
        present = torch.zeros(CLASSES, dtype=torch.bool)
        present[mask.unique()] = True
        return {
            "image": (colors + 0.3 * torch.rand(3, SIZE, SIZE, generator=generator)).clamp(0, 1),
            "seeds": seeds,
            "mask": mask,
            "valid": torch.ones(SIZE, SIZE, dtype=torch.bool),
            "tags": present,
            "seed_labels": present,
            "id": f"scene_{index}",
        }


class TinyData(LightningDataModule):
    num_classes = CLASSES

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        return DataLoader(TinyScenes(8), batch_size=4)

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        return DataLoader(TinyScenes(3), batch_size=1)

    test_dataloader = predict_dataloader = val_dataloader


@pytest.fixture
def tiny_network() -> Network:
    return TinyNetwork()


@pytest.fixture
def tiny_data() -> LightningDataModule:
    return TinyData()


@pytest.fixture
def make_trainer(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Trainer]:
    """Trainers for runs of a second, with the seed that `seed_everything` would leave behind."""
    monkeypatch.setenv("PL_GLOBAL_SEED", "3")

    def make(**arguments: Any) -> Trainer:
        return quiet_trainer(
            tmp_path, **{"max_epochs": 2, "limit_val_batches": 1.0, "log_every_n_steps": 1} | arguments
        )

    return make


@pytest.fixture
def save_at() -> Callable[..., Callback]:
    """Callbacks that write a checkpoint: ``save_at(path, epoch=1)`` or ``step=3``; ``epoch="each"`` after each."""

    def make(path: Path, epoch: Any = None, step: int | None = None) -> Callback:
        def after_epoch(trainer: Trainer, module: LightningModule) -> None:
            if epoch in ("each", trainer.current_epoch):
                trainer.save_checkpoint(path)

        def after_step(trainer: Trainer, *_: Any) -> None:
            if trainer.global_step == step:
                trainer.save_checkpoint(path)

        return LambdaCallback(on_train_epoch_end=after_epoch, on_train_batch_end=after_step)

    return make


@pytest.fixture
def small_scenes() -> Callable[..., ScenesDataModule]:
    """Two batches of four small scenes."""

    def make(**arguments: Any) -> ScenesDataModule:
        small = {"num_train": 8, "num_val": 1, "size": 40, "crop_size": 24, "batch_size": 4, "num_workers": 0}
        return ScenesDataModule(**(small | arguments))

    return make


@pytest.fixture
def equal_weights() -> Callable[[nn.Module, nn.Module], bool]:
    """Compare the weights and buffers of two modules bit for bit."""

    def compare(first: nn.Module, second: nn.Module) -> bool:
        one, two = first.state_dict(), second.state_dict()
        return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)

    return compare
