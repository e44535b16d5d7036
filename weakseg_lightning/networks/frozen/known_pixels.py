"""The pixels of labelings that a head is fitted to."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from weakseg_lightning.energies.potts import VOID

FITTED_PIXELS = 400_000
PIXELS_PER_IMAGE = 600


def collect(picked: Iterable[tuple[Tensor, Tensor]]) -> tuple[int, Tensor, Tensor]:
    """Number of labelings, their features ``(N, C)`` and labels: at most twice the pixels that are fitted to.

    Pixels come in random order, so that half of them is a fair sample, too. Labels are classes ``(N,)``, or, if some
    labelings are soft, distributions ``(N, K)``.
    """
    features, labels, most, total = [], [], PIXELS_PER_IMAGE, 0
    for found, known in picked:
        features.append(found[:most].clone())
        labels.append(known[:most])
        total += len(labels[-1])
        if total > 2 * FITTED_PIXELS and most > 1:
            most //= 2
            features = [part[:most].clone() for part in features]  # a view would keep the whole in memory
            labels = [part[:most] for part in labels]
            total = sum(map(len, labels))
    empty = torch.zeros(0)
    return len(features), torch.cat(features or [empty]), torch.cat(_of_one_kind(labels) or [empty])


def _of_one_kind(labels: Sequence[Tensor]) -> list[Tensor]:
    """Classes as they are; beside distributions, as distributions, 0 throughout where there is none."""
    width = max((part.shape[1] for part in labels if part.ndim == 2), default=0)
    if width == 0:
        return list(labels)
    names = torch.arange(width)
    return [part if part.ndim == 2 else (part[:, None] == names).half() for part in labels]


def is_known(labels: Tensor) -> Tensor:
    """Tell which classes, or distributions along the last dimension, say something."""
    return (labels > 0).any(-1) if labels.is_floating_point() else labels != VOID
