import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy, FSDPStrategy, ModelParallelStrategy
from typing_extensions import override

from weakseg_lightning.modules import ADMModule, LatentModule, RegularizedLossModule
from weakseg_lightning.modules.core.latent import require_whole_network


class Recording(ADMModule):
    """ADM that keeps the logits of its hook and of its step."""

    @override
    def solve_latent(self, logits, batch):
        self.seen_by_hook = [*getattr(self, "seen_by_hook", []), logits.clone()]
        return super().solve_latent(logits, batch)

    @override
    def latent_loss(self, logits, latent, batch):
        self.seen_by_step = [*getattr(self, "seen_by_step", []), logits.detach().clone()]
        return super().latent_loss(logits, latent, batch)


@pytest.fixture(params=["shared", "replayed"])
def forward_mode(request, monkeypatch):
    if request.param == "replayed":
        monkeypatch.setattr(LatentModule, "shares_forward", lambda self: False)
    return str(request.param)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_hook_sees_the_logits_of_the_step_bit_for_bit(forward_mode, precision, tiny_network, tiny_data, make_trainer):
    module = Recording(tiny_network, 3, pce_fraction=0.0)
    make_trainer(precision=precision).fit(module, tiny_data)
    assert len(module.seen_by_hook) == len(module.seen_by_step) == 4
    for hook, step in zip(module.seen_by_hook, module.seen_by_step, strict=True):
        assert torch.equal(hook, step.float())
    # dropout was on: the same images score differently the next time
    assert not torch.equal(module.seen_by_hook[0], module.seen_by_hook[2])


def test_hook_leaves_no_trace_on_training(equal_weights, forward_mode, tiny_network, tiny_data, make_trainer):
    adm = ADMModule(tiny_network, 3, gamma=0.0, pce_fraction=0.0)
    plain = RegularizedLossModule(tiny_network, 3)
    for module in (adm, plain):
        make_trainer().fit(module, tiny_data)
    assert int(adm.net.encoder[1].num_batches_tracked) == 4, "batch norm must count each batch once"
    assert equal_weights(adm.net, plain.net)


def test_both_forward_modes_train_the_same_weights(equal_weights, tiny_network, tiny_data, make_trainer, monkeypatch):
    modules = [ADMModule(tiny_network, 3, pce_fraction=0.5) for _ in range(2)]
    make_trainer().fit(modules[0], tiny_data)
    monkeypatch.setattr(LatentModule, "shares_forward", lambda self: False)
    make_trainer().fit(modules[1], tiny_data)
    assert equal_weights(*modules)


def test_first_phase_is_partial_cross_entropy_then_solver_runs(tiny_network, tiny_data, make_trainer):
    module = Recording(tiny_network, 3, pce_fraction=0.5)
    make_trainer(max_epochs=4).fit(module, tiny_data)
    assert len(module.seen_by_hook) == 4, "8 iterations, of which the second half solves"


@pytest.mark.parametrize("strategy", [FSDPStrategy, ModelParallelStrategy])
def test_strategies_that_leave_no_rank_the_whole_network_raise(strategy):
    with pytest.raises(ValueError, match=f"`trainer.strategy`: {strategy.__name__} leaves a part.*use `ddp`"):
        require_whole_network(strategy())
    require_whole_network(DDPStrategy())
