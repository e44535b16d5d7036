"""Folders of many bands from `weakseg check` to labels of other files, by the commands that are printed."""

import shlex
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml
from init_folders import QUICK, TINY_ENCODERS, printed_command
from PIL import Image

from weakseg_lightning import FrozenFeatures, Segmenter
from weakseg_lightning.cli.commands.init.command import init


def fields(root: Path, number: int, several_files: bool) -> None:
    """A folder of 16-bit images in whose fifth band alone two classes differ, with strokes, and masks of some."""
    rng = np.random.default_rng(0)
    for name in ("images", "scribbles", "masks"):
        (root / name).mkdir(parents=True)
    for index in range(number):
        values, mask = rng.normal(0.4, 0.1, (5, 48, 64)), np.zeros((48, 64), np.uint8)
        mask[12:40, 8 + index : 40 + index] = 1
        values[4] += mask
        values = (values * 9000 + 300).astype("u2")
        strokes = np.full_like(mask, 255)
        strokes[26, 12 + index : 36 + index] = 1
        strokes[4, 5:60] = 0
        if several_files:
            Image.fromarray((values[:3] // 60).clip(0, 255).astype(np.uint8).transpose(1, 2, 0)).save(
                root / f"images/f {index}.png"
            )
            for band, name in ((3, "nir"), (4, "swir")):
                tifffile.imwrite(root / f"images/f {index}_{name}.tif", values[band])
        else:
            names = {"axes": "CYX", "Channel": {"Name": ["blue", "green", "red", "edge", "swir"]}}
            tifffile.imwrite(root / f"images/f {index}.tif", values, ome=True, metadata=names)
        Image.fromarray(strokes).save(root / f"scribbles/f {index}.png")
        if index < 2:
            Image.fromarray(mask).save(root / f"masks/f {index}.png")


@pytest.mark.parametrize(("several_files", "learns"), [(False, "head"), (True, "network")])
def test_from_a_folder_to_labels_of_other_files_by_the_printed_commands(run, tmp_path, several_files, learns):
    fields(tmp_path / "my fields", 5, several_files)
    status, out, err = run("check", "my fields")
    assert (status, err) == (0, "")
    assert printed_command(out) == ["init", "my fields"]
    status, out, err = run(*printed_command(out), "--encoder_weights", "null", "--learns", learns)
    assert (status, err) == (0, "")
    names = "red, green, blue, nir, swir" if several_files else "blue, green, red, edge, swir"
    assert f"Channels: {names} (" in out
    told = "pictures and graph cuts see swir, which tells background from class_1 best (separability "
    assert f"{told}1.00; red, green, blue: 0.0" in out
    text = Path("my_fields.yaml").read_text()
    assert "guide: [swir]   # three, or one" in text
    given = {"red": 1, "green": 2, "blue": 3, "nir": "NAME_nir.tif", "swir": "NAME_swir.tif"}
    written = yaml.safe_load(text)["data"]["init_args"]["channels"]
    assert written == (given if several_files else names.split(", "))
    status, out, err = run(*printed_command(out), *QUICK, TINY_ENCODERS[learns])
    assert status == 0, err
    test, predict = (shlex.split(line)[1:] for line in out.splitlines() if line.startswith("  weakseg "))
    assert run(*test, "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false")[0] == 0

    fields(tmp_path / "others", 3, several_files)
    if several_files:
        Path("others/images/f 1_swir.tif").unlink()
    status, out, err = run(*predict, "--trainer.accelerator=cpu", "--images.objects=true", "others/images")
    assert status == several_files, err
    if several_files:
        assert "lacks the file of its channel 'swir', f 1_swir.tif" in err
    found = sorted(Path("runs/my_fields/version_0/predict/predictions/labels").iterdir())
    assert [path.name for path in found] == (
        ["f 0.png", "f 2.png"] if several_files else ["f 0.png", "f 1.png", "f 2.png"]
    )
    table = Path("runs/my_fields/version_0/predict/predictions/objects.csv").read_text().splitlines()
    assert table[0].endswith(names.replace(" ", ""))
    if not several_files:
        segmenter = Segmenter(predict[predict.index("--ckpt_path") + 1], "cpu")
        assert isinstance(segmenter.scorer.module.network, FrozenFeatures)
        labels = segmenter(np.moveaxis(tifffile.imread("others/images/f 2.tif"), 0, -1))
        np.testing.assert_array_equal(np.array(Image.open(found[2])), labels)
        mask = np.array(Image.open("others/masks/f 0.png"))
        assert (np.array(Image.open(found[0])) == mask).mean() > 0.8, "the head was fitted to all channels"
    status, out, err = run("report", "runs/my_fields/version_0")
    assert status == 0, err


def test_files_of_other_bands_stop_the_way_with_their_names(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    fields(tmp_path / "mixed", 3, several_files=False)
    tifffile.imwrite("mixed/images/f 1.tif", np.zeros((4, 48, 64), "u2"), photometric="minisblack")
    assert init(Path("mixed")) == 1
    told = capsys.readouterr().out
    assert "1 problem would stop training, as images/f 1.tif: has other bands than most (blue, green, red, " in told
    fields(tmp_path / "gaps", 3, several_files=True)
    Path("gaps/images/f 2_nir.tif").unlink()
    assert init(Path("gaps")) == 0
    capsys.readouterr()
    command = ["gaps", "--channels", "{nir: NAME_nir.tif, swir: NAME_swir.tif}"]
    from weakseg_lightning.cli import main

    assert main(["check", *command]) == 1
    told = capsys.readouterr().out
    assert "f 2_swir.tif" in told
    assert "weakseg check gaps --channels" in told


def test_channels_that_are_given_are_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    fields(tmp_path / "a", 3, several_files=False)
    assert init(Path("a"), channels={"short": 5, "on": 1, "a b": 2}) == 0
    assert "Channels: short, on, a b (as given); pictures and graph cuts see short, on, a b" in capsys.readouterr().out
    data = yaml.safe_load(Path("a.yaml").read_text())["data"]["init_args"]
    assert data["channels"] == {"short": 5, "on": 1, "a b": 2}
    assert data["guide"] == ["short", "on", "a b"]
    assert init(Path("a"), Path("b.yaml"), channels={"short": 5, "on": 1}) == 0
    assert yaml.safe_load(Path("b.yaml").read_text())["data"]["init_args"]["guide"] == ["short"]
