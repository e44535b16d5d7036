"""Pictures of red discs and green squares on gray noise, and networks small enough to learn them at once."""

from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from weakseg_lightning.networks import DecompositionNet, DecompositionNetwork, TagNet, TagNetwork

SIZE, CLASSES = 32, 3


class Encoder(nn.Module):
    """Three convolutions with batch norm, the second of stride 2."""

    output_stride, out_channels = 2, [16]

    def __init__(self) -> None:
        super().__init__()
        widths, strides = (3, 8, 16, 16), (1, 2, 1)
        blocks = [
            nn.Sequential(
                nn.Conv2d(widths[i], widths[i + 1], 3, strides[i], 1), nn.BatchNorm2d(widths[i + 1]), nn.ReLU()
            )
            for i in range(3)
        ]
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [self.blocks(x)]


class TinyTags(TagNetwork):
    def build(self, num_classes: int) -> TagNet:
        torch.manual_seed(1)
        return TagNet(Encoder(), num_classes, (0.5,) * 3, (0.25,) * 3)

    def without_weights(self) -> "TinyTags":
        return self


class TinyDecompositionNet(DecompositionNet):
    def __init__(self, num_classes: int) -> None:
        super().__init__((0.5,) * 3, (0.25,) * 3, 2)
        self.model = nn.Module()
        self.model.encoder = Encoder()
        self.masks = nn.Conv2d(16, num_classes, 1)
        self.painter = nn.Conv2d(16, 3 * num_classes, 1)

    def compute_logits(self, x: Tensor) -> Tensor:
        return self.compute_decomposition(x)[:, : self.masks.out_channels]

    def compute_decomposition(self, x: Tensor) -> Tensor:
        features = self.model.encoder(x)[0]
        both = torch.cat([self.masks(features), self.painter(features)], 1)
        return functional.interpolate(both, size=x.shape[-2:], mode="bilinear")

    def head_parameters(self) -> list[nn.Parameter]:
        return [*self.masks.parameters(), *self.painter.parameters()]


class TinyDecomposition(DecompositionNetwork):
    def build(self, num_classes: int) -> DecompositionNet:
        torch.manual_seed(2)
        return TinyDecompositionNet(num_classes)


class Discs(Dataset[dict[str, Any]]):
    """Each image holds a disc (1), a square (2), both or neither, in its left and its right half."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(index)
        mask, (y, x) = (
            torch.zeros(SIZE, SIZE, dtype=torch.long),
            torch.meshgrid(*[torch.arange(SIZE)] * 2, indexing="ij"),
        )
        shown = [bool(index & 1), bool(index & 2)]
        if shown[0]:
            center = torch.randint(7, SIZE - 7, (2,), generator=generator)
            mask[(y - center[0]) ** 2 + (x - center[1]) ** 2 < 36] = 1
        if shown[1]:
            top, left = torch.randint(0, SIZE - 12, (2,), generator=generator).tolist()
            mask[top : top + 11, left : left + 11] = 2
            shown[0] = bool((mask == 1).any())
        colors = torch.tensor([[0.5, 0.5, 0.5], [0.8, 0.35, 0.4], [0.35, 0.7, 0.4]])[mask].permute(2, 0, 1)
        noise = 0.12 * torch.randn(3, SIZE, SIZE, generator=generator)
        void = torch.full_like(mask, 255)
        return {
            "image": (colors + noise).clamp(0, 1),
            "seeds": void,
            "mask": mask,
            "valid": torch.ones(SIZE, SIZE, dtype=torch.bool),
            "tags": torch.tensor([True, *shown]),
            "seed_labels": torch.tensor([True, False, False]),
            "id": f"disc_{index}",
        }


class DiscData(LightningDataModule):
    num_classes = CLASSES
    class_names = ("background", "disc", "square")

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        return DataLoader(Discs(64), batch_size=16, shuffle=True, generator=torch.Generator().manual_seed(0))

    def val_dataloader(self) -> DataLoader[dict[str, Any]]:
        return DataLoader(Discs(16), batch_size=1)

    test_dataloader = predict_dataloader = val_dataloader
