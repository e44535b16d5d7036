from typing import Literal

import pytest
import torch
from torch import nn

from weakseg_lightning.modules.optimization import Optimizer, Phases, enter_phase, make_optimizer


def test_poly_step_and_constant_factors() -> None:
    assert Optimizer(schedule="poly", power=0.9).factor(25, 100) == pytest.approx(0.75**0.9)
    assert Optimizer(schedule="poly").factor(100, 100) == 0.0
    assert Optimizer(schedule="step", step_every=3000, step_factor=0.1).factor(6000, 9000) == pytest.approx(0.01)
    assert Optimizer(schedule="constant").factor(999, 10) == 1.0


def test_head_learns_faster_and_frozen_parameters_are_left_out() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 1))
    net[0].requires_grad_(False)
    settings = Optimizer(lr=0.5, head_lr_factor=4.0)
    optimizer, _ = make_optimizer(net, list(net[2].parameters()), Phases(settings, settings, 0, 10))
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates == {id(p): 0.5 for p in net[1].parameters()} | {id(p): 2.0 for p in net[2].parameters()}


@pytest.mark.parametrize("name", ["lr", "head_lr_factor", "step_every", "step_factor"])
def test_settings_that_cannot_train_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must be positive"):
        Optimizer(**{name: 0})


def test_schedule_steps_through_the_optimizer() -> None:
    net = nn.Linear(1, 1)
    settings = Optimizer(lr=1.0, schedule="poly", power=1.0, head_lr_factor=1.0)
    optimizer, schedule = make_optimizer(net, list(net.parameters()), Phases(settings, settings, 0, 4))
    seen = []
    for _ in range(4):
        net(torch.ones(1, 1)).sum().backward()
        optimizer.step()
        seen.append(optimizer.param_groups[0]["lr"])
        schedule.step()
    assert seen == pytest.approx([1.0, 0.75, 0.5, 0.25])


@pytest.mark.parametrize("momentum", [-0.1, 1.0])
def test_momentum_that_diverges_is_refused(momentum: float) -> None:
    with pytest.raises(ValueError, match="`momentum` must be"):
        Optimizer(momentum=momentum)


def test_adamw_moves_by_its_rate_and_decays_apart_from_the_gradient() -> None:
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, 2.0)
    settings = Optimizer("adamw", lr=0.1, weight_decay=0.5, schedule="constant", head_lr_factor=1.0)
    optimizer, _ = make_optimizer(net, [], Phases(settings, settings, 0, 4))
    net(torch.full((1, 1), 7.0)).sum().backward()
    optimizer.step()
    # decay by lr * weight_decay, then a first step of lr whatever the gradient's size
    assert net.weight.item() == pytest.approx(2.0 * (1 - 0.05) - 0.1, abs=1e-6)


@pytest.mark.parametrize(("algorithm", "kept"), [("sgd", False), ("adamw", True)])
def test_entering_a_phase(algorithm: Literal["sgd", "adamw"], kept: bool) -> None:
    net = nn.Linear(1, 1)
    first = Optimizer(algorithm, momentum=0.5)
    second = Optimizer(algorithm, momentum=0.8, weight_decay=0.25)
    optimizer, _ = make_optimizer(net, [], Phases(first, second, 5, 10))
    net(torch.ones(1, 1)).sum().backward()
    optimizer.step()
    enter_phase(optimizer, second)
    assert bool(optimizer.state) is kept
    group = optimizer.param_groups[0]
    assert group["weight_decay"] == 0.25
    assert (group["betas"][0] if algorithm == "adamw" else group["momentum"]) == 0.8


def test_phases_of_two_algorithms_are_refused() -> None:
    with pytest.raises(ValueError, match="both phases need one algorithm"):
        Phases(Optimizer("sgd"), Optimizer("adamw"), 5, 10)
