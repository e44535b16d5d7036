"""Optimisers with the schedules of the papers: a learning rate for each iteration, in one or two phases."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

_FREE = "free"


@dataclass(frozen=True)
class Optimizer:
    """An optimiser with a learning rate that changes with every iteration.

    Args:
        algorithm: ``sgd`` with momentum, as in the papers, or ``adamw``, which gets further in few iterations.
        lr: learning rate of the pretrained part of the network at the first iteration.
        momentum: momentum of ``sgd``, beta_1 of ``adamw`` (its beta_2 is 0.999), in 0..1.
        weight_decay: L2 penalty of ``sgd``, decoupled decay of ``adamw``.
        head_lr_factor: the new layers (decoder, classifier) learn this many times faster.
        schedule: ``poly`` is (1 - step / steps) ** power, ``step`` multiplies by ``step_factor`` every ``step_every``
            iterations, ``constant`` keeps ``lr``.
        power: exponent of ``poly``.
        step_every: iterations between the drops of ``step``.
        step_factor: factor of each drop of ``step``.
    """

    algorithm: Literal["sgd", "adamw"] = "sgd"
    lr: float = 7e-3
    momentum: float = 0.9
    weight_decay: float = 5e-4
    head_lr_factor: float = 10.0
    schedule: Literal["poly", "step", "constant"] = "poly"
    power: float = 0.9
    step_every: int = 3000
    step_factor: float = 0.1

    def __post_init__(self) -> None:
        """Refuse what would not train."""
        for name in ("lr", "head_lr_factor", "step_every", "step_factor"):
            if getattr(self, name) <= 0:
                raise ValueError(f"`{name}` must be positive, got {getattr(self, name)}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"`momentum` must be at least 0 and below 1, got {self.momentum}")

    def factor(self, step: int, steps: int) -> float:
        """Learning rate at an iteration, relative to ``lr``.

        Args:
            step: the iteration, counted from 0 within its phase.
            steps: iterations of the phase.

        Returns:
            The factor, in 0..1.

        Example:
            >>> Optimizer(schedule="step", step_every=10, step_factor=0.5).factor(25, 100)
            0.25
        """
        if self.schedule == "poly":
            return float((1 - min(step, steps) / max(steps, 1)) ** self.power)
        return float(self.step_factor ** (step // self.step_every)) if self.schedule == "step" else 1.0


@dataclass(frozen=True)
class Phases:
    """Two phases of one run: partial cross-entropy first, the module's own loss after ``switch`` iterations.

    Args:
        pce: optimiser settings of the first phase.
        main: optimiser settings of the second.
        switch: first iteration of the second phase; 0 if there is no first.
        steps: iterations of the whole run.
    """

    pce: Optimizer
    main: Optimizer
    switch: int
    steps: int

    def __post_init__(self) -> None:
        """Refuse a change of the algorithm in the middle of the run."""
        if self.pce.algorithm != self.main.algorithm:
            raise ValueError(
                f"both phases need one algorithm, got `pce_optimizer.algorithm` {self.pce.algorithm} and "
                f"`optimizer.algorithm` {self.main.algorithm}"
            )

    def at(self, step: int) -> Optimizer:
        """Settings in force at an iteration."""
        return self.pce if step < self.switch else self.main

    def lr(self, step: int, *, head: bool) -> float:
        """Learning rate at an iteration, of the head or of the rest of the network."""
        settings = self.at(step)
        start, steps = (0, self.switch) if step < self.switch else (self.switch, self.steps - self.switch)
        return settings.lr * settings.factor(step - start, steps) * (settings.head_lr_factor if head else 1.0)


def make_optimizer(
    net: nn.Module, head: list[nn.Parameter], phases: Phases, free: list[nn.Parameter] | None = None
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    """Build the optimiser with its parameter groups and the schedule over both phases.

    Args:
        net: the network; parameters that need no gradient are left out.
        head: those of its parameters that learn ``head_lr_factor`` times faster.
        phases: the settings.
        free: parameters outside the network; they learn as the head, without weight decay.

    Returns:
        The optimiser and a schedule to step once an iteration.
    """
    ids = {id(parameter) for parameter in head}
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    # Base rate 1, so that the schedule's factors are the learning rates themselves, in either phase.
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if id(p) not in ids], "name": "encoder"},
        {"params": [p for p in trained if id(p) in ids], "name": "head"},
        {"params": free or [], "name": _FREE, "weight_decay": 0.0},
    ]
    first = phases.at(0)
    kept = [group for group in groups if group["params"]]
    optimizer: torch.optim.Optimizer
    if first.algorithm == "adamw":
        optimizer = torch.optim.AdamW(kept, lr=1.0, weight_decay=first.weight_decay)
    else:
        optimizer = torch.optim.SGD(kept, lr=1.0, weight_decay=first.weight_decay)
    _set_momentum(optimizer, first)
    rates = [_rate(phases, head=group["name"] != "encoder") for group in kept]
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, rates)


def _rate(phases: Phases, *, head: bool) -> Callable[[int], float]:
    return lambda step: phases.lr(step, head=head)


def enter_phase(optimizer: torch.optim.Optimizer, settings: Optimizer) -> None:
    """Start a phase: its own momentum and weight decay.

    SGD drops its velocity, as the authors' second solver does. AdamW keeps its averages: without them its first steps
    would move every weight by the whole learning rate.

    Args:
        optimizer: the optimiser of the run.
        settings: those of the phase that begins.
    """
    if settings.algorithm == "sgd":
        optimizer.state.clear()
    _set_momentum(optimizer, settings)
    for group in optimizer.param_groups:
        group["weight_decay"] = 0.0 if group["name"] == _FREE else settings.weight_decay


def _set_momentum(optimizer: torch.optim.Optimizer, settings: Optimizer) -> None:
    for group in optimizer.param_groups:
        if settings.algorithm == "adamw":
            group["betas"] = (settings.momentum, 0.999)
        else:
            group["momentum"] = settings.momentum
