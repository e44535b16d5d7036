"""The network in a checkpoint, and the channels that it is for, compared with what is built and with the data."""

import warnings
from collections.abc import Mapping, Set
from typing import Any

import torch
from torch import Tensor

from weakseg_lightning.channels import Channels
from weakseg_lightning.errors import UserError
from weakseg_lightning.hyperparameters import describe, with_current_names
from weakseg_lightning.networks import Network

__all__ = ["adopt_channels", "channels_in", "require_same_network", "take_channels", "weights_of_net", "write_channels"]

State = dict[str, Tensor]

_KEY = "channels"

_NAMING = ("architecture", "encoder")  # the arguments that tell networks apart
# Arguments of networks that say how they begin or learn: with the same weights the scores are the same.
_OF_LEARNING = {
    *("decoder_dropout", "dropout", "encoder_weights", "fit_first", "freeze_encoder", "latent_rounds"),
    *("perturbation", "save_encoder"),
}
_OF_CHANNELS = {"mean", "std"}  # which the checkpoint brings where the images have channels


def weights_of_net(state: State) -> State:
    """The part of a state that is the network's."""
    return {name: tensor for name, tensor in state.items() if name.startswith("net.")}


def require_same_network(
    ours: State, theirs: State, checkpoint: dict[str, Any], network: Network, num_classes: int
) -> None:
    """Raise if weights are of another network; warn if they fit, and it computes other scores from them.

    Args:
        ours: the state of what is built.
        theirs: the state of the checkpoint.
        checkpoint: the checkpoint, which describes its network.
        network: the network that is built.
        num_classes: its classes.

    Raises:
        ValueError: if names or shapes differ.
    """
    shapes, saved_shapes = ({name: tensor.shape for name, tensor in state.items()} for state in (ours, theirs))
    saved = with_current_names(checkpoint.get("hyper_parameters", {}))
    if shapes == saved_shapes:
        same = _OF_LEARNING if channels_in(checkpoint) is None else _OF_LEARNING | _OF_CHANNELS
        if other := _other_arguments(saved.get("network", {}), describe(network.without_weights()), same):
            warnings.warn(f"the checkpoint was trained with {other}: its scores will be others", stacklevel=2)
        return
    there = f"{_network_name(saved.get('network', {}))} with {saved.get('num_classes', 'unknown')} classes"
    here = f"{_network_name(describe(network))} with {num_classes} classes"
    raise UserError(
        f"the checkpoint is of another network: {_first_difference(shapes, saved_shapes)}. The checkpoint holds "
        f"{there}, this run builds {here}; use the recipe that made the checkpoint"
    )


def _other_arguments(saved: dict[str, Any], ours: dict[str, Any], same: Set[str]) -> str:
    """Arguments, but for some, by which two descriptions of a network differ, in words."""
    if saved.get("class_path") != ours["class_path"]:
        return ""  # a class that was renamed or derived: nothing is known of its arguments
    there, here = saved.get("init_args", {}), ours["init_args"]
    other = [name for name in here if name in there and name not in same and here[name] != there[name]]
    return ", ".join(f"`network.{name}` {_shown(there[name])} (here {_shown(here[name])})" for name in other)


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)


def _network_name(described: dict[str, Any]) -> str:
    """Short name of a described network, such as `SMPNetwork unet resnet18`."""
    arguments = described.get("init_args", {})
    parts = (described.get("class_path", "an unknown network").rpartition(".")[2], *map(arguments.get, _NAMING))
    return " ".join(str(part) for part in parts if part)


def _first_difference(ours: dict[str, torch.Size], theirs: dict[str, torch.Size]) -> str:
    for name in ours.keys() & theirs.keys():
        if ours[name] != theirs[name]:
            return f"`{name}` has shape {tuple(theirs[name])}, expected {tuple(ours[name])}"
    missing, unknown = sorted(ours.keys() - theirs.keys()), sorted(theirs.keys() - ours.keys())
    return f"{len(missing)} weights are missing (first {missing[:1]}), {len(unknown)} are unknown (first {unknown[:1]})"


# ---- channels -------------------------------------------------------------------------------------------------


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
