"""Metrics whose sums over a data set keep their digits."""

from collections.abc import Callable, Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor
from torchmetrics import Metric
from typing_extensions import override

from weakseg_lightning.metrics.checks import real_type


class PreciseMetric(Metric):
    """A metric some states of which follow a module to its device, but not to a lower precision."""

    precise: ClassVar[Sequence[str]] = ()
    """Names of these states, which begin with zeros."""

    @override
    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = ()) -> Self:
        super()._apply(fn, (*self.precise, *exclude_state))
        device = fn(torch.empty(0)).device
        for name in self.precise:
            state: Tensor = getattr(self, name)
            setattr(self, name, state.to(device, real_type(device)))
            self._defaults[name] = torch.zeros_like(getattr(self, name))
        return self
