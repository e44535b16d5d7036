"""Additions to the training batches, made by the data for the module."""

from typing import Any, Protocol

import torch
from lightning.pytorch import LightningModule
from torch import Tensor


class BatchHook(Protocol):
    """Adds to the batches; how, is up to the data modules, which call it."""

    enabled: bool
    """True where the batches of the next epoch are to hold the additions."""


def register_batch_hook(module: LightningModule, batch_hook: BatchHook | None) -> None:
    """Give a batch hook to the data module of a run, or take it back (None).

    Args:
        module: the module that is trained.
        batch_hook: adds to its batches.

    Raises:
        TypeError: if the data cannot do that.
    """
    _tell_data(module, "batch_hook", batch_hook)


def request_next_batch(module: LightningModule, enabled: bool) -> None:
    """Have each training batch hold the one that follows it, as ``next_batch``, or no longer.

    Args:
        module: the module that is trained.
        enabled: True to hold it.

    Raises:
        TypeError: if the data cannot do that.
    """
    _tell_data(module, "lookahead", enabled)


def in_unit_range(image: Tensor) -> Tensor:
    """Images as a step sees them, float in 0..1, made of those that the loader's workers hold, uint8."""
    return image.float() / 255 if image.dtype == torch.uint8 else image


def _tell_data(module: LightningModule, name: str, value: Any) -> None:
    data = module.trainer.datamodule  # type: ignore[attr-defined]
    if not hasattr(data, name):
        raise TypeError(
            f"{type(module).__name__} has the data add to the batches: it needs the data as a SegmentationDataModule, "
            f"got {type(data).__name__}"
        )
    setattr(data, name, value)
