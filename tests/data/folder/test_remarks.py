"""What heads of images say beside their pixels: nodata that are declared, transparency, depth, names."""

import shutil
import warnings

import numpy as np
import pytest
import tifffile
from PIL import Image

from weakseg_lightning.cli.commands.check import check
from weakseg_lightning.cli.commands.superpixels import superpixels
from weakseg_lightning.data import FolderDataModule
from weakseg_lightning.data.folder.contents import read_folder
from weakseg_lightning.data.folder.images.remarks import remarks
from weakseg_lightning.data.images.channels import ChannelFiles
from weakseg_lightning.errors import UserError

SIDE = 24


def tiff(path, values: np.ndarray, nodata: str | None = None, **options) -> None:
    tags = [] if nodata is None else [(42113, "s", 0, nodata, True)]
    photometric = "rgb" if values.shape[-1] < 5 else "minisblack"
    tifffile.imwrite(path, values, photometric=photometric, planarconfig="contig", extratags=tags, **options)


def folder(root, values, nodata: str | None = None):
    for name in ("images", "scribbles"):
        (root / name).mkdir(parents=True)
    (root / "classes.yaml").write_text("classes: [background, field]\n")
    labels = np.full((SIDE, SIDE), 255, np.uint8)
    labels[2], labels[8, :10] = 1, 0
    for name in "ab":
        tiff(root / "images" / f"{name}.tif", values, nodata)
        Image.fromarray(labels).save(root / "scribbles" / f"{name}.png")
    return root


def with_hole(bands: int, dtype: str, hole: float) -> np.ndarray:
    values = np.random.default_rng(0).integers(80, 120, (SIDE, SIDE, bands)).astype(dtype)
    values[:, :6] = hole
    return values


@pytest.mark.parametrize(
    ("dtype", "text"), [("f4", "-9999"), ("u2", "65535"), ("f4", "nan"), ("f4", "-3.4028234663852886e+38")]
)
@pytest.mark.parametrize("bands", [3, 5])
def test_declared_nodata_are_no_data(tmp_path, capsys, dtype, text, bands):
    root = folder(tmp_path / "data", with_hole(bands, dtype, float(text)), text)
    channels = [f"b{number}" for number in range(bands)] if bands == 5 else None
    data = FolderDataModule(root, channels=channels, num_workers=0)
    data.setup("fit")
    if data.channels is not None:
        assert 80 <= min(data.channels.low) < max(data.channels.high) < 120
        assert all(95 < mean < 105 for mean in data.channels.mean)
    sample, facts = data.train_source()[0], data.train_source().labels(0)
    assert sample.valid is not None
    assert facts.valid is not None
    assert not sample.valid[:, :6].any()
    assert sample.valid[:, 6:].all()
    assert (sample.seeds[:, :6] == 255).all()
    assert (sample.seeds != 255).sum() == SIDE - 6 + 4
    assert sample.image.isfinite().all()
    inside = sample.image[:, :, 6:].float()
    assert inside.std() > (20 if channels is None else 0.2), "the stretch is that of the data"
    assert (facts.seeds == sample.seeds).all()
    assert check(root, tmp_path / "sheet.jpg", channels=channels) == 0
    told = capsys.readouterr().out
    assert f"2 images declare nodata, as a ({float(text):g})" in told
    assert f"scribbles and clicks label {(SIDE - 2) / (SIDE * (SIDE - 6)):.2%} of the pixels" in told


def test_pictures_without_the_tag_keep_their_values_and_have_no_invalid_pixels(tmp_path):
    values = with_hole(3, "u1", 0)
    data = FolderDataModule(folder(tmp_path, values), num_workers=0)
    data.setup("fit")
    sample = data.train_source()[0]
    assert sample.valid is None
    assert np.array_equal(sample.image.permute(1, 2, 0), values)
    assert not list(remarks(read_folder(tmp_path)))


def test_a_fourth_band_that_is_marked_as_transparency_is_told_unless_bands_are_named(tmp_path, capsys):
    values = with_hole(4, "u1", 90)
    root = folder(tmp_path / "data", values[..., :3])
    tiff(root / "images" / "a.tif", values, extrasamples=["unassalpha"])
    tiff(root / "images" / "b.tif", values, extrasamples=["unassalpha"])
    check(root, tmp_path / "sheet.jpg")
    note = "band 4 of 2 images, as a, is marked as transparency and read so; if it is a channel, name the bands"
    assert note in capsys.readouterr().out
    names = ["red", "green", "blue", "nir"]
    check(root, tmp_path / "sheet.jpg", channels=names)
    assert "transparency" not in capsys.readouterr().out
    data = FolderDataModule(root, channels=names, num_workers=0)
    data.setup("fit")
    assert data.train_source()[0].valid is None, "it is data, no mask"
    (root / "images" / "a.tif").unlink()
    Image.fromarray(values).save(root / "images" / "a.png")
    assert "band 4 of 1 image, as b," in "".join(remarks(read_folder(root))), "a PNG is what it says"


def test_files_of_another_depth_and_channels_in_color_are_told(tmp_path):
    root = folder(tmp_path, with_hole(3, "u2", 70))
    Image.fromarray(with_hole(3, "u1", 70)).save(root / "images" / "c.png")
    Image.fromarray(with_hole(3, "u1", 70)).save(root / "images" / "c_nir.png")
    told = "\n".join(remarks(read_folder(root)))
    assert "2 of 4 images are 8-bit, as c, the others 16-bit: only 8 bits are taken as they are" in told
    assert "1 file named as a channel, as c_nir, is in color and an image like others" in told


def test_check_names_a_constant_channel_as_training_does(tmp_path, capsys):
    values = with_hole(5, "u2", 90)
    values[..., 4] = 7
    names = [f"b{number}" for number in range(5)]
    root = folder(tmp_path / "data", values)
    assert check(root, tmp_path / "sheet.jpg", channels=names) == 1
    assert "have one value throughout in the channel 'b4': leave it out" in capsys.readouterr().out
    with pytest.raises(UserError, match="the channel 'b4' is 7 in all training images"):
        _ = FolderDataModule(root, channels=names).channels


def test_numbers_of_things_are_in_english_and_a_broken_file_of_classes_is_not_missing(tmp_path, capsys):
    root = folder(tmp_path / "data", with_hole(3, "u1", 90))
    (root / "scribbles" / "b.png").unlink()
    (root / "classes.yaml").write_text("classes: [background, [field\n")
    assert check(root, tmp_path / "sheet.jpg") == 1
    told = capsys.readouterr().out
    assert "note: 1 image has no annotation, as b" in told
    assert "no classes.yaml" not in told


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.zeros((2, 3, 4, 5)), "holds float64 of 2 x 3 x 4 x 5, expected numbers of 2 or 3 dimensions"),
        (np.array([["a", "b"]]), "expected numbers of 2 or 3 dimensions"),
        (np.array([[None, 1]], dtype=object), "holds objects of Python, expected numbers"),
    ],
)
def test_arrays_that_are_no_images_are_named_with_the_reason(tmp_path, values, expected):
    (tmp_path / "images").mkdir()
    np.save(tmp_path / "images" / "a.npy", values)
    with pytest.raises(UserError, match=expected) as raised:
        check(tmp_path)
    assert "images/a.npy" in str(raised.value)


def test_a_thumbnail_before_the_image_is_named(tmp_path):
    root = folder(tmp_path, with_hole(3, "u1", 90))
    with tifffile.TiffWriter(root / "images" / "a.tif") as file:
        file.write(np.zeros((4, 4, 3), np.uint8), subfiletype=1, photometric="rgb")
        file.write(with_hole(3, "u1", 90), photometric="rgb")
    with pytest.raises(UserError, match=r"a.tif has a thumbnail or mask before its image: name their bands"):
        read_folder(root).size_of("a")


def test_jpeg_2000_of_many_bands_is_named(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    root = folder(tmp_path, with_hole(3, "u1", 90))
    options = {"driver": "JP2OpenJPEG", "width": SIDE, "height": SIDE, "count": 5, "dtype": "uint8"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it lies nowhere on the map
        with rasterio.open(root / "images" / "c.jp2", "w", **options) as file:
            file.write(np.moveaxis(with_hole(5, "u1", 90), -1, 0))
    with pytest.raises(UserError, match=r"c.jp2 has 5 bands, of which JPEG 2000 is not read: convert it to TIFF"):
        read_folder(root).size_of("c")


def test_superpixels_see_the_channels_that_pictures_show(tmp_path):
    values = with_hole(5, "u2", 90)
    values[:, 12:, :3] = 900
    root = folder(tmp_path, values)
    assert superpixels(root, side=8) == 0
    regions = np.asarray(Image.open(root / "superpixels" / "a.png"))
    assert regions.shape == (SIDE, SIDE)
    assert not set(regions[:, :12].ravel()) & set(regions[:, 12:].ravel()), "no region crosses the edge"


def test_superpixels_follow_the_guide_and_given_names(tmp_path):
    values = np.full((SIDE, SIDE, 5), 90, "u2")
    values[:, 11:, 4] = 900  # in the middle of a square of 8 x 8
    root = folder(tmp_path, values)
    found = []
    for guide in (None, ["five"]):
        assert (
            superpixels(root, side=8, overwrite=True, channels={"one": 1, "two": 2, "four": 4, "five": 5}, guide=guide)
            == 0
        )
        regions = np.asarray(Image.open(root / "superpixels" / "a.png"))
        found.append(not set(regions[:, :11].ravel()) & set(regions[:, 11:].ravel()))
    assert found == [False, True], "an edge of the fifth band, unseen and seen"
    with pytest.raises(UserError, match="no channel is called 'six'"):
        superpixels(root, side=8, overwrite=True, guide=["six"])


def test_strokes_on_pixels_without_data_alone_are_named(tmp_path, capsys):
    values = np.full((SIDE, SIDE, 3), 5, "i2")
    values[:, : SIDE // 2] = -9999
    root = folder(tmp_path, values, "-9999")
    strokes = np.full((SIDE, SIDE), 255, np.uint8)
    strokes[4, 2:8], strokes[8, 2:8] = 0, 1
    Image.fromarray(strokes).save(root / "scribbles" / "a.png")
    assert check(root) == 1
    assert "scribbles/a.png" in (told := capsys.readouterr().out)
    assert "labels nothing but pixels without data" in told
    assert "has no labelled pixel" not in told


def test_clicks_on_pixels_without_data_alone_are_named_by_their_file(tmp_path, capsys):
    values = np.full((SIDE, SIDE, 3), 5, "i2")
    values[:, : SIDE // 2] = -9999
    root = folder(tmp_path, values, "-9999")
    (root / "scribbles" / "a.png").unlink()
    (root / "points.csv").write_text("image,x,y,class\na,1,1,0\na,2,3,1\n")
    assert check(root) == 1
    assert "points.csv" in (told := capsys.readouterr().out).partition("labels nothing but")[0].splitlines()[-1]
    assert "images/a.tif" not in told


@pytest.mark.parametrize(
    ("size", "image", "labels", "expected"),
    [
        ((40, 40), 6, 1, True),
        ((40, 56), 3, 1, True),
        ((40, 40), 1, 8, True),
        ((40, 40), 6, 6, False),
        ((40, 40), 1, 1, False),
        ((40, 56), 6, 1, False),  # the sizes differ, which is a problem of its own
    ],
)
def test_label_maps_that_lie_otherwise_than_their_images_are_told(tmp_path, size, image, labels, expected):
    for name, orientation in (("images", image), ("scribbles", labels)):
        (tmp_path / name).mkdir()
        exif = Image.Exif()
        exif[274] = orientation
        Image.new("L", size).save(tmp_path / name / "a.png", exif=exif)
    for beside in (None, image):  # a mask that lies as the image does hides no scribble that does not
        if beside is not None:
            (tmp_path / "masks").mkdir()
            shutil.copy(tmp_path / "images/a.png", tmp_path / "masks/a.png")
        told = [note for note in remarks(read_folder(tmp_path)) if "turned by EXIF data otherwise" in note]
        assert [note.startswith("1 image, as a, is turned") for note in told] == [True] * expected


@pytest.mark.parametrize(
    ("size", "image", "expected"), [((40, 40), 6, True), ((40, 56), 3, True), ((40, 40), 1, False)]
)
def test_channels_that_lie_otherwise_than_their_images_are_told(tmp_path, size, image, expected):
    (tmp_path / "images").mkdir()
    exif = Image.Exif()
    exif[274] = image
    Image.new("RGB", size).save(tmp_path / "images/a.jpg", exif=exif)
    Image.new("L", size).save(tmp_path / "images/a_nir.tif")
    channels = ChannelFiles({"red": 1, "green": 2, "blue": 3, "nir": "NAME_nir.tif"})
    told = [note for note in remarks(read_folder(tmp_path, channels=channels)) if "than the files of their" in note]
    assert [note.startswith("1 image, as a, is turned by EXIF data otherwise") for note in told] == [True] * expected
