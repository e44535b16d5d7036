"""What is wrong with a folder of maps is named before training; tiles depend on the seed alone."""

import pickle

import numpy as np
import pytest
import torch
from map_folders import TINY, data_of, drawn, rasterio, whole, write, write_raster

from weakseg_lightning.data import BadSampleError, MapDataModule
from weakseg_lightning.errors import MissingFileError, UserError

# ---- what is named ----------------------------------------------------------------------------------------------


def test_files_that_do_not_belong_are_named(make_maps):
    root = make_maps(("a", "b"), ("a",))
    write(root / "scribbles/z.geojson", drawn("Point", [15, 45]))
    with pytest.raises(BadSampleError, match=r"scribbles/z\.geojson: belongs to no raster: there is no images/z\.tif"):
        data_of(root)
    (root / "scribbles/z.geojson").unlink()
    (root / "images/b.tif").write_bytes(b"no raster")
    with pytest.raises(BadSampleError, match=r"images/b\.tif: cannot be read"):
        data_of(root)
    with pytest.warns(UserWarning, match=r"skipping in .*images/b\.tif: cannot be read"):
        data = data_of(root, on_bad_sample="skip")
    assert {item["id"][0] for item in whole(data)} == {"a"}


def test_label_rasters_that_do_not_suit_are_named(make_maps):
    root = make_maps()
    with rasterio.open(root / "masks/a.tif") as source:
        profile, mask = source.profile, source.read()

    def rewrite(values, **options):
        with rasterio.open(root / "masks/a.tif", "w", **profile | options) as file:
            file.write(values)

    for told, values, options in [
        ("has 80 x 160 pixels, its image 160 x 160: bring it", mask[:, :, :80], {"width": 80}),
        (r"has the coordinate system EPSG:32634, its image EPSG:32633: bring it", mask, {"crs": "EPSG:32634"}),
        ("holds the value 9, expected 0 to 2, or 255 for none", np.where(mask == 2, 9, mask).astype("uint8"), {}),
        ("has 1 band of float32, expected one of integers", mask.astype("float32"), {"dtype": "float32"}),
    ]:
        rewrite(values, **options)
        with pytest.raises(BadSampleError, match=told):
            data_of(root)


def test_zero_may_mean_that_nothing_is_drawn_in_rasters(make_maps):
    root = make_maps(masks=(), side=32)
    (root / "scribbles/a.geojson").unlink()
    values = np.zeros((32, 32), np.uint8)
    values[15, 10:25], values[8], values[2] = 1, 2, 3
    write_raster(root / "scribbles/a.tif", values[None])
    (root / "classes.yaml").write_text("classes: [land, wet, dry]\nunlabelled: 0\nbackground: 3\n")
    (item,) = whole(data_of(root))
    assert (item["seeds"].numpy() == np.array([255, 1, 2, 0])[values]).all()


def test_seeds_where_there_are_no_data_are_named(make_maps):
    root = make_maps(masks=())
    with rasterio.open(root / "images/a.tif") as source:
        profile, values = source.profile, source.read()
    with rasterio.open(root / "images/a.tif", "w", **profile | {"nodata": 7}) as file:
        file.write(np.full_like(values, 7))
    with pytest.raises(BadSampleError, match=r"a\.geojson labels no pixel where .*a\.tif has data: see to its nodata"):
        data_of(root)


def test_folders_without_what_is_needed_are_named(tmp_path, make_maps):
    with pytest.raises(MissingFileError, match="`root`: there is no folder"):
        data_of(tmp_path / "none")
    root = make_maps(masks=())
    (root / "scribbles/a.geojson").unlink()
    with pytest.raises(MissingFileError, match=r"no training raster in .* has scribbles: add scribbles/NAME\.geojson"):
        data_of(root)
    data = MapDataModule(make_maps(("b",), ("b",)), **TINY)
    (root / "scribbles/b.geojson").unlink()
    data.setup("test")  # other maps are evaluated without scribbles
    assert len(data.test_dataloader()) == 9
    with pytest.raises(UserError, match="`val_maps`: no raster is called 'x': take some of a, b"):
        data_of(root, val_maps=["x"])
    (root / "classes.yaml").unlink()
    with pytest.raises(MissingFileError, match=r"no classes\.yaml in .*: write `classes: \[background, field, road\]`"):
        data_of(root)
    data = MapDataModule(make_maps(), **TINY)
    with pytest.raises(UserError, match="maps are predicted as wholes: name them, as `weakseg predict"):
        data.setup("predict")
    for wrong, told in (
        ({"val_fraction": 1}, "`val_fraction` must be"),
        ({"brush": "wide"}, "`brush` must be a width"),
    ):
        with pytest.raises(UserError, match=told):
            MapDataModule(root, **wrong)


# ---- order ------------------------------------------------------------------------------------------------------


def seen(data, epoch: int) -> list[tuple[str, torch.Tensor]]:
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return [(name, batch["image"].sum()) for batch in loader for name in batch["id"]]


def test_the_same_seed_gives_the_same_tiles_in_any_process(make_maps):
    root = make_maps()
    options = {"seed": 3, "scale_range": (0.5, 2.0), "rotation": 10}
    first, again = (data_of(root, **options) for _ in range(2))
    assert [seen(first, epoch) for epoch in (0, 1)] == [seen(again, epoch) for epoch in (0, 1)]
    assert seen(first, 0) != seen(first, 1)
    assert seen(first, 0) != seen(data_of(root, **options | {"seed": 4}), 0)
    assert seen(first, 1) == seen(data_of(root, **options | {"num_workers": 2}), 1)
    item = pickle.loads(pickle.dumps(first._source("train")))[0]
    assert torch.equal(item.image, first._source("train")[0].image)


def test_a_tile_is_read_and_no_more(make_maps, monkeypatch):
    root = make_maps(side=256, tiled=True, blockxsize=64, blockysize=64)
    largest = []
    read = rasterio.io.DatasetReader.read

    class Counting:
        def __init__(self, source):
            self._source = source

        def __getattr__(self, name):
            return getattr(self._source, name)

        def read(self, *args, window=None, **kwargs):
            (top, bottom), (left, right) = window
            largest.append((bottom - top, right - left))
            return read(self._source, *args, window=window, **kwargs)

    from weakseg_lightning.data.maps import layers, rasters

    opened = rasters.open_raster

    def counting(path):
        from contextlib import contextmanager

        @contextmanager
        def inner():
            with opened(path) as source:
                yield Counting(source)

        return inner()

    monkeypatch.setattr(rasters, "open_raster", counting)
    monkeypatch.setattr(layers, "open_raster", counting)
    data = data_of(root, channels=["red", "green", "blue"])
    for _ in (*data.train_dataloader(), *data.val_dataloader()):
        pass
    assert len(largest) > 100
    assert max(max(size) for size in largest) == 64
