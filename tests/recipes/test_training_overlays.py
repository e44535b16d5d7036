"""Overlays for the trainer: an average of the weights, stronger augmentation."""

import warnings
from pathlib import Path

import pytest
import torch
from building import OVERLAYS, SMALL, command

from weakseg_lightning.callbacks import AveragedWeights
from weakseg_lightning.cli import main


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")


def test_they_are_overlays() -> None:
    assert {"training/averaged", "training/augmented"} <= set(OVERLAYS)


def test_the_augmented_recipe_trains_with_its_options() -> None:
    cli = command("trust_region_grid", "data/scenes", "training/augmented", *SMALL)
    data = cli.datamodule
    assert (data.rotation, data.color_jitter, data.noise, data.balanced_crops) == (20, 0.3, 0.05, 0.33)
    assert torch.isfinite(cli.trainer.callback_metrics["train_loss"])


@pytest.mark.parametrize("recipe", ["adm_grid", "trust_region_grid"])
def test_a_run_with_averaged_weights_is_validated_from_its_folder_without_a_word(recipe: str) -> None:
    kept = [option for option in SMALL if "enable_checkpointing" not in option]
    cli = command(recipe, "data/scenes", "training/averaged", *kept, "--name=averaged")
    (average,) = (each for each in cli.trainer.callbacks if isinstance(each, AveragedWeights))
    assert average.decay == 0.999
    (run,) = Path("runs/averaged").iterdir()
    saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["state_dict"].keys() == saved["current_model_state"].keys()
    assert all(torch.equal(value, cli.model.state_dict()[name]) for name, value in saved["state_dict"].items())
    arguments = ["--config", str(run / "config.yaml"), "--ckpt_path", str(run / "checkpoints" / "last.ckpt")]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert main(["validate", *arguments]) == 0
