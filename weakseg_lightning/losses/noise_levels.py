"""Levels of uniform label noise: their units, and which of their meanings a change of the number of classes keeps."""

import math
from collections.abc import Callable
from typing import Literal

from weakseg_lightning.checks import above, at_least_and_below, one_of

EpsUnit = Literal["probability", "limit", "weight"]


def convert_eps(eps: float, num_classes: int, unit: EpsUnit, to: EpsUnit = "probability") -> float:
    """Express a level of label noise in another unit.

    The robust loss is ``-log(a + b q)`` with ``a = eps / (K - 1)`` and ``b = 1 - K a``, eps a probability. A setting
    that was found for some number of classes K has three meanings, of which each unit keeps one for other numbers:

    - ``probability``, eps itself, 0 <= eps < (K-1)/K: how often a label is wrong.
    - ``limit``, ``s = eps K / (K - 1)``, 0 <= s < 1: how often a label was drawn from all K classes alike, and so says
      nothing; a = s / K, b = 1 - s.
    - ``weight``, ``rho = b / a = K (1 - s) / s``, above 0: the loss as a function of q, which is ``-log(1 + rho q)``
      but for a constant. Its gradient is ``rho q / (1 + rho q)`` times that of the cross-entropy, ``rho q`` where that
      is small: a pixel with a doubtful label weighs up to rho / (1 + rho) of one with a certain label.

    The level 0.944 published for 21 classes is 0.9912 of the limit and a weight of 0.186. The same fraction of the
    limit is a weight of 0.0355 for 4 classes and 0.0178 for 2, so that doubtful labels pull a fifth and a tenth as
    much; the same weight is 0.955 of the limit for 4 classes and 0.915 for 2.

    Args:
        eps: the level, in ``unit``.
        num_classes: classes K, at least 2.
        unit: the unit that it is in.
        to: the unit that is wanted.

    Returns:
        The level in ``to``; no noise is the weight infinity.

    Raises:
        ValueError: if the level is out of its unit's range, or there is no such unit.

    Example:
        >>> convert_eps(0.5, 4, "limit"), convert_eps(0.5, 4, "limit", "weight")
        (0.375, 4.0)
    """
    one_of("to", to, _FROM_PROBABILITY)
    probability = _to_probability(eps, num_classes, unit)
    return eps if unit == to else _FROM_PROBABILITY[to](probability, num_classes)


def _to_probability(eps: float, num_classes: int, unit: EpsUnit) -> float:
    one_of("eps_unit", unit, _FROM_PROBABILITY)
    require_classes(num_classes)
    if unit == "limit":
        at_least_and_below("eps", eps, 0, 1, "with `eps_unit: limit` it is a fraction of (K-1)/K")
        eps = eps * (num_classes - 1) / num_classes
    elif unit == "weight":
        above("eps", eps, 0, "with `eps_unit: weight` it is b/a, what a label weighs against a certain one")
        eps = (num_classes - 1) / (num_classes + eps)
    require_probability(eps, num_classes)
    return eps


_FROM_PROBABILITY: dict[EpsUnit, Callable[[float, int], float]] = {
    "probability": lambda eps, _: eps,
    "limit": lambda eps, num_classes: eps * num_classes / (num_classes - 1),
    "weight": lambda eps, num_classes: (num_classes - 1) / eps - num_classes if eps > 0 else math.inf,
}


def limit_of(num_classes: int) -> float:
    """The noise at which every label is equally likely, whatever the class: (K-1)/K."""
    return (num_classes - 1) / num_classes


def require_classes(num_classes: int) -> None:
    """Raise if there are fewer than two classes, of which no label could be wrong."""
    if num_classes < 2:
        raise ValueError(f"`logits` must have at least 2 classes in dimension 1, got {num_classes}")


def require_probability(eps: float, num_classes: int) -> None:
    """Raise if labels that are wrong with this probability say nothing of their class."""
    require_classes(num_classes)
    limit = limit_of(num_classes)
    if not 0 <= eps < limit:
        raise ValueError(
            f"`eps` must be at least 0 and below (K-1)/K = {limit:.6g} for {num_classes} classes, got {eps:.6g}: from "
            "there on a label says nothing of its class, and the loss does not depend on the prediction (b = 0) or "
            f"prefers wrong ones. The largest value allowed is {math.nextafter(limit, 0)!r}; take less"
        )
