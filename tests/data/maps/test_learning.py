"""Scribbles on a raster become labels of the raster: trained, stored, predicted in place."""

import json

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from map_folders import Plain, data_of, raster, rasterio
from small_runs import quiet_trainer

from weakseg_lightning import load_module
from weakseg_lightning.cli.commands.predict.images import predict_images
from weakseg_lightning.cli.commands.predict.options import ImageOptions
from weakseg_lightning.metrics import SegmentationScores
from weakseg_lightning.modules import ADMModule, TrustRegionModule
from weakseg_lightning.modules.core.optimization import Optimizer

FAST = Optimizer("adamw", 2e-2, 0.9, 0.0, 1.0)


@pytest.fixture
def sparse(make_maps):
    """Rasters of which one has no data in a corner."""
    root = make_maps(("a", "b"), ("a", "b"))
    with rasterio.open(root / "images/b.tif") as file:
        values, profile = file.read(), file.profile
    values[:, :40, :70] = 0
    with rasterio.open(root / "images/b.tif", "w", **profile | {"nodata": 0}) as file:
        file.write(values)
    return root


def test_two_classes_are_learned_and_predicted_in_place(sparse, tmp_path):
    pl.seed_everything(0)
    data = data_of(sparse, val_fraction=0.2)
    module = ADMModule(Plain(), 3, pce_fraction=1.0, optimizer=FAST)
    trainer = quiet_trainer(str(tmp_path), max_steps=60)
    trainer.fit(module, data)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    quiet = quiet_trainer(str(tmp_path), limit_val_batches=1.0)
    assert quiet.validate(module, data, verbose=False)[0]["val_miou"] > 0.9
    loaded = load_module(tmp_path / "a.ckpt")
    assert loaded.class_names == ["land", "wet", "dry"]
    files = {name: sparse / f"images/{name}.tif" for name in "ab"}
    options = ImageOptions(tile=96, overlap=32, geojson=True)
    assert predict_images(files, loaded, tmp_path / "out", options, accelerator="cpu") == 0
    scores = SegmentationScores(3)
    for name, path in files.items():
        labels, truth = (raster(one)[0] for one in (tmp_path / f"out/labels/{name}.tif", sparse / f"masks/{name}.tif"))
        no_data = np.zeros_like(truth, bool)
        no_data[:40, :70] = name == "b"
        np.testing.assert_array_equal(labels == 255, no_data)
        known = [torch.from_numpy(np.where(no_data, void, of)).long()[None] for of, void in ((labels, 0), (truth, 255))]
        scores.update(*known)
        with rasterio.open(path) as image, rasterio.open(tmp_path / f"out/labels/{name}.tif") as written:
            assert (written.crs, written.transform) == (image.crs, image.transform)
    assert scores.compute()["miou"] > 0.9
    regions = json.loads((tmp_path / "out/geojson/a.geojson").read_text())["features"]
    assert {region["properties"]["class"] for region in regions} == {"wet", "dry"}


@pytest.mark.parametrize("method", [ADMModule, TrustRegionModule])
def test_solvers_leave_out_what_has_no_data(sparse, tmp_path, method):
    pl.seed_everything(0)
    data = data_of(sparse, val_fraction=0)
    module = method(Plain(), 3, pce_fraction=0.0, labels="tags", optimizer=FAST)
    trainer = quiet_trainer(str(tmp_path), max_steps=6)
    labeled = []

    class Look(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            labeled.append((module.latent_labels == 255, ~batch["valid"], batch["mask"] == 255))

    trainer.callbacks.append(Look())
    trainer.fit(module, data)
    assert torch.isfinite(trainer.callback_metrics["train_loss"])
    invalid = torch.cat([found for _, found, _ in labeled])
    assert invalid.any()
    assert torch.equal(torch.cat([found for found, _, _ in labeled]), invalid)
    assert torch.equal(torch.cat([void for _, _, void in labeled]), invalid)


def test_predictions_are_labels_of_another_run(sparse, tmp_path):
    """The GeoJSON that prediction writes can be drawn again, on the same pixels."""
    from weakseg_lightning.prediction.geojson import write_geojson

    (sparse / "scribbles/b.geojson").unlink()
    truth = raster(sparse / "masks/b.tif")[0]
    write_geojson(sparse / "masks/b.geojson", sparse / "masks/b.tif", ["land", "wet", "dry"])
    (sparse / "masks/b.tif").unlink()
    for item in data_of(sparse).whole_images("val"):
        left, top = (int(part[1:]) for part in item["id"].split("_")[1:])
        height, width = item["mask"].shape
        expected = np.where(item["valid"], truth[top : top + height, left : left + width], 255)
        np.testing.assert_array_equal(item["mask"], expected)
        assert item["id"].startswith("b")
