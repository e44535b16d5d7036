"""Rasters are read however they are stored."""

import re

import numpy as np
import pytest
from map_folders import corner, data_of, raster, rasterio, write_raster

from weakseg_lightning.data import BadSampleError
from weakseg_lightning.data.maps.inspection import describe_maps

TILED = {"tiled": True, "blockxsize": 64, "blockysize": 32}
STORED = {
    "strips": {"blockysize": 7},
    "tiled": TILED,
    "LZW": {"compress": "lzw", "predictor": 2},
    "deflate in tiles": {"compress": "deflate", **TILED},
    "zstd": {"compress": "zstd"},
    "planar": {"interleave": "band"},
    "planar in tiles": {"interleave": "band", "compress": "lzw", **TILED},
    "BigTIFF": {"BIGTIFF": "YES"},
    "big-endian": {"ENDIANNESS": "BIG"},
    "JPEG": {"compress": "jpeg", "photometric": "ycbcr", "tiled": True, "blockxsize": 64, "blockysize": 64},
    "JPEG in RGB": {"compress": "jpeg", "photometric": "rgb", "JPEG_QUALITY": 90},
    "sparse": {"SPARSE_OK": "TRUE", **TILED},
}


def assert_trains(root, stored, tolerance=0) -> None:
    """A batch is made, and all tiles are those of the whole raster."""
    data = data_of(root, crop_size=24, batch_size=2)
    batch = next(iter(data.train_dataloader()))
    assert (batch["image"].shape, (batch["seeds"] < 255).any()) == ((2, 3, 24, 24), True)
    source = data._source("train")
    for index in range(len(source)):
        sample = source[index]
        left, top = corner({"id": sample.id})
        part = stored[:, top : top + 48, left : left + 48].astype(int)
        seen = sample.valid.numpy()
        assert np.abs(sample.image.numpy().astype(int) - part)[:, seen].mean() <= tolerance


def mosaic() -> str:
    """Two files side by side, as gdalbuildvrt writes them."""

    def part(name: str, left: int, width: int, band: int) -> str:
        return (
            f'<SimpleSource><SourceFilename relativeToVRT="1">../{name}.tif</SourceFilename><SourceBand>{band}'
            f'</SourceBand><SrcRect xOff="0" yOff="0" xSize="{width}" ySize="96"/>'
            f'<DstRect xOff="{left}" yOff="0" xSize="{width}" ySize="96"/></SimpleSource>'
        )

    bands = [
        f'<VRTRasterBand dataType="Byte" band="{band}">{part("left", 0, 50, band)}{part("right", 50, 46, band)}'
        "</VRTRasterBand>"
        for band in (1, 2, 3)
    ]
    place = "<SRS>EPSG:32633</SRS><GeoTransform>500000, 10, 0, 5000000, 0, -10</GeoTransform>"
    return f'<VRTDataset rasterXSize="96" rasterYSize="96">{place}{"".join(bands)}</VRTDataset>'


@pytest.mark.parametrize("name", STORED)
def test_tiffs_of_every_kind_train(make_maps, name):
    plain = raster(make_maps(side=96) / "images/a.tif")
    root = make_maps(side=96, **STORED[name])
    assert_trains(root, plain, 20 if "JPEG" in name else 0)


def test_pyramids_are_read_at_full_resolution(make_maps):
    root = make_maps(side=96, **TILED)
    plain = raster(root / "images/a.tif")
    with rasterio.open(root / "images/a.tif", "r+") as file:
        file.build_overviews([2, 4], rasterio.enums.Resampling.average)
    with rasterio.open(root / "images/a.tif") as file:
        assert file.overviews(1) == [2, 4]
    assert_trains(root, plain)


def test_a_mosaic_of_files_is_one_raster(make_maps):
    root = make_maps(side=96)
    plain = raster(root / "images/a.tif")
    (root / "images/a.tif").unlink()
    for name, left, width in (("left", 0, 50), ("right", 50, 46)):
        where = rasterio.Affine(10, 0, 500000 + 10 * left, 0, -10, 5000000)
        write_raster(root / f"{name}.tif", plain[:, :, left : left + width], transform=where)
    (root / "images/a.vrt").write_text(mosaic())
    assert_trains(root, plain)


def test_palettes_are_named(make_maps):
    root = make_maps(side=96, masks=())
    with rasterio.open(root / "images/a.tif") as file:
        profile = file.profile | {"count": 1, "photometric": "palette"}
    with rasterio.open(root / "images/a.tif", "w", **profile) as file:
        file.write(np.zeros((1, 96, 96), np.uint8))
        file.write_colormap(1, {0: (255, 0, 0)})
    with pytest.raises(ValueError, match=r"a\.tif: has a palette: expand it to RGB, as by gdal_translate -expand rgb"):
        data_of(root)


@pytest.mark.parametrize("numbers", [(0, 0, 5e5, 0, 0, 5e6), (10, 5, 5e5, -20, -10, 5e6), (np.nan, 0, 5e5, 0, 1, 5e6)])
@pytest.mark.parametrize("channels", [None, ["red", "green", "blue"]])
def test_a_transform_without_area_is_named(make_maps, numbers, channels):
    root = make_maps(side=96, masks=(), transform=rasterio.Affine(*numbers))
    _, (problem,) = describe_maps(root, channels)
    assert problem.file == "images/a.tif"
    assert re.fullmatch(r"has the transform \(.*\), in which pixels have no area: give it another, .*", problem.text)
    with pytest.raises(BadSampleError, match=r"images/a\.tif: has the transform .* pixels have no area"):
        data_of(root, channels=channels)


@pytest.mark.parametrize("dtype", ["complex64", "complex_int16"])
def test_complex_numbers_are_named(make_maps, dtype):
    root = make_maps(side=96, masks=())
    values = raster(root / "images/a.tif")
    with rasterio.open(root / "images/a.tif") as file:
        profile = file.profile | {"dtype": dtype}
    for name, count, channels in [("a", 3, ["red", "green", "blue"]), ("a_sar", 1, {"red": 1, "sar": "NAME_sar.tif"})]:
        write_raster(root / "images/a.tif", values)
        with rasterio.open(root / f"images/{name}.tif", "w", **profile | {"count": count}) as file:
            file.write((values[:count] * (1 + 2j)).astype("complex64"))
        _, (problem,) = describe_maps(root, channels)
        assert problem.file == "images/a.tif"
        assert problem.text.removeprefix(str(root / "images/a_sar.tif ")) == (
            f"has bands of {dtype}, expected real numbers: store amplitude or phase as bands"
        )
        with pytest.raises(BadSampleError, match=rf"a.*\.tif.* has bands of {dtype}, expected real numbers"):
            data_of(root, channels=channels)
