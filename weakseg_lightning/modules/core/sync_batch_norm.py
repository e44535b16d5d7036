"""Batch norm that counts over ranks and keeps the activations of timm's layers."""

from collections.abc import Callable
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.plugins.layer_sync import TorchSyncBatchNorm
from torch import nn
from typing_extensions import override


class SyncBatchNormKeepingActivations(TorchSyncBatchNorm):
    """Batch norm over ranks, for timm's layers that hold an activation, too.

    Most encoders of timm have layers of batch norm and activation in one, EfficientNet-Lite's 49 of them. Torch's
    conversion takes them for plain batch norm, so that the network silently loses its activations.
    """

    @override
    def apply(self, model: nn.Module) -> nn.Module:
        from timm.layers.norm_act import convert_sync_batchnorm

        converted: nn.Module = convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return converted

    @override
    def revert(self, model: nn.Module) -> nn.Module:
        from timm.layers.norm_act import SyncBatchNormAct

        _replace_each(model, SyncBatchNormAct, _with_activation)
        reverted: nn.Module = super().revert(model)
        return reverted


def keep_activations(trainer: Trainer) -> None:
    """Replace torch's conversion, where the trainer was told ``sync_batchnorm``."""
    strategy: Any = trainer.strategy
    if type(getattr(strategy, "_layer_sync", None)) is TorchSyncBatchNorm:
        strategy._layer_sync = SyncBatchNormKeepingActivations()


def _with_activation(layer: Any) -> nn.Module:
    from timm.layers.norm_act import BatchNormAct2d

    made = BatchNormAct2d(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
    made.act, made.drop = layer.act, layer.drop
    for name, value in (*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)):
        setattr(made, name, value)
    kept: nn.Module = made.train(layer.training)
    return kept


def _replace_each(model: nn.Module, kind: type[nn.Module], make: Callable[[nn.Module], nn.Module]) -> None:
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, kind):
                setattr(parent, name, make(child))
