"""Polygons in GeoJSON lie where the labels do, wherever that is, and run as RFC 7946 wants them."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from weakseg_lightning.data import BadSampleError
from weakseg_lightning.prediction.geojson import require_crs, write_geojson
from weakseg_lightning.prediction.maps import Place

sys.path.append(str(Path(__file__).parent))
from known_places import PIXEL, PLACES, rasterio, transform_of, write_map

rasterize = pytest.importorskip("rasterio.features").rasterize
warp = pytest.importorskip("rasterio.warp")
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # of rasterio itself

NAMES = ["background", "field", 'a "lake", Ö']


def written(tmp_path, labels, place="utm north", **options):
    path = write_map(tmp_path / "labels.tif", labels[None].astype(np.uint8), place, nodata=255, **options)
    write_geojson(tmp_path / "a.geojson", path, NAMES)
    found = json.loads((tmp_path / "a.geojson").read_text("utf-8"))
    assert list(found) == ["type", "features"]
    assert found["type"] == "FeatureCollection"
    return found["features"]


def turn(ring):
    """Twice the signed area of a ring around its first point, in exact numbers of units of the last decimal."""
    units = np.round(np.array(ring) * 1e8).astype(np.int64)
    x, y = (units - units[0]).T
    return int((x[:-1] * y[1:] - x[1:] * y[:-1]).sum())


@pytest.mark.parametrize("place", PLACES)
def test_a_known_point_has_its_longitude_and_latitude(tmp_path, place):
    labels = np.zeros((90, 70))
    labels[PIXEL] = 2
    (feature,) = written(tmp_path, labels, place)
    assert feature["properties"] == {"class": 'a "lake", Ö', "index": 2, "pixels": 1}
    assert feature["geometry"]["type"] == "Polygon"
    (ring,) = feature["geometry"]["coordinates"]
    assert ring[0] == ring[-1]
    assert np.mean(ring[:-1], axis=0) == pytest.approx(PLACES[place][2], abs=3e-6), "a pixel is 1e-4 degrees"
    assert turn(ring) > 0


def patches(seed):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(3, 90, 70)), (0, 1.5, 1.5))
    labels = noise.argmax(0)
    labels[20:30, 30:50] = 255
    labels[70:80, 10:20], labels[73:76, 13:16] = 1, 0
    return labels


@pytest.mark.parametrize("place", PLACES)
def test_polygons_are_the_regions_of_the_labels(tmp_path, place):
    labels = patches(0)
    features = written(tmp_path, labels, place)
    for k in (1, 2):
        assert sum(f["properties"]["index"] == k for f in features) == ndimage.label(labels == k)[1]
        assert sum(f["properties"]["pixels"] for f in features if f["properties"]["index"] == k) == (labels == k).sum()
    rings = [f["geometry"]["coordinates"] for f in features]
    assert all(turn(outer) > 0 for outer, *_ in rings)
    assert [turn(hole) < 0 for _, *holes in rings for hole in holes].count(True) == sum(len(r) - 1 for r in rings) > 0
    # Back in the image's coordinates and drawn, they are the labels; void (255) is part of none.
    crs = PLACES[place][0]
    shapes = [(warp.transform_geom("EPSG:4326", crs, f["geometry"]), f["properties"]["index"]) for f in features]
    drawn = rasterize(shapes, labels.shape, transform=transform_of(place), dtype="uint8")
    np.testing.assert_array_equal(drawn, np.where(labels == 255, 0, labels))


def test_long_straight_borders_stay_where_they_are(tmp_path):
    """In degrees, the border of 400 km is a curve; its ends alone would miss the middle by more than ten pixels."""
    labels = np.ones((8, 4000))
    (feature,) = written(tmp_path, labels, transform=rasterio.Affine(100, 0, 300000, 0, -100, 5500000))
    ring = np.array(feature["geometry"]["coordinates"][0])
    middles = (ring[:-1] + ring[1:]) / 2
    xs, ys = warp.transform("EPSG:4326", "EPSG:32633", *middles.T)
    to_rows = [np.abs(np.array(ys) - y) for y in (5500000, 5499200)]
    to_columns = [np.abs(np.array(xs) - x) for x in (300000, 700000)]
    assert np.min(to_rows + to_columns, axis=0).max() < 5, "a twentieth of a pixel"


def test_labels_without_regions_are_an_empty_collection(tmp_path):
    assert written(tmp_path, np.where(patches(0) == 255, 255, 0)) == []


def test_more_regions_than_are_converted_together(tmp_path):
    labels = np.indices((60, 70)).sum(0) % 2
    features = written(tmp_path, labels)
    assert len(features) == labels.sum()
    outlines = [f["geometry"]["coordinates"][0] for f in features]
    assert all(len(outline) == 5 for outline in outlines)
    assert len({tuple(outline[0]) for outline in outlines}) > 2000, "each lies somewhere else"


def test_places_without_longitude_and_latitude_are_named(tmp_path):
    far = rasterio.Affine(1e9, 0, 1e30, 0, -1e9, 1e30)
    with pytest.raises(BadSampleError, match=r"labels\.tif .*longitude and latitude.*: see to its CRS"):
        written(tmp_path, np.ones((4, 4)), transform=far)


@pytest.mark.parametrize("place", [None, Place(None, transform_of("degrees"))])
def test_an_image_without_a_coordinate_system_is_named(place):
    with pytest.raises(BadSampleError, match=r"^a\.tif has no coordinate system"):
        require_crs(Path("a.tif"), place)
