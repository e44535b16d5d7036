"""Rows of a file are those of the image, however it is stored; memory does not grow with the image."""

import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from weakseg_lightning.data import BadSampleError
from weakseg_lightning.data.images.reading import read_image
from weakseg_lightning.prediction.rasters import open_rows
from weakseg_lightning.prediction.tiling import Span, spans

sys.path.append(str(Path(__file__).parents[1] / "data" / "images"))
from by_hand import BANDS, GRAY, PALETTE, RGB, chunk, turned, write_png

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


RGB_IMAGE = Image.fromarray(COLORS)
KINDS = {
    "rgb.png": (RGB_IMAGE, {}),
    "rgb.jpg": (RGB_IMAGE, {"quality": 95, "subsampling": 0}),
    "rgb.tif": (RGB_IMAGE, {"compression": "tiff_lzw"}),
    "rgb.bmp": (RGB_IMAGE, {}),
    "gray.png": (Image.fromarray(COLORS[..., 0]), {}),
    "palette.png": (RGB_IMAGE.quantize(200), {}),
    "transparent.png": (Image.fromarray(np.dstack([COLORS, RANDOM.integers(0, 256, (90, 70), np.uint8)])), {}),
    "gray16.png": (Image.fromarray(SMOOTH), {}),
}


def stored(tmp_path, name: str) -> Path:
    """A file of a kind."""
    image, options = KINDS[name]
    image.save(tmp_path / name, **options)
    return tmp_path / name


@pytest.mark.parametrize("name", KINDS)
def test_a_large_file_is_read_as_a_small_one(tmp_path, name):
    path = stored(tmp_path, name)
    expected = read_image(path).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(by_rows(path, in_memory=10**6), expected)
    # There are two decoders of JPEG.
    np.testing.assert_allclose(by_rows(path, in_memory=0).astype(int), expected, rtol=0, atol=4 if "jpg" in name else 0)


# ---- depths, and what bands mean --------------------------------------------------------------------------------


def same(path) -> np.ndarray:
    """Pixels of a file read at once, the same as those read by rows."""
    expected = read_image(path).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(by_rows(path, in_memory=0), expected)
    return expected


def assert_same(path, expected) -> None:
    """Read at once and by rows, a file has these pixels, whose bands may be one."""
    found = same(path)
    np.testing.assert_array_equal(found, np.broadcast_to(expected, found.shape))


def stretched(values) -> np.ndarray:
    dark, bright = np.percentile(values.astype(float), (0.1, 99.9))
    return np.moveaxis(np.round(255 * np.clip((values - dark) / (bright - dark), 0, 1)), 0, -1)


def write_raster(path, values, driver="GTiff", **options) -> None:
    count, height, width = values.shape
    with rasterio.open(path, "w", driver, width, height, count, dtype=values.dtype.name, **options) as file:
        file.write(values)


def noise(dtype, bands: int) -> np.ndarray:
    if dtype.startswith("float"):
        return RANDOM.normal(0, 1, (bands, 90, 70)).astype(dtype)
    limits = np.iinfo(dtype)
    return RANDOM.integers(limits.min // 3, limits.max // 3, (bands, 90, 70)).astype(dtype)


TILED = {"tiled": True, "blockxsize": 32, "blockysize": 16}
STORED = [
    {"compress": "LZW"},
    {"compress": "LZW", "predictor": 2, **TILED},
    {"compress": "DEFLATE", "predictor": 2, "interleave": "band"},
    {"compress": "PACKBITS", "blockysize": 7},
    {"compress": "LZMA", "interleave": "band", "tiled": True, "blockxsize": 16, "blockysize": 48},
    {"BIGTIFF": "YES", "blockysize": 5},
]
DIFFERENCES = [{"compress": "LZW", "predictor": 3}, {"compress": "LZW", "predictor": 3, **TILED}]
DTYPES = ["uint16", "int16", "uint32", "int32", "float32", "float64"]


@pytest.mark.parametrize(
    ("dtype", "bands", "options"), [*product(DTYPES, (1, 3), STORED), *product(DTYPES[4:], (3,), DIFFERENCES)]
)
def test_deep_images_are_stretched_however_they_are_stored(tmp_path, dtype, bands, options):
    values = noise(dtype, bands)
    write_raster(tmp_path / "a.tif", values, **options)
    assert_same(tmp_path / "a.tif", stretched(values))


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_numbers_of_bits_between_bytes(tmp_path, bits):
    values = RANDOM.integers(0, 2**bits, (3, 90, 70)).astype("uint16")
    write_raster(tmp_path / "a.tif", values, nbits=bits)
    assert_same(tmp_path / "a.tif", stretched(values))


@pytest.mark.filterwarnings("ignore:.* bands, of which the network sees")
@pytest.mark.parametrize("alpha", ["YES", "PREMULTIPLIED", "NO"])
@pytest.mark.parametrize("bands", [2, 4])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_opacity_is_what_the_file_says_it_is(tmp_path, dtype, bands, alpha, interleave):
    values = noise(dtype, bands)
    photometric = "RGB" if bands == 4 else "MINISBLACK"
    write_raster(tmp_path / "a.tif", values, alpha=alpha, interleave=interleave, photometric=photometric)
    if alpha == "NO":
        assert_same(tmp_path / "a.tif", np.moveaxis(values[:-1], 0, -1) if dtype == "uint8" else stretched(values[:-1]))
    found = same(tmp_path / "a.tif")
    if alpha == "YES":
        assert found[values[-1] < np.iinfo(dtype).max / 50].min() > 245


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_low_values_of_deep_images_may_be_bright(tmp_path, dtype):
    values = noise(dtype, 1)
    tifffile.imwrite(tmp_path / "a.tif", values[0], photometric="miniswhite")
    assert_same(tmp_path / "a.tif", 255 - stretched(values))


def test_gray_with_opacity_and_more_is_gray(tmp_path):
    """So does GDAL mark four bands that are not said to be colors."""
    values = noise("uint16", 4)
    values[1] = 65535
    write_raster(tmp_path / "a.tif", values, alpha="YES", photometric="MINISBLACK")
    assert_same(tmp_path / "a.tif", stretched(values[:1]))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("photometric", ["MINISBLACK", "MINISWHITE"])
def test_gray_of_few_bits_spans_black_to_white(tmp_path, bits, photometric):
    values = RANDOM.integers(0, 2**bits, (1, 90, 70)).astype("uint8")
    write_raster(tmp_path / "a.tif", values, nbits=bits, photometric=photometric)
    bright = values[0] * (255 // (2**bits - 1))
    assert_same(tmp_path / "a.tif", (bright if photometric == "MINISBLACK" else 255 - bright)[..., None])


@pytest.mark.parametrize(
    ("kind", "depth"), [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16), (3, 2), (3, 8), (4, 16), (6, 16)]
)
@pytest.mark.parametrize("transparent", [False, True])
def test_pngs_of_every_kind_are_read_alike(tmp_path, kind, depth, transparent):
    values = RANDOM.integers(0, 2**depth, (90, 70, BANDS[kind]))
    before = chunk(b"PLTE", RANDOM.bytes(3 * 2**depth)) if kind == PALETTE else b""
    if transparent and kind == PALETTE:
        before += chunk(b"tRNS", RANDOM.bytes(2**depth))
    elif transparent and kind in (GRAY, RGB):
        before += chunk(b"tRNS", values[40, 40].astype(">u2").tobytes())
    write_png(tmp_path / "a.png", values, depth, kind, before)
    found = same(tmp_path / "a.png")
    if transparent and kind in (GRAY, RGB):
        assert found[40, 40].tolist() == [255, 255, 255]


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_large_deep_files_stand_upright_too(tmp_path, orientation):
    values = RANDOM.integers(0, 4096, (90, 70, 3))
    write_png(tmp_path / "a.png", values, 16, RGB)
    lying = same(tmp_path / "a.png")
    for before, after in ((turned(orientation), b""), (b"", turned(orientation))):
        write_png(tmp_path / "a.png", values, 16, RGB, before, after)
        assert_same(tmp_path / "a.png", np.rot90(lying, {3: 2, 6: 3, 8: 1}[orientation]))


@pytest.mark.filterwarnings("ignore:.* bands, of which the network sees")
@pytest.mark.parametrize("in_memory", [0, 10**6])
def test_what_cannot_be_read_is_named_at_any_size(tmp_path, in_memory):
    values = noise("float32", 3)
    values[1, 80, 60] = np.nan
    write_raster(tmp_path / "a.tif", values)
    with pytest.raises(BadSampleError, match=r"a\.tif cannot be read \(it holds pixels that are no numbers\)"):
        by_rows(tmp_path / "a.tif", in_memory)
    write_raster(tmp_path / "b.tif", noise("uint16", 5))
    with pytest.raises(BadSampleError, match=r"b\.tif has 5 bands, expected gray or RGB, .*convert it$"):
        by_rows(tmp_path / "b.tif", in_memory)
    pages = [Image.new("L", (8, 8))] * 2
    pages[0].save(tmp_path / "c.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(BadSampleError, match=r"c\.tif has 2 pages, expected one image: name their bands"):
        by_rows(tmp_path / "c.tif", in_memory)


def test_deep_jpeg_2000_in_color(tmp_path):
    values = (np.add.outer(np.arange(90), np.arange(70)) * 20 * np.array([3, 2, 1])[:, None, None]).astype("uint16")
    write_raster(tmp_path / "a.jp2", values, driver="JP2OpenJPEG", QUALITY=100, REVERSIBLE="YES")
    assert_same(tmp_path / "a.jp2", stretched(values))


def test_a_range_is_found_in_a_reduced_copy_of_large_images(tmp_path):
    values = np.linspace(500, 3500, 1300 * 1100).reshape(1, 1300, 1100).astype("uint16")
    write_raster(tmp_path / "a.tif", values)
    found = by_rows(tmp_path / "a.tif", in_memory=0)[..., 0].astype(int)
    assert np.abs(found - stretched(values)[..., 0]).max() <= 1


# ---- what else ---------------------------------------------------------------------------------------------------


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


def test_a_file_without_a_place_on_a_map_is_read(tmp_path):
    write_raster(tmp_path / "a.tif", np.zeros((3, 8, 8), dtype=np.uint8))
    with open_rows(tmp_path / "a.tif", in_memory=0) as image:
        assert not image.read(Span(0, 8)).any()


def test_memory_does_not_grow_with_the_height(tmp_path):
    """2,400 x 30,000 pixels are 216 MB; less than half of it is added to the process."""
    width, height, path = 2400, 30000, tmp_path / "large.tif"
    options = {"driver": "GTiff", "width": width, "height": height, "count": 3, "dtype": "uint8", "compress": "deflate"}
    with rasterio.open(path, "w", **options) as file:
        band = np.zeros((3, 500, width), dtype=np.uint8)
        band[:, :, width // 2 :] = 200
        for top in range(0, height, 500):
            file.write(band, window=((top, top + 500), (0, width)))
    command = [
        sys.executable,
        str(Path(__file__).with_name("memory_of_rows.py")),
        str(path),
        str(tmp_path / "labels.png"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 108
    with rasterio.open(tmp_path / "labels.png") as labels:
        assert (labels.height, labels.width) == (height, width)
        last = labels.read(1, window=((height - 1, height), (0, width)))[0]
    np.testing.assert_array_equal(last, np.arange(width) >= width // 2)


@pytest.mark.parametrize(("bands", "read"), [(2, "gray"), (4, "red, green and blue")])
@pytest.mark.parametrize("in_memory", [0, 10**6])
def test_a_band_that_is_left_out_is_told(tmp_path, bands, read, in_memory):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(
        tmp_path / "a.tif", np.zeros((bands, 20, 30), np.uint16), photometric="minisblack", planarconfig="separate"
    )
    with (
        pytest.warns(UserWarning, match=rf"a\.tif has {bands} bands, of which the network sees {bands - 1}, as {read}"),
        open_rows(tmp_path / "a.tif", in_memory),
    ):
        pass
