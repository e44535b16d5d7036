"""Folders of images with named channels: read, trained, kept with the checkpoint."""

import re
import warnings
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from weakseg_lightning.channels import Channels
from weakseg_lightning.cli.commands.check import check
from weakseg_lightning.data import BadSampleError, FolderDataModule
from weakseg_lightning.data.folder.contents import read_folder
from weakseg_lightning.data.images.channels import ChannelFiles
from weakseg_lightning.errors import UserError
from weakseg_lightning.modules import ADMModule
from weakseg_lightning.modules.core.guides import colors_of
from weakseg_lightning.modules.core.optimization import Optimizer
from weakseg_lightning.networks import SMPNetwork, UNet
from weakseg_lightning.prediction.channel_rows import open_channels
from weakseg_lightning.prediction.loading import load_module
from weakseg_lightning.prediction.regions import Region
from weakseg_lightning.prediction.segmenter import Segmenter

FIVE = ["red", "green", "blue", "nir", "swir"]
FOUR = {name: number for number, name in enumerate(FIVE[:4], 1)}
SIDE = 48


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Squares of two classes, which are alike in all bands but the fifth; 16 bits, each band in a range of its own."""
    root, rng = tmp_path_factory.mktemp("five"), np.random.default_rng(0)
    for name in ("images", "masks"):
        (root / name).mkdir()
    (root / "classes.yaml").write_text("classes: [background, wet, dry]\n")
    for number in range(12):
        mask = np.zeros((SIDE, SIDE), np.uint8)
        tops = rng.integers(0, SIDE - 20, 2)
        for label, (top, left) in enumerate(zip(tops, (1, 25), strict=True), 1):
            mask[top : top + 20, left : left + 20] = label if number % 2 else 3 - label
        bands = rng.normal(0, 0.2, (5, SIDE, SIDE))
        bands[:4] += mask > 0
        bands[4] += 2 * (mask == 2)
        scale, offset = np.array([[[9000]], [[50]], [[800]], [[3000]], [[100]]]), 30000
        values = (bands * scale + offset).astype("u2")
        tifffile.imwrite(root / f"images/{number:02}.tif", values, photometric="minisblack")
        Image.fromarray(mask).save(root / f"masks/{number:02}.png")
    return root


def data_of(folder, channels, **options) -> FolderDataModule:
    settings = {"supervision": "full", "batch_size": 4, "crop_size": 32, "scale_range": (1.0, 1.0), "num_workers": 0}
    return FolderDataModule(folder, channels=channels, val_fraction=0.34, **settings | options)


def trained(data, steps: int, root) -> tuple[ADMModule, pl.Trainer]:
    pl.seed_everything(0)
    network = SMPNetwork("linknet", "tu-test_resnet", encoder_weights=None).for_channels(*data.channels.normalization)
    module = ADMModule(network, 3, pce_fraction=1.0, optimizer=Optimizer("adamw", 3e-3, 0.9, 0.0, 1.0))
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "num_sanity_val_steps": 0}
    quiet |= {"enable_model_summary": False, "limit_val_batches": 0, "accelerator": "cpu"}
    trainer = pl.Trainer(max_steps=steps, default_root_dir=root, **quiet)
    trainer.fit(module, data)
    return module, pl.Trainer(default_root_dir=root, **quiet | {"limit_val_batches": 1.0})


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory) -> tuple[ADMModule, FolderDataModule, Path, float]:
    """A network trained on five bands, its checkpoint and its score."""
    root = tmp_path_factory.mktemp("run")
    data = data_of(folder, FIVE, color_jitter=0.1, noise=0.02, rotation=10)
    module, trainer = trained(data, 60, root)
    scores = trainer.validate(module, data, verbose=False)[0]
    trainer.save_checkpoint(root / "five.ckpt")
    return module, data, root / "five.ckpt", scores["val_miou"]


def test_a_difference_in_the_fifth_band_is_learned_with_it_alone(folder, run, tmp_path):
    assert run[-1] > 0.9
    data = data_of(folder, FOUR)
    module, trainer = trained(data, 60, tmp_path)
    assert trainer.validate(module, data, verbose=False)[0]["val_miou"] < 0.75


def test_the_checkpoint_keeps_the_statistics(folder, run):
    module, data, path, score = run
    loaded = load_module(path)
    assert loaded.channels == data.channels
    other = data_of(folder, FIVE, split_seed=5)  # of other training images, with statistics of its own
    assert other.channels != loaded.channels
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    for model, checkpoint in ((loaded, None), (module, path)):
        given = data_of(folder, FIVE, split_seed=5)
        pl.Trainer(**quiet).validate(model, given, ckpt_path=checkpoint, weights_only=True, verbose=False)
        assert given.channels == data.channels
    found = pl.Trainer(**quiet).validate(loaded, data_of(folder, FIVE), verbose=False)[0]
    assert found["val_miou"] == pytest.approx(score)


def test_a_segmenter_takes_the_values_of_the_files(folder, run):
    segmenter = Segmenter(run[2], "cpu")
    data = data_of(folder, FIVE)
    data.setup("validate")
    item = data.whole_images("val")[0]
    stored = np.moveaxis(tifffile.imread(folder / f"images/{item['id']}.tif"), 0, -1)
    with torch.no_grad():
        expected = load_module(run[2])(item["image"][None]).argmax(1)[0].numpy()
    assert len(np.unique(expected)) == 3
    assert np.array_equal(segmenter(stored), expected)
    with pytest.raises(ValueError, match=r"must be \(H, W, 5\) of the channels red, .*, swir, got \(48, 48, 3\)"):
        segmenter(stored[..., :3])
    broken = stored.astype(np.float32)
    broken[2, 3, 4] = np.nan
    with pytest.raises(ValueError, match="`image` holds 1 pixel with values that are no numbers: fill them in"):
        segmenter(broken)
    with pytest.raises(ValueError, match="`image` must hold real numbers, got complex64"):
        segmenter.probabilities(stored.astype(np.complex64))


def test_images_in_another_unit_are_doubted(folder, run, tmp_path):
    segmenter, path = Segmenter(run[2], "cpu"), next((folder / "images").iterdir())
    stored = np.moveaxis(tifffile.imread(path), 0, -1).astype(np.float32)
    with pytest.warns(UserWarning, match=r"`image` seems to be in another unit .* 'red' is from .*, in training from"):
        segmenter(stored * 1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        segmenter(stored)
    tifffile.imwrite(tmp_path / "a.tif", np.moveaxis(1e-4 * stored, -1, 0), photometric="minisblack")
    opened = open_channels(tmp_path / "a.tif", segmenter.channels, Region())
    with pytest.warns(UserWarning, match=r"a\.tif seems to be in another unit"), opened:
        pass


@pytest.mark.parametrize(
    ("low", "high", "values", "is_doubted"),
    [
        (291, 304, (17, 31), True),  # degrees Celsius for kelvins
        (0, 1, (0, 100), True),  # percent for fractions
        (0, 1, (60, 80), True),  # bytes of low contrast
        (885, 2865, (0.0885, 0.2865), True),  # reflectances for digital numbers
        (885, 2865, (1499, 1501), False),  # an image of water
        (885, 2865, (3000, 6000), False),  # one of snow
        (885, 2865, (0, 0), False),  # nothing but one value
        (0, 1, (True, False), False),
    ],
)
def test_what_another_unit_is(low, high, values, is_doubted):
    """Of channels that vary alike; of others that are as they were, or do not vary, nothing follows."""
    channels = Channels(("a", "b"), ["a", "b"], (low, 0), (high, 1), (0, 0), (1, 1), (0, 0, 0))
    plane = np.linspace(*values, 400).reshape(20, 20).astype(bool if values[0] is True else np.float64)
    ordinary = np.linspace(0, 1, 400).reshape(20, 20)
    assert (channels.doubt([plane, np.zeros((20, 20))]) is not None) == is_doubted
    assert channels.doubt([plane, ordinary]) is None


def test_data_of_other_channels_are_named(folder, run):
    module = load_module(run[2])
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    with pytest.raises(UserError, match=r"trained on the channels red, .*, the data here have red, green, blue, nir"):
        pl.Trainer(**quiet).validate(module, data_of(folder, FOUR))


def test_a_network_that_is_not_made_for_the_data_is_named_before_training(folder, tmp_path):
    module = ADMModule(SMPNetwork("unet", "resnet18", encoder_weights=None), 3)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    with pytest.raises(UserError, match=r"for which the network is not made: .* network\.for_channels"):
        pl.Trainer(max_steps=1, default_root_dir=tmp_path, **quiet).fit(module, data_of(folder, FIVE))
    with pytest.raises(UserError, match="UNet takes RGB images alone: with `channels`, take SMPNetwork"):
        UNet().for_channels((0.0,) * 5, (1.0,) * 5)


def test_batches_keep_the_range_of_the_files(folder):
    data = data_of(folder, FIVE, guide=["swir", "nir", "red"], flip=False)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    image = batch["image"]
    assert (image.dtype, image.shape) == (torch.float32, (4, 5, 32, 32))
    assert image.min() < 0 < 1 < image.max()
    assert torch.equal(colors_of(batch), image[:, [4, 3, 0]].clamp(0, 1))
    whole = data.whole_images("val")[0]
    stored = tifffile.imread(folder / f"images/{whole['id']}.tif").astype(float)
    low, high = (np.array(values)[:, None, None] for values in (data.channels.low, data.channels.high))
    assert np.abs(whole["image"].numpy() * (high - low) + low - stored).max() < 0.02


def test_jitter_changes_red_green_and_blue_alone(folder):
    options = {"flip": False, "crop_size": SIDE}
    plain, jittered = (data_of(folder, FIVE, color_jitter=strength, **options) for strength in (0.0, 1.0))
    for data in (plain, jittered):
        data.setup("fit")
    sets = [data._dataset("train", transform=data._training_transform()) for data in (plain, jittered)]
    before, after = (one[0, 0]["image"] for one in sets)
    assert torch.equal(before[3:], after[3:])
    assert (before[:3] - after[:3]).abs().amax((1, 2)).min() > 0.05
    with pytest.raises(UserError, match="`color_jitter` changes red, green and blue"):
        data_of(folder, {"nir": 4}, color_jitter=0.5)


def test_faults_are_found_before_training(folder, tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    (tmp_path / "classes.yaml").write_text("classes: [background, wet, dry]\n")
    for name in ("a", "b"):
        values = np.arange(320, dtype="u2").reshape(5, 8, 8)[: 5 if name == "a" else 4]
        tifffile.imwrite(tmp_path / f"images/{name}.tif", values, photometric="minisblack")
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / f"masks/{name}.png")
    with pytest.raises(BadSampleError, match=r"b\.tif: has 4 bands, `channels` names 5"):
        data_of(tmp_path, FIVE).setup("fit")
    with pytest.raises(
        BadSampleError, match=r"a\.tif: has 5 pages, expected one image: name their bands as `channels`"
    ):
        data_of(tmp_path, None).setup("fit")
    with pytest.raises(UserError, match="`guide` chooses among `channels`, which are not given"):
        data_of(tmp_path, None, guide=["red"])


def test_files_of_channels_are_no_images_of_their_own(tmp_path):
    (tmp_path / "images").mkdir()
    for name in ("a.tif", "a_nir.tif", "b.tif", "b_nir.tif", "c_nir.tif"):
        tifffile.imwrite(tmp_path / "images" / name, np.zeros((8, 8), "u2"))
    files = read_folder(tmp_path, channels=ChannelFiles({"red": 1, "nir": "NAME_nir.tif"}))
    assert list(files.images) == ["a", "b"]
    assert [problem.file for problem in files.problems if "channel of an image" in problem.text] == ["images/c_nir.tif"]
    alone = read_folder(tmp_path, channels=ChannelFiles({"nir": "NAME_nir.tif"}))
    assert list(alone.images) == ["a", "b", "c"]


def test_the_file_of_the_channel_at_fault_is_named(tmp_path, capsys):
    (tmp_path / "images").mkdir()
    for name, value in (("a.tif", 1), ("a_nir.tif", 1), ("b.tif", 1), ("b_nir.tif", np.nan)):
        tifffile.imwrite(tmp_path / "images" / name, np.full((8, 8), value, np.float32))
    assert check(tmp_path, channels={"red": 1, "nir": "NAME_nir.tif"}) == 1
    told = capsys.readouterr().out
    assert re.search(r"^ *images/b_nir\.tif +holds 64 pixels without a number in the channel 'nir'", told, re.MULTILINE)


def test_check_reads_channels_and_names_what_is_wrong(folder, tmp_path, capsys):
    assert check(folder, sheet=tmp_path / "sheet.png", channels=FIVE) == 0
    colors = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB")).reshape(-1, 3)
    assert len(np.unique(colors, axis=0)) > 500
    told = capsys.readouterr().out
    assert f"Channels: {', '.join(FIVE)} (as given)\n" in told
    assert f"weakseg init {folder} --channels '{FIVE}'".replace("'", "") in told.replace("'", "").replace('"', "")
    assert check(folder, sheet=tmp_path / "sheet.png", channels=FIVE[:4]) == 1
    told = capsys.readouterr().out
    assert "has 5 bands, `channels` names 4: name all of them in their order" in told
    assert check(folder, sheet=tmp_path / "sheet.png") == 0
    told = capsys.readouterr().out
    assert "Channels: band_1, band_2, band_3, band_4, band_5 (the 5 bands of the files, which do not name them" in told
    assert told.endswith(f"weakseg init {folder}\n"), "which finds them as well"


def test_two_ranks_learn_what_one_learns(folder, tmp_path, run_program):
    run_program("ranks/two_ranks_channels.py", folder, tmp_path)
    run_program("ranks/two_ranks_channels.py", folder, tmp_path, ranks=2)
    one, two = (torch.load(tmp_path / f"{ranks}.ckpt", weights_only=True) for ranks in (1, 2))
    assert one["channels"] == two["channels"]
    assert one["global_step"] == two["global_step"] == 6
    for name, value in one["state_dict"].items():
        torch.testing.assert_close(two["state_dict"][name], value, rtol=0, atol=1e-5)
