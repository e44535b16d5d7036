"""Odd files of several bands as they come from cameras, GIS and microscopes: each is right, or named in one line."""

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from weakseg_lightning.data import BadSampleError
from weakseg_lightning.data.images.bands import bands_size, read_bands
from weakseg_lightning.data.images.described import describe_bands

SHAPE = (37, 53)
Writer = Callable[[Path], np.ndarray]


def noise(dtype: str, bands: int = 5, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Values of the whole range of a type, ``(bands, H, W)``."""
    rng = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        return rng.normal(0, 100, (bands, *shape)).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, (bands, *shape), dtype, endpoint=True)


def smooth(bands: int) -> np.ndarray:
    """Values of 8 bits that a lossy compression changes little."""
    ramp = np.add.outer(np.arange(SHAPE[0]), np.arange(SHAPE[1]))
    return np.stack([(2 * ramp + 9 * band) % 250 if band > 5 else ramp + 9 * band for band in range(bands)]).astype(
        "u1"
    )


def gdal(dtype: str, bands: int = 5, values: np.ndarray | None = None, mask: bool = False, **options) -> Writer:
    def write(path: Path) -> np.ndarray:
        rasterio = pytest.importorskip("rasterio")
        given = noise(dtype, bands) if values is None else values
        if "nbits" in options:
            given = given % 2 ** options["nbits"]
        kind = {"width": SHAPE[1], "height": SHAPE[0], "count": len(given), "dtype": given.dtype, "crs": "EPSG:32632"}
        transform = rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)
        with rasterio.open(path, "w", driver="GTiff", transform=transform, **kind, **options) as file:
            file.write(given)
            if mask:
                file.write_mask(np.ones(SHAPE, bool))
        return given

    return write


def tiff(values: np.ndarray, **options) -> Writer:
    def write(path: Path) -> np.ndarray:
        stored = np.moveaxis(values, 0, -1) if options.get("planarconfig") == "contig" else values
        tifffile.imwrite(path, stored, **{"photometric": "minisblack", **options})
        return values

    return write


def pyramid(ome: bool) -> Writer:
    """Levels in the directories below an image, as scanners of slides write them."""

    def write(path: Path) -> np.ndarray:
        values = noise("u2")
        with tifffile.TiffWriter(path, ome=ome) as file:
            file.write(values, subifds=2, photometric="minisblack", tile=(16, 16), metadata={"axes": "CYX"})
            for step in (2, 4):
                file.write(values[:, ::step, ::step], subfiletype=1, photometric="minisblack", tile=(16, 16))
        return values

    return write


def thumbnail_beside(path: Path) -> np.ndarray:
    values = noise("u2", 1)
    tifffile.imwrite(path, values[0], metadata=None)
    tifffile.imwrite(path, values[0, ::4, ::4], subfiletype=1, append=True, metadata=None)
    return values


def pillow(mode: str, **options) -> Writer:
    def write(path: Path) -> np.ndarray:
        values = noise("u1", len(Image.new(mode, (1, 1)).getbands()))
        if mode == "1":
            values = values > 127
        pixels = np.moveaxis(values, 0, -1)
        Image.fromarray(pixels[..., 0] if len(values) == 1 else pixels, mode if mode != "1" else None).save(
            path, **options
        )
        return values

    return write


def array(values: np.ndarray, expected: np.ndarray | None = None) -> Writer:
    def write(path: Path) -> np.ndarray:
        np.save(path, values)
        return values if expected is None else expected

    return write


RIGHT: dict[str, Writer] = {
    "strips of a row.tif": tiff(noise("u2"), planarconfig="contig", rowsperstrip=1),
    "one strip, separate.tif": tiff(noise("i2"), planarconfig="separate", rowsperstrip=37),
    "big, separate, tiled, the highest byte first.tif": tiff(
        noise("u2"), planarconfig="separate", tile=(16, 32), bigtiff=True, byteorder=">"
    ),
    "signed, differences, the highest byte first.tif": tiff(
        noise("i2"), planarconfig="contig", byteorder=">", compression="zlib", predictor=2
    ),
    "signed of 8 bits.tif": tiff(noise("i1")),
    "half floats.tif": tiff(noise("f2")),
    "of 64 bits.tif": tiff(noise("u8")),
    "signed of 32 bits, big.tif": tiff(noise("i4"), bigtiff=True),
    "imagej.tif": tiff(noise("u2"), imagej=True, metadata={"axes": "CYX"}),
    "imagej, floats.tif": tiff(noise("f4"), imagej=True, metadata={"axes": "CYX"}),
    "imagej, behind one head.tif": tiff(noise("u2"), imagej=True, metadata={"axes": "CYX"}, truncate=True),
    "behind one head, floats, the highest byte first.tif": tiff(noise("f4"), truncate=True, byteorder=">"),
    "turned by no orientation.tif": tiff(noise("u2"), extratags=[(274, 3, 1, 9, False)]),
    "a pyramid.tif": pyramid(ome=False),
    "a pyramid.ome.tif": pyramid(ome=True),
    "with a thumbnail.tif": thumbnail_beside,
    "lzw, differences.tif": gdal("u2", compress="lzw", predictor=2),
    "lzw, separate, big.tif": gdal("i2", compress="lzw", interleave="band", bigtiff="yes"),
    "float differences.tif": gdal("f4", compress="deflate", predictor=3),
    "double differences, tiled.tif": gdal(
        "f8", compress="deflate", predictor=3, tiled=True, blockxsize=16, blockysize=16
    ),
    "zstd.tif": gdal("u2", compress="zstd"),
    "lzma.tif": gdal("u2", compress="lzma"),
    "packbits of 8 bits.tif": gdal("u1", compress="packbits"),
    "of 12 bits.tif": gdal("u2", nbits=12),
    "of 3 bits, separate.tif": gdal("u1", nbits=3, interleave="band"),
    "with a mask.tif": gdal("u2", mask=True),
    "cmyk.tif": pillow("CMYK", compression="tiff_lzw"),
    "black and white, fax.tif": pillow("1", compression="group4"),
    "with opacity.tif": pillow("RGBA"),
    "gray with opacity.png": pillow("LA"),
    "with opacity.webp": pillow("RGBA", lossless=True, exact=True),
    "fortran.npy": array(np.asfortranarray(noise("u2"))),
    "a band of bands.npy": array(noise("u2", 1)),
    "the highest byte first.npy": array(noise("u2").astype(">u2"), noise("u2")),
    "64 bits.npy": array(noise("i8")),
    "truth.npy": array(noise("u1") > 99),
    "bands last.npy": array(np.moveaxis(noise("f4"), 0, -1), noise("f4")),
}


@pytest.mark.parametrize("name", RIGHT)
def test_odd_files_are_right(name, tmp_path):
    try:
        expected = RIGHT[name](tmp_path / name)
    except Exception as error:  # a build of GDAL without this compression
        if "compress" not in str(error).lower():
            raise
        pytest.skip(str(error))
    found = read_bands(tmp_path / name)
    assert found.dtype == expected.dtype
    assert np.array_equal(np.moveaxis(found, -1, 0), expected)
    assert bands_size(tmp_path / name) == SHAPE[::-1]


@pytest.mark.parametrize("bands", [1, 3])
def test_jpeg_in_tiff_is_read_as_far_as_it_is_exact(bands, tmp_path):
    options = {"photometric": "ycbcr"} if bands == 3 else {}
    expected = gdal("u1", values=smooth(bands), compress="jpeg", **options)(tmp_path / "a.tif")
    found = np.moveaxis(read_bands(tmp_path / "a.tif"), -1, 0).astype(int)
    assert np.abs(found - expected).max() < 16


# ---- what is named --------------------------------------------------------------------------------------------


def bytes_of(content: bytes) -> Writer:
    def write(path: Path) -> np.ndarray:
        path.write_bytes(content)
        return np.zeros(0)

    return write


def endless(path: Path) -> np.ndarray:
    """A TIFF whose directory is followed by itself, and lacks its tags."""
    path.write_bytes(struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<HHHIII", 1, 256, 4, 1, 9, 8))
    return np.zeros(0)


def greedy(path: Path) -> np.ndarray:
    """A TIFF with a tag that is larger than the file."""
    path.write_bytes(struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<HHHIII", 1, 273, 4, 2**31, 8, 0))
    return np.zeros(0)


def cut(written: Writer, size: int) -> Writer:
    def write(path: Path) -> np.ndarray:
        written(path)
        path.write_bytes(path.read_bytes()[:size])
        return np.zeros(0)

    return write


def sparse(path: Path) -> None:
    """Tiles of nothing are not stored."""
    values = noise("u2")
    values[:, :16, :16] = 0
    gdal("u2", values=values, tiled=True, blockxsize=16, blockysize=16, sparse_ok=True)(path)


def archive() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, a=noise("u2"))
    return stream.getvalue()


NAMED: dict[str, tuple[Writer, str]] = {
    "empty.tif": (bytes_of(b""), "is not an image that can be read"),
    "empty.npy": (bytes_of(b""), "is no array of NumPy (.npy): save one array with numpy.save"),
    "a pointer.npy": (bytes_of(b"version https://git-lfs.github.com/spec/v1"), "is no array of NumPy (.npy)"),
    "objects.npy": (array(np.array([[{}, {}]], dtype=object)), "holds objects of Python, expected numbers"),
    "sparse.tif": (sparse, "leaves out parts that have no data (a sparse file): save it without SPARSE_OK"),
    "one of five.tif": (
        cut(tiff(noise("u2"), imagej=True, metadata={"axes": "CYX"}, truncate=True), 9000),
        "holds 5 images by its description, of which one is found: save it with a page for each",
    ),
    "planes of stacks.tif": (
        tiff(noise("u2", 12).reshape(4, 3, *SHAPE), photometric="rgb", planarconfig="separate", truncate=True),
        "holds 4 images by its description, of which one is found",
    ),
    "a deep page.tif": (
        tiff(noise("u2"), volumetric=True, tile=(1, 16, 16), metadata=None),
        "is a volume of 5 slices in one page: save it with a page for each slice",
    ),
    "a folder.tif": (lambda path: path.mkdir(), "cannot be read"),
    "a link.tif": (lambda path: path.symlink_to("nowhere.tif"), "is missing"),
    "endless.tif": (endless, "cannot be read"),
    "greedy.tif": (greedy, "cannot be read (the file is truncated)"),
    "cut tags.tif": (cut(tiff(noise("u2")), 400), "cannot be read"),
    "cut.npy": (cut(array(noise("u2")), 500), "cannot be read"),
    "cut.png": (cut(pillow("LA"), 300), "cannot be read"),
    "archive.npy": (bytes_of(archive()), "is an archive (.npz): save one array with numpy.save"),
    "complex.npy": (array(noise("f4").astype("c8")), "holds complex64 of"),
    "text.npy": (array(np.array([["a", "b"]])), "holds <U1 of 1 x 2, expected numbers"),
    "records.npy": (array(np.zeros((4, 4), [("a", "u1")])), "expected numbers of 2 or 3 dimensions"),
    "dates.npy": (array(np.zeros((4, 4), "M8[s]")), "expected numbers"),
    "nothing.npy": (array(np.zeros((0, 4))), "holds float64 of 0 x 4"),
    "a number.npy": (array(np.array(3)), "holds int64 of a single number"),
    "complex.tif": (tiff(noise("f4").astype("c8")), "has pixels of a type that is not read"),
    "lossy.tif": (
        gdal("u1", values=smooth(5), compress="jpeg", interleave="band"),
        "save it as RGB or gray, with deflate",
    ),
    "lerc.tif": (gdal("f4", compress="lerc"), "save it"),
    "lab.tif": (pillow("LAB"), "has a compression or colors that are not read: save it as RGB or gray"),
    "palette of 4 bits.png": (lambda path: Image.new("P", (9, 9)).save(path, bits=4), "has a palette"),
    "an animation.gif": (lambda path: Image.new("P", (9, 9)).save(path), "has a palette"),
}


@pytest.mark.parametrize("name", NAMED)
def test_odd_files_are_named_in_one_line(name, tmp_path):
    write, message = NAMED[name]
    try:
        write(tmp_path / name)
    except Exception as error:  # a build of GDAL without this compression
        if "compress" not in str(error).lower():
            raise
        pytest.skip(str(error))
    with pytest.raises(BadSampleError) as caught:
        read_bands(tmp_path / name)
    told = str(caught.value)
    assert told.startswith(str(tmp_path / name))
    assert message in told
    assert "\n" not in told


def test_orientations_that_are_none_turn_nothing_and_are_not_talked_of(tmp_path, caplog):
    tiff(noise("u2"), extratags=[(274, 3, 1, 9, False)])(tmp_path / "a.tif")
    assert bands_size(tmp_path / "a.tif") == SHAPE[::-1]
    assert describe_bands(tmp_path / "a.tif").count == 5
    assert not caplog.records
