from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from weakseg_lightning import load_module
from weakseg_lightning.losses import dice_loss, partial_cross_entropy
from weakseg_lightning.modules import DMPLSModule, Optimizer
from weakseg_lightning.modules.dmpls import mixed_labels
from weakseg_lightning.networks import UNet2D, UNet2DDualBranch

NETWORK = UNet2DDualBranch(3, widths=(8, 16), dropout=(0.0, 0.3))
LOSSES = {"dice": dice_loss, "cross_entropy": partial_cross_entropy}


def make(**arguments) -> DMPLSModule:
    torch.manual_seed(0)
    optimizer = Optimizer(lr=0.1, head_lr_factor=1)
    return DMPLSModule(NETWORK, 3, **({"optimizer": optimizer} | arguments))


@pytest.fixture
def batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    seeds = torch.full((2, 6, 6), 255)
    seeds[0, 0, 0], seeds[0, 5, 3], seeds[1, 2, 2] = 0, 2, 1
    valid = torch.ones(2, 6, 6, dtype=torch.bool)
    valid[1, 4:] = False
    return {"image": torch.rand(2, 3, 6, 6, generator=generator), "seeds": seeds, "valid": valid}


@pytest.mark.parametrize("pseudo_loss", LOSSES)
def test_the_loss_is_that_of_the_paper_and_labels_are_constants(pseudo_loss, batch, monkeypatch) -> None:
    monkeypatch.setattr(DMPLSModule, "_mixing_weight", lambda self: 0.3)
    module = make(pseudo_weight=0.7, pseudo_loss=pseudo_loss)
    first = module.training_logits(batch)
    second = module._second
    terms = module.loss_terms(first, batch)
    mixture = 0.3 * first.softmax(1) + 0.7 * second.softmax(1)
    labels = mixture.argmax(1).masked_fill(~batch["valid"], 255).detach()
    expected = {
        "pce": sum(functional.cross_entropy(each, batch["seeds"], ignore_index=255) for each in (first, second)) / 2,
        "pseudo": 0.7 * sum(LOSSES[pseudo_loss](each, labels) for each in (first, second)) / 2,
    }
    torch.testing.assert_close(terms, expected)
    of_both = [
        torch.autograd.grad(sum(each.values()), (first, second), retain_graph=True) for each in (terms, expected)
    ]
    torch.testing.assert_close(*of_both)


def test_the_weight_is_uniform_and_of_the_seed_and_the_iteration_alone(monkeypatch) -> None:
    module = make()

    def draw(step: int, seed: int = 1) -> float:
        monkeypatch.setenv("PL_GLOBAL_SEED", str(seed))
        module._trainer = SimpleNamespace(global_step=step)
        return module._mixing_weight()

    drawn = torch.tensor([draw(step) for step in range(1000)])
    torch.rand(3)
    assert [draw(step) for step in (0, 7)] == [drawn[0].item(), drawn[7].item()]
    assert draw(0, seed=2) != drawn[0].item()
    quartiles = torch.histc(drawn, 4, 0, 1)
    assert (quartiles - 250).abs().max() < 60, "four standard deviations"


def test_training_draws_another_weight_in_each_iteration(tiny_data, make_trainer, monkeypatch) -> None:
    drawn = []
    draw = DMPLSModule._mixing_weight
    monkeypatch.setattr(DMPLSModule, "_mixing_weight", lambda self: drawn.append(draw(self)) or drawn[-1])
    make_trainer().fit(make(), tiny_data)
    assert len(set(drawn)) == len(drawn) == 4


def test_a_resumed_run_ends_with_the_weights_of_the_undisturbed_one(
    equal_weights, tiny_data, make_trainer, save_at, tmp_path
) -> None:
    undisturbed, resumed, untrained = make(), make(), make()
    make_trainer(callbacks=[save_at(tmp_path / "half.ckpt", epoch=0)]).fit(undisturbed, tiny_data)
    torch.rand(7)  # the resuming process stands elsewhere in its random stream
    make_trainer().fit(resumed, tiny_data, ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    assert equal_weights(undisturbed, resumed)
    for decoder in ("decoder", "second_decoder"):
        ours, before = (getattr(module.net, decoder).last.weight for module in (undisturbed, untrained))
        assert (ours - before).abs().max() > 1e-3, "both decoders learn"


def test_pseudo_labels_teach_what_two_clicks_do_not(tiny_data, make_trainer) -> None:
    scores = []
    for weight in (0.0, 0.5):
        trainer = make_trainer(max_epochs=15)
        trainer.fit(make(pseudo_weight=weight, optimizer=Optimizer("adamw", 1e-2, 0.9, 0.0, 1.0)), tiny_data)
        scores.append(trainer.callback_metrics["val_miou"])
    assert scores[1] > max(0.5, scores[0] + 0.05)


def test_it_is_rebuilt_from_its_checkpoint(tiny_data, make_trainer, tmp_path) -> None:
    module, trainer = make(pseudo_weight=0.3), make_trainer(max_epochs=1)
    trainer.fit(module, tiny_data)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    loaded = load_module(tmp_path / "last.ckpt").eval()
    assert (loaded.pseudo_weight, loaded.pseudo_loss) == (0.3, "dice")
    images = torch.rand(1, 3, 12, 12)
    torch.testing.assert_close(loaded(images), module.eval()(images))


def test_labels_of_a_mixture_are_those_of_the_surer_branch_unless_it_weighs_little() -> None:
    sure, unsure = torch.tensor([4.0, 0.0]).view(1, 2, 1, 1), torch.tensor([0.0, 1.0]).view(1, 2, 1, 1)
    assert [mixed_labels(sure, unsure, weight).item() for weight in (0.0, 0.2, 0.8)] == [1, 1, 0]


def test_arguments_are_checked(batch) -> None:
    with pytest.raises(ValueError, match="`pseudo_weight` must be finite and at least 0, got -1"):
        make(pseudo_weight=-1)
    with pytest.raises(ValueError, match="`pseudo_loss` must be one of 'dice', 'cross_entropy', got 'ce'"):
        make(pseudo_loss="ce")
    with pytest.raises(ValueError, match="`network` must have two decoders, got UNet2D: use UNet2DDualBranch or SMP"):
        DMPLSModule(UNet2D(), 3)
    with pytest.raises(RuntimeError, match="`training_logits` has to run before"):
        make().loss_terms(torch.zeros(2, 3, 6, 6), batch)
