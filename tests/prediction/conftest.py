"""A network small enough to know how far it sees."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from weakseg_lightning import Network, RegularizedLossModule, SegmentationNet, WeakSegModule

SEES = 24
"""No pixel further away than this has an influence."""


class Small(SegmentationNet):
    """Three convolutions with stride 4 in all: 3 + 2 * 2 + 2 * 4 = 15 pixels, and those between two cells of 4."""

    def __init__(self, num_classes: int, pools: bool) -> None:
        super().__init__((0.5,) * 3, (0.25,) * 3, stride=4)
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.second = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.last = nn.Conv2d(8, num_classes, 3, padding=1)
        self.pools = pools

    def compute_logits(self, x: Tensor) -> Tensor:
        hidden = self.second(self.first(x).relu()).relu()
        if self.pools:
            hidden = hidden - hidden.mean((2, 3), keepdim=True)
        return F.interpolate(8 * self.last(hidden), size=x.shape[-2:], mode="bilinear")

    def head_parameters(self) -> list[nn.Parameter]:
        return list(self.last.parameters())


class SmallNetwork(Network):
    def __init__(self, pools: bool = False) -> None:
        self.pools = pools

    def build(self, num_classes: int) -> SegmentationNet:
        torch.manual_seed(0)
        return Small(num_classes, self.pools)


@pytest.fixture
def module() -> WeakSegModule:
    """A module of three classes whose network sees :data:`SEES` pixels far."""
    return RegularizedLossModule(SmallNetwork(), 3).eval()


@pytest.fixture
def pooling() -> WeakSegModule:
    """The same with a network that sees the whole image."""
    return RegularizedLossModule(SmallNetwork(pools=True), 3).eval()
