"""`weakseg check` counts the labels of maps and names what is wrong; commands for images say what to do with maps."""

import json

import numpy as np
import pytest
from map_folders import UTM, data_of, drawn, on_map, raster, rasterio, write, write_raster

from weakseg_lightning.cli.commands.check import check
from weakseg_lightning.cli.commands.init.command import init
from weakseg_lightning.cli.commands.superpixels import superpixels
from weakseg_lightning.data.maps.contents import holds_maps
from weakseg_lightning.data.maps.inspection import describe_maps, require_no_maps
from weakseg_lightning.data.samples import BadSampleError
from weakseg_lightning.errors import MissingFileError, UserError

_OVERLAY = "--config recipes/data/maps.yaml --model.labels tags --data.root"


def test_labels_are_counted(make_maps):
    root = make_maps(("a", "b"), ("a",))
    lines, problems = describe_maps(root, None)
    assert not problems
    assert lines[1] == "  a: 160 x 160 pixels, EPSG:32633; scribbles/a.geojson, masks/a.tif"
    assert lines[-1].endswith(f"--config recipes/data/maps.yaml --model.labels tags --data.root {root}")
    counts = {line.split()[1]: line.split()[2:] for line in lines if line[:3].strip().isdigit()}
    with rasterio.open(root / "masks/a.tif") as source:
        mask = source.read(1)
    assert {name: int(of_masks) for name, (_, of_masks) in counts.items()} == {
        name: (mask == label).sum() for label, name in enumerate(("land", "wet", "dry"))
    }
    assert int(counts["land"][0]) == 2 * 25 * 3 * 17


def test_what_is_wrong_is_named_all_at_once(make_maps):
    root = make_maps(("a", "b"), ("a", "b"))
    content = json.loads((root / "scribbles/a.geojson").read_text())
    content["features"][4]["properties"]["class"] = "sea"
    (root / "scribbles/a.geojson").write_text(json.dumps(content))
    (root / "images/b.tif").unlink()
    with rasterio.open(root / "masks/a.tif", "r+") as file:
        file.write(file.read(1) + 1, 1)
    _, problems = describe_maps(root, None)
    assert [problem.file for problem in problems] == [
        "scribbles/b.geojson", "masks/b.tif", "scribbles/a.geojson", "masks/a.tif",
    ]  # fmt: skip
    assert "feature 5 has the class 'sea', which is none of land, wet, dry" in problems[2].text
    assert "holds the value 3, expected 0 to 2" in problems[3].text
    (root / "classes.yaml").unlink()
    with pytest.raises(MissingFileError, match=r"no classes\.yaml in"):
        describe_maps(root, None)


def test_commands_for_images_say_what_to_do_with_maps(make_maps, make_folder):
    root = make_maps()
    assert holds_maps(root)
    assert not holds_maps(make_folder())
    with pytest.raises(UserError, match=r"labels on a map, which `weakseg paint` does not take: draw in a GIS .* fit"):
        require_no_maps(root, "weakseg paint")
    require_no_maps(make_folder("others"), "weakseg paint")


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_channels_of_one_value_are_named_as_training_does(make_maps, dtype):
    """A raster without strokes is not trained on, and what is stored where there is no data does not count."""
    root = make_maps(("a", "b", "c"), (), nodata=0)
    (root / "scribbles/c.geojson").unlink()
    for name in ("a", "b", "c"):
        bands = raster(root / f"images/{name}.tif").clip(1).astype(dtype)
        bands[1], bands[1, :9], bands[2] = 7, 0, 9 if name == "c" else 5
        write_raster(root / f"images/{name}.tif", bands, nodata=0)
    channels = ["red", "flat", "nir"]
    _, problems = describe_maps(root, channels)
    told = [f"the channel '{name}' is {value} in all training images: leave it out" for name, value in
            (("flat", 7), ("nir", 5))]  # fmt: skip
    assert [(problem.file, problem.text) for problem in problems] == [("images", text) for text in told]
    with pytest.raises(UserError, match=told[0]):
        data_of(root, channels=channels)
    assert describe_maps(root, {"red": 1})[1] == []
    bands[2, -1, -1] = 6
    write_raster(root / "images/b.tif", bands, nodata=0)
    assert [problem.text for problem in describe_maps(root, channels)[1]] == told[:1]


def test_superpixels_are_not_made_of_maps(make_maps):
    root = make_maps()
    before = {*root.rglob("*")}
    with pytest.raises(UserError, match=r"maps holds maps, superpixels are for folders of images: train on the maps"):
        superpixels(root)
    assert {*root.rglob("*")} == before


def test_commands_know_maps(make_maps, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = make_maps(("a", "b"))
    assert check(root) == 0
    assert f"All is well. Next:\n  weakseg fit --config recipes/adm/adm_grid.yaml {_OVERLAY}" in capsys.readouterr().out
    (root / "images/b.tif").unlink()
    assert check(root) == 1
    told = capsys.readouterr().out
    assert "1 problem:\n  scribbles/b.geojson  belongs to no raster: there is no images/b.tif" in told
    assert f"Fix these, then run:\n  weakseg check {root}" in told
    with pytest.raises(UserError, match=r"which `weakseg init` does not take: .*`weakseg fit"):
        init(root)


def test_scribbles_that_label_every_pixel_are_refused_by_check_and_by_training(make_maps):
    """As GIS programs rasterize strokes: 0 where nothing is drawn, and no nodata value."""
    root = make_maps(("a",), ())
    strokes = np.zeros((1, 160, 160), np.uint8)
    strokes[0, 30:34, 20:60] = 1
    (root / "scribbles/a.geojson").unlink()
    path = write_raster(root / "scribbles/a.tif", strokes)
    _, problems = describe_maps(root, None)
    text = "labels every pixel: if 0, the value of most, means no label, write `unlabelled: 0` into classes.yaml"
    assert text in str(problems[0])
    assert str(problems[0]).endswith("or declare it: `gdal_edit.py -a_nodata 0`")
    with pytest.raises(BadSampleError, match="labels every pixel"):
        data_of(root).setup("fit")
    write_raster(path, strokes, nodata=0)
    assert describe_maps(root, None)[1] == []


def test_polygons_of_the_first_class_say_what_polygons_leave(make_maps):
    root = make_maps(("a",), ("a",))
    (root / "masks/a.tif").unlink()
    square = on_map([(0, 0), (80, 0), (80, 160), (0, 160), (0, 0)])
    other = on_map([(80, 0), (160, 0), (160, 160), (80, 160), (80, 0)])
    write(root / "masks/a.geojson", drawn("Polygon", [square], "land"), **UTM)
    (problem,) = describe_maps(root, None)[1]
    assert "feature 1 is land, the first class, which is what polygons leave, too: if that is not meant" in str(problem)
    write(root / "masks/a.geojson", drawn("Polygon", [square], "land"), drawn("Polygon", [other]), **UTM)
    assert describe_maps(root, None)[1] == []


@pytest.mark.parametrize(("names", "label", "fault"), [
    ("[land, wet, dry]", 1.0, None), ("['10', '20', '30']", 2, "has the class '2', which is none of 10, 20, 30"),
])  # fmt: skip
def test_classes_by_numbers_are_indices_unless_classes_are_called_by_numbers(make_maps, names, label, fault):
    root = make_maps(("a",), ())
    (root / "classes.yaml").write_text(f"classes: {names}\n")
    line = on_map([(10.5, 10.5), (24.5, 10.5)])
    write(root / "scribbles/a.geojson", drawn("LineString", line, label), **UTM)
    _, problems = describe_maps(root, None)
    assert [fault in str(problem) for problem in problems] == [True] * (fault is not None)
