"""Polygons in GeoJSON are cut at 180 degrees, as RFC 7946 (3.1.9) has it, and cover what they did in one piece."""

import json
from math import atan, degrees, pi, sinh

import numpy as np
import pytest
from known_places import RADIUS, chain, rasterio, write_map
from matplotlib.path import Path as Outline
from scipy import ndimage
from test_geojson import NAMES, patches

from weakseg_lightning.data.folder.classes import Classes
from weakseg_lightning.data.maps.brushes import Brush
from weakseg_lightning.data.maps.places import Place
from weakseg_lightning.data.maps.placing import read_shapes
from weakseg_lightning.data.maps.shapes import Window, draw_shapes
from weakseg_lightning.prediction.geojson import write_geojson

warp = pytest.importorskip("rasterio.warp")
pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # of rasterio itself

EDGE = pi * RADIUS  # 180 degrees in Web Mercator
HEIGHT, WIDTH = 90, 70


def of(side, left, top, angle=0):
    shape = chain(rasterio.Affine.rotation(angle), rasterio.Affine.scale(side, -side))
    return chain(rasterio.Affine.translation(left, top), shape)


# By name: code of EPSG and transform. Of "on a border", 180 degrees are between two columns.
NEAR = {
    "UTM 60": (32660, of(10, 833950 - 350, 1000)),
    "UTM 1 south": (32701, of(10, 166050 - 400, 9_990_000, 25)),
    "Web Mercator": (3857, of(10, EDGE - 352.7, 1000)),
    "Web Mercator on a border": (3857, of(10, EDGE - 350, 1000)),
    "Web Mercator from the other side": (3857, of(10, -EDGE - 350, 1000)),
    "Web Mercator rotated": (3857, of(10, EDGE - 500, 1000, 30)),
    "degrees": (4326, of(1e-4, 180 - 0.00353, 10)),
    "degrees on a border": (4326, of(0.25, 180 - 35 * 0.25, 50)),
    "degrees of the other side": (4326, of(0.25, -180 - 35 * 0.25, 50)),
    "degrees beyond": (4326, of(0.25, 181, 50)),
}
WHOLE = {
    "degrees from 0 to 360": (4326, rasterio.Affine(360 / WIDTH, 0, 0, 0, -2, 90)),
    "degrees from -180 to 180": (4326, rasterio.Affine(360 / WIDTH, 0, -180, 0, -2, 90)),
    "Web Mercator": (3857, rasterio.Affine(2 * EDGE / WIDTH, 0, -EDGE, 0, -1e5, 4.5e6)),
}
POLES = {
    "north": (3413, of(1000, -33500, 41500)),
    "north on a corner": (3413, of(1000, -35000, 45000)),
    "south": (3031, of(1000, -30250, 44250)),
    "south in another direction": (3031, of(1000, -60250, 9250, 40)),
}


def written(folder, labels, code, transform):
    path = write_map(folder / "labels.tif", labels[None].astype(np.uint8), crs=f"EPSG:{code}", transform=transform)
    write_geojson(folder / "a.geojson", path, NAMES)
    return json.loads((folder / "a.geojson").read_text("utf-8"))["features"]


def parts_of(feature):
    kind, coordinates = feature["geometry"]["type"], feature["geometry"]["coordinates"]
    assert kind == "Polygon" or len(coordinates) > 1
    return [coordinates] if kind == "Polygon" else coordinates


def turn(ring):
    x, y = (np.array(ring) - ring[0]).T
    return (x[:-1] * y[1:] - x[1:] * y[:-1]).sum()


def assert_well_formed(features):
    for outer, *holes in (part for feature in features for part in parts_of(feature)):
        assert turn(outer) > 0
        assert all(turn(hole) < 0 for hole in holes)
        for ring in (outer, *holes):
            points = np.array(ring)
            assert ring[0] == ring[-1]
            assert (np.abs(points) <= (180, 90)).all()
            assert np.abs(np.diff(points[:, 0])).max() <= 180


def drawn(features, code, transform, shape):
    """Labels of the pixels whose centers lie in polygons by the rule of even and odd, on the plane of degrees."""
    rows, columns = np.indices(shape).reshape(2, -1) + 0.5
    centers = np.stack(warp.transform(f"EPSG:{code}", "EPSG:4326", *Place(None, transform).locate(columns, rows)), 1)
    centers[:, 0] = (centers[:, 0] + 180) % 360 - 180
    labels = np.zeros(len(centers), dtype=int)
    for feature in features:
        rings = [ring for part in parts_of(feature) for ring in part]
        inside = np.sum([Outline(ring).contains_points(centers) for ring in rings], axis=0) % 2 == 1
        assert not labels[inside].any(), "regions do not overlap"
        labels[inside] = feature["properties"]["index"]
    return labels.reshape(shape)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", NEAR)
def test_regions_are_cut_and_cover_the_same_pixels(tmp_path, name, seed):
    code, transform = NEAR[name]
    labels = np.where(patches(seed) == 255, 0, patches(seed))
    features = written(tmp_path, labels, code, transform)
    assert_well_formed(features)
    assert len(features) == sum(ndimage.label(labels == k)[1] for k in (1, 2))
    assert any(len(parts_of(feature)) > 1 for feature in features) == (name != "degrees beyond")
    np.testing.assert_array_equal(drawn(features, code, transform, labels.shape), labels)
    # And back, as strokes are read.
    place = Place(rasterio.CRS.from_epsg(code), transform)
    found, notes = read_shapes(tmp_path / "a.geojson", Classes(NAMES), place, (WIDTH, HEIGHT), Brush(1, "px"))
    assert not notes
    np.testing.assert_array_equal(draw_shapes(found, Window(0, 0, WIDTH, HEIGHT), 0), labels)


@pytest.mark.parametrize("name", WHOLE)
def test_maps_of_the_whole_earth(tmp_path, name):
    code, transform = WHOLE[name]
    stripes = np.zeros((HEIGHT, WIDTH), dtype=int)
    stripes[20:40], stripes[50:70, 3:-3], stripes[55:60, 20:50], stripes[55:60, 10:12] = 1, 2, 0, 1
    for labels in (np.where(patches(2) == 255, 0, patches(2)), np.ones_like(stripes), stripes):
        features = written(tmp_path, labels, code, transform)
        assert_well_formed(features)
        np.testing.assert_array_equal(drawn(features, code, transform, labels.shape), labels)


def test_a_few_pixels_of_the_whole_earth(tmp_path):
    """Each edge of a column is a third of the way around, and one of all of them leads back to where it began."""
    transform = rasterio.Affine(120, 0, -180, 0, -18, 90)
    for row in ([1, 1, 1], [1, 1, 2], [2, 1, 1], [1, 2, 1]):
        labels = np.array([row] * 6 + [[1, 1, 1]] * 4)
        features = written(tmp_path, labels, 4326, transform)
        assert_well_formed(features)
        np.testing.assert_array_equal(drawn(features, 4326, transform, labels.shape), labels)


@pytest.mark.parametrize("name", POLES)
def test_regions_around_a_pole_reach_it(tmp_path, name):
    """Edges of some pixels next to a pole are arcs in degrees: there, and at borders, no pixel is looked at."""
    code, transform = POLES[name]
    column, row = Place(None, transform).find(np.array(0.0), np.array(0.0))
    rows, columns = np.indices((HEIGHT, WIDTH)) + 0.5
    far = np.hypot(rows - row, columns - column)
    noise = np.where(patches(3) == 255, 0, patches(3))
    rings = np.digitize(far, [14, 20, 27, 32]) % 3
    for labels in (noise, noise % 2, np.ones_like(noise), rings, np.where(far < 30, 1, 2), np.where(far < 30, 0, 1)):
        features = written(tmp_path, labels, code, transform)
        assert_well_formed(features)
        seen = (far > 12) & (ndimage.minimum_filter(labels, 3) == ndimage.maximum_filter(labels, 3))
        found = drawn(features, code, transform, labels.shape)
        np.testing.assert_array_equal(found[seen], labels[seen])
        assert seen.sum() > 200


def test_a_frame_across_the_line_becomes_two_brackets(tmp_path):
    """Of Web Mercator, longitudes and latitudes are known without any library."""
    labels = np.zeros((HEIGHT, WIDTH), dtype=int)
    labels[10:50, 10:60], labels[20:40, 20:50], labels[25:30, 30:34] = 1, 0, 2
    first, second = written(tmp_path, labels, 3857, of(1000, EDGE - 35500, 8e6))
    assert {first["properties"]["pixels"], second["properties"]["pixels"]} == {40 * 50 - 20 * 30, 5 * 4}
    frame, inner = sorted((first, second), key=lambda feature: feature["properties"]["index"])
    assert inner["geometry"]["type"] == "Polygon"
    parts = parts_of(frame)
    assert [len(part) for part in parts] == [1, 1]
    west, east = sorted((np.array(outer) for (outer,) in parts), key=lambda ring: -ring[:, 0].min())

    def latitude(row):
        return degrees(atan(sinh((8e6 - 1000 * row) / RADIUS)))

    def longitude(column):
        return 180 + degrees(1000 * (column - 35.5) / RADIUS)

    for ring, side in ((west, 180), (east, -180)):
        on_line = sorted(ring[:-1][ring[:-1, 0] == side, 1])
        assert on_line == pytest.approx([latitude(row) for row in (50, 40, 20, 10)], abs=1e-7)
    assert west[:, 0].min() == pytest.approx(longitude(10), abs=1e-7)
    assert east[:, 0].max() == pytest.approx(longitude(60) - 360, abs=1e-7)
    assert {round(value, 6) for value in west[:, 1]} == {round(latitude(row), 6) for row in (10, 20, 40, 50)} | {
        round(value, 6) for value in west[:, 1] if latitude(50) < value < latitude(10)
    }
