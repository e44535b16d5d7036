"""`weakseg superpixels`, and `weakseg check --guides` of what it writes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from weakseg_lightning.cli.commands.check import check
from weakseg_lightning.cli.commands.superpixels import superpixels
from weakseg_lightning.data import FolderDataModule
from weakseg_lightning.errors import UserError

NAMES = ("a", "b", "c d é")


def read(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_maps_follow_the_image_and_train_as_guides(make_folder, capsys):
    root = make_folder()
    halves = np.zeros((40, 48, 3), dtype=np.uint8)
    halves[:, 20:] = 255
    Image.fromarray(halves).save(next(root.glob("images/b*")))
    assert superpixels(root, side=8) == 0
    assert "Wrote 3 maps to " in capsys.readouterr().out
    maps = {name: read(root / "superpixels" / f"{name}.png") for name in NAMES}
    assert all(one.shape == (40, 48) and one.dtype in (np.uint8, np.uint16, np.int32) for one in maps.values())
    assert 15 <= len(np.unique(maps["b"])) <= 45, "about 30 squares of 8 x 8"
    assert not set(np.unique(maps["b"][:, :20])) & set(np.unique(maps["b"][:, 20:])), "none crosses the edge"
    data = FolderDataModule(root, guides="superpixels", num_workers=0, val_fraction=0)
    data.setup("fit")
    assert np.array_equal(data.train_source()[1].guide[0].numpy(), maps["b"])
    assert check(root, guides=Path("superpixels")) == 0
    assert "guides 3" in [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_maps_are_replaced_on_request_alone_and_broken_images_skipped(make_folder, capsys):
    root = make_folder()
    assert superpixels(root, Path("maps")) == 0
    with pytest.raises(UserError, match=r"maps has maps of 3 of the 3 images already, as a.png: choose another"):
        superpixels(root, Path("maps"))
    next(root.glob("images/b*")).write_bytes(b"no image")
    assert superpixels(root, Path("maps"), overwrite=True) == 1
    assert "1 of 3 images were skipped" in capsys.readouterr().err


def test_maps_of_one_region_are_told(make_folder, capsys):
    root = make_folder()
    for path in root.glob("images/*"):
        Image.new("RGB", (48, 40), (90, 90, 90)).save(path)
    assert superpixels(root, side=60) == 0
    told = capsys.readouterr().out
    assert "note: one superpixel covers the whole of 3 images, as a: lower `side` or `compactness`" in told


def test_what_is_wrong_with_maps_is_a_problem_of_the_folder(make_folder, capsys):
    root = make_folder()
    superpixels(root)
    (root / "superpixels/a.png").unlink()
    Image.new("L", (5, 4)).save(root / "superpixels/b.png")
    assert check(root, guides=Path("superpixels")) == 1
    out = capsys.readouterr().out
    assert "has no map of regions or boundaries among the `guides`" in out
    assert "has 5 x 4 pixels, its image 48 x 40: make it of the image at its size" in out
    assert check(root) == 0


def test_wrong_arguments(make_folder, run):
    for argument in ("--side=1", "--compactness=0"):
        status, _, error = run("superpixels", str(make_folder(argument)), argument)
        assert status == 2
        assert argument[2:].split("=")[0] in error
