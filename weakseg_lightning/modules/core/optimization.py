"""Optimizers with the schedules of the papers: a learning rate for each iteration, in one or two phases."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import nn

from weakseg_lightning import checks
from weakseg_lightning.errors import UserError

_GROUPS = {  # groups of parameters by name: whether they learn as the head, whether they are biases
    "encoder": (False, False),
    "encoder_bias": (False, True),
    "head": (True, False),
    "head_bias": (True, True),
    "free": (True, False),
}
_WITH_BIASES = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


Algorithm = Literal["sgd", "adamw"]
Schedule = Literal["poly", "step", "constant"]


@dataclass(frozen=True)
class Optimizer:
    """An optimizer with a learning rate that changes with every iteration.

    Biases are those of convolutions and linear layers. What a norm (batch norm, layer norm) adds learns as what it
    multiplies by does; the networks of Caffe that recipes follow have no norms.

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
        bias_lr_factor: biases learn this many times faster than the weights beside them, 2 in networks of Caffe.
        decay_biases: whether ``weight_decay`` holds for biases, too; false in networks of Caffe.
    """

    algorithm: Algorithm = "sgd"
    lr: float = 7e-3
    momentum: float = 0.9
    weight_decay: float = 5e-4
    head_lr_factor: float = 10.0
    schedule: Schedule = "poly"
    power: float = 0.9
    step_every: int = 3000
    step_factor: float = 0.1
    bias_lr_factor: float = 1.0
    decay_biases: bool = True

    def __post_init__(self) -> None:
        """Raise if a setting would not train."""
        checks.one_of("algorithm", self.algorithm, get_args(Algorithm))
        checks.one_of("schedule", self.schedule, get_args(Schedule))
        for name in ("lr", "head_lr_factor", "step_every", "step_factor", "bias_lr_factor"):
            checks.finite_above(name, getattr(self, name), 0)
        for name in ("weight_decay", "power"):
            checks.finite_at_least(name, getattr(self, name), 0)
        checks.at_least_and_below("momentum", self.momentum, 0, 1)

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

    @property
    def sets_biases_apart(self) -> bool:
        """True where biases learn in another way than weights."""
        return self.bias_lr_factor != 1 or not self.decay_biases


@dataclass(frozen=True)
class Phases:
    """Two phases of one run: partial cross-entropy first, the module's own loss after ``switch`` iterations.

    Args:
        pce: optimizer settings of the first phase.
        main: optimizer settings of the second.
        switch: first iteration of the second phase; 0 if there is no first.
        steps: iterations of the whole run.
    """

    pce: Optimizer
    main: Optimizer
    switch: int
    steps: int

    def __post_init__(self) -> None:
        """Raise if the algorithm changes in the middle of the run."""
        if self.pce.algorithm != self.main.algorithm:
            raise UserError(
                f"both phases need one algorithm, got `pce_optimizer.algorithm` {self.pce.algorithm} and "
                f"`optimizer.algorithm` {self.main.algorithm}"
            )

    def at(self, step: int) -> Optimizer:
        """Settings in force at an iteration."""
        return self.pce if step < self.switch else self.main

    @property
    def sets_biases_apart(self) -> bool:
        """True where biases learn in another way than weights, in either phase."""
        return self.pce.sets_biases_apart or self.main.sets_biases_apart

    def lr(self, step: int, *, head: bool, bias: bool = False) -> float:
        """Learning rate at an iteration, of the head or of the rest of the network, of weights or of biases."""
        settings = self.at(step)
        start, steps = (0, self.switch) if step < self.switch else (self.switch, self.steps - self.switch)
        lr = settings.lr * settings.factor(step - start, steps)
        return lr * (settings.head_lr_factor if head else 1.0) * (settings.bias_lr_factor if bias else 1.0)


def make_optimizer(
    net: nn.Module, head: list[nn.Parameter], phases: Phases, free: list[nn.Parameter] | None = None
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    """Build the optimizer with its parameter groups and the schedule over both phases.

    Args:
        net: the network; parameters that need no gradient are left out.
        head: those of its parameters that learn ``head_lr_factor`` times faster.
        phases: the settings.
        free: parameters outside the network; they learn as the head, without weight decay.

    Returns:
        The optimizer and a schedule to step once per iteration. Biases have groups of their own only where a phase sets
        them apart, so that states of runs that do not can be loaded whenever they were saved.
    """
    places = _places(net, head, phases)
    members = {name: [p for p in net.parameters() if places.get(id(p)) == place] for name, place in _GROUPS.items()}
    members["free"] = free or []
    # Base rate 1, so that the schedule's factors are the learning rates themselves, in either phase.
    groups = [{"params": parameters, "name": name} for name, parameters in members.items() if parameters]
    first = phases.at(0)
    algorithm = torch.optim.AdamW if first.algorithm == "adamw" else torch.optim.SGD
    optimizer: torch.optim.Optimizer = algorithm(groups, lr=1.0)
    _apply(optimizer, first)
    optimizer.register_load_state_dict_pre_hook(_require_same_groups)
    optimizer.register_load_state_dict_pre_hook(_without_idle)
    rates = [_rate(phases, *_GROUPS[group["name"]]) for group in optimizer.param_groups]
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, rates)


def _places(net: nn.Module, head: list[nn.Parameter], phases: Phases) -> dict[int, tuple[bool, bool]]:
    """Find of each trained parameter, by id, if it is of the head, and if it is a bias that is set apart."""
    heads = {id(parameter) for parameter in head}
    layers = [layer for layer in net.modules() if isinstance(layer, _WITH_BIASES)] if phases.sets_biases_apart else []
    biases = {id(layer.bias) for layer in layers}
    return {id(p): (id(p) in heads, id(p) in biases) for p in net.parameters() if p.requires_grad}


def _rate(phases: Phases, head: bool, bias: bool) -> Callable[[int], float]:
    return lambda step: phases.lr(step, head=head, bias=bias)


def _require_same_groups(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Raise if the biases of the saved run were grouped in another way."""
    ours, theirs = (_has_bias_groups(groups) for groups in (optimizer.param_groups, saved["param_groups"]))
    if ours != theirs:
        raise UserError(
            f"the checkpoint's run {'set' if theirs else 'did not set'} biases apart from weights, this run "
            f"{'does' if ours else 'does not'}: give `optimizer` and `pce_optimizer` the `bias_lr_factor` and "
            "`decay_biases` of that run, as its config.yaml has them (without them they are 1 and true)"
        )


def _without_idle(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> dict[str, Any]:
    """Leave out parameters that had no gradient: runs of one process kept them in earlier versions."""
    groups = [
        {**theirs, "params": _first_used(theirs["params"], saved["state"], len(ours["params"]))}
        for ours, theirs in zip(optimizer.param_groups, saved["param_groups"], strict=False)
    ]
    return {**saved, "param_groups": groups + saved["param_groups"][len(groups) :]}


def _first_used(parameters: list[int], state: dict[int, Any], count: int) -> list[int]:
    """As many as there are now, if just those have a state, or none has any."""
    used = [number for number in parameters if number in state] or parameters[:count]
    return used if len(used) == count else parameters


def _has_bias_groups(groups: list[dict[str, Any]]) -> bool:
    return any(str(group.get("name")).endswith("_bias") for group in groups)


def enter_phase(optimizer: torch.optim.Optimizer, settings: Optimizer) -> None:
    """Start a phase: its own momentum and weight decay.

    SGD drops its velocity, as the second solver of the official code does. AdamW keeps its averages: without them its
    first steps would move every weight by the whole learning rate.

    Args:
        optimizer: the optimizer of the run.
        settings: those of the phase that begins.
    """
    if settings.algorithm == "sgd":
        optimizer.state.clear()
    _apply(optimizer, settings)


def _apply(optimizer: torch.optim.Optimizer, settings: Optimizer) -> None:
    """Set the momentum and the weight decay of each group."""
    for group in optimizer.param_groups:
        bias = _GROUPS[group["name"]][1]
        decays = group["name"] != "free" and (settings.decay_biases or not bias)
        group["weight_decay"] = settings.weight_decay if decays else 0.0
        if settings.algorithm == "adamw":
            group["betas"] = (settings.momentum, 0.999)
        else:
            group["momentum"] = settings.momentum
