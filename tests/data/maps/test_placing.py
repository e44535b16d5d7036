"""Strokes land on the pixels that their coordinates mean, whatever the coordinate system and the transform."""

import json
from math import cos, radians

import numpy as np
import pytest
from known_places import PIXEL, PLACES, rasterio, transform_of
from map_folders import drawn, write

from weakseg_lightning.data import BadSampleError
from weakseg_lightning.data.folder.classes import Classes
from weakseg_lightning.data.maps.brushes import Brush, meters_of_pixels, read_brush
from weakseg_lightning.data.maps.places import Place, Window
from weakseg_lightning.data.maps.placing import read_shapes
from weakseg_lightning.data.maps.shapes import draw_shapes

CLASSES = Classes(["land", "wet", "dry"], ignore=["unsure"])
SIZE = (70, 90)
ROW, COLUMN = PIXEL
WHOLE = Window(0, 0, *SIZE)


def place_of(name: str) -> Place:
    return Place(rasterio.CRS.from_user_input(PLACES[name][0]), transform_of(name))


def labels_of(path, name="utm north", brush="1 px", window=WHOLE, place=None) -> np.ndarray:
    width, _, unit = brush.partition(" ")
    shapes, _ = read_shapes(path, CLASSES, place or place_of(name), SIZE, Brush(float(width), unit))
    return draw_shapes(shapes, window)


def pixels(labels, label: int = 1) -> set[tuple[int, int]]:
    return {(int(row), int(column)) for row, column in zip(*np.nonzero(labels == label), strict=True)}


# ---- known points -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PLACES)
def test_a_known_point_lies_on_its_pixel(tmp_path, name):
    _, _, degrees, _ = PLACES[name]
    path = write(tmp_path / "a.geojson", drawn("Point", degrees))
    assert pixels(labels_of(path, name)) == {PIXEL}
    around = {(ROW + down, COLUMN + right) for down in (-1, 0, 1) for right in (-1, 0, 1)}
    assert pixels(labels_of(path, name, "3 px")) == around


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("member", ["urn", "short"])
def test_a_crs_member_is_followed(tmp_path, name, member):
    code, point, _, _ = PLACES[name]
    spelled = code if member == "short" else "urn:ogc:def:crs:" + code.replace(":", "::")
    crs = {"type": "name", "properties": {"name": spelled}}
    path = write(tmp_path / "a.geojson", drawn("Point", [*point, 351.5]), crs=crs)
    assert pixels(labels_of(path, name)) == {PIXEL}


def test_crs84_is_wgs_84(tmp_path):
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}
    path = write(tmp_path / "a.geojson", drawn("Point", [15, 45]), crs=crs)
    assert pixels(labels_of(path)) == {PIXEL}
    assert pixels(labels_of(path, "web mercator")) == {PIXEL}


@pytest.mark.parametrize("name", ["utm north", "rotated", "south-up", "degrees"])
def test_windows_are_parts_of_the_whole(tmp_path, name):
    place, rng = place_of(name), np.random.default_rng(0)
    x, y = place.locate(*rng.uniform(0, SIZE, (9, 2)).T)
    crs = {"type": "name", "properties": {"name": PLACES[name][0]}}
    line = drawn("LineString", np.stack([x, y], 1)[:5].tolist())
    ring = drawn("Polygon", [np.stack([x, y], 1)[[5, 6, 7, 8, 5]].tolist()], "dry")
    path = write(tmp_path / "a.geojson", line, ring, crs=crs)
    whole = labels_of(path, name, "4.5 px")
    assert {1, 2, 255} == set(np.unique(whole))
    for left, top, width, height in rng.integers(1, 40, (8, 4)):
        part = labels_of(path, name, "4.5 px", Window(int(left), int(top), int(width), int(height)))
        np.testing.assert_array_equal(part[: 90 - top, : 70 - left], whole[top : top + height, left : left + width])


def test_long_edges_follow_their_own_coordinates(tmp_path):
    """Along 45 degrees north over four degrees, the middle lies far from the chord in UTM."""
    transform = rasterio.Affine(5000, 0, 300000, 0, -100, 4990000)
    place, degrees = Place(rasterio.CRS.from_epsg(32633), transform), [[13, 45], [17, 45]]
    path = write(tmp_path / "a.geojson", drawn("LineString", degrees))
    found = pixels(labels_of(path, place=place))
    middle = (4990000 - 0.9996 * 4984944.378) / 100  # of the meridian of the zone, to 45 degrees
    assert {row for row, column in found if column == 40} == {int(middle)}
    assert min(row for row, _ in found) < middle - 15


# ---- brushes and shapes -----------------------------------------------------------------------------------------


def test_brushes_are_as_wide_as_they_say(tmp_path):
    place = place_of("utm north")

    def width(brush):
        x, y = place.locate(np.array([20.5, 50.5]), np.array([40.5, 40.5]))
        crs = {"type": "name", "properties": {"name": "EPSG:32633"}}
        line = drawn("LineString", np.stack([x, y], 1).tolist(), brush=brush)
        return int((labels_of(write(tmp_path / "a.geojson", line, crs=crs)) == 1)[:, 30].sum())

    assert [width(brush) for brush in (1, "3 px", "5px", 6.6)] == [1, 3, 5, 7]
    assert [width(brush) for brush in ("0.1 m", "30 m", "50 m")] == [1, 3, 5]


def test_the_widest_and_thinnest_brushes_are_drawn(tmp_path):
    path = write(tmp_path / "a.geojson", drawn("Point", [15, 45]))
    assert (labels_of(path, brush="1000000 px") == 1).all()
    assert pixels(labels_of(path, brush="0.000001 m")) == {PIXEL}
    with pytest.raises(BadSampleError, match=r"^`data`: `brush` must be 0\.000001 to 1000000 pixels or meters wide"):
        read_brush("1e300 px", "`data`")


def test_meters_are_those_on_the_ground(tmp_path):
    """At 60 degrees a meter is two in Web Mercator, and twice as many degrees to the east as to the north."""
    mercator = Place(rasterio.CRS.from_epsg(3857), rasterio.Affine(10, 0, 1669792.4, 0, -10, 8399742))
    path = write(tmp_path / "a.geojson", drawn("Point", [15 + 0.003, 60 - 0.002], brush="100 m"))
    found = labels_of(path, place=mercator) == 1
    assert [found.any(1).sum(), found.any(0).sum()] == pytest.approx([20, 20], abs=1)
    degrees = Place(rasterio.CRS.from_epsg(4326), rasterio.Affine(1e-4, 0, 15, 0, -1e-4, 60))
    found = labels_of(path, place=degrees) == 1
    north = 100 / (111412 * 1e-4)  # meters of a degree at 60 degrees, by the ellipsoid
    assert [found.any(1).sum(), found.any(0).sum()] == pytest.approx([north, north / cos(radians(60))], abs=1)


def test_polygons_cover_the_pixels_whose_centers_lie_inside(tmp_path):
    place = place_of("rotated")
    ring, hole = [(10.2, 20), (40, 20), (40, 50), (10.2, 50)], [(20, 30), (20, 40), (30, 40), (30, 30)]
    rings = [np.stack(place.locate(*np.array([*part, part[0]], float).T), 1).tolist() for part in (ring, hole)]
    crs = {"type": "name", "properties": {"name": "EPSG:32633"}}
    expected = np.full(SIZE[::-1], 255)
    expected[20:50, 10:40], expected[30:40, 20:30] = 1, 255
    found = labels_of(write(tmp_path / "a.geojson", drawn("Polygon", rings), crs=crs), "rotated")
    np.testing.assert_array_equal(found, expected)
    unclosed = [part[:-1] for part in rings]
    again = labels_of(write(tmp_path / "b.geojson", drawn("Polygon", unclosed), crs=crs), "rotated")
    np.testing.assert_array_equal(again, expected)


def test_collections_are_taken_apart_and_later_shapes_cover_earlier_ones(tmp_path):
    place = place_of("utm north")

    def at(*points):
        return np.stack(place.locate(*np.array(points, float).T), 1).tolist()

    def gathered(*geometries):
        return {"type": "GeometryCollection", "geometries": geometries}

    square = at((5, 5), (25, 5), (25, 25), (5, 25), (5, 5))
    members = [
        {"type": "MultiPoint", "coordinates": at((40.5, 10.5), (50.5, 10.5))},
        {"type": "MultiPolygon", "coordinates": [[square]]},
        gathered({"type": "MultiLineString", "coordinates": [at((30, 60.5), (40, 60.5))]}),
    ]
    collection = one(gathered(*members))
    empty = {"type": "Feature", "properties": None, "geometry": None}
    later = drawn("LineString", at((5, 15.5), (25, 15.5)), "Dry")
    unsure = drawn("Point", at((10.5, 10.5))[0], "unsure")
    crs = {"type": "name", "properties": {"name": "EPSG:32633"}}
    found = labels_of(write(tmp_path / "a.geojson", collection, empty, later, unsure, crs=crs))
    assert {(10, 40), (10, 50)} <= pixels(found)
    assert (found[60, 30:40] == 1).all()
    assert (found[15, 5:25] == 2).all()
    assert found[10, 10] == 255
    assert (found[5:25, 5:25] == 1).sum() == 400 - 20 - 1


# ---- the antimeridian -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("longitude", [-179.99655, 180.00345])
@pytest.mark.parametrize("origin", [180, -180])
def test_longitudes_go_on_counting_at_the_antimeridian(tmp_path, longitude, origin):
    place = Place(rasterio.CRS.from_epsg(4326), rasterio.Affine(1e-4, 0, origin, 0, -1e-4, 10))
    path = write(tmp_path / "a.geojson", drawn("Point", [longitude, 10 - 0.00525]))
    assert pixels(labels_of(path, place=place)) == {(52, 34)}


@pytest.mark.parametrize(("code", "y", "scale"), [(32660, 1000, 1), (3857, 1000, 1), (3857, 8399742, 2)])
def test_meters_on_the_ground_are_the_same_at_the_antimeridian(code, y, scale):
    """Meters of Web Mercator are half as long at 60 degrees north."""
    to_system = pytest.importorskip("rasterio.warp").transform
    crs = rasterio.CRS.from_epsg(code)
    x = to_system("EPSG:4326", crs, [179.9999], [0])[0][0]
    place = Place(crs, rasterio.Affine(4, 0, x, 0, -4, y))
    metric = meters_of_pixels(place, np.arange(9)[:, None] * np.array([[1.0, 1.0]]))
    np.testing.assert_allclose(np.abs(np.linalg.det(metric)), (4 / scale) ** 2, rtol=0.02)


def test_an_edge_around_the_earth_is_named(tmp_path):
    path = write(tmp_path / "a.geojson", drawn("LineString", [[179.9, 0], [-179.9, 0]]))
    with pytest.raises(BadSampleError, match=r"a\.geojson: feature 1 crosses the antimeridian in one piece: cut it"):
        labels_of(path, "degrees")


# ---- what is named ----------------------------------------------------------------------------------------------

POINT = {"type": "Point", "coordinates": [15, 45]}


def one(geometry, **properties):
    return {"type": "Feature", "properties": {"class": 1} | properties, "geometry": geometry}


def none_in(crs):
    return {"type": "FeatureCollection", "features": [], "crs": crs}


def lying(kind, *coordinates):
    return one({"type": kind, "coordinates": [*coordinates]})


def beside(feature):
    """A collection of a sound feature and another."""
    return {"type": "FeatureCollection", "features": [one(POINT), feature]}


FAULTS = {
    "no JSON": ("", r"is no GeoJSON that can be read \(Expecting value"),
    "a list": ("[]", "holds 'list', expected a FeatureCollection"),
    "a bare geometry": (POINT, "holds 'Point', expected a FeatureCollection: export features with a `class`"),
    "no features": ({"type": "FeatureCollection"}, "is a FeatureCollection without `features`"),
    "nothing": ({"type": "FeatureCollection", "features": []}, "holds no shape: draw some, or remove the file"),
    "no class": (one(POINT, **{"class": None}), "feature 1 has no property `class`"),
    "another class": (one(POINT, **{"class": "see"}), "has the class 'see', which is none of land, wet, dry"),
    "a number too high": (one(POINT, **{"class": 3}), "has the class '3', which is none of land, wet, dry"),
    "a brush of feet": (one(POINT, brush="3 ft"), "`brush` must be a width above 0 in pixels or meters, .* got '3 ft'"),
    "a brush without end": (
        one(POINT, brush="1e300 px"),
        "feature 1: `brush` must be 0.000001 to 1000000 pixels or meters wide, got '1e300 px': give the width",
    ),
    "a brush of nothing": (one(POINT, brush="1e-300 m"), "`brush` must be 0.000001 to 1000000 pixels .*got '1e-300 m'"),
    "another geometry": (one({"type": "Curve"}), r"no geometry that is read \('Curve'\)"),
    "half a position": (lying("Point", 1), "coordinates that make no Point"),
    "words": (lying("LineString", ["a", "b"], [1, 2]), "coordinates that make no LineString"),
    "a line of one point": (lying("LineString", [15, 45]), "coordinates that make no LineString"),
    "meters": (lying("Point", 5e5, 5e6), "lies at 500000, 5e.06, which is no longitude and latitude: .* member `crs`"),
    "outside": (
        lying("Point", 45, 15),
        "all 1 shapes lie outside of the image, the first at 45, 15 in WGS 84; the image spans .* order of longitude",
    ),
    "an unknown system": (
        none_in({"type": "name", "properties": {"name": "EPSG:0"}}),
        "has the unknown `crs` 'EPSG:0': export it in WGS 84",
    ),
    "a linked system": (none_in({"type": "link", "properties": {}}), "`crs` that names no coordinate system"),
    "no system": (none_in(None), "`crs` that names no coordinate system"),
    "a system without properties": (none_in({"type": "name", "properties": None}), "`crs` that names no coordinate"),
    "a system of a list": (none_in({"type": "name", "properties": ["EPSG:4326"]}), "`crs` that names no coordinate"),
    "a number beyond floats": (lying("Point", 10**400, 45), "feature 1 has coordinates that make no Point"),
    "a number beyond integers": ('{"type": "Feature", "id": ' + "9" * 5000 + "}", "is no GeoJSON that can be read"),
    "a feature of null": (beside(None), "feature 2 is no Feature with a `geometry`: draw it again, or remove it"),
    "a feature of a word": (beside("x"), "feature 2 is no Feature with a `geometry`"),
    "a geometry as feature": (beside(POINT), "feature 2 is no Feature with a `geometry`"),
    "a point of null": (beside(lying("MultiPoint", None, [15, 45])), "feature 2 has coordinates that make no Point"),
    "a line of null": (beside(lying("MultiLineString", None)), "feature 2 has coordinates that make no LineString"),
    "a polygon of a mapping": (beside(lying("MultiPolygon", {})), "feature 2 has coordinates that make no Polygon"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_is_named_in_one_line(tmp_path, fault):
    content, told = FAULTS[fault]
    path = tmp_path / "a.geojson"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(BadSampleError, match=f"^{path}.*{told}") as raised:
        labels_of(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("crs", "lacking"), [(None, "no coordinate system"), ("EPSG:32633", "no place on a map")])
def test_a_raster_without_a_place_takes_no_coordinates(tmp_path, crs, lacking):
    path = write(tmp_path / "a.geojson", drawn("Point", [15, 45]))
    place = Place(
        crs and rasterio.CRS.from_user_input(crs),
        transform_of("degrees") if crs is None else rasterio.Affine.identity(),
    )
    with pytest.raises(BadSampleError, match=f"has no place on its image, which has {lacking}: add it"):
        labels_of(path, place=place)


def test_some_shapes_outside_are_told_and_left_out(tmp_path):
    path = write(tmp_path / "a.geojson", drawn("Point", [15, 45]), drawn("Point", [15, 46], "dry"))
    shapes, notes = read_shapes(path, CLASSES, place_of("utm north"), SIZE, Brush(1, "px"))
    assert [shape.label for shape in shapes] == [1]
    assert notes == [f"{path}: 1 of 2 shapes lie outside of the image, as feature 2 (dry)"]
