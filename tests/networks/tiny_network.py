"""A head on timm's own network for tests."""

from typing import Any

import torch

from weakseg_lightning import FrozenFeatures
from weakseg_lightning.networks.frozen.features import FrozenNet

TINY = "test_efficientnet"


def build(weights: str | None, **options: Any) -> FrozenNet:
    """Build it for 4 classes, the same one each time."""
    torch.manual_seed(1)
    return FrozenFeatures(TINY, weights, **options).build(4)
