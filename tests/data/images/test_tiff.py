"""TIFFs of every depth, in whatever way they are stored; the writer, tifffile, shares nothing with the reader."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from by_hand import images, stretched
from PIL import Image

from weakseg_lightning.data import BadSampleError
from weakseg_lightning.data.images.reading import image_size, read_header, read_image

RANDOM = np.random.default_rng(0)
TYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64"]


def noise(dtype, *shape) -> np.ndarray:
    if np.dtype(dtype).kind == "f":
        return RANDOM.normal(0, 1, shape).astype(dtype)
    limits = np.iinfo(dtype)
    return RANDOM.integers(limits.min // 3, limits.max // 3, shape).astype(dtype)


def write(path, values, **options) -> None:
    """Gray or RGB by the shape, if nothing else is asked for."""
    options.setdefault("photometric", "rgb" if values.ndim == 3 and values.shape[-1] > 2 else "minisblack")
    tifffile.imwrite(path, values, **options)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "a.tif"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bands", [(), (3,)])
@pytest.mark.parametrize("dtype", TYPES)
def test_every_type_is_stretched_alike(path, dtype, bands, order):
    values = noise(dtype, 30, 41, *bands)
    write(path, values, byteorder=order)
    expected = values.reshape(30, 41, -1) if dtype == "uint8" else stretched(values)
    assert (images(path) == expected).all()


STORED = {
    "strips": {"rowsperstrip": 7},
    "one strip": {"rowsperstrip": 100},
    "tiles": {"tile": (32, 16)},
    "deflate": {"compression": "zlib", "rowsperstrip": 4},
    "differences": {"compression": "zlib", "predictor": True, "tile": (16, 16)},
    "lzma": {"compression": "lzma"},
    "bigtiff": {"bigtiff": True, "tile": (16, 32), "compression": "zlib"},
    "bigtiff from the highest byte": {"bigtiff": True, "byteorder": ">"},
    "differences from the highest byte": {"compression": "zlib", "predictor": True, "byteorder": ">"},
}


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32"])
@pytest.mark.parametrize("stored", STORED)
def test_however_it_is_stored(path, stored, dtype, planar):
    values = noise(dtype, 45, 53, 3)
    planes = np.moveaxis(values, -1, 0) if planar == "separate" else values
    tifffile.imwrite(path, planes, photometric="rgb", planarconfig=planar, **STORED[stored])
    expected = values if dtype == "uint8" else stretched(values)
    assert (images(path) == expected).all()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_low_values_may_be_bright(path, dtype):
    ramp = np.linspace(0, 200, 30 * 20).reshape(30, 20).astype(dtype)
    write(path, ramp)
    bright = images(path).astype(int)
    write(path, ramp, photometric="miniswhite")
    assert (images(path) == 255 - bright).all()


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("bands", [2, 4])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_what_is_transparent_is_white_and_the_rest_as_without(path, dtype, bands, planar):
    most = 1 if dtype == "float32" else np.iinfo(dtype).max
    values = (RANDOM.random((30, 20, bands)) * most / 2).astype(dtype)
    values[..., -1] = np.where(RANDOM.random((30, 20)) < 0.5, most, 0)
    planes = np.moveaxis(values, -1, 0) if planar == "separate" else values
    options = {"photometric": "rgb" if bands == 4 else "minisblack", "planarconfig": planar}
    tifffile.imwrite(path, planes, extrasamples=["unassalpha"], **options)
    colors = np.broadcast_to(values[..., :-1], (30, 20, 3))
    opaque = colors if dtype == "uint8" else stretched(values[..., :-1])
    assert (images(path) == np.where(values[..., -1:] > 0, opaque, 255)).all()
    # A band that is not said to be opacity is none.
    tifffile.imwrite(path, planes, extrasamples=["unspecified"], **options)
    assert (images(path) == opaque).all()


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_colors_may_be_multiplied_by_their_opacity(path, dtype):
    most = 1 if dtype == "float32" else 65535
    colors, opacity = RANDOM.random((30, 20, 3)), RANDOM.choice([0.25, 1], (30, 20, 1))
    expected = opacity * stretched(colors) + (1 - opacity) * 255
    values = (np.dstack([colors * opacity, opacity]) * most).astype(dtype)
    write(path, values, extrasamples=["assocalpha"])
    assert np.abs(images(path) - expected).max() <= 1.5


def test_three_bands_are_colors_whoever_wrote_them(path):
    values = noise("uint16", 20, 30, 3)
    write(path, values, photometric="minisblack", planarconfig="contig")
    assert (images(path) == stretched(values)).all()


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
@pytest.mark.parametrize(
    ("dtype", "bands", "options"),
    [
        ("uint8", (), {}),
        ("uint8", (3,), {}),
        ("uint8", (3,), {"compression": "zlib"}),
        ("uint16", (), {}),
        ("float32", (3,), {}),
    ],
)
def test_tiffs_stand_upright(path, dtype, bands, options, orientation, turns):
    values = noise(dtype, 21, 34, *bands)
    write(path, values, **options)
    lying = images(path)
    write(path, values, extratags=[(274, "H", 1, orientation, True)], **options)
    upright = np.rot90(lying, turns)
    assert (images(path) == upright).all()
    assert image_size(path) == upright.shape[1::-1]


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_one_value_everywhere_is_no_error(path, dtype):
    write(path, np.full((8, 9, 3), 7, dtype))
    assert np.unique(images(path)).size == 1


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("bands", [(), (3,)])
def test_what_is_no_number_is_named(path, wrong, bands):
    values = noise("float32", 8, 9, *bands)
    values[3, 4] = wrong
    write(path, values)
    with pytest.raises(BadSampleError, match=r"a\.tif cannot be read \(it holds pixels that are no numbers\)"):
        read_image(path)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("read", [read_image, image_size])
def test_many_bands_and_pages_are_named(path, tmp_path, dtype, read):
    tifffile.imwrite(path, noise(dtype, 8, 9, 5), photometric="minisblack", planarconfig="contig")
    with pytest.raises(BadSampleError, match=r"a\.tif has 5 bands, expected gray or RGB, .*, or convert it$"):
        read(path)
    tifffile.imwrite(tmp_path / "b.tif", noise(dtype, 3, 8, 9), photometric="minisblack")
    with pytest.raises(BadSampleError, match=r"b\.tif has 3 pages, expected one image: name their bands as `channels`"):
        read(tmp_path / "b.tif")


def test_reduced_copies_are_no_pages(path):
    values = noise("uint16", 40, 60)
    with tifffile.TiffWriter(path) as file:
        file.write(values)
        file.write(values[::2, ::2], subfiletype=1)
    assert (images(path) == stretched(values)).all()
    assert image_size(path) == (60, 40)


def test_types_and_compressions_that_are_not_read_are_named(path, tmp_path):
    write(path, noise("float32", 8, 9).astype(complex))
    with pytest.raises(BadSampleError, match=r"a\.tif has pixels of a type that is not read .*: convert it"):
        read_image(path)
    write(tmp_path / "b.tif", noise("uint16", 8, 9))
    with tifffile.TiffFile(tmp_path / "b.tif", mode="r+") as file:
        file.pages[0].tags["Compression"].overwrite(34887)
    with pytest.raises(BadSampleError, match=r"b\.tif has a compression \(number 34887\) .*: save it with none, LZW"):
        read_image(tmp_path / "b.tif")


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"tile": (16, 16)}])
def test_damage_is_named(path, options):
    write(path, noise("uint16", 60, 60, 3), **options)
    whole = path.read_bytes()
    for length in (3, 12, 200, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(BadSampleError, match=r"a\.tif (cannot be read|is not an image)"):
            read_image(path)


def test_what_cannot_be_decompressed_is_named(path):
    write(path, noise("uint16", 60, 60), compression="zlib")
    with tifffile.TiffFile(path) as file:
        start = file.pages[0].dataoffsets[0]
    content = bytearray(path.read_bytes())
    content[start : start + 4] = bytes(4)
    path.write_bytes(content)
    with pytest.raises(
        BadSampleError, match=r"a\.tif cannot be read \(its pixels cannot be decompressed with deflate\)"
    ):
        read_image(path)


def test_a_bomb_is_not_decoded(path, monkeypatch):
    write(path, noise("uint16", 8, 9))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)
    with pytest.raises(BadSampleError, match=r"a\.tif claims to be larger than any image"):
        read_image(path)
    assert (read_header(path).width, read_header(path).height) == (9, 8)
