"""A module whose network is a head on a frozen encoder: fitted before training, resumed bit for bit."""

import pytest
import torch

from weakseg_lightning.data import decode_batch
from weakseg_lightning.data.dataset import collate
from weakseg_lightning.modules import ADMModule, Optimizer, ProposalModule, RegularizedLossModule
from weakseg_lightning.networks import FeatureCache, FrozenFeatures, FrozenNet


def network(**options) -> FrozenFeatures:
    return FrozenFeatures("test_efficientnet", None, **options)


@pytest.fixture
def scenes(small_scenes):
    return lambda: small_scenes(crop_size=40, scale_range=(1.0, 1.0))


@pytest.mark.parametrize("options", [{"latent_rounds": 1}, {"save_encoder": False}, {"freeze_encoder": False}])
def test_a_resumed_run_ends_as_the_undisturbed_one(
    scenes, make_trainer, save_at, tmp_path, equal_weights, monkeypatch, options
):
    def make():
        torch.manual_seed(4)
        cache = FeatureCache(str(tmp_path / "features"))
        slow = Optimizer("adamw", lr=1e-4)
        return ADMModule(network(cache=cache, **options), 6, optimizer=slow, latent_grid="map", pce_fraction=0.0)

    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    path, whole, again = tmp_path / "a.ckpt", make(), make()
    make_trainer(max_epochs=3, callbacks=[save_at(path, step=3)]).fit(whole, scenes())
    make_trainer(max_epochs=3).fit(again, scenes(), ckpt_path=str(path), weights_only=True)
    assert equal_weights(whole, again)
    assert len(torch.load(path, weights_only=True)["state_dict"]) == (
        len(whole.state_dict()) if options.get("save_encoder", True) else 10
    )


def test_the_head_is_fitted_to_what_the_module_learns_from(scenes, make_trainer, monkeypatch):
    fitted = []
    monkeypatch.setattr(FrozenNet, "prepare", lambda net, samples, seed: fitted.append([*samples]))
    data = scenes()
    for supervision in ("seeds", "mask"):
        module = RegularizedLossModule(network(), 6, supervision=supervision)
        make_trainer(max_epochs=1, limit_train_batches=1).fit(module, data)
        whole = data.whole_images("train")
        for (image, (labels,)), item in zip(fitted[-1], (whole[i] for i in range(len(whole))), strict=True):
            assert torch.equal(image, item["image"])
            assert torch.equal(labels, item[supervision])
    assert len(fitted) == 2


def test_an_encoder_that_learns_sees_each_image_once_in_all_rounds(scenes, make_trainer, tmp_path, monkeypatch):
    cache = FeatureCache(str(tmp_path / "features"))
    module = ADMModule(network(latent_rounds=2, freeze_encoder=False, cache=cache), 6, latent_grid="map")
    seen = []
    encode = module.net.encoder.forward
    monkeypatch.setattr(module.net.encoder, "forward", lambda x: seen.append(module.net.preparing) or encode(x))
    data = scenes()
    make_trainer(max_epochs=1, limit_train_batches=0, limit_val_batches=0).fit(module, data)
    assert sum(seen) == len(data.whole_images("train"))
    assert not module.net.preparing


@pytest.mark.parametrize("latent_grid", ["image", "map"])
def test_in_rounds_the_head_is_fitted_to_what_the_solver_makes_of_whole_images(
    scenes, make_trainer, monkeypatch, latent_grid
):
    fitted = []
    monkeypatch.setattr(FrozenNet, "prepare", lambda net, samples, seed: fitted.append([*samples]))
    module = ADMModule(network(latent_rounds=2), 6, latent_grid=latent_grid, pce_fraction=0.0)
    data = scenes()
    make_trainer(max_epochs=1, limit_train_batches=0).fit(module, data)
    module.eval()
    direct, first, second = fitted
    items = list(data.whole_images("train"))
    assert len(direct) == len(items)
    assert len(first) == len(second) == len(items)
    for item, (image, (seeds, labels)) in zip(items, first, strict=True):
        batch = decode_batch(collate([item]))
        with torch.no_grad():
            expected = module.solve_latent(module.score(batch["image"]), batch).labels[0]
        assert torch.equal(seeds, item["seeds"])
        assert torch.equal(image, item["image"])
        assert torch.equal(labels, expected)


@pytest.mark.parametrize(("make", "fits"), [(RegularizedLossModule, 1), (ProposalModule, 2), (ADMModule, 3)])
def test_rounds_end_when_labelings_would_be_the_same(make, fits, scenes, make_trainer, monkeypatch):
    fitted = []
    monkeypatch.setattr(FrozenNet, "prepare", lambda net, samples, seed: fitted.append([*samples]))
    make_trainer(max_epochs=1, limit_train_batches=0).fit(make(network(latent_rounds=2), 6), scenes())
    assert len(fitted) == fits


def test_a_run_that_starts_from_another_takes_its_head(scenes, make_trainer, tmp_path, monkeypatch):
    first = RegularizedLossModule(network(), 6)
    trainer = make_trainer(max_epochs=1)
    trainer.fit(first, scenes())
    trainer.save_checkpoint(tmp_path / "first.ckpt")
    monkeypatch.setattr(FrozenNet, "prepare", None)
    second = ADMModule(network(), 6, start_from=str(tmp_path / "first.ckpt"), latent_grid="map", pce_fraction=0.0)
    trainer = make_trainer(max_epochs=1, limit_train_batches=0)
    trainer.fit(second, scenes())
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(first.parameters(), second.parameters(), strict=True))


def test_a_second_fit_goes_on_from_the_weights(scenes, make_trainer):
    torch.manual_seed(4)
    module = ADMModule(network(latent_rounds=1), 6, latent_grid="map", pce_fraction=0.0)
    make_trainer(max_epochs=2).fit(module, scenes())
    before = {name: value.clone() for name, value in module.state_dict().items()}
    make_trainer(max_epochs=1, limit_train_batches=0).fit(module, scenes())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_a_resumed_run_prepares_nothing(scenes, make_trainer, save_at, tmp_path, monkeypatch):
    def fit(**options):
        module = ADMModule(network(latent_rounds=1), 6, latent_grid="map", pce_fraction=0.0)
        make_trainer(max_epochs=2, callbacks=[save_at(tmp_path / "a.ckpt", step=1)]).fit(module, scenes(), **options)

    fit()
    monkeypatch.setattr(FrozenNet, "prepare", None)
    fit(ckpt_path=tmp_path / "a.ckpt", weights_only=True)


def test_kept_features_change_nothing_under_augmentation(small_scenes, make_trainer, tmp_path, equal_weights):
    """No crop repeats, so that a feature found under a wrong name would be that of another crop, or unturned."""

    def trained(cache: FeatureCache) -> RegularizedLossModule:
        torch.manual_seed(4)
        module = RegularizedLossModule(network(cache=cache), 6, optimizer=Optimizer("adamw", lr=1e-2))
        data = small_scenes(rotation=30.0, noise=0.1, balanced_crops=0.5, color_jitter=0.2)
        make_trainer(max_epochs=2, limit_val_batches=0).fit(module, data)
        return module

    forgetful, kept = trained(FeatureCache(memory=0)), FeatureCache(str(tmp_path / "features"))
    for _ in range(2):  # the second run finds all features of the first
        assert equal_weights(forgetful, trained(kept))
    assert len(kept._kept) > 2 * 8  # those of each crop and of the whole images
