import pytest
import torch
from torch import nn

from weakseg_lightning.modules.optimization import SGD, Phases, make_sgd


def test_poly_step_and_constant_factors() -> None:
    assert SGD(schedule="poly", power=0.9).factor(25, 100) == pytest.approx(0.75**0.9)
    assert SGD(schedule="poly").factor(100, 100) == 0.0
    assert SGD(schedule="step", step_every=3000, step_factor=0.1).factor(6000, 9000) == pytest.approx(0.01)
    assert SGD(schedule="constant").factor(999, 10) == 1.0


def test_head_learns_faster_and_frozen_parameters_are_left_out() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 1))
    net[0].requires_grad_(False)
    settings = SGD(lr=0.5, head_lr_factor=4.0)
    optimizer, _ = make_sgd(net, list(net[2].parameters()), Phases(settings, settings, 0, 10))
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates == {id(p): 0.5 for p in net[1].parameters()} | {id(p): 2.0 for p in net[2].parameters()}


@pytest.mark.parametrize("name", ["lr", "head_lr_factor", "step_every", "step_factor"])
def test_settings_that_cannot_train_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must be positive"):
        SGD(**{name: 0})


def test_schedule_steps_through_the_optimizer() -> None:
    net = nn.Linear(1, 1)
    settings = SGD(lr=1.0, schedule="poly", power=1.0, head_lr_factor=1.0)
    optimizer, schedule = make_sgd(net, list(net.parameters()), Phases(settings, settings, 0, 4))
    seen = []
    for _ in range(4):
        net(torch.ones(1, 1)).sum().backward()
        optimizer.step()
        seen.append(optimizer.param_groups[0]["lr"])
        schedule.step()
    assert seen == pytest.approx([1.0, 0.75, 0.5, 0.25])
