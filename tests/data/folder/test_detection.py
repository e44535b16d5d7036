"""Folders whose images have channels, and folders of pictures, which have none."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from weakseg_lightning.cli.commands.check import check
from weakseg_lightning.data.folder.detection import detect_channels
from weakseg_lightning.data.images.described import describe_bands

NAMES = ["blue", "green", "red", "edge", "nir"]


def five(dtype="u2", size=(8, 6)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, (5, *size)).astype(dtype)


def folder(root: Path, *files: tuple[str, np.ndarray]) -> Path:
    (root / "images").mkdir(parents=True, exist_ok=True)
    for name, values in files:
        path = root / "images" / name
        if path.suffix == ".npy":
            np.save(path, values)
        elif path.suffix == ".tif":
            tifffile.imwrite(path, values, photometric="minisblack" if values.ndim == 3 else None)
        else:
            Image.fromarray(values).save(path)
    return root


GRAY, RGB = np.zeros((8, 6), np.uint8), np.zeros((8, 6, 3), np.uint8)


def test_bands_are_named_by_gdal_ome_pages_and_imagej(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    kind = {"driver": "GTiff", "width": 6, "height": 8, "count": 5, "dtype": "uint16"}
    transform = rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)
    with rasterio.open(tmp_path / "gdal.tif", "w", **kind, crs="EPSG:32632", transform=transform) as file:
        file.write(five())
        file.descriptions = NAMES
    metadata = {"axes": "CYX", "Channel": {"Name": NAMES}}
    tifffile.imwrite(tmp_path / "a.ome.tif", five(), ome=True, metadata=metadata)
    tifffile.imwrite(tmp_path / "imagej.tif", five(), imagej=True, metadata={"axes": "CYX", "Labels": NAMES})
    for page, name in zip(five(), NAMES, strict=True):
        tags = [(285, "s", 0, name, True)]
        tifffile.imwrite(tmp_path / "pages.tif", page, append=name != "blue", extratags=tags, metadata=None)
    for name in ("gdal", "a.ome", "imagej", "pages"):
        assert describe_bands(tmp_path / f"{name}.tif").names == tuple(NAMES), name


def test_a_file_of_an_odd_type_is_named_and_the_others_are_looked_at(tmp_path, capsys):
    root = folder(tmp_path, ("a.tif", five()), ("b.tif", five()), ("c.tif", five("c8")))
    assert detect_channels(root).given[-1] == "band_5"
    assert check(root) == 1
    told = capsys.readouterr().out
    assert "images/c.tif  has pixels of a type that is not read (64 bits): convert it to 8 or 16 bits" in told
    pictures = folder(tmp_path / "pictures", ("a.png", RGB), ("b.png", RGB), ("c.tif", GRAY.astype("c8")))
    assert detect_channels(pictures) is None
    assert check(pictures) == 1
    assert "images/c.tif  has pixels of a type that is not read" in capsys.readouterr().out


def test_bands_without_names_are_numbered(tmp_path):
    tifffile.imwrite(tmp_path / "gray.tif", five(), photometric="minisblack")
    tifffile.imwrite(tmp_path / "rgb.tif", np.moveaxis(five(), 0, -1), photometric="rgb")
    tifffile.imwrite(
        tmp_path / "twice.ome.tif", five(), ome=True, metadata={"axes": "CYX", "Channel": {"Name": 5 * ["a"]}}
    )
    assert describe_bands(tmp_path / "gray.tif").names_or_numbers == ("band_1", "band_2", "band_3", "band_4", "band_5")
    assert describe_bands(tmp_path / "rgb.tif").names == ("red", "green", "blue", "band_4", "band_5")
    assert describe_bands(tmp_path / "twice.ome.tif").names == ()


def test_folders_of_many_bands_have_channels(tmp_path):
    root = folder(tmp_path, ("a.tif", five()), ("b.tif", five()), ("c.tif", five()[:4]), ("d.tif", GRAY))
    found = detect_channels(root)
    assert found.given == ["band_1", "band_2", "band_3", "band_4", "band_5"]
    assert [path.name for path in found.others] == ["c.tif", "d.tif"]
    assert "5 bands of the files, which do not name them" in found.how
    arrays = folder(tmp_path / "arrays", ("a.npy", five()), ("b.npy", five()))
    assert len(detect_channels(arrays).given) == 5
    alone = folder(tmp_path / "alone", ("a.npy", five()[0]))
    assert detect_channels(alone).given == ["band_1"]


def test_a_fourth_band_that_is_no_opacity_is_a_channel(tmp_path):
    four = np.moveaxis(five("u1")[:4], 0, -1)
    for samples, names in (("unspecified", ["red", "green", "blue", "band_4"]), ("unassalpha", None)):
        root = folder(tmp_path / samples)
        tifffile.imwrite(root / "images/a.tif", four, photometric="rgb", extrasamples=[samples])
        found = detect_channels(root)
        assert (found and found.given) == names


def test_files_beside_an_image_are_its_channels(tmp_path):
    names = [(f"{kind}{number}{end}", pixels) for number in (1, 2, 3) for kind, end, pixels in (
        ("sub_", ".jpg", RGB), ("sub_", "_NIR.tif", five()[0]), ("sub_", "-depth.npy", five("f4")[0]))]  # fmt: skip
    root = folder(tmp_path, *names)
    expected = {"red": 1, "green": 2, "blue": 3, "depth": "NAME-depth.npy", "nir": "NAME_NIR.tif"}
    assert detect_channels(root).given == expected
    (root / "images/sub_3_NIR.tif").unlink()
    assert detect_channels(root).given == expected, "the missing one is named when it is read"


def test_all_channels_may_be_in_files_of_their_own(tmp_path):
    root = folder(tmp_path, *[(f"{place}_{band}.tif", five()[0]) for place in "ab" for band in ("B02", "B8A", "dsm")])
    found = detect_channels(root)
    assert found.given == {"b02": "NAME_B02.tif", "b8a": "NAME_B8A.tif", "dsm": "NAME_dsm.tif"}
    assert "3 files per image" in found.how


@pytest.mark.parametrize(
    "files",
    [
        [("a.jpg", RGB), ("b.png", GRAY)],
        [("a_1.png", GRAY), ("a_2.png", GRAY), ("b_1.png", GRAY), ("b_2.png", GRAY)],
        [("cat_front.png", GRAY), ("cat_back.png", GRAY)],
        [("car.jpg", RGB), ("car_red.jpg", RGB), ("car_blue.jpg", RGB)],
        [("a.tif", GRAY.astype("u2")), ("b.tif", RGB.astype("u2"))],
        [("a.jpg", RGB), ("b.jpg", RGB), ("c.jpg", RGB), ("c_nir.png", GRAY)],
        [("a_nir.png", GRAY), ("b_nir.png", GRAY)],
        [("a.png", RGB), ("b.png", RGB), ("five.tif", five())],
    ],
)
def test_pictures_have_none(tmp_path, files):
    assert detect_channels(folder(tmp_path, *files)) is None


def test_what_is_annotated_by_itself_is_an_image(tmp_path):
    root = folder(tmp_path, *[(f"{place}_{kind}.png", GRAY) for place in "ab" for kind in ("dapi", "gfp")])
    assert detect_channels(root) is not None
    (root / "masks").mkdir()
    for path in (root / "images").iterdir():
        Image.fromarray(GRAY).save(root / "masks" / path.name)
    assert detect_channels(root) is None


def volumes(root: Path, *names: str) -> None:
    for name in names:
        path = root / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_modalities_of_a_patient_are_channels(tmp_path):
    volumes(tmp_path / "images", *(f"{who}_{kind}" for who in ("p 0", "p.1") for kind in ("t1", "FLAIR", "t2w")))
    volumes(tmp_path / "scribbles", "p 0", "p.1")
    found = detect_channels(tmp_path)
    assert found is not None
    assert found.given == {"flair": "NAME_FLAIR.nii.gz", "t1": "NAME_t1.nii.gz", "t2w": "NAME_t2w.nii.gz"}


def test_modalities_are_channels_where_few_patients_are_annotated(tmp_path):
    volumes(tmp_path / "images", *(f"p{who}_{kind}" for who in range(10) for kind in ("t1", "t2")))
    volumes(tmp_path / "masks", "p3", "p7")
    found = detect_channels(tmp_path)
    assert found is not None
    assert found.given == {"t1": "NAME_t1.nii.gz", "t2": "NAME_t2.nii.gz"}


@pytest.mark.parametrize("labels", [(), ("p0_t1", "p0_t2", "p1_t1", "p1_t2")])
def test_points_in_time_are_images(tmp_path, labels):
    """Volumes that are called t1 and t2 are modalities where what is annotated is neither of them alone."""
    volumes(tmp_path / "images", *(f"{who}_{time}" for who in ("p0", "p1") for time in ("t1", "t2")))
    volumes(tmp_path / "scribbles", *labels)
    assert detect_channels(tmp_path) is None
