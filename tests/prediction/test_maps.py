"""Label maps lie where their images do, and have no data where these have none."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from weakseg_lightning.data import BadSampleError
from weakseg_lightning.data.images.nodata import NODATA_COLOR
from weakseg_lightning.data.images.reading import read_image
from weakseg_lightning.prediction.maps import GeoTiff, is_map, replacing_map
from weakseg_lightning.prediction.rasters import MapRows, open_rows
from weakseg_lightning.prediction.regions import Region
from weakseg_lightning.prediction.segmenter import Segmenter
from weakseg_lightning.prediction.tiling import Span, spans
from weakseg_lightning.solvers import MeanField
from weakseg_lightning.visualization import voc_palette

sys.path.append(str(Path(__file__).parent))
from known_places import PIXEL, PLACES, chain, rasterio, transform_of, write_map

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # of rasterio itself

RANDOM = np.random.default_rng(0)
COLORS = RANDOM.integers(0, 256, (3, 90, 70), dtype=np.uint8)


def read_by_rows(path, **options):
    """Pixels and what is invalid, from overlapping rows."""
    with open_rows(path, **options) as image:
        assert isinstance(image, MapRows)
        size = image.height, image.width
        pixels, invalid = np.zeros((*size, 3), np.uint8), np.zeros(size, bool)
        for rows in spans(image.height, 32, 8):
            pixels[rows.start : rows.stop] = image.read(rows)
            invalid[rows.start : rows.stop] = image.invalid(rows)
        return pixels, invalid


def label(path, target, heights=(40, 1, 300), region=None):
    """Write bright pixels as class 1, by rows of some heights."""
    with (
        open_rows(path, region=region or Region()) as image,
        GeoTiff(target, image.width, image.height, voc_palette(), image.place, ["Wald", "See & <Fluß>"]) as file,
    ):
        first = 0
        for height in [*heights, *[200] * 9]:
            rows = Span(first, min(first + height, image.height))
            if rows.size > 0:
                file.write((image.read(rows)[..., 0] > 128).astype(np.uint8))
                first = rows.stop
    return target


ROTATED = "+proj=ob_tran +o_proj=longlat +o_lon_p=0 +o_lat_p=39.25 +lon_0=18 +R=6371229 +no_defs"


def test_a_coordinate_system_that_no_geotiff_holds_is_kept_beside_it(tmp_path):
    path, target = tmp_path / "a.tif", tmp_path / "labels.tif"
    write_map(path, COLORS, crs=rasterio.CRS.from_user_input(ROTATED))
    with replacing_map(target) as unfinished:
        label(path, unfinished)
    with rasterio.open(path) as image, rasterio.open(target) as labels:
        assert image.crs is not None
        assert labels.crs == image.crs
    assert {file.name for file in tmp_path.glob("*labels*")} == {"labels.tif", "labels.tif.aux.xml"}
    with pytest.raises(KeyError), replacing_map(tmp_path / "other.tif") as unfinished:
        {}[label(path, unfinished)]
    assert not list(tmp_path.glob("*other*"))
    with replacing_map(target) as unfinished:
        label(write_map(tmp_path / "b.tif", COLORS), unfinished)
    assert {file.name for file in tmp_path.glob("*labels*")} == {"labels.tif"}, "it would say another place"


def test_a_refinement_does_not_see_pixels_without_data(module, tmp_path):
    """What is stored there, and the color that the network sees in its place, change no probability elsewhere."""
    values = RANDOM.integers(1, 256, (3, 60, 70), dtype=np.uint8)
    values[:, 20:40, 30:60] = 0
    path = write_map(tmp_path / "a.tif", values, nodata=0)
    refinement = MeanField(iterations=2)
    segmenter = Segmenter(module, "cpu", refinement=refinement)
    with open_rows(path) as image:
        (block,) = segmenter.blocks(image)
    pixels = np.where(values.min(0)[..., None] == 0, NODATA_COLOR, values.transpose(1, 2, 0))
    seen = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        logits = module(seen.float())
    valid = torch.from_numpy(values.min(0) > 0)[None]
    expected, wrong = (refinement.refine(logits, seen.float(), mask)[0] for mask in (valid, None))
    torch.testing.assert_close(block.scores[:, valid[0]], expected[:, valid[0]], atol=1e-6, rtol=0)
    assert (wrong - expected)[:, valid[0]].abs().max() > 0.01


# ---- places -----------------------------------------------------------------------------------------------------


def one_bright_pixel(height=90, width=70):
    values = np.zeros((3, height, width), dtype=np.uint8)
    values[:, PIXEL[0], PIXEL[1]] = 255
    return values


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("window", [None, (30, 10, 17, 41)])
def test_a_known_point_keeps_its_coordinates(tmp_path, place, window):
    path = write_map(tmp_path / "a.tif", one_bright_pixel(), place)
    crs, point, _, shape = PLACES[place]
    with rasterio.open(label(path, tmp_path / "labels.tif", region=Region(window))) as labels:
        assert labels.crs == rasterio.CRS.from_user_input(crs)
        assert (labels.width, labels.height) == (window or (0, 0, 70, 90))[2:]
        rows, columns = np.nonzero(labels.read(1))
        assert len(rows) == 1
        assert labels.xy(rows[0], columns[0]) == pytest.approx(point, abs=1e-6 * abs(shape.determinant) ** 0.5)
        expected = chain(transform_of(place), rasterio.Affine.translation(*(window or (0, 0))[:2]))
        assert labels.transform.almost_equals(expected, precision=1e-6)


def test_files_are_tiled_compressed_and_named(tmp_path):
    path = write_map(tmp_path / "a.tif", np.zeros((3, 700, 600), np.uint8))
    with rasterio.open(label(path, tmp_path / "labels.tif")) as labels:
        assert labels.profile["tiled"]
        assert labels.compression.name == "deflate"
        assert (labels.dtypes, labels.nodata) == (("uint8",), 255)
        colors = labels.colormap(1)
        assert [colors[k][:3] for k in range(256)] == [tuple(color) for color in voc_palette().tolist()]
        assert [labels.tags()[f"CLASS_{k}"] for k in (0, 1)] == ["Wald", "See & <Fluß>"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.tif", "labels.tif"], "all of it is in the file"


@pytest.mark.parametrize("heights", [(700,), (1, 255, 256), (300, 300), (256, 1)])
def test_rows_may_come_in_any_number(tmp_path, heights):
    values = RANDOM.integers(0, 2, (1, 700, 300), dtype=np.uint8) * 255
    path = write_map(tmp_path / "a.tif", values)
    with rasterio.open(label(path, tmp_path / "labels.tif", heights)) as labels:
        np.testing.assert_array_equal(labels.read(1), values[0] > 0)
    sizes = [label(path, tmp_path / f"{len(given)}.tif", given).stat().st_size for given in (heights, (256,) * 2)]
    assert sizes[0] == sizes[1], "no tile was compressed twice"


def test_missing_rows_are_no_success(tmp_path):
    with (
        open_rows(write_map(tmp_path / "a.tif", COLORS)) as image,
        pytest.raises(ValueError, match="0 of 90 rows were written"),
        GeoTiff(tmp_path / "b.tif", 70, 90, voc_palette(), image.place, []),
    ):
        pass


def test_what_lies_on_no_map_is_read_as_before(tmp_path):
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        path = write_map(tmp_path / "a.tif", COLORS, crs=None, transform=None)
    (tmp_path / "notes.txt").write_text("no image")
    assert not is_map(path)
    assert not is_map(tmp_path / "notes.txt")
    with open_rows(path) as image:
        assert not isinstance(image, MapRows)


def test_a_transform_without_a_coordinate_system_is_kept(tmp_path):
    path = write_map(tmp_path / "a.tif", COLORS, crs=None)
    with rasterio.open(label(path, tmp_path / "labels.tif")) as labels:
        assert labels.crs is None
        assert labels.transform.almost_equals(transform_of("utm north"), precision=1e-6)


def test_a_mosaic_that_gdal_alone_knows(tmp_path):
    path = write_map(tmp_path / "a.tif", COLORS)
    with rasterio.open(path) as source, rasterio.vrt.WarpedVRT(source) as mosaic:
        pytest.importorskip("rasterio.shutil").copy(mosaic, tmp_path / "a.vrt", driver="VRT")
    np.testing.assert_array_equal(read_by_rows(tmp_path / "a.vrt")[0], np.moveaxis(COLORS, 0, -1))


# ---- data and no data --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("bands", [1, 3])
def test_pixels_are_those_that_training_reads(tmp_path, dtype, bands):
    path = write_map(tmp_path / "a.tif", (COLORS[:bands] * 5.0).astype(dtype))
    pixels, invalid = read_by_rows(path)
    np.testing.assert_array_equal(pixels, read_image(path).permute(1, 2, 0).numpy())
    assert not invalid.any()


HOLE = np.zeros((90, 70), bool)
HOLE[20:50, 10:40] = True


def with_hole(path, kind, stored):
    """An image without data in :data:`HOLE`, where ``stored`` is what the file holds."""
    dtype = "float32" if kind in ("nan", "finite nodata") else "uint8"
    values = np.clip(COLORS, 1, 255).astype(dtype)
    values[:, HOLE] = {"nodata": 0, "nan": np.nan, "finite nodata": -9999}.get(kind, stored)
    if kind == "alpha":
        opacity = np.where(HOLE, 0, 255).astype(np.uint8)[None]
        return write_map(path, np.concatenate([values, opacity]), photometric="RGB", alpha="YES")
    nodata = {"nodata": 0, "finite nodata": -9999}.get(kind)
    return write_map(path, values, mask=~HOLE if kind == "mask" else None, nodata=nodata)


@pytest.mark.parametrize("kind", ["nodata", "finite nodata", "nan", "alpha", "mask"])
def test_where_there_is_no_data_nothing_of_it_is_seen(tmp_path, kind):
    expected = with_hole(tmp_path / "a.tif", "none", 100)
    np.testing.assert_array_equal(read_by_rows(expected)[1], False)
    for stored in (0, 77):
        pixels, invalid = read_by_rows(with_hole(tmp_path / "b.tif", kind, stored))
        np.testing.assert_array_equal(invalid, HOLE)
        assert (pixels[HOLE] == NODATA_COLOR).all()
        if kind in ("nodata", "alpha", "mask"):
            np.testing.assert_array_equal(pixels[~HOLE], read_by_rows(expected)[0][~HOLE])


@pytest.mark.parametrize("kind", ["nan", "finite nodata"])
def test_the_range_is_that_of_the_data(tmp_path, kind):
    pixels, _ = read_by_rows(with_hole(tmp_path / "a.tif", kind, 0))
    valid = np.clip(COLORS, 1, 255)[:, ~HOLE].astype(float)
    dark, bright = np.percentile(valid, (0.1, 99.9))
    expected = np.round(255 * np.clip((valid - dark) / (bright - dark), 0, 1))
    np.testing.assert_array_equal(pixels[~HOLE], expected.T)


def test_an_image_without_any_data(tmp_path):
    path = write_map(tmp_path / "a.tif", np.full((3, 20, 30), np.nan, np.float32))
    pixels, invalid = read_by_rows(path)
    assert invalid.all()
    assert (pixels == NODATA_COLOR).all()


# ---- parts -------------------------------------------------------------------------------------------------------


def test_a_part_is_that_of_the_whole(tmp_path):
    deep = (COLORS * 200.0).astype(np.uint16)
    path = write_map(tmp_path / "a.tif", deep, nodata=0)
    whole, part = read_by_rows(path), read_by_rows(path, region=Region((30, 10, 17, 41)))
    for one, other in zip(whole, part, strict=True):
        np.testing.assert_array_equal(other, one[10:51, 30:47])


def test_a_part_that_cannot_be_read_is_named(tmp_path):
    path = write_map(tmp_path / "a.tif", RANDOM.integers(0, 256, (3, 600, 70), np.uint8), tiled=True)
    path.write_bytes(path.read_bytes()[:60000])
    with pytest.raises(BadSampleError, match=r"a\.tif cannot be read \(.*\): restore the file$"):
        read_by_rows(path, region=Region((0, 500, 70, 100)))


def test_without_rasterio_maps_are_named_and_photographs_read(tmp_path, monkeypatch):
    path = write_map(tmp_path / "a.tif", COLORS)
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        plain = write_map(tmp_path / "b.tif", COLORS, crs=None, transform=None)
    for name in [name for name in sys.modules if name.partition(".")[0] == "rasterio"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BadSampleError, match=r"a\.tif lies on a map, .*: pip install '\.\[raster\]'"), open_rows(path):
        pass
    with open_rows(plain) as image:
        np.testing.assert_array_equal(image.read(Span(0, 90)), np.moveaxis(COLORS, 0, -1))


def striped_map(path, height: int) -> Path:
    """Dark on the left, bright on the right, written incrementally."""
    options = {"transform": transform_of("utm north"), "crs": "EPSG:32633", "nodata": 0, "tiled": True}
    with rasterio.open(path, "w", "GTiff", 1024, height, 3, dtype="uint8", compress="deflate", **options) as file:
        band = np.full((3, 256, 1024), 90, dtype=np.uint8)
        band[:, :, 512:] = 200
        for top in range(0, height, 256):
            rows = min(256, height - top)
            file.write(band[:, :rows], window=((top, top + rows), (0, 1024)))
    return path


def test_memory_does_not_grow_with_the_height(tmp_path):
    """The second image has 57 MB more pixels; labeling it takes little more memory than labeling the first."""
    command = [sys.executable, str(Path(__file__).with_name("memory_of_rows.py"))]
    for height in (1500, 20000):
        command += [str(striped_map(tmp_path / f"{height}.tif", height)), str(tmp_path / f"labels{height}.tif")]
    # glibc keeps what is freed below a threshold, which it raises on its own: 15 to 60 MB, as it comes.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    low, high = map(int, done.stdout.split())
    assert high - low < 20
    with rasterio.open(tmp_path / "labels20000.tif") as labels:
        assert labels.height == 20000
        last = labels.read(1, window=((19999, 20000), (0, 1024)))[0]
    np.testing.assert_array_equal(last, np.arange(1024) >= 512)
