"""Rows of a file are those of the image, however it is stored; memory does not grow with the image."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageOps

from weakseg_lightning.data import BadSampleError
from weakseg_lightning.data.files import read_image
from weakseg_lightning.prediction.rasters import open_rows
from weakseg_lightning.prediction.tiling import Span, spans

rasterio = pytest.importorskip("rasterio")
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
RANDOM = np.random.default_rng(0)
COLORS = RANDOM.integers(0, 256, (90, 70, 3), dtype=np.uint8)
SMOOTH = (np.add.outer(np.arange(90), np.arange(70)) * 300).astype(np.uint16)


def by_rows(path, in_memory: int) -> np.ndarray:
    """The whole image from overlapping rows, of a file that counts as large."""
    with open_rows(path, in_memory) as image:
        found = np.zeros((image.height, image.width, 3), dtype=np.uint8)
        for rows in spans(image.height, 32, 8):
            found[rows.start : rows.stop] = image.read(rows)
    return found


def stored(tmp_path, name: str):
    """A file of a kind."""
    path = tmp_path / name
    kind, suffix = name.split(".")
    if kind == "grey16":
        Image.fromarray(SMOOTH).save(path)
    elif kind == "palette":
        Image.fromarray(COLORS).quantize(200).save(path)
    elif kind == "transparent":
        alpha = RANDOM.integers(0, 256, (90, 70), dtype=np.uint8)
        Image.fromarray(np.dstack([COLORS, alpha])).save(path)
    elif kind == "grey":
        Image.fromarray(COLORS[..., 0]).save(path)
    else:
        options = (
            {"compression": "tiff_lzw"}
            if suffix == "tif"
            else {"quality": 95, "subsampling": 0}
            if suffix == "jpg"
            else {}
        )
        Image.fromarray(COLORS).save(path, **options)
    return path


KINDS = ["rgb.png", "rgb.jpg", "rgb.tif", "rgb.bmp", "grey.png", "palette.png", "transparent.png", "grey16.png"]


@pytest.mark.parametrize("name", KINDS)
def test_a_large_file_is_read_as_a_small_one(tmp_path, name):
    path = stored(tmp_path, name)
    expected = read_image(path).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(by_rows(path, in_memory=10**6), expected)
    # Two decoders of JPEG, and two ways to round.
    np.testing.assert_allclose(by_rows(path, in_memory=0).astype(int), expected, rtol=0, atol=4 if "jpg" in name else 1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_large_files_stand_upright_too(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(COLORS).save(tmp_path / "a.jpg", exif=exif, quality=95, subsampling=0)
    with Image.open(tmp_path / "a.jpg") as image:
        expected = np.array(ImageOps.exif_transpose(image))
    found = by_rows(tmp_path / "a.jpg", in_memory=0)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.astype(int), expected, rtol=0, atol=4)


def test_rows_are_asked_for_from_the_top(tmp_path):
    with open_rows(stored(tmp_path, "rgb.png"), in_memory=0) as image:
        image.read(Span(10, 20))
        with pytest.raises(ValueError, match="a file is read from the top downwards"):
            image.read(Span(0, 5))


@pytest.mark.parametrize("in_memory", [0, 10**6])
def test_damage_is_a_bad_sample(tmp_path, in_memory):
    path = stored(tmp_path, "rgb.png")
    path.write_bytes(path.read_bytes()[:6000])
    with pytest.raises(BadSampleError, match=r"rgb\.png"):
        by_rows(path, in_memory)
    (tmp_path / "b.jpg").write_text("no image")
    with pytest.raises(BadSampleError, match=r"b\.jpg is not an image"):
        by_rows(tmp_path / "b.jpg", in_memory)


def test_many_bands_are_refused(tmp_path):
    with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", width=8, height=8, count=3, dtype="uint8") as file:
        file.write(np.zeros((3, 8, 8), dtype=np.uint8))
    with open_rows(tmp_path / "a.tif", in_memory=0) as image:
        assert not image.read(Span(0, 8)).any()


MEASURE = """
import resource, sys
import numpy as np
import torch
from pathlib import Path
from weakseg_lightning.prediction.outputs import LabelRows, PalettePng
from weakseg_lightning.prediction.rasters import open_rows
from weakseg_lightning.prediction.segmenter import _TileScores
from weakseg_lightning.prediction.tiling import Blend, spans
from weakseg_lightning.visualization import voc_palette

def bright(pixels):
    dark = (pixels.float().mean(0) < 128).float()
    return torch.stack([dark, 1 - dark, torch.zeros_like(dark)])

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with open_rows(Path(sys.argv[1])) as image:
    rows, columns = (spans(length, 1024, 128, 32) for length in (image.height, image.width))
    gathered = LabelRows(image.width)
    with PalettePng(Path(sys.argv[2]), image.width, image.height, voc_palette()) as png:
        for block in Blend(rows, columns, _TileScores(image, bright)):
            if (done := gathered.add(block)) is not None:
                png.write(done)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_memory_does_not_grow_with_the_height(tmp_path):
    """6,000 x 20,000 pixels are 360 MB; less than half of it is added to the process."""
    width, height, path = 6000, 20000, tmp_path / "large.tif"
    options = {"driver": "GTiff", "width": width, "height": height, "count": 3, "dtype": "uint8", "compress": "deflate"}
    with rasterio.open(path, "w", **options) as file:
        band = np.zeros((3, 500, width), dtype=np.uint8)
        band[:, :, width // 2 :] = 200
        for top in range(0, height, 500):
            file.write(band, window=((top, top + 500), (0, width)))
    command = [sys.executable, "-c", MEASURE, str(path), str(tmp_path / "labels.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 180
    with rasterio.open(tmp_path / "labels.png") as labels:
        assert (labels.height, labels.width) == (height, width)
        last = labels.read(1, window=((height - 1, height), (0, width)))[0]
    np.testing.assert_array_equal(last, np.arange(width) >= width // 2)
