"""`weakseg predict` of a data set writes GeoTIFFs for images that lie on a map, as with IMAGES."""

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from weakseg_lightning import ScenesDataModule
from weakseg_lightning.cli.commands.predict.placed import place_predictions
from weakseg_lightning.data import SampleSource
from weakseg_lightning.data.images.reading import read_labels

sys.path.append(str(Path(__file__).parents[2] / "prediction"))
from known_places import rasterio, transform_of, write_map

pytestmark = pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning")  # of rasterio itself

PIXELS = np.random.default_rng(0).integers(1, 256, (3, 40, 48), dtype=np.uint8)


def labels_of(path: Path) -> np.ndarray:
    with rasterio.open(path) as labels:
        assert labels.transform.almost_equals(transform_of("utm south"), precision=1e-6)
        assert (labels.crs, labels.nodata) == (rasterio.CRS.from_epsg(32733), 255)
        return labels.read(1)


class Files(SampleSource):
    """Images of a folder."""

    ids = ("maps/a", "plain", "absent")

    def __getitem__(self, index):
        raise AssertionError

    def origin(self, index, what):
        return f"{self.ids[index]}.tif"


def test_labels_get_the_places_of_their_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("maps").mkdir()
    values = PIXELS.copy()
    values[:, :10] = 0
    write_map(Path("maps/a.tif"), values, "utm south", nodata=0)
    Image.fromarray(np.moveaxis(values, 0, -1)).save("plain.tif")
    predicted = np.full((40, 48), 1, np.uint8)
    for name in ("maps%2Fa", "plain"):
        Image.fromarray(predicted).save(f"{name}.png")
    place_predictions(Files(), tmp_path, ["ground", "field"], np.zeros((2, 3), np.uint8), None)
    assert sorted(path.name for path in tmp_path.glob("*.*")) == ["maps%2Fa.tif", "plain.png", "plain.tif"]
    predicted[:10] = 255
    np.testing.assert_array_equal(labels_of(tmp_path / "maps%2Fa.tif"), predicted)


@pytest.mark.parametrize("orientation", [3, 6])
def test_labels_of_images_that_exif_data_turn_have_no_place(tmp_path, monkeypatch, orientation):
    """Predicted upright, they would cover other pixels of the map, also where the size is the same."""
    monkeypatch.chdir(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (40, 40)).save("plain.tif", exif=exif)
    Path("plain.tfw").write_text("1\n0\n0\n-1\n500000\n5000000\n")
    Image.new("L", (40, 40)).save("plain.png")
    with pytest.warns(UserWarning, match="plain.png has no place on a map: .*its EXIF data turn it: remove the tag"):
        place_predictions(Files(), tmp_path, ["ground", "field"], np.zeros((2, 3), np.uint8), None)
    assert Path("plain.png").is_file()


@pytest.fixture
def predict_set(run, of_run):
    """Predicts the image of a folder without IMAGES and with them: ``predict_set(name)``; yields where labels are."""
    names = ", ".join(ScenesDataModule().class_names)
    Path("set/images").mkdir(parents=True)
    Path("set/classes.yaml").write_text(f"classes: [{names}]\n")
    Path("set/points.csv").write_text("image,x,y,class\na,2,2,0\na,30,30,1\n")
    of_set = ["--data=FolderDataModule", "--data.root=set", "--data.batch_size=1", "--data.num_workers=0"]

    def predict(name):
        for words, folder in (([], "out"), (["set/images"], "files")):
            status, _, err = run("predict", *of_run, *of_set, *words, f"--predictions.output_dir={folder}")
            assert status == 0, err
            assert [path.name for path in Path(folder, "labels").iterdir()] == [name]
            with Image.open(Path(folder, "overlays/a.jpg")) as overlay:
                assert overlay.size == (48, 40)
            yield Path(folder, "labels", name)

    return predict


def test_files_are_labeled_where_the_data_are_not(run, of_run):
    Image.new("RGB", (48, 40)).save("a.png")
    of_set = ["--data=FolderDataModule", "--data.root=elsewhere", "--predictions.output_dir=out"]
    status, out, err = run("predict", *of_run, *of_set, "a.png")
    assert status == 0, err
    assert "The classes are those of the checkpoint, in the colors of PASCAL VOC: `root`: there is no folder" in out
    assert Path("out/labels/a.png").is_file()


@pytest.mark.parametrize("without_data", [0, 12])
def test_with_and_without_images(predict_set, without_data):
    """Rows and columns at a corner may have no data: they are no padding, and are written as 255."""
    values = PIXELS.copy()
    values[:, :without_data, :], values[:, :, :without_data] = 0, 0
    write_map(Path("set/images/a.tif"), values, "utm south", nodata=0)
    written = [labels_of(path) for path in predict_set("a.tif")]
    np.testing.assert_array_equal(written[0] == 255, values.max(0) == 0)
    np.testing.assert_array_equal(*written)


def test_nodata_of_a_tiff_on_no_map_is_left_out_with_and_without_images(predict_set):
    values = PIXELS.copy()
    values[:, 5:20, 9:30] = 0
    with (
        warnings.catch_warnings(action="ignore"),  # it lies nowhere
        rasterio.open("set/images/a.tif", "w", "GTiff", 48, 40, 3, dtype="uint8", nodata=0) as file,
    ):
        file.write(values)
    written = [read_labels(path).numpy() for path in predict_set("a.png")]
    np.testing.assert_array_equal(written[0] == 255, values.max(0) == 0)
    np.testing.assert_array_equal(*written)
