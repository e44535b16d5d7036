"""The head of frozen features: one layer or two on maps of several strides, fitted to single pixels in seconds."""

import math
from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

_FIT_STEPS = 160
_FIT_BATCH = 1024
_FIT_LR = 1e-3
_FIT_WEIGHT_DECAY = 1e-2
# Of the root mean square of the deviations of a map's channels: what deviates less is divided by this, or left out.
_LEAST_DEVIATION = 0.05
_DEAD_DEVIATION = 1e-3


class MapHead(nn.Module):
    """A linear layer, or one hidden layer, on maps of several strides.

    It computes what it would on all maps resized to the finest (:func:`join_maps`), at a tenth of the cost: a linear
    layer commutes with resizing, so each map passes through its part of the first layer at its own stride, and the
    results are resized and added.

    Args:
        channels: channels of each map, the finest first.
        num_classes: classes K.
        hidden: width of the hidden layer; None = a linear head.
        dropout: probability with which a channel of the hidden layer is dropped.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, channels: Sequence[int], num_classes: int, hidden: int | None, dropout: float) -> None:
        super().__init__()
        width = num_classes if hidden is None else hidden
        self.channels = list(channels)
        self.first = nn.ModuleList(nn.Conv2d(count, width, 1, bias=False) for count in channels)
        self.bias = nn.Parameter(torch.zeros(width))
        self.last: nn.Module = nn.Identity()
        if hidden is not None:
            # whole channels: drawing single cells would take a third of a step on the CPU
            self.last = nn.Sequential(nn.ReLU(inplace=True), nn.Dropout2d(dropout), nn.Conv2d(hidden, num_classes, 1))
        self.register_buffer("mean", torch.zeros(sum(channels)))
        self.register_buffer("scale", torch.ones(sum(channels)))
        bound = 1 / math.sqrt(sum(channels))  # as of one layer on the joined maps
        for parameter in (*self.first.parameters(), self.bias):
            nn.init.uniform_(parameter, -bound, bound)

    @override
    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Logits at the finest map, ``(B, K, h, w)``, of maps ``(B, c, h', w')``, the finest first.

        On a CPU maps with their channels last in memory take half the time, as resizing them and its gradients do.
        """
        means, scales = torch.split(self.mean, self.channels), torch.split(self.scale, self.channels)
        total: Tensor | None = None
        for kernel, features, mean, scale in reversed(
            [*zip(self.first.parameters(), maps, means, scales, strict=True)]
        ):
            # The weights are standardized in place of the maps, which are large.
            weight = kernel * scale[None, :, None, None]
            part = F.conv2d(features, weight, -(weight[:, :, 0, 0] @ mean))
            # In place here and below, as large maps of their own take time from the system alone.
            total = part if total is None else part.add_(_resized(total, part))
        assert total is not None
        bias = self.bias[:, None, None]
        # Where the maps are in half precision the sum is not.
        logits: Tensor = self.last(total.add_(bias) if total.dtype == bias.dtype else total + bias)
        return logits.contiguous()

    def at_pixels(self, features: Tensor) -> Tensor:
        """Logits ``(N, K)`` of the joined features ``(N, C)`` of single pixels."""
        weight = torch.cat([kernel[:, :, 0, 0] for kernel in self.first.parameters()], 1)
        hidden = F.linear((features - self.mean) * self.scale, weight, self.bias)
        logits: Tensor = self.last(hidden[:, :, None, None])[:, :, 0, 0]
        return logits

    def fit(self, features: Tensor, labels: Tensor, steps: int = _FIT_STEPS) -> None:
        """Fit all weights to labeled pixels by cross-entropy (AdamW, learning rate falling to 0), from where they are.

        Args:
            features: joined features, any float ``(N, C)``.
            labels: classes, int64 ``(N,)``, or distributions over them, any float ``(N, K)``, for the collision
                cross-entropy.
            steps: batches of up to 1,024 pixels to learn from.
        """
        for _ in self.fitting(features, labels, steps):
            pass

    def fitting(self, features: Tensor, labels: Tensor, steps: int = _FIT_STEPS) -> Iterator[None]:
        """Fit as :meth:`fit`, one step for each item taken; the mode is that of before between steps."""
        optimizer = self.optimizer()
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (1 - min(step, steps) / steps) ** 0.9)
        for picked in islice(_shuffled(len(labels)), steps):
            picked = picked.to(labels.device)
            self.learn(optimizer, features[picked], labels[picked])
            schedule.step()
            yield

    def optimizer(self) -> torch.optim.AdamW:
        """Make what takes the steps of a fit, at their full learning rate."""
        return torch.optim.AdamW(self.parameters(), _FIT_LR, weight_decay=_FIT_WEIGHT_DECAY)

    def learn(self, optimizer: torch.optim.Optimizer, features: Tensor, labels: Tensor) -> None:
        """Take one step of a fit.

        Args:
            optimizer: of these parameters.
            features: joined features of a batch, any float ``(N, C)``.
            labels: as for :meth:`fit`.
        """
        training = self.training
        self.train()
        optimizer.zero_grad()
        _cross_entropy(self.at_pixels(features.float()), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        self.train(training)

    @torch.no_grad()
    def standardize(self, features: Tensor) -> None:
        """Take mean and deviation of the channels from joined features ``(N, C)``.

        Nothing can be learned from a channel that is the same at all these pixels, as ReLU leaves many: it counts
        nowhere, as other pixels would be multiplied by something huge.
        """
        features = features.float()
        self.mean.copy_(features.mean(0))
        deviations = features.std(0, correction=0)
        typical = torch.cat(
            [part.square().mean().sqrt().expand_as(part) for part in torch.split(deviations, self.channels)]
        )
        scale = 1 / (deviations.maximum(_LEAST_DEVIATION * typical) + 1e-5)
        self.scale.copy_(torch.where(deviations > _DEAD_DEVIATION * typical, scale, 0.0))


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean negative log-likelihood of classes, or that of drawing equal classes from distributions and the output."""
    if not labels.is_floating_point():
        return F.cross_entropy(logits, labels)
    return -(logits.log_softmax(1) + labels.float().log()).logsumexp(1).mean()


def _shuffled(count: int) -> Iterator[Tensor]:
    """Numbers below ``count`` in batches, each once in every pass."""
    while True:
        yield from torch.split(torch.randperm(count), _FIT_BATCH)


def join_maps(maps: Sequence[Tensor]) -> Tensor:
    """Maps ``(B, c, h', w')`` of several strides as one at the finest, resized step by step, ``(B, C, h, w)``."""
    joined = maps[-1]
    for finer in maps[-2::-1]:
        joined = torch.cat([finer, _resized(joined, finer)], 1)
    return joined


def _resized(maps: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(maps, size=like.shape[-2:], mode="bilinear", align_corners=False)
