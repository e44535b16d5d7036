"""Whole runs on an accelerator: resumed, evaluated, drawn, predicted, in half precision, on frozen features."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from every_method import METHODS
from lightning.pytorch.callbacks import LambdaCallback
from lightning.pytorch.plugins import MixedPrecision
from simulated import run_later

from weakseg_lightning import FrozenFeatures, Segmenter
from weakseg_lightning.callbacks import GradientPanels, NetworkSpeed, PanelWriter, PredictionWriter, TrimapCurve
from weakseg_lightning.devices import random_state_kept
from weakseg_lightning.modules import ADMModule, Optimizer
from weakseg_lightning.modules.classifier import random_masks
from weakseg_lightning.networks.frozen.cache import FeatureCache
from weakseg_lightning.solvers import MeanField

pytestmark = pytest.mark.gpu


def save_after(step, path):
    def save(trainer, *_):
        if trainer.global_step == step:
            trainer.save_checkpoint(path)

    return LambdaCallback(on_train_batch_end=save)


@pytest.mark.parametrize("name", ["adm", "adm_lag", "trust_region", "learnt_eps"])
def test_a_run_that_was_stopped_within_an_epoch_ends_as_if_it_was_not(name, device, trainer_on, same, tmp_path):
    method, path = METHODS[name], tmp_path / "middle.ckpt"
    undisturbed, resumed = method.module(), method.module()
    trainer_on(device, max_steps=7, callbacks=[save_after(3, path)]).fit(undisturbed, method.scenes())
    trainer_on(device, max_steps=7).fit(resumed, method.scenes(), ckpt_path=path, weights_only=False)
    same(undisturbed.state_dict(), resumed.state_dict())


def test_a_checkpoint_of_a_device_goes_on_elsewhere(device, trainer_on, same, tmp_path):
    method, path = METHODS["adm"], tmp_path / "middle.ckpt"
    undisturbed, resumed = method.module(), method.module()
    trainer_on(device, max_steps=7, callbacks=[save_after(3, path)]).fit(undisturbed, method.scenes())
    trainer_on("cpu", max_steps=7).fit(resumed, method.scenes(), ckpt_path=path, weights_only=False)
    same(resumed.state_dict(), undisturbed.state_dict())


@pytest.mark.parametrize("refinement", [None, MeanField()])
def test_scores_of_a_test_and_its_trimaps_are_the_same(refinement, device, trainer_on, same, tmp_path):
    scores = []
    for where in ("cpu", device):
        module = METHODS["pce"].module()
        module.refinement = refinement
        trainer = trainer_on(where, callbacks=[TrimapCurve(max_width=5)])
        scores.append(trainer.test(module, METHODS["pce"].scenes(), verbose=False)[0])
    same(*({name: torch.tensor(value) for name, value in each.items()} for each in scores), rounds=True)


def test_drawing_leaves_training_as_it_was(device, trainer_on, same, tmp_path):
    weights = []
    for callbacks in ([], [PanelWriter(num_images=1, time_fraction=1), GradientPanels(num_images=1, time_fraction=1)]):
        module = METHODS["adm"].module()
        trainer_on(device, callbacks=callbacks, limit_val_batches=1.0).fit(module, METHODS["adm"].scenes())
        weights.append(module.state_dict())
    same(*weights)
    assert len(list(tmp_path.rglob("*.png"))) == 2


def test_predictions_are_written_and_tiles_are_labeled_as_on_the_cpu(device, trainer_on, tmp_path):
    labels, image = [], np.random.default_rng(0).integers(0, 256, (60, 70, 3), dtype=np.uint8)
    for where in (torch.device("cpu"), device):
        module, folder = METHODS["pce"].module(), tmp_path / where.type
        trainer = trainer_on(where, callbacks=[PredictionWriter(str(folder))])
        trainer.predict(module, datamodule=METHODS["pce"].scenes(), return_predictions=False)
        assert list(folder.rglob("*.png"))
        options = {"tile": 32, "overlap": 8, "flip": True, "scales": (1.0, 0.5), "refinement": MeanField()}
        labels.append(Segmenter(module, where, **options)(image))
    assert (labels[0] == labels[1]).mean() > 0.999


@pytest.mark.parametrize(
    ("precision", "name"),
    [("bf16-mixed", name) for name in ("adm", "dense_gd", "trust_region", "soft_labels")]
    + [("16-mixed", name) for name in ("adm", "adm_lag", "trust_region")],
)
def test_half_precision_stays_near(precision, name, device, trainer_on):
    method, losses = METHODS[name], []
    note = LambdaCallback(on_train_batch_end=lambda *given: losses.append(given[2]["loss"].item()))
    trainer_on(device, callbacks=[note]).fit(method.module(), method.scenes())
    scaler = torch.amp.GradScaler(device.type, init_scale=2.0**10) if precision == "16-mixed" else None
    half = MixedPrecision(precision, device.type, scaler)
    trainer_on(device, callbacks=[note], plugins=[half]).fit(method.module(), method.scenes())
    assert losses[4:] == pytest.approx(losses[:4], rel=0.1)
    assert losses[4:] != losses[:4]
    assert scaler is None or scaler.get_scale() == 2.0**10, "gradients were not finite"


@pytest.mark.parametrize("rate", [1e-30, 1e-2])
def test_a_lag_changes_nothing_but_that_scores_are_of_the_step_before(rate, device, trainer_on):
    losses = []
    for name in ("adm", "adm_lag"):
        module = METHODS[name].module(drops=False)
        module.optimizer, module.pce_fraction = Optimizer(lr=rate), 0.0
        note = LambdaCallback(on_train_batch_end=lambda *given: losses.append(given[2]["loss"].detach()))
        with run_later() if device.type == "sim" else nullcontext():
            trainer_on(device, callbacks=[note]).fit(module, METHODS[name].scenes())
    same_losses = torch.equal(*torch.stack(losses).view(2, 4))
    assert same_losses == (rate < 1e-20)


@pytest.mark.parametrize("name", ["pce", "adm"])
def test_a_compiled_network_learns_the_same(name, device, trainer_on, same):
    if device.type == "sim":
        pytest.skip("torch.compile writes no code for the simulated device")
    modules = [METHODS[name].module(drops=False) for _ in range(2)]
    for module, mode in zip(modules, (None, "default"), strict=True):
        trainer_on(device, callbacks=[NetworkSpeed(compile=mode)]).fit(module, METHODS[name].scenes())
    assert modules[1].net.is_compiled
    same(*(module.state_dict() for module in modules), rounds=True)


def test_channels_last_changes_nothing(device, trainer_on, same):
    modules = [METHODS["adm"].module() for _ in range(2)]
    for channels_last, module in enumerate(modules):
        callbacks = [NetworkSpeed(channels_last=bool(channels_last))]
        trainer_on(device, callbacks=callbacks).fit(module, METHODS["adm"].scenes())
    same(*(module.state_dict() for module in modules), rounds=True)


def test_frozen_features_are_those_of_the_cpu_and_prepared_by_the_seed_of_the_run(device, trainer_on, same, tmp_path):
    states, image = [], torch.rand(1, 3, 32, 32)
    for state in range(2):
        torch.manual_seed(0)
        cache = FeatureCache(str(tmp_path / "features"))
        module = ADMModule(FrozenFeatures("test_efficientnet", None, cache=cache), 6, pce_fraction=0.5)
        expected = module.net.eval().features(image)
        module.train()
        torch.manual_seed(state)  # on the device, too, where it must not matter
        trainer_on(device, max_steps=2).fit(module, METHODS["adm"].scenes(num_train=4))
        same(expected, module.net.to(device).eval().features(image.to(device)), rounds=True)
        states.append(module.state_dict())
    same(*states)


def test_random_states_of_the_device_are_kept(device):
    torch.manual_seed(0)
    expected = torch.rand(3, device=device)
    torch.manual_seed(0)
    with random_state_kept([device]):
        assert torch.equal(torch.rand(3, device=device), expected)
    with random_state_kept([device], seed=1):
        seeded = torch.rand(3, device=device)
    assert torch.equal(torch.rand(3, device=device), expected)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(3, device=device), seeded)


def test_random_masks_are_of_the_device_and_its_seed(device):
    images = torch.zeros(2, 3, 16, 16, device=device)
    torch.manual_seed(0)
    first = random_masks(images)
    torch.manual_seed(0)
    assert first.device == device
    assert torch.equal(random_masks(images), first)
