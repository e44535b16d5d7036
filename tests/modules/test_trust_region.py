import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback
from torch import Tensor

from weakseg_lightning import load_module
from weakseg_lightning.energies import GridPotts
from weakseg_lightning.modules import RegularizedLossModule, TrustRegionModule
from weakseg_lightning.networks import SMPNetwork
from weakseg_lightning.solvers import AlphaExpansion, SolverResult


@pytest.fixture
def data(small_scenes):
    return small_scenes()


def batch_of(seeds):
    return {"seeds": seeds}


@pytest.mark.parametrize("normalizer", ["valid", "seeds"])
def test_loss_is_equation_24(normalizer, tiny_network):
    """Four pixels by hand: a seed, two labels of stage A, and padding."""
    module = TrustRegionModule(tiny_network, 3, eps=0.3, eps_unit="probability", normalizer=normalizer)
    q = torch.tensor([[0.5, 0.2, 0.3], [0.1, 0.6, 0.3], [0.7, 0.2, 0.1], [0.2, 0.2, 0.6]])
    seeds = torch.tensor([[[2, 255, 255, 255]]])
    latent = torch.tensor([[[1, 1, 0, 255]]], dtype=torch.uint8)  # the seed's own label counts, not that of stage A
    terms = module.latent_loss(q.log().T[None, :, None], SolverResult.from_labels(latent), batch_of(seeds))
    a, b = 0.15, 0.55
    total = -(torch.tensor([0.3, a + b * 0.6, a + b * 0.7]).log().sum())
    assert terms.keys() == {"robust"}
    assert float(terms["robust"]) == pytest.approx(float(total) / (3 if normalizer == "valid" else 1), rel=1e-6)


def test_units_of_eps(tiny_network):
    """The published 0.944 of 21 classes is 0.9912 of what is possible, and the weight 0.186."""
    assert TrustRegionModule(tiny_network, 21, eps=0.9912).robust_loss.eps == pytest.approx(0.944)
    assert TrustRegionModule(tiny_network, 5, eps=0.9912).robust_loss.eps == pytest.approx(0.9912 * 0.8)
    for num_classes in (4, 21):  # a = 1 / (K + rho)
        weighted = TrustRegionModule(tiny_network, num_classes, eps=0.18644, eps_unit="weight").robust_loss
        assert weighted.eps / (num_classes - 1) == pytest.approx(1 / (num_classes + 0.18644))
    assert weighted.eps == pytest.approx(0.944, abs=1e-5)
    with pytest.raises(ValueError, match=r"`eps` must be at least 0 and below \(K-1\)/K = 0\.8 for 5 classes"):
        TrustRegionModule(tiny_network, 5, eps=0.944, eps_unit="probability")
    with pytest.raises(ValueError, match=r"`eps` must be at least 0 and below 1, got 1\.0; .*`eps_unit: limit`"):
        TrustRegionModule(tiny_network, 5, eps=1.0)
    with pytest.raises(ValueError, match=r"`eps` must be above 0, got 0\.0; .*`eps_unit: weight`"):
        TrustRegionModule(tiny_network, 5, eps=0.0, eps_unit="weight")


@pytest.mark.parametrize(("name", "value"), [("epochs_per_cycle", 0), ("pce_fraction", 2.0), ("eps", -0.1)])
def test_wrong_arguments_are_named(name, value, tiny_network):
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        TrustRegionModule(tiny_network, 3, **{name: value})


def test_learnt_eps_moves_without_weight_decay_and_is_resumed(
    equal_weights, tiny_network, data, make_trainer, save_at, tmp_path
):
    def module():
        return TrustRegionModule(tiny_network, data.num_classes, eps=0.5, learn_eps=True, pce_fraction=0.25)

    decays = []

    def note(trainer, module):
        decays.append({group["name"]: group["weight_decay"] for group in trainer.optimizers[0].param_groups})

    whole, resumed, watch = module(), module(), LambdaCallback(on_train_epoch_end=note)
    trainer = make_trainer(
        max_epochs=4, limit_val_batches=0, callbacks=[watch, save_at(tmp_path / "half.ckpt", epoch=1)]
    )
    trainer.fit(whole, data)
    limit = (data.num_classes - 1) / data.num_classes
    assert isinstance(whole.robust_loss.current_eps, Tensor)
    learned = float(whole.robust_loss.current_eps.detach())
    assert 0 < learned < limit
    assert learned != pytest.approx(0.5 * limit, abs=1e-6)
    assert float(trainer.callback_metrics["eps"]) == pytest.approx(learned, abs=0.05)
    assert all(decay["free"] == 0 < decay["head"] for decay in decays)
    make_trainer(max_epochs=4, limit_val_batches=0).fit(
        resumed, data, ckpt_path=tmp_path / "half.ckpt", weights_only=True
    )
    assert equal_weights(whole, resumed)


def test_starts_from_a_checkpoint_of_partial_cross_entropy(data, make_trainer, tmp_path):
    network = SMPNetwork(architecture="unet", encoder="mobilenet_v2", encoder_weights=None)
    trainer = make_trainer(max_epochs=1, limit_val_batches=0)
    first = RegularizedLossModule(network, data.num_classes)
    trainer.fit(first, data)
    trainer.save_checkpoint(tmp_path / "pce.ckpt")
    at_start = []

    def note(trainer, module):
        at_start.extend(weights.clone() for weights in module.net.state_dict().values())

    solver = AlphaExpansion(GridPotts(100, normalize_edges=True), unary_weight=0.05, start="zeros")
    second = TrustRegionModule(
        network, data.num_classes, solver=solver, learn_eps=True, pce_fraction=0, start_from=str(tmp_path / "pce.ckpt")
    )
    trainer = make_trainer(max_epochs=1, limit_val_batches=0, callbacks=[LambdaCallback(on_train_start=note)])
    trainer.fit(second, data)
    assert all(torch.equal(*pair) for pair in zip(first.net.state_dict().values(), at_start, strict=True))
    assert "train_robust" in trainer.callback_metrics

    trainer.save_checkpoint(tmp_path / "tr.ckpt")
    again = load_module(tmp_path / "tr.ckpt")
    assert isinstance(again, TrustRegionModule)
    assert again.solver.unary_weight == 0.05
    image = torch.rand(1, 3, 40, 40)
    with torch.no_grad():
        assert torch.equal(again.eval()(image), second.eval()(image))
    third = RegularizedLossModule(network, data.num_classes, start_from=str(tmp_path / "tr.ckpt"))
    make_trainer(max_epochs=1, limit_val_batches=0).fit(third, data)
