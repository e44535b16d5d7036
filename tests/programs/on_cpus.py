"""What torch and Lightning have for GPUs alone, on CPUs: synchronised batch norm and FSDP over gloo.

The layers, their communication and the strategy are theirs; here are only the five CUDA kernels that
:class:`torch.nn.SyncBatchNorm` calls, as formulas, and the device that :class:`FSDPStrategy` hands on.
"""

from unittest import mock

import torch
from lightning.pytorch.strategies import FSDPStrategy
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.nn.parallel import DistributedDataParallel
from typing_extensions import override

_PIXELS = (0, 2, 3)


def allow_sync_batch_norm() -> None:
    """Let :class:`torch.nn.SyncBatchNorm` compute on the CPU of this process."""
    forward = nn.SyncBatchNorm.forward

    def accepted(self: nn.SyncBatchNorm, input: Tensor) -> Tensor:
        with mock.patch.object(torch._C, "_get_privateuse1_backend_name", return_value=input.device.type):
            return forward(self, input)

    nn.SyncBatchNorm.forward = accepted
    DistributedDataParallel._passing_sync_batchnorm_handle = lambda self, module: None  # it does nothing but raise
    torch.batch_norm_stats = _stats
    torch.batch_norm_gather_stats_with_counts = _gather_stats
    torch.batch_norm_elemt = _normalize
    torch.batch_norm_backward_reduce = _reduce_gradient
    torch.batch_norm_backward_elemt = _gradient


def _of_channels(values: Tensor) -> Tensor:
    return values[:, None, None]


def _stats(input: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    variance, mean = torch.var_mean(input, _PIXELS, correction=0)
    return mean, (variance + eps).rsqrt()


def _gather_stats(
    input: Tensor,
    means: Tensor,
    invstds: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
    eps: float,
    counts: Tensor,
) -> tuple[Tensor, Tensor]:
    total, fractions = counts.sum(), (counts / counts.sum())[:, None]
    mean = (fractions * means).sum(0)
    variance = (fractions * (invstds**-2 - eps + (means - mean) ** 2)).sum(0)
    running_mean.lerp_(mean, momentum)
    running_var.lerp_(variance * total / (total - 1), momentum)
    return mean, (variance + eps).rsqrt()


def _normalize(input: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, invstd: Tensor, eps: float) -> Tensor:
    return (input - _of_channels(mean)) * _of_channels(invstd * weight) + _of_channels(bias)


def _reduce_gradient(
    gradient: Tensor, input: Tensor, mean: Tensor, invstd: Tensor, weight: Tensor, *needed: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    total = gradient.sum(_PIXELS)
    product = (gradient * (input - _of_channels(mean))).sum(_PIXELS)
    return total, product, product * invstd, total


def _gradient(
    gradient: Tensor,
    input: Tensor,
    mean: Tensor,
    invstd: Tensor,
    weight: Tensor,
    total: Tensor,
    product: Tensor,
    counts: Tensor,
) -> Tensor:
    size = counts.sum()
    along = _of_channels(invstd**2 * product / size) * (input - _of_channels(mean))
    return (gradient - _of_channels(total / size) - along) * _of_channels(invstd * weight)


class CPUShards(FSDPStrategy):
    """Lightning's strategy, whose shards stay on the CPU."""

    @override
    def _setup_model(self, model: nn.Module) -> nn.Module:
        return FullyShardedDataParallel(
            model,
            device_id=torch.device("cpu"),
            mixed_precision=self.mixed_precision_config,
            sharding_strategy=self.sharding_strategy,
            **self.kwargs,
        )
