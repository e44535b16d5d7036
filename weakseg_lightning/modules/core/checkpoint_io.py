"""The network in a checkpoint, compared with the one that is built."""

from typing import Any

import torch
from torch import Tensor

from weakseg_lightning.errors import UserError
from weakseg_lightning.hyperparameters import describe
from weakseg_lightning.networks import Network

__all__ = ["require_same_network", "weights_of_net"]

State = dict[str, Tensor]

_NAMING = ("architecture", "encoder")  # the arguments that tell networks apart


def weights_of_net(state: State) -> State:
    """The part of a state that is the network's."""
    return {name: tensor for name, tensor in state.items() if name.startswith("net.")}


def require_same_network(
    ours: State, theirs: State, checkpoint: dict[str, Any], network: Network, num_classes: int
) -> None:
    """Raise if weights are of another network.

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
    if shapes == saved_shapes:
        return
    saved = checkpoint.get("hyper_parameters", {})
    there = f"{_network_name(saved.get('network', {}))} with {saved.get('num_classes', 'unknown')} classes"
    here = f"{_network_name(describe(network))} with {num_classes} classes"
    raise UserError(
        f"the checkpoint is of another network: {_first_difference(shapes, saved_shapes)}. The checkpoint holds "
        f"{there}, this run builds {here}; use the recipe that made the checkpoint"
    )


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
