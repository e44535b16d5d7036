"""Every recipe says all about its method, builds, and trains for two steps, with its overlays too."""

import sys
from pathlib import Path

import pytest
import torch
from building import HERE, OVERLAYS, RECIPES, SMALL, UNTRAINED, command, here, overlays_of, text_of, written
from lightning.pytorch.strategies import DDPStrategy

from weakseg_lightning.cli.errors.signatures import imported, options_of
from weakseg_lightning.hyperparameters import describe
from weakseg_lightning.networks import FrozenNet


def test_the_recipes_of_the_methods_are_there():
    assert {"adm_grid", "adm_grid_released", "adm_grid_resnet101", "pce", "grid_gd", "full"} <= set(RECIPES)
    assert {"data/scenes", "hardware/cpu"} <= set(OVERLAYS)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_says_everything_about_its_method(name):
    model = written(name)["model"]
    cls = imported(f"weakseg_lightning.{model['class_path']}")
    assert set(options_of(cls)) - set(model["init_args"]) == {"num_classes", "largest_component"}


@pytest.mark.parametrize("name", [*RECIPES, *OVERLAYS])
def test_a_recipe_says_how_it_is_used(name):
    text = text_of(name)
    if name.startswith("refine/"):  # for networks that are trained
        assert f"weakseg test --config runs/NAME/version_0/config.yaml --config recipes/{name}.yaml --ckpt_path" in text
    else:
        assert "weakseg fit --config recipes/" in text


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_builds(build, name):
    cli = build(name, *here(name))
    assert cli.model.num_classes == cli.datamodule.num_classes == (2 if name.startswith("decompose_dog") else 21)
    assert cli.trainer.max_steps > 0


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_builds_for_a_computer_without_gpu(build, name):
    cli = build(name, overlays_of(name)[1], *HERE)
    recipe = build(name, *here(name))
    assert type(cli.model) is type(recipe.model)
    seen = [built.datamodule.crop_size * built.model.network.input_scale for built in (cli, recipe)]
    assert seen[0] < seen[1]
    parameters = [sum(p.numel() for p in built.model.parameters()) for built in (cli, recipe)]
    assert parameters[0] < parameters[1]


@pytest.mark.parametrize(("name", "nodes"), [("hardware/ddp8", 1), ("hardware/multinode", 4)])
def test_overlays_for_many_gpus_say_what_the_trainer_takes(build, name, nodes):
    given = written(name)["trainer"]
    assert (given["devices"], given["num_nodes"]) == (8, nodes)
    here = ("--trainer.devices=1", "--trainer.num_nodes=1")  # there is one CPU
    trainer = build("adm_grid", name, *HERE, *here).trainer
    assert isinstance(trainer.strategy, DDPStrategy)
    assert trainer.precision == "bf16-mixed"
    assert trainer._accelerator_connector._layer_sync is not None, "batch norm counts the images of all GPUs"
    assert not isinstance(
        build("adm_grid", name, *HERE, *here, "--trainer.strategy=auto").trainer.strategy, DDPStrategy
    )


@pytest.mark.parametrize(
    "name", ["adm_grid", "trust_region_grid_clicks", "soft_labels", "grid_gd", "pce", "full", "proposals"]
)
def test_recipes_of_seeds_and_masks_train_on_frozen_features(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    tiny = "--model.network.encoder=test_efficientnet"
    cli = command(name, "data/scenes", "networks/frozen", *SMALL, tiny, UNTRAINED)
    assert cli.trainer.global_step == 2
    assert torch.isfinite(cli.trainer.callback_metrics["train_loss"])
    assert isinstance(cli.model.net, FrozenNet)
    assert len(list(Path("runs/features").rglob("*.safetensors"))) > 4, "mirrored, or to validate"


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains_on_scenes_through_both_phases(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    cli = command(name, overlays_of(name)[0], *SMALL, *_with_classifier(name, tmp_path))
    assert cli.trainer.global_step == 2
    assert torch.isfinite(cli.trainer.callback_metrics["train_loss"])
    assert 0 <= cli.trainer.callback_metrics["val_miou"] <= 1
    assert cli.model.num_classes == cli.datamodule.num_classes


@pytest.mark.parametrize("name", RECIPES)
def test_the_scenes_leave_the_method_alone(build, name):
    recipe, scenes = build(name, *here(name)), build(name, overlays_of(name)[0], *HERE)
    assert type(recipe.model) is type(scenes.model)
    assert recipe.datamodule.supervision == scenes.datamodule.supervision
    arguments = {"variant", "recon_weight", "mask_weight", "cls_weight", "classifier_input", "asked_classes", "absence"}
    arguments |= {"parts_weight", "cam_threshold", "encoder_from_classifier"}
    arguments |= {"gamma", "labels", "hard_seeds", "latent_pixels", "supervision", "pce_fraction"}
    for argument in arguments | {"eps", "eps_unit", "normalizer", "epochs_per_cycle", "warm_start", "mask_weight"}:
        assert getattr(recipe.model, argument, None) == getattr(scenes.model, argument, None)
    assert list(recipe.datamodule.size_thresholds) == list(scenes.datamodule.size_thresholds)
    for argument in ("tags_from", "full_fraction"):
        assert getattr(recipe.datamodule, argument) == getattr(scenes.datamodule, argument)
    terms = [getattr(cli.model, "regularizer", None) for cli in (recipe, scenes)]
    assert terms[0] == terms[1] or describe(terms[0]) == describe(terms[1])
    rules, same = (list(map(describe, getattr(cli.model, "constraints", ()))) for cli in (recipe, scenes))
    assert rules == same


def _with_classifier(name, folder):
    """Train the classifier that a decomposition asks, and say where it is."""
    if not name.startswith("decompose") or name.endswith("classifier"):
        return []
    encoder = next(option.partition("=")[2] for option in SMALL if option.startswith("--model.network.encoder="))
    classifier = f"{name}_classifier"
    cli = command(classifier, overlays_of(classifier)[0], *SMALL)
    cli.trainer.save_checkpoint(folder / "g.ckpt")
    return [f"--model.classifier.encoder={encoder}", f"--model.classifier_checkpoint={folder / 'g.ckpt'}"]


@pytest.mark.parametrize("name", ["decompose_dog", "decompose_voc"])
def test_the_classifiers_of_recipe_and_overlays_are_those_of_their_own_runs(build, name):
    for place in (None, *range(2)):
        configs = [
            [each, *([] if place is None else [overlays_of(each)[place]])] for each in (f"{name}_classifier", name)
        ]
        first = build(*configs[0], *HERE).model.network
        second = build(*configs[1], *(here(name) if place is None else HERE)).model.classifier
        ours, theirs = (vars(one) | {"encoder_weights": None} for one in (first, second))
        assert ours == theirs


@pytest.mark.parametrize("name", ["adm_grid", "adm_grid_vgg16"])
def test_the_overlays_change_settings_in_silence(name, recwarn, capfd, monkeypatch):
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")  # so that it is taken back
    command(name, "data/scenes", *SMALL, "--trainer.fast_dev_run=true")
    assert not [warning for warning in recwarn if "discard" in str(warning.message).lower()]
    assert "discard" not in capfd.readouterr().err


def test_no_recipe_is_a_module():
    assert not any("recipes" in name for name in sys.modules if name.startswith("weakseg_lightning.recipes"))
