"""Tiles show rasters and their labels, what is held out is not seen, and what has no data is nowhere."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from map_folders import corner, data_of, raster, rasterio, whole

from weakseg_lightning.data import BadSampleError, MapDataModule
from weakseg_lightning.data.images.channels import ChannelFiles
from weakseg_lightning.data.maps.places import Window
from weakseg_lightning.data.maps.rasters import open_map
from weakseg_lightning.errors import UserError

# ---- samples ----------------------------------------------------------------------------------------------------


def test_tiles_show_the_raster_and_its_labels(make_maps):
    root = make_maps()
    data = data_of(root)
    colors, mask = raster(root / "images/a.tif"), raster(root / "masks/a.tif")[0]
    tiles, held = whole(data), whole(data, "val")
    assert len(held) == 1 + len([*data._held[1:]]) == round(0.2 * 9)
    assert {item["image"].shape[1:] for item in tiles} == {(64, 64)}
    labelled = np.zeros_like(mask, bool)
    for item in tiles:
        left, top = corner(item)
        place = slice(top, top + 64), slice(left, left + 64)
        seen, seeds = item["valid"].numpy(), item["seeds"].numpy()
        np.testing.assert_array_equal(item["image"].numpy()[:, seen], colors[:, *place][:, seen])
        assert (seeds < 255).any()
        np.testing.assert_array_equal(seeds[seeds < 255], mask[place][seeds < 255])
        labelled[place] |= seeds < 255
        assert item["tags"].all()
    for item in held:
        left, top = corner(item)
        assert (left % 64, top % 64) == (0, 0)
        np.testing.assert_array_equal(item["mask"], mask[top : top + 64, left : left + 64])
        assert (item["seeds"] == 255).all()
        assert not labelled[top : top + 64, left : left + 64].any()
    assert labelled.sum() > 1000
    away = sum(item["mask"].numel() for item in held)
    assert away == sum(block.window.width * block.window.height for block in data._held)


def test_training_does_not_see_what_is_held_out(make_maps):
    data = data_of(make_maps(), val_fraction=0.5)
    hidden = np.zeros((160, 160), bool)
    for block in data._held:
        hidden[block.window.top : block.window.bottom, block.window.left : block.window.right] = True
    assert 0.2 < hidden.mean() < 0.7
    seen = 0
    for item in whole(data):
        left, top = corner(item)
        there = hidden[top : top + 64, left : left + 64]
        np.testing.assert_array_equal(item["valid"].numpy(), ~there)
        assert (item["image"].numpy()[:, there].T == (124, 116, 104)).all()
        seen += there.sum()
    assert seen > 0


def test_crops_are_centered_at_seeds(make_maps):
    data = data_of(make_maps(), val_fraction=0)
    labelled = [(batch["seeds"] < 255).flatten(1).any(1).all() for batch in data.train_dataloader()]
    assert len(labelled) >= 4
    assert all(labelled)


def test_rasters_without_seeds_are_held_out_first(make_maps):
    root = make_maps(("a", "b/c", "d"), masks=("a", "b/c"))
    (root / "scribbles/b/c.geojson").unlink()
    data = data_of(root)
    assert {block.name for block in data._held} == {"b/c"}
    assert {item["id"].split("_")[0] for item in whole(data)} == {"a", "d"}
    data = data_of(root, val_maps=["a"])
    assert {item["id"].split("_")[0] for item in whole(data)} == {"d"}
    assert {block.name for block in data._held} == {"a"}
    assert data_of(root, val_fraction=0).val_dataloader() == []


def test_masks_train_too(make_maps):
    root = make_maps(("a", "b"), ("a",))
    (root / "scribbles/b.geojson").unlink()
    data = data_of(root, supervision="full", val_fraction=0.3)
    assert {item["id"].split("_")[0] for item in whole(data)} == {"a"}
    for item in whole(data):
        assert torch.equal(item["seeds"], item["mask"])
        assert torch.equal(item["seeds"] < 255, item["valid"])


def test_the_last_seeds_of_a_class_are_not_held_out(make_maps):
    root = make_maps()
    content = json.loads((root / "scribbles/a.geojson").read_text())
    dry = [one for one in content["features"] if one["properties"]["class"] == "dry"]
    rest = [one for one in content["features"] if one["properties"]["class"] != "dry"]
    (root / "scribbles/a.geojson").write_text(json.dumps(content | {"features": [*rest, dry[0]]}))
    for seed in range(6):
        data = data_of(root, val_fraction=0.8, split_seed=seed)
        assert any((item["seeds"] == 2).any() for item in whole(data))


def test_stored_labels_are_those_of_the_drawn_ones(make_maps):
    root = make_maps()
    drawn = {item["id"]: item["seeds"] for item in whole(data_of(root))}
    labels = np.full((160, 160), 255, np.uint8)
    for name, seeds in ((name, seeds.numpy()) for name, seeds in drawn.items()):
        left, top = corner({"id": name})
        part = labels[top : top + 64, left : left + 64]
        part[seeds < 255] = seeds[seeds < 255]
    (root / "scribbles/a.geojson").unlink()
    with rasterio.open(root / "images/a.tif") as source:
        profile = source.profile | {"count": 1, "dtype": "int16", "nodata": -1}
    with rasterio.open(root / "scribbles/a.tif", "w", **profile) as file:
        file.write(np.where(labels == 255, -1, labels).astype("int16"), 1)
    again = {item["id"]: item["seeds"] for item in whole(data_of(root))}
    assert again.keys() == drawn.keys()
    assert all(torch.equal(again[name], drawn[name]) for name in drawn)


# ---- channels and no data ---------------------------------------------------------------------------------------

BANDS = ["blue", "green", "red", "nir", "heat"]


@pytest.fixture
def five(make_maps) -> Path:
    """Five bands of 16 bits; nothing is known at the left, and one band lacks a square."""
    root = make_maps(val := ("a",), val)
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, (5, 160, 160)) * np.array([[[40]], [[9]], [[900]], [[70]], [[5]]]) + 3000
    values = values.astype("int16")
    values[:, :, :40] = -9999
    values[4, 100:120, 100:120] = -9999
    with rasterio.open(root / "images/a.tif") as source:
        profile = source.profile | {"count": 5, "dtype": "int16", "nodata": -9999}
    with rasterio.open(root / "images/a.tif", "w", **profile) as file:
        file.write(values)
    return root


def test_what_has_no_data_is_nowhere(five):
    data = data_of(five, channels=BANDS, val_fraction=0.3)
    values = raster(five / "images/a.tif").astype(float)
    known = (values > -9999).all(0)
    for item in [*whole(data), *whole(data, "val")]:
        left, top = corner(item)
        there = known[top : top + 64, left : left + 64]
        valid = item["valid"].numpy()
        assert not (valid & ~there).any()
        for name in ("seeds", "mask"):
            assert (item[name].numpy()[~there] == 255).all()
        neutral = np.array(data.channels.normalization[0])
        np.testing.assert_allclose(item["image"].numpy()[:, ~valid].T, np.tile(neutral, ((~valid).sum(), 1)), rtol=1e-5)
        assert torch.isfinite(item["image"]).all()
    trained = known.copy()
    for block in data._held:
        trained[block.window.top : block.window.bottom, block.window.left : block.window.right] = False
    assert data.channels.mean == pytest.approx(values[:, trained].mean(1), rel=1e-9)
    assert data.channels.std == pytest.approx(values[:, trained].std(1), rel=1e-9)
    assert data.channels.low == pytest.approx(np.percentile(values[:, trained], 1, axis=1), rel=0.02)


def test_channels_are_chosen_and_named(five):
    data = data_of(five, channels={"nir": 4, "red": 3}, guide=["nir"], val_fraction=0)
    item = whole(data)[0]
    assert (item["image"].dtype, item["image"].shape[0]) == (torch.float32, 2)
    assert item["colors"].tolist() == [0, 0, 0]
    with pytest.raises(BadSampleError, match=r"a\.tif: has 5 bands of int16, expected gray or RGB of 8 bits: name the"):
        data_of(five)
    with pytest.raises(BadSampleError, match="has 5 bands, `channels` names 4: name all of them"):
        data_of(five, channels=BANDS[:4])
    with pytest.raises(UserError, match="`guide` chooses among `channels`: name these too"):
        MapDataModule(five, guide=["red"])


@pytest.mark.parametrize("nodata", [0, 255, 7])
def test_channels_have_no_data_where_the_file_says_so(make_maps, nodata):
    """Also where nodata is a value of the masks in which rasterio says that."""
    root = make_maps(("a",), ())
    values = np.random.default_rng(0).integers(8, 250, (5, 160, 160), np.uint8)
    values[:, 50:70, 30:90] = nodata
    with rasterio.open(root / "images/a.tif") as source:
        profile = source.profile | {"count": 5, "dtype": "uint8", "nodata": nodata}
    with rasterio.open(root / "images/a.tif", "w", **profile) as file:
        file.write(values)
    with open_map(root / "images/a.tif", ChannelFiles(BANDS)) as raster_:
        planes, valid = raster_.read(Window(20, 40, 100, 60))
    expected = (values != nodata).all(0)[40:100, 20:120]
    np.testing.assert_array_equal(valid, expected)
    np.testing.assert_array_equal(np.stack(planes)[:, valid], values[:, 40:100, 20:120][:, expected])


def test_numbers_that_are_none_masks_and_opacity_have_no_data(make_maps):
    root = make_maps(("a", "b", "c"), ())
    for name, kind in (("a", "float32"), ("b", "uint8"), ("c", "uint8")):
        values = raster(root / f"images/{name}.tif").astype(kind)
        with rasterio.open(root / f"images/{name}.tif") as source:
            profile = source.profile | {"dtype": kind}
        known = np.full((160, 160), 255, np.uint8)
        known[50:70, 30:90] = 0
        if name == "a":
            values[1, 50:70, 30:90] = np.nan
            profile |= {"count": 3}
        if name == "b":
            values, profile = np.concatenate([values, known[None]]), profile | {"count": 4, "alpha": "yes"}
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(root / f"images/{name}.tif", "w", **profile) as file,
        ):
            file.write(values)
            if name == "c":
                file.write_mask(known)
    rgb = {"red": 1, "green": 2, "blue": 3}
    for options, names in (({"channels": rgb}, "abc"), ({}, "bc")):
        if not options:
            (root / "images/a.tif").unlink(), (root / "scribbles/a.geojson").unlink()
        tiles = whole(data_of(root, **options))
        assert {item["id"][0] for item in tiles} == set(names)
        for item in tiles:
            left, top = corner(item)
            there = np.zeros((160, 160), bool)
            there[50:70, 30:90] = True
            np.testing.assert_array_equal(item["valid"].numpy(), ~there[top : top + 64, left : left + 64])


def test_channels_may_lie_in_files_beside(make_maps):
    root = make_maps(("a",), ())
    with rasterio.open(root / "images/a.tif") as source:
        profile = source.profile | {"count": 1, "dtype": "uint16"}
    heat = np.random.default_rng(0).integers(0, 4000, (1, 160, 160)).astype("uint16")
    with rasterio.open(root / "images/a_heat.tif", "w", **profile) as file:
        file.write(heat)
    channels = {"red": 1, "heat": "NAME_heat.tif"}
    data = data_of(root, channels=channels)
    for item in whole(data)[:3]:
        left, top = corner(item)
        low, high = data.channels.low[1], data.channels.high[1]
        stored = item["image"][1].numpy() * (high - low) + low
        np.testing.assert_allclose(stored, heat[0, top : top + 64, left : left + 64], atol=0.01)
    moved = profile | {"transform": rasterio.Affine(10, 0, 500030, 0, -10, 5000000)}
    with rasterio.open(root / "images/a_heat.tif", "w", **moved) as file:
        file.write(heat)
    with pytest.raises(BadSampleError, match=r"a_heat\.tif lies up to 3\.0 pixels apart from its image"):
        data_of(root, channels=channels)
