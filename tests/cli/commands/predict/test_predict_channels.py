"""`weakseg predict ... IMAGES` of several channels: which files, read how, and what is written of them."""

import csv
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from weakseg_lightning import RegularizedLossModule, Segmenter, SMPNetwork
from weakseg_lightning.channels import Channels
from weakseg_lightning.cli.commands.predict.files import find_images
from weakseg_lightning.cli.commands.predict.images import predict_images
from weakseg_lightning.cli.commands.predict.options import ImageOptions
from weakseg_lightning.data.images.channels import ChannelFiles
from weakseg_lightning.errors import UserError
from weakseg_lightning.prediction.channel_rows import open_channels
from weakseg_lightning.prediction.regions import Region
from weakseg_lightning.prediction.tiling import Span
from weakseg_lightning.visualization.panels import overlay, voc_palette

NAMES = ("red", "green", "blue", "nir", "heat")
LOW, HIGH = (0.0, 0.0, 0.0, 1000.0, 0.001), (200.0, 200.0, 200.0, 9000.0, 0.002)
MEAN, STD = (100.0, 100.0, 100.0, 5000.0, 0.0015), (50.0, 50.0, 50.0, 2000.0, 0.0004)
PATTERNS = {"red": 1, "green": 2, "blue": 3, "nir": "NAME_nir.tif", "heat": "NAME_heat.npy"}


@pytest.fixture(scope="module")
def module() -> RegularizedLossModule:
    torch.manual_seed(0)
    channels = Channels(NAMES, PATTERNS, LOW, HIGH, MEAN, STD, (3, 4, 0))
    network = SMPNetwork("linknet", "tu-test_resnet", None).for_channels(*channels.normalization)
    found = RegularizedLossModule(network, 3).eval()
    found.channels = channels
    return found


def write(folder: Path, name: str, seed: int = 0, size: tuple[int, int] = (60, 90)) -> np.ndarray:
    """Write an image of three files, whose values are returned, ``(H, W, 5)``."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0.5, 0.3, (*size, 5)).repeat(4, 0)[: size[0]] * (np.array(HIGH) - LOW) + LOW
    values[..., :3] = values[..., :3].clip(0, 255).round()
    values[..., 3] = values[..., 3].clip(0).round()
    folder.mkdir(exist_ok=True)
    Image.fromarray(values[..., :3].astype(np.uint8)).save(folder / f"{name}.png")
    tifffile.imwrite(folder / f"{name}_nir.tif", values[..., 3].astype(np.uint16))
    np.save(folder / f"{name}_heat.npy", values[..., 4])
    return values


def test_a_folder_with_files_that_lack_channels_becomes_label_maps(module, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = {name: write(Path("in"), name, seed) for seed, name in enumerate(("a", "b", "c", "d"))}
    Path("in/b_nir.tif").unlink()
    Image.new("L", (90, 60)).save("in/c.png")
    tifffile.imwrite("in/e_nir.tif", np.zeros((4, 4), np.uint16))
    options = ImageOptions(tile=64, overlap=32, objects=True, probabilities=True)
    assert predict_images(find_images(["in"], files()), module, Path("out"), options, accelerator="cpu") == 1
    told = capsys.readouterr()
    assert "Not read, as they are no images (1): in/e_nir.tif\n" in told.out
    assert "Left out 2: b, c\n" in told.out
    assert "in/b.png lacks the file of its channel 'nir', b_nir.tif: add it" in told.err
    assert "in/c.png has 1 band, the channel 'green' is number 2" in told.err
    segmenter = Segmenter(module, "cpu", tile=64, overlap=32)
    for name in ("a", "d"):
        labels = np.array(Image.open(f"out/labels/{name}.png"))
        np.testing.assert_array_equal(labels, segmenter(given[name]))
        assert len(np.unique(labels)) > 1
        chances = np.load(f"out/probabilities/{name}.npy")
        np.testing.assert_allclose(chances, segmenter.probabilities(given[name]), atol=1e-3)
    assert {path.name for path in Path("out/labels").iterdir()} == {"a.png", "d.png"}


def files() -> ChannelFiles:
    return ChannelFiles(PATTERNS)


def test_the_table_of_objects_has_the_mean_of_each_channel(module, tmp_path):
    values = write(tmp_path, "a")
    images = {"a": tmp_path / "a.png"}
    predict_images(images, module, tmp_path / "out", ImageOptions(tile=64, overlap=32, objects=True), accelerator="cpu")
    labels = np.array(Image.open(tmp_path / "out/labels/a.png"))
    with (tmp_path / "out/objects.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0])[-6:] == ["center_y", *NAMES]
    numbers = {"class_1": 1, "class_2": 2} if "class_1" in {row["class"] for row in rows} else {"1": 1, "2": 2}
    for label in {row["class"] for row in rows}:
        own = [row for row in rows if row["class"] == label]
        areas = np.array([float(row["area"]) for row in own])
        assert areas.sum() == (labels == numbers[label]).sum()
        for number, name in enumerate(NAMES):
            mean = (areas * [float(row[name]) for row in own]).sum() / areas.sum()
            assert mean == pytest.approx(values[labels == numbers[label], number].mean(), rel=1e-4)


def test_overlays_show_the_chosen_channels_stretched(module, tmp_path):
    values = write(tmp_path, "a")
    with open_channels(tmp_path / "a.png", module.channels, Region()) as rows:
        shown = module.channels.picture(rows.read(Span(0, 60)))
    fractions = (values - LOW) / (np.array(HIGH) - LOW)
    expected = (255 * fractions[..., [3, 4, 0]].clip(0, 1)).round()
    assert np.abs(shown - expected).max() <= 1
    predict_images({"a": tmp_path / "a.png"}, module, tmp_path / "out", ImageOptions(), accelerator="cpu")
    labels = np.array(Image.open(tmp_path / "out/labels/a.png"))
    found, wanted = Image.open(tmp_path / "out/overlays/a.jpg"), overlay(shown, labels, voc_palette(3))
    assert np.corrcoef(np.ravel(found), np.ravel(wanted))[0, 1] > 0.95


def test_parts_of_images_and_channels_of_a_map(module, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    values = write(tmp_path, "a", size=(300, 400))
    transform = rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)
    kind = {"driver": "GTiff", "width": 400, "height": 300, "crs": "EPSG:32632", "transform": transform}
    colors = np.moveaxis(values[..., :3], -1, 0).astype(np.uint8)
    with rasterio.open(tmp_path / "m.tif", "w", count=3, dtype="uint8", **kind) as file:
        file.write(colors)
    near = values[..., 3].astype(np.float32)
    near[:50, :70] = -9999
    near[60, 80] = np.nan
    with rasterio.open(tmp_path / "m_nir.tif", "w", count=1, dtype="float32", nodata=-9999, **kind) as file:
        file.write(near, 1)
    with rasterio.open(tmp_path / "m_heat.tif", "w", count=1, dtype="float64", **kind) as file:
        file.write(values[..., 4], 1)
    given = {**PATTERNS, "heat": "NAME_heat.tif"}
    module.channels, before = Channels(NAMES, given, LOW, HIGH, MEAN, STD, (3, 4, 0)), module.channels
    try:
        options = ImageOptions(tile=128, overlap=32, window=(40, 30, 300, 200), objects=True, probabilities=True)
        assert predict_images({"m": tmp_path / "m.tif"}, module, tmp_path / "out", options, accelerator="cpu") == 0
        segmenter = Segmenter(module, "cpu", tile=128, overlap=32)
        part = np.dstack([values[..., :3], near, values[..., 4]])[30:230, 40:340]
        invalid = np.zeros((200, 300), bool)
        invalid[:20, :30] = invalid[30, 40] = True
        part[invalid] = MEAN
        expected = np.where(invalid, 255, segmenter(part))
    finally:
        module.channels = before
    with rasterio.open(tmp_path / "out/labels/m.tif") as labels:
        found = labels.read(1)
        assert (labels.crs, labels.transform) == ("EPSG:32632", rasterio.Affine(10, 0, 500400, 0, -10, 4999700))
    assert (found == expected).mean() > 0.999
    assert np.array_equal(found == 255, invalid)
    assert np.array_equal(np.isnan(np.load(tmp_path / "out/probabilities/m.npy")).all(0), invalid)
    table = (tmp_path / "out/objects.csv").read_text().splitlines()
    assert table[0].endswith("red,green,blue,nir,heat,map_x,map_y,map_area,crs")
    assert "nan" not in table[1]


def test_a_map_that_lacks_a_channel_is_named(module, tmp_path, capsys):
    rasterio = pytest.importorskip("rasterio")
    transform = rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)
    kind = {"driver": "GTiff", "width": 40, "height": 30, "count": 2, "dtype": "uint8", "transform": transform}
    for name in ("m", "n", "n_nir"):
        with rasterio.open(tmp_path / f"{name}.tif", "w", **kind) as file:
            file.write(np.ones((2, 30, 40), np.uint8))
    images = {name: tmp_path / f"{name}.tif" for name in ("m", "n")}
    assert predict_images(images, module, tmp_path / "out", ImageOptions(), accelerator="cpu") == 1
    told = capsys.readouterr().err
    assert "m.tif lacks the file of its channel 'nir', m_nir.tif" in told
    assert "n.tif lacks the file of its channel 'heat', n_heat.npy" in told
    assert not list((tmp_path / "out").glob("*/*"))


def test_files_of_channels_are_no_images_of_their_own(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "sub"):
        write(Path("in") if name == "a" else Path("in/sub"), "a")
    chosen = find_images(["in"], files())
    assert list(chosen) == ["a", "sub/a"]
    assert list(find_images(sorted(map(str, Path("in").glob("a*"))), files())) == ["a"]
    assert capsys.readouterr().out == ""
    with pytest.raises(UserError, match=r"`in/a_nir\.tif` holds channels of images that are not there"):
        find_images(["in/a_nir.tif"], files())
    alone = ChannelFiles({"nir": "NAME_nir.tif", "heat": "NAME_heat.npy"})
    assert {name: path.name for name, path in find_images(["in/a_nir.tif"], alone).items()} == {"a": "a_nir.tif"}
    with pytest.raises(UserError, match=r"`in` holds no images \(of the channels depth\)"):
        find_images(["in"], ChannelFiles({"depth": "NAME_depth.tif"}))
