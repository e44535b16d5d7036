"""Images that ground control points or a sensor model place keep these; what needs a transform says so."""

import sys
from pathlib import Path

import numpy as np
import pytest

from weakseg_lightning.data import BadSampleError
from weakseg_lightning.data.maps.places import Place, is_mosaic
from weakseg_lightning.prediction.geojson import require_crs
from weakseg_lightning.prediction.maps import GeoTiff, is_map
from weakseg_lightning.prediction.objects import MAP_COLUMNS, ImageObjects, ObjectTable
from weakseg_lightning.prediction.rasters import open_rows
from weakseg_lightning.prediction.regions import Region
from weakseg_lightning.visualization import voc_palette

sys.path.append(str(Path(__file__).parent))
from known_places import rasterio, write_map

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # of rasterio itself

NONE = [0.0] * 18
MODEL = {
    "height_off": 10, "height_scale": 500, "lat_off": 45, "lat_scale": 0.1, "long_off": 15, "long_scale": 0.1,
    "line_off": 45, "line_scale": 45, "samp_off": 35, "samp_scale": 35, "err_bias": None, "err_rand": None,
    "line_num_coeff": [0.0, 0.0, -1.0, *NONE[1:]], "line_den_coeff": [1.0, 0.0, *NONE],
    "samp_num_coeff": [0.0, 1.0, *NONE], "samp_den_coeff": [1.0, 0.0, *NONE],
}  # fmt: skip
CORNERS = [(0, 0), (0, 70), (90, 0), (90, 70)]


def write_placed(path: Path, kind: str) -> Path:
    """An image of 70 x 90 pixels of ten meters, or with a sensor model."""
    if kind == "model":
        by = {"rpcs": rasterio.rpc.RPC(**MODEL)}
    else:
        control = rasterio.control.GroundControlPoint
        points = [control(r, c, 500000 + 10 * c, 5000000 - 10 * r, 7.0, f"{r}-{c}") for r, c in CORNERS]
        by = {"gcps": points, "crs": "EPSG:32633"}
    with rasterio.open(path, "w", "GTiff", 70, 90, 3, dtype="uint8", **by) as file:
        file.write(np.random.default_rng(0).integers(0, 256, (3, 90, 70), dtype=np.uint8))
    return path


def label(path: Path, target: Path, region: Region) -> Place:
    with (
        open_rows(path, region=region) as image,
        GeoTiff(target, image.width, image.height, voc_palette(), image.place, ["a", "b"]) as file,
    ):
        file.write(np.zeros((image.height, image.width), np.uint8))
        return image.place


@pytest.mark.parametrize("window", [None, (30, 10, 17, 41)])
def test_labels_keep_control_points(tmp_path, window):
    path = write_placed(tmp_path / "a.tif", "points")
    assert is_map(path)
    label(path, tmp_path / "labels.tif", Region(window))
    column, row = (window or (0, 0))[:2]
    with rasterio.open(tmp_path / "labels.tif") as labels:
        points, crs = labels.gcps
    assert crs == rasterio.CRS.from_epsg(32633)
    assert [(one.row, one.col, one.x, one.y, one.z) for one in points] == [
        (r - row, c - column, 500000 + 10 * c, 5000000 - 10 * r, 7.0) for r, c in CORNERS
    ]


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_labels_keep_a_sensor_model(tmp_path):
    path = write_placed(tmp_path / "a.tif", "model")
    label(path, tmp_path / "labels.tif", Region((30, 10, 17, 41)))
    with rasterio.open(tmp_path / "labels.tif") as labels:
        model = labels.rpcs
    assert (model.line_off, model.samp_off, model.line_scale) == (35, 5, 45)
    assert model.line_num_coeff == MODEL["line_num_coeff"]


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("points", "ground control points: warp it first (`gdalwarp IN"),
        ("model", "a sensor model (RPC): warp it first (`gdalwarp -rpc IN"),
    ],
)
def test_what_needs_a_transform_says_so(tmp_path, kind, said):
    path = write_placed(tmp_path / "a.tif", kind)
    place = label(path, tmp_path / "labels.tif", Region())
    for fails in (
        lambda: require_crs(path, place),
        lambda: Region(bounds=(0, 0, 1, 1)).find(path, 70, 90, place),
    ):
        with pytest.raises(BadSampleError) as error:
            fails()
        assert str(error.value).startswith(f"{path} is placed on the map by {said}")
    table, objects = ObjectTable(["a", "b"]), ImageObjects(2)
    objects.add(np.ones((2, 2), np.uint8), np.zeros((2, 2, 3), np.uint8))
    table.add("a.tif", objects, place)
    assert MAP_COLUMNS not in table.rows[0]


def test_bounds_that_lie_outside_are_told_in_coordinates(tmp_path):
    path = write_map(tmp_path / "a.tif", np.zeros((3, 90, 70), np.uint8), "utm north")
    with rasterio.open(path) as source:
        place, extent = Place.of_whole(source), ", ".join(f"{value:.10g}" for value in source.bounds)
    with pytest.raises(BadSampleError) as error:
        Region(bounds=(1, 2, 3.5, 4)).find(path, 70, 90, place)
    assert f"a.tif spans [{extent}] in EPSG:326" in str(error.value)
    assert "and the `bounds` [1, 2, 3.5, 4] lie outside: name a part of it" in str(error.value)


def test_areas_in_degrees_are_square_meters():
    place = Place(rasterio.CRS.from_epsg(4326), rasterio.Affine(1e-4, 0, 15, 0, -1e-4, 60))
    table, objects = ObjectTable(["a", "b"]), ImageObjects(10)
    objects.add(np.ones((10, 10), np.uint8), np.zeros((10, 10, 3), np.uint8))
    table.add("a.tif", objects, place)
    # of the ellipsoid at 60 degrees: 55.800 km per degree of longitude, 111.412 km per degree of latitude
    assert table.rows[0][MAP_COLUMNS][2] == pytest.approx(5.5800 * 11.1412 * 100, rel=1e-4)


def test_mosaics_stand_for_images():
    assert is_mosaic(Path("a/b.VRT"))
    assert not is_mosaic(Path("a/b.tif"))
