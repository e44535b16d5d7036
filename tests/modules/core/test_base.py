import re
from dataclasses import replace

import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback

from weakseg_lightning import load_module
from weakseg_lightning.energies import GridPotts
from weakseg_lightning.modules import ADMModule, Optimizer, RegularizedLossModule, SoftLabelModule
from weakseg_lightning.networks import Network, SMPNetwork
from weakseg_lightning.solvers import AlphaExpansion


@pytest.mark.parametrize("validated", [1, 2, 3])
@pytest.mark.parametrize("end", [{"max_epochs": 4}, {"max_epochs": -1, "max_steps": 8}], ids=["epochs", "steps"])
@pytest.mark.parametrize("pce_fraction", [0.0, 0.5, 0.6])
def test_resumed_run_ends_with_the_weights_of_the_undisturbed_one(
    equal_weights, pce_fraction, end, validated, tiny_network, tiny_data, make_trainer, save_at, tmp_path
):
    undisturbed, resumed = (ADMModule(tiny_network, 3, pce_fraction=pce_fraction) for _ in range(2))
    trainer = make_trainer(
        **end, check_val_every_n_epoch=validated, callbacks=[save_at(tmp_path / "half.ckpt", epoch=1)]
    )
    trainer.fit(undisturbed, tiny_data)
    torch.rand(7)  # the resuming process stands elsewhere in its random stream
    make_trainer(**end, check_val_every_n_epoch=validated).fit(
        resumed, tiny_data, ckpt_path=tmp_path / "half.ckpt", weights_only=True
    )
    assert equal_weights(undisturbed, resumed)


def test_another_method_that_goes_on_from_a_checkpoint_is_warned_of(
    tiny_network, tiny_data, make_trainer, save_at, tmp_path, recwarn
):
    path = tmp_path / "part.ckpt"
    make_trainer(callbacks=[save_at(path, epoch=0)]).fit(RegularizedLossModule(tiny_network, 3), tiny_data)
    make_trainer().fit(RegularizedLossModule(tiny_network, 3), tiny_data, ckpt_path=path, weights_only=True)
    assert not [each for each in recwarn if "goes on from its iteration" in str(each.message)]
    with pytest.warns(UserWarning, match="is of RegularizedLossModule, and ADMModule goes on from its iteration"):
        make_trainer().fit(ADMModule(tiny_network, 3), tiny_data, ckpt_path=path, weights_only=True)


class Narrow(ADMModule):
    """A subclass as the README has it, whose constructor takes what it needs and no more."""

    def __init__(self, network: Network, num_classes: int, strength: float = 2.0) -> None:
        super().__init__(network, num_classes, AlphaExpansion(GridPotts(strength)), pce_fraction=0.0)
        self.strength = strength


def test_a_subclass_that_takes_fewer_arguments_is_loaded(equal_weights, tiny_data, make_trainer, tmp_path):
    network = SMPNetwork(architecture="unet", encoder="timm-mobilenetv3_small_minimal_100", encoder_weights=None)
    module, trainer = Narrow(network, 3, strength=5.0), make_trainer(max_epochs=1)
    trainer.fit(module, tiny_data)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    for loaded in (load_module(tmp_path / "a.ckpt"), Narrow.load_from_checkpoint(tmp_path / "a.ckpt")):
        assert isinstance(loaded, Narrow)
        assert loaded.strength == 5.0
        assert equal_weights(module, loaded)


@pytest.mark.parametrize("stage", ["validate", "test"])
def test_what_an_evaluation_that_was_broken_off_has_counted_is_forgotten(stage, tiny_network, tiny_data, make_trainer):
    def interrupt(trainer, module, outputs, batch, batch_idx, *_):
        if batch_idx == 1:
            raise ZeroDivisionError

    module = RegularizedLossModule(tiny_network, 3)
    (expected,) = getattr(make_trainer(), stage)(module, tiny_data, verbose=False)
    watch = LambdaCallback(on_validation_batch_end=interrupt, on_test_batch_end=interrupt)
    with pytest.raises(ZeroDivisionError):
        getattr(make_trainer(callbacks=[watch]), stage)(module, tiny_data, verbose=False)
    (found,) = getattr(make_trainer(), stage)(module, tiny_data, verbose=False)
    assert found == expected
    assert module.scores["test" if stage == "test" else "val"].grid_energy.images == 0


def test_weights_that_are_not_used_are_left_out_on_one_rank_and_older_checkpoints_with_them_are_resumed(
    equal_weights, tiny_data, make_trainer, save_at, tmp_path, monkeypatch
):
    """The optimizer of a run of several ranks has no such weights, and a run may go on on one of them, or on more."""

    def train(resumed_from=None, **options):
        network = SMPNetwork(architecture="unet", encoder="timm-tf_efficientnet_lite0", encoder_weights=None)
        torch.manual_seed(0)
        module, trainer = RegularizedLossModule(network, 3), make_trainer(**options)
        trainer.fit(module, tiny_data, ckpt_path=resumed_from, weights_only=True)
        frozen = [name for name, parameter in module.net.named_parameters() if not parameter.requires_grad]
        return module, frozen, sum(len(group["params"]) for group in trainer.optimizers[0].param_groups)

    before = tmp_path / "before.ckpt"
    with monkeypatch.context() as earlier:
        earlier.setattr(RegularizedLossModule, "_freeze_unused", lambda self: None)
        whole, _, count = train(callbacks=[save_at(before, epoch=0)])
    resumed, frozen, fewer = train(before)
    assert [name.rpartition("encoder.")[2] for name in frozen] == ["conv_head.weight", "bn2.weight", "bn2.bias"]
    assert fewer == count - 3
    assert equal_weights(whole, resumed)


def test_learning_rates_follow_both_phases(tiny_network, tiny_data, make_trainer):
    rates = []
    momenta = []

    def note(trainer, module, optimizer):
        rates.append([group["lr"] for group in optimizer.param_groups])
        momenta.append(optimizer.param_groups[0]["momentum"])

    first = Optimizer(lr=0.1, schedule="step", step_every=1, step_factor=0.5, momentum=0.5, head_lr_factor=2.0)
    second = Optimizer(lr=0.01, schedule="poly", power=1.0, head_lr_factor=10.0)
    module = RegularizedLossModule(tiny_network, 3, optimizer=second, pce_optimizer=first, pce_fraction=0.5)
    make_trainer(callbacks=[LambdaCallback(on_before_optimizer_step=note)]).fit(module, tiny_data)
    assert [r[0] for r in rates] == pytest.approx([0.1, 0.05, 0.01, 0.005])
    assert [r[1] for r in rates] == pytest.approx([0.2, 0.1, 0.1, 0.05])
    assert momenta == [0.5, 0.5, 0.9, 0.9]


def test_a_run_that_is_made_longer_stays_in_its_second_phase(tiny_network, tiny_data, make_trainer, save_at, tmp_path):
    path, phases = tmp_path / "part.ckpt", []
    modules = [RegularizedLossModule(tiny_network, 3, pce_fraction=0.5) for _ in range(3)]
    make_trainer(max_epochs=2, callbacks=[save_at(path, epoch=1)]).fit(modules[0], tiny_data)  # switches at 2 of 4
    watch = LambdaCallback(on_train_batch_end=lambda trainer, module, *_: phases.append(module.in_pce_phase))
    longer = {"max_epochs": 5, "callbacks": [watch]}
    make_trainer(**longer).fit(modules[1], tiny_data, ckpt_path=path, weights_only=True)
    assert len(phases) == 6
    assert not any(phases)
    make_trainer(**longer).fit(modules[1], tiny_data)
    assert phases[6:].count(True) == 4, "a fit of its own begins with the first phase"


def test_a_second_phase_that_is_due_earlier_begins_when_the_run_goes_on(
    tiny_network, tiny_data, make_trainer, save_at, tmp_path
):
    path, momenta = tmp_path / "part.ckpt", []
    optimizers = {"optimizer": Optimizer(momentum=0.9), "pce_optimizer": Optimizer(momentum=0.5)}
    first, second = (RegularizedLossModule(tiny_network, 3, pce_fraction=part, **optimizers) for part in (0.75, 0.25))
    make_trainer(callbacks=[save_at(path, step=2)]).fit(first, tiny_data)
    note = LambdaCallback(
        on_before_optimizer_step=lambda trainer, module, optimizer: momenta.append(
            optimizer.param_groups[0]["momentum"]
        )
    )
    make_trainer(callbacks=[note]).fit(second, tiny_data, ckpt_path=path, weights_only=True)
    assert momenta == [0.9, 0.9]


def test_second_phase_starts_without_velocity(tiny_network, tiny_data, make_trainer):
    at_switch = []
    watch = LambdaCallback(on_before_optimizer_step=lambda *given: at_switch.append(len(given[2].state)))
    make_trainer(callbacks=[watch]).fit(RegularizedLossModule(tiny_network, 3, pce_fraction=0.5), tiny_data)
    assert at_switch[0] == 0
    assert at_switch[1] > 0
    assert at_switch[2] == 0


def test_loss_that_is_not_finite_stops_with_the_image_names(tiny_network, tiny_data, make_trainer):
    module = RegularizedLossModule(tiny_network, 3)
    with torch.no_grad():
        module.net.head.bias.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match=r"not finite at iteration 0 \(first images: scene_0, .*pce = nan"):
        make_trainer().fit(module, tiny_data)


def test_checkpoint_of_another_network_raises(tiny_network, tiny_data, make_trainer, tmp_path):
    trainer = make_trainer()
    trainer.fit(RegularizedLossModule(tiny_network, 3), tiny_data)
    trainer.save_checkpoint(tmp_path / "three.ckpt")
    with pytest.raises(ValueError, match=r"another network.*head.* has shape \(3.* expected \(4.*with 3 classes"):
        make_trainer().validate(RegularizedLossModule(tiny_network, 4), tiny_data, ckpt_path=tmp_path / "three.ckpt")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"input_scale": 2.0}, r"trained with `network.input_scale` 1.0 \(here 2.0\): its scores will be others"),
        ({"mean": (0.1, 0.2, 0.3)}, r"`network.mean` \[0.5, 0.5, 0.5\] \(here \[0.1, 0.2, 0.3\]\)"),
        ({"dropout": 0.5}, None),
    ],
)
def test_a_network_that_computes_other_scores_from_the_same_weights_is_warned_of(
    changed, message, tiny_data, make_trainer, tmp_path, recwarn
):
    network = SMPNetwork(architecture="unet", encoder="timm-mobilenetv3_small_minimal_100", encoder_weights=None)
    trainer, path = make_trainer(max_epochs=1), tmp_path / "a.ckpt"
    trainer.fit(RegularizedLossModule(network, 3), tiny_data)
    trainer.save_checkpoint(path)
    module = RegularizedLossModule(replace(network, **changed), 3)
    make_trainer().validate(module, tiny_data, ckpt_path=path, weights_only=True)
    told = " ".join(str(each.message) for each in recwarn if "its scores will be others" in str(each.message))
    assert re.search(message, told) if message else told == ""


@pytest.fixture
def pce_checkpoint(tiny_network, tiny_data, make_trainer, tmp_path):
    """A module trained with partial cross-entropy, and its checkpoint."""
    trainer, module = make_trainer(max_epochs=1), RegularizedLossModule(tiny_network, 3)
    trainer.fit(module, tiny_data)
    trainer.save_checkpoint(tmp_path / "pce.ckpt")
    return module, tmp_path / "pce.ckpt"


def test_start_from_takes_the_weights_of_another_method_and_nothing_else(
    equal_weights, pce_checkpoint, tiny_network, tiny_data, make_trainer, tmp_path
):
    first, path = pce_checkpoint
    second = ADMModule(tiny_network, 3, pce_fraction=0.0, start_from=str(path))
    equal_at_start = []
    watch = LambdaCallback(on_train_start=lambda _, module: equal_at_start.append(equal_weights(first, module)))
    trainer = make_trainer(max_epochs=1, callbacks=[watch])
    trainer.fit(second, tiny_data)
    assert equal_at_start == [True]
    assert trainer.global_step == 2
    assert not equal_weights(first, second)

    trainer.save_checkpoint(tmp_path / "adm.ckpt")
    assert torch.load(tmp_path / "adm.ckpt", weights_only=True)["hyper_parameters"]["start_from"] is None
    resumed = ADMModule(tiny_network, 3, pce_fraction=0.0, start_from=str(path))
    make_trainer(max_epochs=1).fit(resumed, tiny_data, ckpt_path=tmp_path / "adm.ckpt", weights_only=True)
    assert equal_weights(resumed, second)


@pytest.mark.parametrize(
    ("content", "classes", "error"),
    [
        (None, 3, "no checkpoint `"),
        (b"not a checkpoint", 3, "is no checkpoint, or a damaged one"),
        ("checkpoint", 4, r"another network.*head.* has shape \(3.* expected \(4"),
    ],
)
def test_start_from_raises_before_training(
    content, classes, error, pce_checkpoint, tiny_network, tiny_data, make_trainer
):
    _, path = pce_checkpoint
    if content is None:
        path.unlink()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError), match=error):
        make_trainer().fit(RegularizedLossModule(tiny_network, classes, start_from=str(path)), tiny_data)


def test_checkpoint_holds_plain_values_and_loads_again(equal_weights, tiny_data, make_trainer, tmp_path):
    network = SMPNetwork(architecture="unet", encoder="mobilenet_v2", encoder_weights=None)
    module = ADMModule(network, 3, gamma=0.7, optimizer=Optimizer(lr=0.02))
    trainer = make_trainer()
    trainer.strategy.connect(module)
    trainer.save_checkpoint(tmp_path / "module.ckpt")
    saved = torch.load(tmp_path / "module.ckpt", weights_only=True)["hyper_parameters"]
    assert saved["_class_path"] == "weakseg_lightning.ADMModule"
    assert saved["solver"]["class_path"].endswith("AlphaExpansion")
    assert saved["optimizer"]["lr"] == 0.02
    again = ADMModule.load_from_checkpoint(tmp_path / "module.ckpt", weights_only=True)
    assert again.gamma == 0.7
    assert equal_weights(module, again)


def test_run_without_an_end_raises(tiny_network, tiny_data, make_trainer):
    with pytest.raises(ValueError, match=r"the schedule needs an end: set `trainer.max_epochs`"):
        make_trainer(max_epochs=-1).fit(RegularizedLossModule(tiny_network, 3), tiny_data)


@pytest.mark.parametrize(("name", "value"), [("num_classes", 1), ("num_classes", 256), ("pce_fraction", 1.5)])
def test_wrong_arguments_are_named(name, value, tiny_network):
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        RegularizedLossModule(tiny_network, **({"num_classes": 3} | {name: value}))


# iterations, of which an epoch has three
@pytest.mark.parametrize(
    ("latent_lag", "moment", "workers", "method"),
    [
        *((lag, moment, workers, ADMModule) for lag, moment, workers in ((0, 1, 0), (0, 3, 0), (0, 4, 0), (0, 4, 1))),
        *((1, moment, 0, ADMModule) for moment in (1, 3, 4)),
        *((lag, 4, 0, SoftLabelModule) for lag in (0, 1)),
    ],
)
def test_run_resumed_within_an_epoch_ends_with_the_weights_of_the_undisturbed_one(
    equal_weights, latent_lag, moment, workers, method, tiny_network, small_scenes, make_trainer, save_at, tmp_path
):
    def fit(callbacks, path=None):
        data = small_scenes(num_train=12, num_workers=workers)
        module = method(tiny_network, data.num_classes, pce_fraction=0.0, latent_lag=latent_lag)
        trainer = make_trainer(max_epochs=3, callbacks=callbacks)
        trainer.fit(module, data, ckpt_path=path, weights_only=True)
        assert trainer.global_step == 9
        return module

    undisturbed = fit([save_at(tmp_path / "within.ckpt", step=moment)])
    torch.rand(7)  # the resuming process stands elsewhere in its random stream
    assert equal_weights(undisturbed, fit([], tmp_path / "within.ckpt"))
