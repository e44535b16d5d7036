"""Trained modules from checkpoints."""

import warnings
from pathlib import Path
from typing import Any

from lightning.pytorch.cli import instantiate_module

from weakseg_lightning.hyperparameters import describe, with_current_names
from weakseg_lightning.modules import WeakSegModule
from weakseg_lightning.modules.core.checkpoint_io import adopt_channels, channels_in
from weakseg_lightning.modules.core.class_names import names_in
from weakseg_lightning.modules.core.resuming import read_checkpoint
from weakseg_lightning.networks import Network


def load_module(path: str | Path) -> WeakSegModule:
    """Rebuild a trained module from a checkpoint: class, network, solver, weights.

    The file is read with ``weights_only=True``, so that no code in it can run. Pretrained encoder weights are not
    fetched again: all weights are in the checkpoint. A class of your own has to be importable where this is called.

    Args:
        path: a checkpoint that ``weakseg fit`` wrote.

    Returns:
        The module on the CPU, in evaluation mode; ``class_names`` are those that it was trained on.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is no checkpoint of this package.

    Example:
        >>> module = load_module("runs/adm_grid/version_0/checkpoints/last.ckpt")  # doctest: +SKIP
        >>> labels = module(images).argmax(1)  # doctest: +SKIP
    """
    checkpoint = read_checkpoint(path)
    saved = with_current_names(checkpoint.get("hyper_parameters", {}))
    if "_class_path" not in saved:
        raise ValueError(f"{path} does not say which module it holds: expected a checkpoint written by `weakseg fit`")
    saved.pop("_instantiator", None)
    network = _rebuilt(Network, {"_class_path": saved["network"]["class_path"], **saved["network"]["init_args"]})
    module: WeakSegModule = _rebuilt(WeakSegModule, {**saved, "network": describe(network.without_weights())})
    module.load_state_dict(checkpoint["state_dict"])
    module.adopt_names(names_in(checkpoint), str(path))
    adopt_channels(module, channels_in(checkpoint))
    return module.eval()


def _rebuilt(base: type, described: dict[str, Any]) -> Any:
    with warnings.catch_warnings():
        # Lightning calls jsonargparse by a name that is about to change.
        warnings.simplefilter("ignore", DeprecationWarning)
        return instantiate_module(base, described)
