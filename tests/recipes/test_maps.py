"""The overlay of maps trains methods on a folder of rasters, whose labels `weakseg predict` then writes in place."""

import sys
from pathlib import Path

import pytest
import torch
from building import CPU, command

from weakseg_lightning.cli import main
from weakseg_lightning.data import MapDataModule

sys.path += [str(Path(__file__).parents[1] / "data" / "maps")]
SMALL = [
    *("--model.network.encoder=tu-test_resnet", "--model.network.encoder_weights=null", "--data.crop_size=32"),
    *("--data.batch_size=2", "--data.num_workers=0", "--trainer.max_steps=4", "--trainer.val_check_interval=4"),
    *("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"),
]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder `maps` of one raster in the working directory."""
    from map_folders import write_maps

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    return write_maps(Path("maps"), side=128)


@pytest.mark.parametrize("name", ["adm_grid", "trust_region_grid"])
def test_methods_train_on_maps(name, folder, recwarn):
    cli = command(name, "data/maps", *SMALL, "--model.labels=tags", *CPU, "--trainer.enable_checkpointing=false")
    assert isinstance(cli.datamodule, MapDataModule)
    assert cli.trainer.global_step == 4
    assert torch.isfinite(cli.trainer.callback_metrics["train_loss"])
    assert 0 <= cli.trainer.callback_metrics["val_miou"] <= 1
    assert not [warning for warning in recwarn if "discard" in str(warning.message).lower()]


def test_channels_are_trained_stored_and_predicted(folder, capsys):
    rasterio = pytest.importorskip("rasterio")
    channels = "--data.channels=[red, green, blue]"
    command("pce", "data/maps", *SMALL, channels, "--trainer.accelerator=cpu", "--name=bands")
    assert " maps/images\n" in capsys.readouterr().out, "the command that labels them"
    (run,) = Path("runs/bands").iterdir()
    arguments = ["--config", str(run / "config.yaml"), "--ckpt_path", str(run / "checkpoints/last.ckpt")]
    window = ["--images.window", "[20, 30, 70, 50]", "--predictions.output_dir", "out"]
    assert main(["predict", *arguments, *window, "maps/images"]) == 0
    with rasterio.open("out/labels/a.tif") as file:
        labels = file.read(1)
        assert (file.transform.c, file.transform.f) == (500200, 4999700)
    assert labels.shape == (50, 70)
    assert set(labels.flat) <= {0, 1, 2}
    capsys.readouterr()
    assert main(["predict", *arguments]) == 2
    assert "maps are predicted as wholes: name them, as `weakseg predict ... maps/images`" in capsys.readouterr().err
