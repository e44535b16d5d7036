"""Notes on folders of maps: what is not read, or not as users may think."""

import re
import shlex

import numpy as np
import pytest
from map_folders import NAMES, UTM, data_of, drawn, on_map, raster, rasterio, whole, write, write_raster

from weakseg_lightning.cli.commands.check import check
from weakseg_lightning.data.maps.inspection import describe_maps

CHANNELS = ["red", "green", "blue", "nir"]
CHOSEN = {"red": 1, "blue": 3}
SQUARE = [(10, 10), (50, 10), (50, 50), (10, 50), (10, 10)]


def notes_of(root, channels=None) -> list[str]:
    lines, problems = describe_maps(root, channels)
    assert not problems
    return [line.removeprefix("note: ") for line in lines if line.startswith("note: ")]


@pytest.fixture
def with_alpha(make_maps):
    """Rasters of four bands of 8 bits, the last of which GDAL takes for opacity; it is 0 in the upper half."""
    root = make_maps(("a", "b"), ("a", "b"))
    for name in ("a", "b"):
        bands = raster(root / f"images/{name}.tif")
        nir = np.full((1, *bands.shape[1:]), 90, np.uint8)
        nir[:, :80] = 0
        write_raster(root / f"images/{name}.tif", np.concatenate([bands, nir]))
    return root


@pytest.mark.parametrize("channels", [CHANNELS, {"nir": 4, "red": 1}])
def test_a_band_that_is_a_channel_is_no_mask(with_alpha, channels):
    data = data_of(with_alpha, channels=channels, val_fraction=0)
    for item in whole(data):
        assert item["valid"].all()
    assert not notes_of(with_alpha, channels)


def test_transparency_is_told_where_it_hides_pixels(with_alpha):
    for channels in (None, {"red": 1, "green": 2}):
        assert notes_of(with_alpha, channels)[:1] == [
            "images/a.tif (and 1 more) has no data where its band 4, which is marked as transparency, is 0: if it is a "
            "channel, name it in `channels`, as [red, green, blue, nir]"
        ]
    assert not all(item["valid"].all() for item in whole(data_of(with_alpha, val_fraction=0)))


@pytest.mark.parametrize(
    ("yaml", "nodata", "label"),
    [("", 0, "land"), ("", 2, "dry"), ("", 255, None), ("", 200, None), ("unlabelled: 0\n", 0, None),
     ("unlabelled: 0\nbackground: 9\n", 9, "land")],
)  # fmt: skip
def test_a_class_that_a_raster_declares_as_no_data(make_maps, yaml, nodata, label):
    root = make_maps(masks=())
    (root / "classes.yaml").write_text(f"classes: [land, wet, dry]\n{yaml}")
    (root / "scribbles/a.geojson").unlink()
    scribbles = np.full((1, 160, 160), 1, np.uint8)
    scribbles[:, :50] = nodata
    write_raster(root / "scribbles/a.tif", scribbles, nodata=nodata)
    meaning = f"scribbles/a.tif has the nodata value {nodata}, which is also the class {label}: its pixels are without "
    assert notes_of(root) == ([] if label is None else [
        f"{meaning}label; unset it (`gdal_edit.py -unsetnodata`) if they are {label}"
    ])  # fmt: skip


def test_masks_have_no_other_value_without_label(make_maps):
    root = make_maps()
    (root / "classes.yaml").write_text("classes: [land, wet, dry]\nunlabelled: 0\n")
    write_raster(root / "masks/a.tif", raster(root / "masks/a.tif"), nodata=0)
    assert [note.partition(":")[0] for note in notes_of(root)] == [
        "masks/a.tif has the nodata value 0, which is also the class land"
    ]


def test_what_is_not_read_is_listed(make_maps):
    root = make_maps(("a", "b"))
    nobody = ["scribbles/a.gpkg", "scribbles/b.shp", "masks/b.png", "images/c.png", "images/d.las", "point.csv"]
    for name in [*nobody, "scribbles/b.dbf", "images/a.tif.aux.xml", "images/a.tfw", "images/a.tif.ovr"]:
        (root / name).write_bytes(b"")
    assert sorted(notes_of(root)) == [
        "images/c.png (and 1 more) is not read: convert it by `gdal_translate NAME.png NAME.tif`",
        "not read (2): point.csv, images/d.las",
        "scribbles/a.gpkg is not read: convert it by `ogr2ogr -f GeoJSON NAME.geojson NAME.gpkg`",
        "scribbles/b.shp is not read: convert it by `ogr2ogr -f GeoJSON NAME.geojson NAME.shp`",
    ]


def test_files_of_channels_are_read(make_maps):
    root = make_maps()
    for name in ("a_nir", "z_nir"):
        write_raster(root / f"images/{name}.tif", raster(root / "images/a.tif")[:1])
    assert notes_of(root, {"red": 1, "nir": "NAME_nir.tif"}) == ["not read (1): images/z_nir.tif"]


def test_masks_take_polygons_alone(make_maps):
    root = make_maps(masks=())
    write(root / "masks/a.geojson", drawn("Polygon", [on_map(SQUARE)]), drawn("LineString", on_map(SQUARE)), **UTM)
    _, problems = describe_maps(root, None)
    assert [(problem.file, problem.text) for problem in problems] == [
        ("masks/a.geojson", "feature 2 is a LineString, masks/ takes Polygons alone: draw its outline, or remove it")
    ]


def test_polygons_that_cross_themselves_are_told(make_maps):
    root = make_maps(masks=())
    crossed, touching = [SQUARE[k] for k in (0, 2, 1, 3, 0)], [(10, 10), (50, 10), (30, 10), (30, 40), (10, 10)]
    features = [drawn("Polygon", [on_map(ring)]) for ring in (SQUARE, crossed, touching)]
    many = np.linspace(0, 2 * np.pi, 700, endpoint=False)
    circle = np.stack([80 + 60 * np.cos(many), 80 + 60 * np.sin(many)], axis=1)
    features.append(drawn("Polygon", [on_map(circle)]))
    circle[[20, 420]] = circle[[420, 20]]
    write(root / "scribbles/a.geojson", *features, drawn("Polygon", [on_map(circle)]), **UTM)
    assert [note.partition(" crosses")[0].rpartition("/")[2] for note in notes_of(root)] == [
        "a.geojson: feature 2 (wet)", "a.geojson: feature 5 (wet)",
    ]  # fmt: skip


def at_60_degrees(code: int, side: float) -> dict:
    """A place in the middle of UTM 33, 60 degrees north."""
    x, y = {32633: (500000, 6651411), 4326: (15, 60), 3857: (1669792.4, 8399737.9)}[code]
    return {"crs": f"EPSG:{code}", "transform": rasterio.Affine(side, 0, x, 0, -side, y)}


DEGREE = 360 / 40030000  # a meter along a meridian, about


@pytest.mark.parametrize(
    ("other", "sides"),
    [((32633, 20.0), None), ((32633, 21.0), (10, 21)), ((32633, 4.9), (4.9, 10)), ((32633, 5.01), None),
     ((3857, 20.0), None), ((3857, 40.0), None), ((3857, 42.0), (10, 21)), ((3857, 9.6), (4.8, 10)),
     ((4326, 10 * DEGREE), None), ((4326, 35 * DEGREE), (10, 24.8))],
)  # fmt: skip
def test_rasters_of_different_resolutions_are_told(make_maps, other, sides):
    """Meters are those on the ground: at 60 degrees Web Mercator has two for one, a degree of longitude half as many.

    Pixels of degrees are half as wide as high there, and the side is that of a square of the same area.
    """
    root = make_maps(("a",), ())
    bands = raster(root / "images/a.tif")
    write_raster(root / "images/b.tif", bands, **at_60_degrees(*other))
    names = "ab" if sides is None or sides[1] > 10 else "ba"
    pattern = (
        rf"images/{names[0]}\.tif has pixels of (\S+) m, images/{names[1]}\.tif of (\S+) m: a network sees sizes .*"
    )
    told = [re.fullmatch(pattern, note).groups() for note in notes_of(root)]
    assert [(float(fine), float(coarse)) for fine, coarse in told] == (
        [] if sides is None else [pytest.approx(sides, rel=0.01)]
    )


def test_rasters_on_no_map_have_no_resolution(make_maps):
    root = make_maps(("a",), ())
    bands = raster(root / "images/a.tif")
    site = 'LOCAL_CS["site",UNIT["metre",1],AXIS["Easting",EAST],AXIS["Northing",NORTH]]'
    write_raster(root / "images/b.tif", bands, crs=site, transform=rasterio.Affine(99, 0, 1, 0, -99, 1))
    write_raster(root / "images/c.tif", bands, crs=None, transform=rasterio.Affine(99, 0, 1, 0, -99, 1))
    assert notes_of(root) == []


def test_shapes_where_there_is_no_data_are_told(make_maps):
    root = make_maps(masks=())
    bands = raster(root / "images/a.tif") | 1
    bands[:, :40] = 0
    write_raster(root / "images/a.tif", bands, nodata=0)
    lines = [drawn("LineString", on_map([(5, row), (150, row)]), NAMES[1]) for row in (20, 70)]
    write(root / "scribbles/a.geojson", *lines, drawn("LineString", on_map([(5, 39), (5, 44)])), **UTM)
    assert notes_of(root) == [
        "scribbles/a.geojson: 1 of 3 shapes, as feature 1 (wet), label no pixel where a.tif has data"
    ]


def test_what_is_next(make_maps, capsys):
    root = make_maps(side=64)
    assert check(root, channels=CHOSEN) == 0
    told = capsys.readouterr().out
    assert shlex.split(told.strip().splitlines()[-1])[-4:] == ["--data.root", str(root), "--data.channels", str(CHOSEN)]
    assert f"{root}: 1 raster; 3 classes" in told
    (root / "scribbles/a.geojson").unlink()
    assert check(root) == 1
    told = capsys.readouterr().out
    assert "no training raster has scribbles: add scribbles/NAME.geojson or .tif, or train on the masks with" in told


def test_a_raster_that_cannot_be_read_is_told_once(make_maps):
    root = make_maps(side=320)
    path = root / "images/a.tif"
    path.write_bytes(path.read_bytes()[:90_000])
    _, problems = describe_maps(root, None)
    assert [problem.file for problem in problems] == ["images/a.tif"]
    assert "cannot be read" in problems[0].text
