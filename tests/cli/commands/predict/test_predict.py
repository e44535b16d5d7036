"""`weakseg predict ... IMAGES`: which files, and what becomes of them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from weakseg_lightning import MeanField, ScenesDataModule, Segmenter
from weakseg_lightning.callbacks.pictures import file_stem
from weakseg_lightning.cli.commands.predict.files import find_images, split_images
from weakseg_lightning.prediction.objects import ImageObjects, ObjectTable


@pytest.mark.parametrize(
    ("args", "images"),
    [
        (["predict", "--config", "a.yaml"], []),
        (["predict", "a.jpg"], ["a.jpg"]),
        (["predict", "--config", "a.yaml", "b", "--ckpt_path=c", "d", "--images.flip", "true"], ["b", "d"]),
        (["predict", "--print_config", "b"], ["b"]),
        (["predict", "b", "--help"], ["b"]),
    ],
)
def test_words_that_are_no_value_of_an_option_are_images(args, images):
    options, found = split_images(args)
    assert found == images
    assert options == [word for word in args if word not in images]


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def test_names_are_as_short_as_they_tell_files_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch("a/x.jpg", "a/x.png", "a/sub/y.JPG", "a/notes.txt", "a/.hidden/z.jpg", "b/w.tif", "c/w.tif")
    assert list(find_images(["a"])) == ["sub/y", "x.jpg", "x.png"]
    assert list(find_images(["a/x.jpg", "a/x.jpg", "a/sub"])) == ["x", "y"]
    assert list(find_images(["b", "c"])) == ["b/w.tif", "c/w.tif"]
    assert [path.name for path in find_images(["a/notes.txt"]).values()] == ["notes.txt"], "what is named is read"


def test_of_a_folder_of_data_the_images_alone_are_labeled(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    touch("data/images/x.jpg", "data/images/sub/y.jpg", "data/scribbles/x.png", "data/contact_sheet.jpg")
    assert list(find_images(["data"])) == ["sub/y", "x"]
    assert capsys.readouterr().out == "data is a folder of data: its images/ alone are labeled\n"
    touch("photos/images/x.jpg", "photos/y.jpg")
    assert list(find_images(["photos"])) == ["images/x", "y"]


def test_no_two_files_have_one_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch("a/x.png", "a/x.jpg", "a/x.png.jpg", "b/x.png", "c/a/x.png")
    assert list(find_images(["a"])) == ["x.jpg", "x.png", "x.png.jpg"]
    assert list(find_images(["a/x.png", "b", "c"])) == ["a/x.png", "b/x.png", "c/a/x.png"]
    touch("v/p1.nii.gz", "v/p1_slice_0.png", "v/p1_slice_0_slice_2.png", "v/p2_slice_0.png")
    names = ["p1", "p1_slice_0.png", "p1_slice_0_slice_2", "p2_slice_0"]
    assert list(find_images(["v"])) == names, "`p1_slice_0` is the overlay of a slice of `p1`"


def test_what_is_no_image_is_told_once_with_a_count(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    touch("a/x.jpg", "a/x.json", "a/v.mp4", "a/sub/1.txt", "a/sub/2.txt", "a/.hidden", "a/Thumbs.db")
    find_images(["a", "a/sub/../x.jpg", "a/v.mp4"])
    assert capsys.readouterr().out == "Not read, as they are no images (3): a/sub/1.txt, a/sub/2.txt, a/x.json\n"
    find_images(["a/x.jpg"])
    assert capsys.readouterr().out == ""


def test_links_are_followed_and_thumbnails_left_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch("far/x.tif", "far/deep/y.webp", "far/@eaDir/x.jpg", "a/.thumbnails/z.jpg", "a/z.jp2")
    Path("a/linked").symlink_to(Path("../far"))
    Path("a/one.png").symlink_to(Path("../far/x.tif"))
    Path("far/again").symlink_to(Path("../a"))
    assert list(find_images(["a"])) == ["linked/deep/y", "linked/x", "one", "z"]


def test_what_is_not_there_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch("a/notes.txt")
    with pytest.raises(FileNotFoundError, match="no file and no folder `b`"):
        find_images(["b"])
    with pytest.raises(FileNotFoundError, match="`a` holds no images"):
        find_images(["a"])


def photograph(path: str, height: int, width: int) -> np.ndarray:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def test_a_folder_with_a_broken_file_becomes_label_maps(run, trained, of_run):
    pixels = photograph("photos/a b.png", 100, 150)
    photograph("photos/ä.png", 30, 20)
    Path("photos/broken.jpg").write_text("no image")
    checkpoint = str(trained / "checkpoints/last.ckpt")
    outputs = ["--images.probabilities=true", "--images.polygons=true", "--images.tile=96", "--images.overlap=32"]
    status, out, err = run("predict", *of_run, "--trainer.accelerator=cpu", "photos", *outputs)
    assert status == 1, "a file was left out"
    assert "broken.jpg is not an image that can be read" in err
    assert "Traceback" not in err
    assert "Labeled 2 of 3 images: predictions are in runs/tiny/version_0/predict/predictions" in out
    assert "Left out 1: broken" in out
    assert "weakseg report runs/tiny/version_0" in out
    folder = trained / "predict" / "predictions"
    assert {path.name for path in folder.glob("*/*")} == {
        *("a b.png", "ä.png", "a b.jpg", "ä.jpg", "a b.npy", "ä.npy"),
    }
    assert (trained / "predict" / "config.yaml").is_file()
    segmenter = Segmenter(checkpoint, "cpu", tile=96, overlap=32)
    with Image.open(folder / "labels" / "a b.png") as image:
        np.testing.assert_array_equal(np.array(image), segmenter(pixels))
        assert (image.getpalette() or [])[:12] == ScenesDataModule().palette.flatten().tolist()[:12]
    with Image.open(folder / "overlays" / "a b.jpg") as image:
        assert image.size == (150, 100)
    chances = np.load(folder / "probabilities" / "a b.npy", mmap_mode="r")
    assert chances.dtype == np.float16
    np.testing.assert_allclose(chances, segmenter.probabilities(pixels), atol=1e-3)


def test_polygons_name_their_files_and_classes(run, trained, of_run):
    pytest.importorskip("rasterio")
    photograph("photos/sub/a.png", 40, 50)
    status, _, _ = run("predict", *of_run, "photos", "--images.polygons", "true", "--predictions.output_dir", "out")
    assert status == 0
    found = json.loads(Path("out/polygons.json").read_text())
    assert [image["file_name"] for image in found["images"]] == ["sub/a.png"]
    assert [category["name"] for category in found["categories"]] == ScenesDataModule().class_names[1:]


@pytest.mark.parametrize("tile", ["64", "1024"])
def test_objects_are_those_of_the_label_maps(run, trained, of_run, tile):
    pixels = {name: photograph(f"photos/{name}.png", 150, 90) for name in ("a", "sub/b")}
    options = ["--images.objects=true", f"--images.tile={tile}", "--images.overlap=16"]
    assert run("predict", *of_run, "photos", *options, "--predictions.output_dir", "out")[0] == 0
    table = ObjectTable(ScenesDataModule().class_names)
    for name, image in pixels.items():
        with Image.open(f"out/labels/{file_stem(name)}.png") as labels:
            objects = ImageObjects(90)
            objects.add(np.array(labels), image)
        table.add(f"{name}.png", objects)
    assert len(table.rows) > 2
    table.write(Path("expected.csv"))
    assert Path("out/objects.csv").read_text("utf-8") == Path("expected.csv").read_text("utf-8")


def test_scales_flips_and_a_refinement_are_used(run, trained, of_run):
    pixels = photograph("a.png", 40, 50)
    checkpoint = str(trained / "checkpoints/last.ckpt")
    options = ["--images.scales", "[0.5, 1]", "--images.flip", "true", "--refine", "MeanField"]
    assert (
        run("predict", "a.png", *of_run, "--predictions.output_dir=out", *options, "--predictions.overlays", "false")[0]
        == 0
    )
    expected = Segmenter(checkpoint, "cpu", flip=True, scales=(0.5, 1), refinement=MeanField())(pixels)
    with Image.open("out/labels/a.png") as image:
        np.testing.assert_array_equal(np.array(image), expected)
    assert not Path("out/overlays").exists()


@pytest.mark.parametrize("wanted", [False, True])
def test_the_memory_format_is_that_of_the_command(run, trained, monkeypatch, wanted, of_run):
    photograph("a.png", 40, 50)
    seen = []

    def look(images, module, *_):
        weight = next(weight for weight in module.parameters() if weight.ndim == 4 and weight[0, :, 0, 0].numel() > 1)
        seen.append(weight.is_contiguous(memory_format=torch.channels_last))
        return 0

    monkeypatch.setattr("weakseg_lightning.cli.commands.predict.command.predict_images", look)
    assert run("predict", "a.png", *of_run, f"--speed.channels_last={str(wanted).lower()}")[0] == 0
    assert seen == [wanted]


def test_options_of_the_trainer_that_mean_nothing_are_named(run, of_run):
    photograph("a.png", 40, 50)
    where = ["--trainer.accelerator=cpu", "--trainer.default_root_dir", ".", "--predictions.output_dir=out"]
    assert "not used" not in run("predict", *of_run, "a.png", *where)[1]
    out = run("predict", *of_run, "a.png", *where, "--trainer.precision", "16-mixed", "--trainer.devices=1")[1]
    assert "Options that are not used for IMAGES: --trainer.precision, --trainer.devices\n" in out


MISTAKES = [
    (["nothing.jpg"], "no file and no folder `nothing.jpg`"),
    (["a.png", "--images.tle", "5"], "is not an option; did you mean `"),
    (["a.png", "--images.overlap", "999"], "Segmenter: `overlap` must be 0 to half of the tile"),
    (["--images.tile", "512"], "`--images` says how to predict IMAGES, and none are given"),
]


def test_mistakes_are_told_in_one_line(run, trained, refused, of_run):
    photograph("a.png", 40, 50)
    for wrong, message in MISTAKES:
        assert message in refused("predict", *of_run, *wrong)
    assert run("predict", "a.png", "--config", str(trained / "config.yaml"))[2].startswith(
        "weakseg: error: `weakseg predict` needs a trained network"
    )
    assert not (trained / "predict").exists(), "nothing is left of what was refused"
