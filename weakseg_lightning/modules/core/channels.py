"""The channels of images belong to the weights: they are kept with these, and other data are read as they say."""

from collections.abc import Mapping
from typing import Any

import torch

from weakseg_lightning.data.images.statistics import Channels
from weakseg_lightning.errors import UserError

__all__ = ["adopt_channels", "channels_in", "take_channels", "write_channels"]

_KEY = "channels"


def write_channels(checkpoint: dict[str, Any], channels: Channels | None) -> None:
    """Keep channels and their statistics in a checkpoint; nothing for RGB."""
    if channels is not None:
        checkpoint[_KEY] = channels.plain()


def channels_in(checkpoint: Mapping[str, Any]) -> Channels | None:
    """The channels in a checkpoint; None for RGB."""
    return None if checkpoint.get(_KEY) is None else Channels.of_plain(checkpoint[_KEY])


def take_channels(module: Any) -> None:
    """Give the data of a run the channels of the weights or, where these are new, the module those of the data.

    Raises:
        ValueError: if the data have others, or the network is not made for them.
    """
    data = getattr(module.trainer, "datamodule", None)
    theirs: Channels | None = getattr(data, "channels", None)
    if module.channels is None and theirs is not None:
        module.channels = theirs
        _require_made_for(module.net, theirs)
    elif module.channels is not None and data is not None:
        _give(data, theirs, module.channels)


def adopt_channels(module: Any, saved: Channels | None) -> None:
    """Take the channels of a checkpoint, and give them to the data of the run, if there is one.

    Args:
        module: what the checkpoint is loaded into.
        saved: those of the checkpoint; None for RGB.

    Raises:
        ValueError: if the data have others.
    """
    data = None if module._trainer is None else getattr(module._trainer, "datamodule", None)
    theirs: Channels | None = getattr(data, "channels", None)
    if saved is None:
        if theirs is not None:
            raise UserError("the weights were trained on RGB images, the data here have `channels`: leave these out")
        return
    if data is not None:
        _give(data, theirs, saved)
    module.channels = saved
    if module.net.in_channels == len(saved.names):  # or else the check of the weights tells
        for name, values in zip(("mean", "std"), saved.normalization, strict=True):
            getattr(module.net, name).copy_(torch.tensor(values).view(1, -1, 1, 1))


def _give(data: Any, theirs: Channels | None, channels: Channels) -> None:
    if theirs is None:
        raise UserError(
            f"the weights were trained on the channels {', '.join(channels.names)}, the data here are RGB: set "
            "`channels` of the data to these"
        )
    data.channels = channels


def _require_made_for(net: Any, channels: Channels) -> None:
    mean = torch.tensor(channels.normalization[0])
    if net.mean.shape[1] != len(mean) or not torch.allclose(net.mean.flatten().cpu(), mean):
        raise UserError(
            f"the data have the channels {', '.join(channels.names)}, for which the network is not made: describe it "
            "by network.for_channels(*data.channels.normalization)"
        )
