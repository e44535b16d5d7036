"""`weakseg predict` on images that lie on a map, and on parts of images."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from weakseg_lightning import ScenesDataModule, Segmenter
from weakseg_lightning.data.images.nodata import NODATA_COLOR

sys.path.append(str(Path(__file__).parents[2] / "prediction"))
from known_places import rasterio, transform_of, write_map

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # of rasterio itself
NAMES = ScenesDataModule().class_names
HOLE = (slice(40, 70), slice(20, 60))


@pytest.fixture
def pixels() -> np.ndarray:
    """An image with a hole of zeros, and no other."""
    values = np.random.default_rng(0).integers(1, 256, (110, 150, 3), dtype=np.uint8)
    values[HOLE] = 0
    return values


def labels_of(name: str) -> np.ndarray:
    with rasterio.open(f"out/labels/{name}.tif") as labels:
        return labels.read(1)


def objects() -> list[dict[str, str]]:
    with Path("out/objects.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_map_and_a_photograph(run, trained, of_run, pixels):
    write_map(Path("maps.tif"), np.moveaxis(pixels, -1, 0), "utm south", nodata=0)
    Image.fromarray(pixels).save("photograph.png")
    wanted = [f"--images.{name}=true" for name in ("objects", "polygons", "probabilities")]
    tiles = ["--images.tile=96", "--images.overlap=32", "--predictions.output_dir=out"]
    assert run("predict", *of_run, "maps.tif", "photograph.png", *wanted, *tiles)[0] == 0
    segmenter = Segmenter(trained / "checkpoints/last.ckpt", "cpu", tile=96, overlap=32)
    with Image.open("out/labels/photograph.png") as image:
        np.testing.assert_array_equal(np.array(image), segmenter(pixels))
    seen = pixels.copy()
    seen[HOLE] = NODATA_COLOR
    expected = segmenter(seen)
    expected[HOLE] = 255
    np.testing.assert_array_equal(labels_of("maps"), expected)
    chances = np.load("out/probabilities/maps.npy")
    assert (np.isnan(chances) == (expected == 255)).all()
    with rasterio.open("out/labels/maps.tif") as labels:
        assert labels.transform.almost_equals(transform_of("utm south"), precision=1e-6)
        assert labels.tags()["CLASS_1"] == NAMES[1]
        for row in objects():
            assert bool(row["crs"]) == (row["image"] == "maps.tif")
            if row["crs"]:
                x, y = labels.xy(float(row["center_y"]) - 0.5, float(row["center_x"]) - 0.5)
                assert (float(row["map_x"]), float(row["map_y"])) == pytest.approx((x, y), abs=1e-3)
                assert (float(row["map_area"]), row["crs"]) == (100 * float(row["area"]), "EPSG:32733")
    polygons = json.loads(Path("out/polygons.json").read_text())
    on_map = [one for one in polygons["annotations"] if one["image_id"] == 1]
    assert sum(one["area"] for one in on_map) == ((expected > 0) & (expected < 255)).sum()
    assert max(max(one["bbox"]) for one in on_map) <= 150, "in pixels, also where the labels lie on a map"


def test_what_is_stored_where_there_is_no_data_changes_nothing(run, of_run, pixels):
    found = []
    for stored in (0, 250):
        pixels[HOLE] = stored
        mask = np.ones(pixels.shape[:2], bool)
        mask[HOLE] = False
        write_map(Path("a.tif"), np.moveaxis(pixels, -1, 0), mask=mask)
        outputs = ["--images.geojson=true", "--predictions.output_dir=out", "--predictions.overlays=false"]
        assert run("predict", *of_run, "a.tif", *outputs)[0] == 0
        found.append((labels_of("a").tobytes(), Path("out/geojson/a.geojson").read_text("utf-8")))
    assert found[0] == found[1]
    features = json.loads(found[0][1])["features"]
    labels = labels_of("a")
    assert sum(f["properties"]["pixels"] for f in features) == ((labels > 0) & (labels < 255)).sum()
    assert {f["properties"]["class"] for f in features} <= set(NAMES[1:])


def test_parts_by_pixels_and_by_coordinates(run, trained, of_run, pixels):
    write_map(Path("a.tif"), np.moveaxis(pixels, -1, 0), nodata=0)
    place = transform_of("utm north")
    left, top = place.c + 640, place.f - 80
    given = ["--images.window", "[64, 8, 50, 31]"], ["--images.bounds", f"[{left}, {top - 310}, {left + 500}, {top}]"]
    expected = Segmenter(trained / "checkpoints/last.ckpt", "cpu")(pixels[8:39, 64:114])
    for part in given:
        assert run("predict", *of_run, "a.tif", *part, "--predictions.output_dir=out")[0] == 0
        np.testing.assert_array_equal(labels_of("a"), expected)
        with rasterio.open("out/labels/a.tif") as labels:
            assert (labels.transform.c, labels.transform.f) == pytest.approx((left, top), abs=1e-6)


def test_images_that_have_no_place_or_no_such_part_are_left_out(run, of_run, pixels):
    write_map(Path("a.tif"), np.moveaxis(pixels, -1, 0), crs=None)
    Image.fromarray(pixels).save("b.png")
    options = ["--predictions.output_dir=out", "--images.geojson=true"]
    status, out, err = run("predict", *of_run, "a.tif", "b.png", *options)
    assert (status, "Left out 2: a, b" in out) == (1, True)
    assert [line.partition(" has no coordinate system, ")[1] != "" for line in err.splitlines()] == [True, True]
    status, _, err = run("predict", *of_run, "b.png", "--predictions.output_dir=out", "--images.window=[150, 0, 9, 9]")
    assert status == 1
    assert "b.png has 150 x 110 pixels, and its columns 150 to 159 and rows 0 to 9 are asked for" in err
    assert not list(Path("out").glob("*/*"))


def test_a_map_whose_pixels_have_no_area_is_left_out(run, of_run, pixels):
    write_map(Path("a.tif"), np.moveaxis(pixels, -1, 0), transform=rasterio.Affine(1, 1, 5e5, 1, 1, 5e6))
    for options in (["--images.geojson=true"], ["--images.bounds=[0, 0, 9, 9]"], []):
        status, out, err = run("predict", *of_run, "a.tif", "--predictions.output_dir=out", *options)
        assert (status, "Left out 1: a" in out) == (1, True)
        assert "a.tif has the transform (500000, 1, 1, 5e+06, 1, 1), in which pixels have no area: give it" in err


def test_mistakes_are_told_in_one_line(of_run, refused, pixels, monkeypatch):
    Image.fromarray(pixels).save("b.png")
    both = ["--images.window=[0, 0, 9, 9]", "--images.bounds=[0, 0, 1, 1]"]
    assert "`window` and `bounds` both say" in refused("predict", *of_run, "b.png", *both)
    assert "`window: width` must be at least 1" in refused("predict", *of_run, "b.png", "--images.window=[0, 0, 0, 9]")
    monkeypatch.setitem(sys.modules, "rasterio", None)
    told = refused("predict", *of_run, "b.png", "--images.geojson=true")
    assert "polygons are traced by rasterio: pip install" in told
