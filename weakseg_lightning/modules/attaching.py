"""What a module has the workers that load the data add to its training batches."""

from typing import Protocol

from lightning.pytorch import LightningModule


class Attachment(Protocol):
    """Adds to the batches; how, is up to the data modules, which call it."""

    wanted: bool
    """Whether the batches of the next epoch are to hold what is attached."""


def hand_to_data(module: LightningModule, attachment: Attachment | None) -> None:
    """Give an attachment to the data module of a run, or take it back (None).

    Args:
        module: the module that is trained.
        attachment: what its batches are to hold besides.

    Raises:
        TypeError: if the data cannot do that.
    """
    data = module.trainer.datamodule  # type: ignore[attr-defined]
    if not hasattr(data, "attachment"):
        raise TypeError(
            f"{type(module).__name__} has the workers that load the data add to the batches: it needs the data as a "
            f"SegmentationDataModule, got {type(data).__name__}"
        )
    data.attachment = attachment
