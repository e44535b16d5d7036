"""Additions to the training batches, made by the data for the module."""

from typing import Any, Protocol

from lightning.pytorch import LightningModule


class BatchHook(Protocol):
    """Adds to the batches; how, is up to the data modules, which call it."""

    enabled: bool
    """True where the batches of the next epoch are to hold the additions."""


def tell_data(module: LightningModule, name: str, value: Any) -> None:
    """Set what the data module of a run adds to its training batches.

    Args:
        module: the module that is trained.
        name: ``batch_hook``, or ``lookahead``, with which each batch holds the one that follows it as ``next_batch``.
        value: a :class:`BatchHook`, or True; None or False to end it.

    Raises:
        TypeError: if the data cannot do that.
    """
    data = module.trainer.datamodule  # type: ignore[attr-defined]
    if not hasattr(data, name):
        raise TypeError(
            f"{type(module).__name__} has the data add to the batches: it needs the data as a SegmentationDataModule, "
            f"got {type(data).__name__}"
        )
    setattr(data, name, value)
