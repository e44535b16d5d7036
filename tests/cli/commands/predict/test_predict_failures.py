"""`weakseg predict ... IMAGES` where something goes wrong on the way: what is left of it, and what is said."""

import csv
import errno
import json
import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from weakseg_lightning import RegularizedLossModule, SMPNetwork
from weakseg_lightning.cli.commands.predict.files import find_images
from weakseg_lightning.cli.commands.predict.images import predict_images
from weakseg_lightning.cli.commands.predict.options import ImageOptions
from weakseg_lightning.cli.commands.predict.writer import ImageWriter
from weakseg_lightning.data.images.channels import ChannelFiles
from weakseg_lightning.errors import FileError, UserError
from weakseg_lightning.prediction.rasters import open_rows


@pytest.fixture(scope="module")
def module() -> RegularizedLossModule:
    torch.manual_seed(0)
    return RegularizedLossModule(SMPNetwork("linknet", "tu-test_resnet", None), 3).eval()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    """The working directory, with three images."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate("abc"):
        picture(f"in/{name}.png", number)
    return tmp_path


def picture(path: str, seed: int = 0) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def volume(path: str) -> None:
    values = np.random.default_rng(0).integers(0, 255, (32, 40, 3)).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([1.0, 1, 5, 1])), path)


def predict(module, *words: str, channels: ChannelFiles | None = None, **options: bool) -> int:
    found = find_images(words, channels)
    return predict_images(found, module, Path("out"), ImageOptions(**options), accelerator="cpu")


def tables() -> tuple[list[str], set[str]]:
    """Names of images in both tables."""
    with Path("out/objects.csv").open(encoding="utf-8", newline="") as file:
        objects = {row["image"] for row in csv.DictReader(file)}
    return [image["file_name"] for image in json.loads(Path("out/polygons.json").read_text())["images"]], objects


def no_room(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("is_volume", [False, True])
def test_room_for_probabilities_is_taken_before_they_are_written(module, monkeypatch, is_volume):
    """A full disk would kill the process while it writes to a sparse file that is mapped into memory."""
    if is_volume:
        volume("in/b.nii.gz")
    monkeypatch.setattr(os, "posix_fallocate", no_room)
    name = "b.nii.gz" if is_volume else "a.png"
    with pytest.raises(FileError, match=rf"^cannot write .*probabilities/{name[0]}.npy: No space left on device$"):
        predict(module, f"in/{name}", probabilities=True)
    assert not [path for path in Path("out").rglob("*") if path.is_file()]


def test_room_for_an_image_that_is_turned_is_taken_before_it_is_unpacked(monkeypatch):
    pytest.importorskip("rasterio")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 40)).save("turned.jpg", exif=exif)
    monkeypatch.setattr(os, "posix_fallocate", no_room)
    told = r"turned.jpg cannot be unpacked \(No space left on device\): set TMPDIR to a folder with more room"
    with pytest.raises(FileError, match=told), open_rows(Path("turned.jpg"), in_memory=0):
        pass


def test_tables_hold_what_was_done_before_an_error(module, monkeypatch):
    pytest.importorskip("rasterio")
    write = ImageWriter._write_overlay

    def stop(writer, stem, *images):
        if stem == "c":
            raise KeyboardInterrupt
        write(writer, stem, *images)

    monkeypatch.setattr(ImageWriter, "_write_overlay", stop)
    with pytest.raises(KeyboardInterrupt):
        predict(module, "in", objects=True, polygons=True)
    assert tables() == (["a.png", "b.png"], {"a.png", "b.png"})


def test_nothing_is_left_where_nothing_was_done(module, monkeypatch):
    monkeypatch.setattr(ImageWriter, "_write_overlay", no_room)
    with pytest.raises(OSError, match="No space left on device"):
        predict(module, "in", objects=True)
    assert not Path("out/objects.csv").exists()


def test_names_that_are_too_long_for_files_are_told_at_once(module):
    deep = "/".join(letter * 90 for letter in "def")
    picture(f"in/{deep}/x.png")
    with pytest.raises(UserError, match=r"^names of 1 image are too long for files of results, as that of .*x.png: "):
        predict(module, "in")
    assert not list(Path("out/labels").iterdir())
    assert predict(module, f"in/{deep}") == 0


def test_tables_name_files_that_exist(module):
    pytest.importorskip("rasterio")
    for name in ("p/x.png", "p/sub/y.JPG", "q/x.png", "r/x.png.jpg"):
        picture(name)
    picture("r/x.jpg", 1)
    picture("r/x.png", 2)
    assert predict(module, "p", "q", "r", objects=True, polygons=True) == 0
    images, objects = tables()
    assert images == ["sub/y.JPG", "p/x.png", "q/x.png", "x.jpg", "r/x.png", "x.png.jpg"]
    assert objects <= set(images)
    assert len(list(Path("out/labels").iterdir())) == 6


def test_images_of_several_files_are_named_by_the_first(module):
    pytest.importorskip("rasterio")
    for name in ("s/t/x", "s/u/x"):
        picture(f"{name}_red.png")
        picture(f"{name}_nir.png")
    channels = ChannelFiles({"red": "NAME_red.png", "nir": "NAME_nir.png"})
    found = find_images(["s"], channels)
    assert list(found) == ["t/x", "u/x"]
    assert predict(module, "s", channels=channels, polygons=True, objects=True) == 0
    assert tables()[0] == ["t/x_red.png", "u/x_red.png"]


def test_slices_of_a_volume_and_images_have_overlays_of_their_own(module):
    volume("in/b.nii.gz")
    picture("in/b_slice_0.png")
    Path("in/b.png").unlink()
    assert predict(module, "in") == 0
    found = sorted(path.stem for path in Path("out/overlays").iterdir())
    assert found == ["a", "b_slice_0", "b_slice_0.png", "b_slice_1", "b_slice_2", "c"]
