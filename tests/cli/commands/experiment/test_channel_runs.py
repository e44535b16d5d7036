"""Experiments on a run of named channels: pairwise terms and pictures see the three of the guide."""

import csv
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from weakseg_lightning.cli.commands.experiment.grid_energy import read_curve

NETWORK = "{class_path: SMPNetwork, init_args: {architecture: linknet, encoder: tu-test_resnet, encoder_weights: null}}"


@pytest.fixture
def options(tmp_path):
    """Options of a folder of four images of four bands, of which the guide takes the last three, backwards."""
    root, rng = tmp_path / "bands", np.random.default_rng(0)
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    (root / "classes.yaml").write_text("classes: [background, wet]\n")
    for name in "abcd":
        mask = np.zeros((32, 32), np.uint8)
        mask[8:20, 6:26] = 1
        values = rng.integers(0, 40000, (4, 32, 32)).astype("u2")
        tifffile.imwrite(root / f"images/{name}.tif", values, photometric="minisblack")
        Image.fromarray(mask).save(root / f"masks/{name}.png")
    model = [f"--model.network={NETWORK}", "--model.supervision=mask"]
    data = ["--data=FolderDataModule", f"--data.root={root}", "--data.supervision=full", "--data.val_fraction=0.5"]
    data += ["--data.channels={a: 1, b: 2, c: 3, d: 4}", "--data.guide=[d, c, b]", "--data.num_workers=0"]
    data += ["--data.crop_size=32", "--data.batch_size=2"]
    return [*model, *data, "--trainer.max_steps=2", "--trainer.accelerator=cpu", "--name=bands"]


def test_energies_are_those_that_the_run_logged(run, options):
    status, _, errors = run("fit", "--config", "pce", *options, "--trainer.check_val_every_n_epoch=1")
    assert status == 0, errors
    status, _, errors = run("experiment", "grid-energy", "--runs", "runs/bands/version_0", "--names", "pCE")
    assert status == 0, errors
    with Path("grid_energy/table.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    logged = read_curve(Path("runs/bands/version_0/metrics.csv"))[-1][1]
    assert float(row["val_grid_energy"]) == pytest.approx(logged, abs=1e-5)
    status, _, errors = run(
        "experiment", "sample-grid", "--run", "runs/bands/version_0", "--images", "1", "--class_name", "wet"
    )
    assert status == 0, errors
    with Image.open("runs/bands/version_0/samples/val.png") as picture:
        assert np.asarray(picture).std() > 1
