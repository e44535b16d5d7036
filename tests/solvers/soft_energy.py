"""The energy of soft labelings as it is defined."""

from typing import Any

import torch

from weakseg_lightning.losses.potts import relaxed_potts_energy


def energy(y, logits, edges, potts, link, relaxation: Any = "quadratic", seeds=None):
    """The energy as it is defined, float64 ``(B,)``."""
    sigma = logits.double().softmax(1)
    cost = {
        "collision": lambda: -(y * sigma).sum(1).log(),
        "cross_entropy": lambda: -(y * sigma.log()).sum(1),
        "reverse": lambda: -(sigma * y.clamp(min=1e-300).log()).sum(1),
    }[link]()
    cost = cost if seeds is None else torch.where(seeds == 255, cost, 0)
    return cost.flatten(1).sum(1) + relaxed_potts_energy(y, edges.double(), potts.connectivity, relaxation)
