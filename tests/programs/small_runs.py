"""The smallest trainers and networks, for tests and the programs that they start."""

from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.nn import functional

from weakseg_lightning.networks import Network, SegmentationNet


def quiet_trainer(folder: str, **options: Any) -> Trainer:
    """A trainer on the CPU that writes and prints nothing unless it is told to."""
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    return Trainer(**{"accelerator": "cpu", "default_root_dir": folder, "limit_val_batches": 0, **quiet, **options})


class TinyNet(SegmentationNet):
    """Layers of full resolution, and a classifier."""

    def __init__(self, body: nn.Module, channels: int, num_classes: int) -> None:
        super().__init__((0.5,) * 3, (0.25,) * 3, 1)
        self.body = body
        self.head = nn.Conv2d(channels, num_classes, 1)

    def compute_logits(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))

    def head_parameters(self) -> list[nn.Parameter]:
        return list(self.head.parameters())


class Tiny(Network):
    """Builds a :class:`TinyNet` of 8 channels, the same each time; subclasses give its layers."""

    def make_body(self) -> nn.Module:
        raise NotImplementedError

    def build(self, num_classes: int) -> TinyNet:
        torch.manual_seed(0)
        return TinyNet(self.make_body(), 8, num_classes)


class CoarseNet(SegmentationNet):
    """Colors of squares of 4 x 4 pixels, mixed."""

    def __init__(self, num_classes: int) -> None:
        super().__init__((0.5,) * 3, (0.5,) * 3, stride=4, map_stride=4)
        self.head = nn.Conv2d(3, num_classes, 1)

    def compute_map(self, x: Tensor) -> Tensor:
        return self.head(functional.avg_pool2d(x, 4))

    def compute_logits(self, x: Tensor) -> Tensor:
        return functional.interpolate(self.compute_map(x), scale_factor=4, mode="bilinear")

    def head_parameters(self) -> list[nn.Parameter]:
        return list(self.head.parameters())


class CoarseNetwork(Network):
    def build(self, num_classes: int) -> CoarseNet:
        torch.manual_seed(0)
        return CoarseNet(num_classes)
