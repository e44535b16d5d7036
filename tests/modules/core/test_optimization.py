from math import inf, nan

import pytest
import torch
from torch import nn

from weakseg_lightning.modules import RegularizedLossModule
from weakseg_lightning.modules.core.optimization import Optimizer, Phases, enter_phase, make_optimizer
from weakseg_lightning.networks import LargeFOV

CAFFE = Optimizer(lr=1e-3, head_lr_factor=10.0, bias_lr_factor=2.0, decay_biases=False, schedule="constant")


def test_poly_step_and_constant_factors():
    assert Optimizer(schedule="poly", power=0.9).factor(25, 100) == pytest.approx(0.75**0.9)
    assert Optimizer(schedule="poly").factor(100, 100) == 0.0
    assert Optimizer(schedule="step", step_every=3000, step_factor=0.1).factor(6000, 9000) == pytest.approx(0.01)
    assert Optimizer(schedule="constant").factor(999, 10) == 1.0


def test_head_learns_faster_and_frozen_parameters_are_left_out():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 1))
    net[0].requires_grad_(False)
    settings = Optimizer(lr=0.5, head_lr_factor=4.0)
    optimizer, _ = make_optimizer(net, list(net[2].parameters()), Phases(settings, settings, 0, 10))
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates == {id(p): 0.5 for p in net[1].parameters()} | {id(p): 2.0 for p in net[2].parameters()}


@pytest.mark.parametrize("value", [0, -1, inf, nan])
@pytest.mark.parametrize("name", ["lr", "head_lr_factor", "step_every", "step_factor", "bias_lr_factor"])
def test_settings_that_cannot_train_raise(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be finite and above 0, got {value}"):
        Optimizer(**{name: value})


@pytest.mark.parametrize("value", [-1, inf, nan])
@pytest.mark.parametrize("name", ["weight_decay", "power"])
def test_settings_that_drive_weights_away_raise(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be finite and at least 0, got {value}"):
        Optimizer(**{name: value})
    Optimizer(**{name: 0})


def test_schedule_steps_through_the_optimizer():
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
def test_momentum_that_diverges_raises(momentum):
    with pytest.raises(ValueError, match="`momentum` must be"):
        Optimizer(momentum=momentum)


def test_adamw_moves_by_its_rate_and_decays_apart_from_the_gradient():
    net = nn.Linear(1, 1, bias=False)
    nn.init.constant_(net.weight, 2.0)
    settings = Optimizer("adamw", lr=0.1, weight_decay=0.5, schedule="constant", head_lr_factor=1.0)
    optimizer, _ = make_optimizer(net, [], Phases(settings, settings, 0, 4))
    net(torch.full((1, 1), 7.0)).sum().backward()
    optimizer.step()
    # decay by lr * weight_decay, then a first step of lr whatever the gradient's size
    assert net.weight.item() == pytest.approx(2.0 * (1 - 0.05) - 0.1, abs=1e-6)


@pytest.mark.parametrize(("algorithm", "kept"), [("sgd", False), ("adamw", True)])
def test_entering_a_phase(algorithm, kept):
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


def test_phases_of_two_algorithms_raise():
    with pytest.raises(ValueError, match="both phases need one algorithm"):
        Phases(Optimizer("sgd"), Optimizer("adamw"), 5, 10)


# ---- biases ---------------------------------------------------------------------------------------------------------


def groups_of(net, head, phases, **given):
    return {group["name"]: group for group in make_optimizer(net, head, phases, **given)[0].param_groups}


def test_the_groups_of_large_fov_as_in_caffe():
    """13 convolutions, fc6 and fc7 of 1,024 channels each; fc8 is the head."""
    net = LargeFOV(encoder_weights=None).build(21)
    groups = groups_of(net, net.head_parameters(), Phases(CAFFE, CAFFE, 0, 10))
    biases = 2 * 64 + 2 * 128 + 3 * 256 + 6 * 512 + 2 * 1024
    counts = {name: sum(p.numel() for p in group["params"]) for name, group in groups.items()}
    assert counts == {
        "encoder": 20_505_429 - biases - 1025 * 21,
        "encoder_bias": biases,
        "head": 1024 * 21,
        "head_bias": 21,
    }
    rates = {name: (group["lr"], group["weight_decay"]) for name, group in groups.items()}
    assert rates == {
        "encoder": (1e-3, 5e-4),
        "encoder_bias": (2e-3, 0),
        "head": (pytest.approx(1e-2), 5e-4),
        "head_bias": (pytest.approx(2e-2), 0),
    }


def test_two_steps_of_sgd_by_hand():
    net = nn.Linear(1, 1).double()
    settings = Optimizer(lr=0.1, momentum=0.5, weight_decay=0.2, bias_lr_factor=3.0, decay_biases=False)
    optimizer, _ = make_optimizer(net, [], Phases(settings, settings, 0, 4))
    with torch.no_grad():
        net.weight.fill_(2.0)
        net.bias.fill_(-1.0)
    weight, bias, speeds = 2.0, -1.0, (0.0, 0.0)
    for _ in range(2):
        optimizer.zero_grad()
        (net(torch.full((1, 1), 7.0).double()).square() / 2).sum().backward()
        slope = 7 * weight + bias
        speeds = (0.5 * speeds[0] + 7 * slope + 0.2 * weight, 0.5 * speeds[1] + slope)
        weight, bias = weight - 0.1 * speeds[0], bias - 0.3 * speeds[1]
        optimizer.step()
        assert (net.weight.item(), net.bias.item()) == (pytest.approx(weight), pytest.approx(bias))


def test_what_a_norm_adds_is_no_bias():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.Conv2d(4, 2, 1, bias=False))
    groups = groups_of(net, [], Phases(CAFFE, CAFFE, 0, 10))
    assert [id(p) for p in groups["encoder_bias"]["params"]] == [id(net[0].bias)]
    assert len(groups["encoder"]["params"]) == 6


def test_without_the_options_the_groups_are_what_they_were():
    """Checkpoints from before the options can be resumed."""
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    settings, free = Optimizer(), [nn.Parameter(torch.ones(1))]
    groups = groups_of(net, list(net[1].parameters()), Phases(settings, settings, 0, 10), free=free)
    members = {name: [id(p) for p in group["params"]] for name, group in groups.items()}
    assert list(members.items()) == [
        ("encoder", [id(p) for p in net[0].parameters()]),
        ("head", [id(p) for p in net[1].parameters()]),
        ("free", [id(free[0])]),
    ]
    assert [group["weight_decay"] for group in groups.values()] == [5e-4, 5e-4, 0]


@pytest.mark.parametrize("algorithm", ["sgd", "adamw"])
@pytest.mark.parametrize("apart", [0, 1])
def test_each_phase_says_how_biases_learn(algorithm, apart):
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    plain = Optimizer(algorithm, lr=0.5, weight_decay=0.25, schedule="constant")
    caffe = Optimizer(algorithm, lr=0.5, weight_decay=0.25, schedule="constant", bias_lr_factor=2.0, decay_biases=False)
    phases = Phases(*((caffe, plain) if apart == 0 else (plain, caffe)), switch=5, steps=10)
    optimizer, schedule = make_optimizer(net, list(net[1].parameters()), phases)
    for phase in range(2):
        found = {group["name"]: (group["lr"], group["weight_decay"]) for group in optimizer.param_groups}
        assert found == {
            "encoder": (0.5, 0.25),
            "encoder_bias": (1.0, 0) if phase == apart else (0.5, 0.25),
            "head": (5.0, 0.25),
            "head_bias": (10.0, 0) if phase == apart else (5.0, 0.25),
        }
        net(torch.ones(1, 2)).sum().backward()
        for _ in range(5):
            optimizer.step()
            schedule.step()
        enter_phase(optimizer, phases.main)


def test_a_state_with_other_groups_raises():
    def make(settings):
        net = nn.Linear(2, 1)
        return make_optimizer(net, [], Phases(settings, settings, 0, 10))[0]

    before, caffe = make(Optimizer()), make(CAFFE)
    with pytest.raises(ValueError, match="run did not set biases apart from weights, this run does: give `optimizer`"):
        caffe.load_state_dict(before.state_dict())
    with pytest.raises(ValueError, match="run set biases apart from weights, this run does not: give `optimizer`"):
        before.load_state_dict(caffe.state_dict())
    make(CAFFE).load_state_dict(caffe.state_dict())


@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_a_state_with_weights_that_had_no_gradient_is_loaded_without_them(momentum):
    def make(net):
        settings = Optimizer(momentum=momentum, schedule="constant")
        return make_optimizer(net, list(net[2].parameters()), Phases(settings, settings, 0, 10))[0]

    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 1))
    earlier = make(net)
    net[2](net[0](torch.ones(1, 2))).sum().backward()
    earlier.step()
    net[1].requires_grad_(False)
    now = make(net)
    saved = earlier.state_dict()
    now.load_state_dict(saved)
    for ours in (net[0].weight, net[0].bias, net[2].weight, net[2].bias):
        assert now.state[ours].get("momentum_buffer") is earlier.state[ours].get("momentum_buffer")
    assert [len(group["params"]) for group in saved["param_groups"]] == [4, 2], "what was given stays as it is"
    net[0].bias.requires_grad_(False)
    if momentum:  # it learned
        with pytest.raises(ValueError, match="doesn't match the size"):
            make(net).load_state_dict(saved)


def test_a_run_that_sets_biases_apart_is_resumed(
    equal_weights, tiny_network, tiny_data, make_trainer, save_at, tmp_path
):
    def module():
        return RegularizedLossModule(tiny_network, 3, optimizer=CAFFE, pce_fraction=0.75)

    whole, resumed = module(), module()
    make_trainer(max_epochs=4, callbacks=[save_at(tmp_path / "half.ckpt", epoch=1)]).fit(whole, tiny_data)
    make_trainer(max_epochs=4).fit(resumed, tiny_data, ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    assert equal_weights(whole, resumed)


def test_a_rate_and_a_decay_for_the_mean_equal_those_for_a_loss_divided_by_twelve():
    """SGD's weight decay acts with the nominal rate: with a twelfth of the rate it takes twelve times the decay."""

    def weights_after(divisor, lr, weight_decay):
        torch.manual_seed(0)
        net, images = nn.Linear(5, 3).double(), torch.randn(20, 8, 5).double()
        settings = Optimizer(lr=lr, momentum=0.9, weight_decay=weight_decay, head_lr_factor=10.0, power=0.9)
        optimizer, schedule = make_optimizer(net, [net.weight], Phases(settings, settings, 0, 20))
        for batch in images:
            optimizer.zero_grad()
            (net(batch).logsumexp(1).square().mean() / divisor).backward()
            optimizer.step()
            schedule.step()
        return nn.utils.parameters_to_vector(net.parameters()).detach()

    authors = weights_after(12, 7e-3, 5e-4)
    torch.testing.assert_close(weights_after(1, 7e-3 / 12, 12 * 5e-4), authors, rtol=1e-10, atol=0)
    assert not torch.allclose(weights_after(1, 7e-3 / 12, 5e-4), authors, rtol=1e-4, atol=0)
