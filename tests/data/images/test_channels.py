"""Channels of images from files of many kinds, each right or named in one line."""

import re

import numpy as np
import pytest
import tifffile
from PIL import Image

from weakseg_lightning.data import BadSampleError
from weakseg_lightning.data.images.channels import ChannelFiles
from weakseg_lightning.errors import UserError

FIVE = ["red", "green", "blue", "nir", "swir"]


def values(dtype, *shape) -> np.ndarray:
    rng = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        return rng.normal(0, 1e4, shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def read(path, channels=FIVE) -> np.ndarray:
    files = ChannelFiles(channels)
    planes = np.stack(files.read(path))
    assert files.size(path) == planes.shape[:0:-1]
    return planes


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4", "f4", "f8"])
@pytest.mark.parametrize(
    "stored",
    [
        {"planarconfig": "separate"},
        {"planarconfig": "contig"},
        {"planarconfig": "contig", "tile": (16, 16)},
        {"planarconfig": "separate", "tile": (16, 16), "bigtiff": True},
        {"planarconfig": "contig", "bigtiff": True, "byteorder": ">"},
        {"planarconfig": "separate", "compression": "zlib", "predictor": 2},
        {},  # pages
    ],
)
def test_tiffs_however_they_are_stored(tmp_path, dtype, stored):
    if np.dtype(dtype).kind == "f":
        stored = {name: value for name, value in stored.items() if name != "predictor"}
    given = values(dtype, 5, 37, 21)
    contig = stored.get("planarconfig") == "contig"
    tifffile.imwrite(
        tmp_path / "a.tif", np.moveaxis(given, 0, -1) if contig else given, photometric="minisblack", **stored
    )
    found = read(tmp_path / "a.tif")
    assert found.dtype == np.dtype(dtype)
    assert np.array_equal(found, given)


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4"])
@pytest.mark.parametrize("options", [{"compress": "lzw"}, {"compress": "lzw", "tiled": True}, {"compress": "packbits"}])
def test_tiffs_as_gdal_writes_them(tmp_path, dtype, options):
    rasterio = pytest.importorskip("rasterio")
    given = values(dtype, 5, 48, 33)
    size = {"blockxsize": 16, "blockysize": 16} if options.get("tiled") else {}
    kind = {"driver": "GTiff", "width": 33, "height": 48, "count": 5, "dtype": given.dtype, "crs": "EPSG:32632"}
    transform = rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)
    with rasterio.open(tmp_path / "a.tif", "w", **kind, **options, **size, transform=transform) as file:
        file.write(given)
        file.build_overviews([2, 4])  # a pyramid, whose levels are marked as reduced copies
    assert np.array_equal(read(tmp_path / "a.tif"), given)


def test_ome_tiff(tmp_path):
    given = values("u2", 5, 37, 21)
    names = {"axes": "CYX", "Channel": {"Name": FIVE}}
    tifffile.imwrite(tmp_path / "a.ome.tif", given, ome=True, metadata=names)
    assert np.array_equal(read(tmp_path / "a.ome.tif"), given)


def test_jpeg_in_tiff(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    given = np.broadcast_to(np.arange(48, dtype=np.uint8)[None, :, None] * 4, (3, 48, 64)).copy()
    kind = {"driver": "GTiff", "width": 64, "height": 48, "count": 3, "dtype": "uint8", "photometric": "ycbcr"}
    with rasterio.open(tmp_path / "a.tif", "w", **kind, compress="jpeg", crs="EPSG:3857",
                       transform=rasterio.Affine(2, 0, 9, 0, -2, 9)) as file:  # fmt: skip
        file.write(given)
    assert np.abs(read(tmp_path / "a.tif", FIVE[:3]).astype(int) - given).max() < 12


def test_jpeg_in_tiff_of_five_bands_is_named(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    kind = {"driver": "GTiff", "width": 64, "height": 48, "count": 5, "dtype": "uint8"}
    kind |= {"compress": "jpeg", "interleave": "band"}
    with rasterio.open(tmp_path / "a.tif", "w", **kind, crs="EPSG:3857",
                       transform=rasterio.Affine(2, 0, 9, 0, -2, 9)) as file:  # fmt: skip
        file.write(values("u1", 5, 48, 64))
    with pytest.raises(BadSampleError, match=r"a\.tif .*: save it"):
        ChannelFiles(FIVE).read(tmp_path / "a.tif")


@pytest.mark.parametrize("shape", [(5, 37, 21), (37, 21, 5), (5, 8, 8), (4, 4, 5), (5, 4, 4)])
@pytest.mark.parametrize("dtype", ["u2", ">i4", "f2", "?"])
def test_arrays(tmp_path, shape, dtype):
    given = values("u1", *shape).astype(dtype)
    np.save(tmp_path / "a.npy", given)
    found = read(tmp_path / "a.npy")
    assert np.array_equal(found, given if shape[0] == 5 else np.moveaxis(given, -1, 0)), "(H, W, bands) but for 5 first"
    assert found.dtype.isnative


@pytest.mark.parametrize(("suffix", "mode", "bands"), [("png", "RGBA", 4), ("jpg", "L", 1), ("webp", "RGB", 3)])
def test_ordinary_files(tmp_path, suffix, mode, bands):
    image = Image.new(mode, (21, 37), tuple(range(10, 10 + bands)) if bands > 1 else 10)
    image.save(tmp_path / f"a.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
    found = read(tmp_path / f"a.{suffix}", FIVE[:bands])
    assert [int(plane.mean().round()) for plane in found] == list(range(10, 10 + bands))


def test_deep_png_keeps_its_range(tmp_path):
    given = values("u2", 37, 21)
    Image.fromarray(given).save(tmp_path / "a.png")
    assert np.array_equal(read(tmp_path / "a.png", ["depth"])[0], given)


def test_images_stand_upright(tmp_path):
    given = values("u2", 5, 37, 21)
    for number in range(5):
        tifffile.imwrite(tmp_path / "a.tif", given[number], append=number > 0,
                         extratags=[(274, 3, 1, 6, True)], metadata=None)  # fmt: skip
    assert np.array_equal(read(tmp_path / "a.tif"), np.rot90(given, -1, (1, 2)))


def test_channels_in_several_files(tmp_path):
    given = values("u2", 3, 37, 21)
    tifffile.imwrite(tmp_path / "a.tif", np.moveaxis(given, 0, -1), photometric="rgb")
    near, far = values("f4", 37, 21), values("i2", 2, 37, 21)
    np.save(tmp_path / "a_nir.npy", near)
    tifffile.imwrite(tmp_path / "a_swir.tif", far)
    chosen = {"nir": "NAME_nir.npy", "green": 2, "swir": "NAME_swir.tif:2"}
    planes = ChannelFiles(chosen).read(tmp_path / "a.tif")
    assert all(map(np.array_equal, planes, (near, given[1], far[1])))
    files = ChannelFiles(chosen)
    assert [path.name for path in sorted(tmp_path.iterdir()) if files.is_image(path)] == ["a.tif"]
    alone = ChannelFiles({"nir": "NAME_nir.npy", "swir": "NAME_swir.tif:1"})
    assert [path.name for path in sorted(tmp_path.iterdir()) if alone.is_image(path)] == ["a_nir.npy"]
    assert alone.stem(tmp_path / "a_nir.npy") == "a"
    assert [file.name for file in files.files(tmp_path / "a.tif")] == ["a.tif", "a_nir.npy", "a_swir.tif"]


def broken(folder) -> dict[str, tuple[object, str]]:
    """Files by name: the channels that are asked for, and the message."""
    five, mixed = values("f4", 5, 37, 21), values("u2", 4, 37, 21)
    five[2, 3, 4:6] = np.finfo("f4").min
    tifffile.imwrite(folder / "lowest.tif", five, photometric="minisblack")
    five[2, 3, 4:6] = np.nan, np.inf
    tifffile.imwrite(folder / "nan.tif", five, photometric="minisblack")
    tifffile.imwrite(folder / "four.tif", mixed, photometric="minisblack")
    tifffile.imwrite(folder / "lone.tif", mixed[0])
    tifffile.imwrite(folder / "small_nir.tif", mixed[0, :, :5])
    tifffile.imwrite(folder / "small.tif", mixed[0])
    tifffile.imwrite(folder / "pages.tif", mixed[0])
    tifffile.imwrite(folder / "pages.tif", mixed[0, ::2, ::2], append=True)
    tifffile.imwrite(folder / "types.tif", mixed[0])
    tifffile.imwrite(folder / "types.tif", mixed[0].astype("f4"), append=True)
    tifffile.imwrite(folder / "complex.tif", mixed[0].astype("c8"))
    tifffile.imwrite(folder / "cut.tif", mixed, photometric="minisblack")
    (folder / "cut.tif").write_bytes((folder / "cut.tif").read_bytes()[:-400])
    (folder / "text.tif").write_text("no image")
    (folder / "text.npy").write_text("no array")
    np.save(folder / "objects.npy", np.array([{"a": 1}]), allow_pickle=True)
    np.save(folder / "deep.npy", np.zeros((2, 2, 2, 2)))
    Image.new("P", (21, 37)).save(folder / "palette.tif")
    Image.new("P", (21, 37)).save(folder / "palette.png")
    return {
        "nan.tif": (FIVE, "holds 2 pixels without a number in the channel 'blue'"),
        "lowest.tif": (FIVE, "holds 2 pixels of -3.403e+38 in the channel 'blue': if that means no data, declare it"),
        "four.tif": (FIVE, "has 4 bands, `channels` names 5"),
        "lone.tif": ({"a": 1, "nir": "NAME_nir.tif"}, "lacks the file of its channel 'nir', lone_nir.tif"),
        "small.tif": ({"a": 1, "nir": "NAME_nir.tif"}, "small_nir.tif has 5 x 37 pixels, small.tif 21 x 37"),
        "pages.tif": (["a", "b"], "pages of different sizes (21 x 37 and 11 x 19)"),
        "types.tif": (["a", "b"], "pages of different types"),
        "complex.tif": (["a"], "pixels of a type that is not read"),
        "cut.tif": (FIVE[:4], "cannot be read (the file is truncated)"),
        "text.tif": (["a"], "is not an image that can be read"),
        "text.npy": (["a"], "is no array of NumPy"),
        "objects.npy": (["a"], "holds objects of Python"),
        "deep.npy": (["a"], "expected numbers of 2 or 3 dimensions"),
        "palette.tif": (["a"], "has a palette"),
        "palette.png": (["a"], "has a palette"),
        "absent.tif": (["a"], "is missing"),
        "absent.npy": (["a"], "is missing"),
    }


def test_what_cannot_be_read_is_named_in_one_line(tmp_path):
    for name, (channels, message) in broken(tmp_path).items():
        with pytest.raises(BadSampleError, match=re.escape(message)) as caught:
            ChannelFiles(channels).read(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert str(tmp_path / name.partition(".")[0]) in str(caught.value)


def test_bands_that_a_file_names_in_another_order_are_told(tmp_path):
    """Channels may have names of their own; a name of the file on another band is a mistake of somebody."""
    values = np.random.default_rng(0).integers(0, 99, (3, 8, 8)).astype("u2")
    tags = {"axes": "CYX", "Labels": ["red", "nir", "blue"]}
    tifffile.imwrite(tmp_path / "a.tif", values, imagej=True, metadata=tags)
    for right in (["red", "nir", "blue"], {"nir": 2, "blue": 3}, ["one", "two", "three"], {"heat": 3, "nir": 2}):
        found = ChannelFiles(right).read(tmp_path / "a.tif")
        assert len(found) == len(right)
    for lacking in (["red", "nir", "blue", "swir"], {"red": 1, "blue": 4}):
        with pytest.raises(
            BadSampleError, match=r"a\.tif has 3 bands, (`channels` names 4|the channel 'blue' is number 4)"
        ):
            ChannelFiles(lacking).read(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "b.tif", values[0])
    tifffile.imwrite(
        tmp_path / "b_nir.tif", values[:2], imagej=True, metadata={"axes": "CYX", "Labels": ["heat", "nir"]}
    )
    with pytest.raises(BadSampleError, match=r"has 2 bands, expected one: choose one, as NAME_nir\.tif:1"):
        ChannelFiles({"gray": 1, "nir": "NAME_nir.tif"}).read(tmp_path / "b.tif")
    message = r"a\.tif calls its band 2 'nir', and 'blue' its band 3, but `channels` takes 'blue' from band 2: bring"
    for wrong in (["red", "blue", "nir"], {"blue": 2}):
        with pytest.raises(BadSampleError, match=message):
            ChannelFiles(wrong).read(tmp_path / "a.tif")


def test_a_band_that_is_not_there_is_named(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 8, 8)))
    with pytest.raises(BadSampleError, match=r"a\.npy has 2 bands, the channel 'nir' is number 4"):
        ChannelFiles({"red": 1, "nir": 4}).read(tmp_path / "a.npy")
    np.save(tmp_path / "a_nir.npy", np.zeros((2, 8, 8)))
    with pytest.raises(BadSampleError, match=r"has 2 bands, expected one: choose one, as NAME_nir\.npy:1"):
        ChannelFiles({"red": 1, "nir": "NAME_nir.npy"}).read(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "one channel or more"),
        (["a", "b", "a"], "names 'a' twice"),
        ({"a": 0}, "counted from 1, got 0"),
        ({"a": "NAME_nir.tif:0"}, "counted from 1"),
        ({"a": "_nir.tif"}, "must be a band, as 4, or a file"),
        ({"a": "NAME_nir.doc"}, "must be a band, as 4, or a file"),
        ({"a": "NAME/nir.tif"}, "must be a band, as 4, or a file"),
    ],
)
def test_channels_that_mean_nothing_are_named(given, message):
    with pytest.raises(UserError, match=message):
        ChannelFiles(given)
