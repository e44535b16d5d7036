"""`weakseg voc-submission`: what the evaluation server of VOC unpacks."""

import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from lightning.pytorch import Trainer
from PIL import Image

from weakseg_lightning.callbacks import PredictionWriter
from weakseg_lightning.data import VOCDataModule
from weakseg_lightning.data.images.reading import image_size
from weakseg_lightning.modules import RegularizedLossModule
from weakseg_lightning.networks import SMPNetwork
from weakseg_lightning.visualization import save_palette_png, voc_palette

SIZES = {"2008_000006": (50, 37), "2008_000011": (37, 50), "2010_003829": (41, 41)}
SUBMIT = ["voc-submission", "--predictions", "predicted", "--root", "datasets"]
INSIDE = "results/VOC2012/Segmentation/comp6_test_cls"


@pytest.fixture
def submit(run):
    """The command in a folder with three photographs of the list `test` and their predictions; also the latter."""
    voc = Path("datasets/VOCdevkit/VOC2012")
    for folder in (voc / "JPEGImages", voc / "ImageSets" / "Segmentation", Path("predicted/labels")):
        folder.mkdir(parents=True)
    (voc / "ImageSets" / "Segmentation" / "test.txt").write_text("\n".join(SIZES) + "\n")
    for seed, (name, (width, height)) in enumerate(SIZES.items()):
        labels = np.random.default_rng(seed).integers(0, 21, (height, width), dtype=np.uint8)
        Image.new("RGB", (width, height)).save(voc / "JPEGImages" / f"{name}.jpg")
        save_palette_png(Path("predicted/labels") / f"{name}.png", labels)
    return lambda *options: run(*SUBMIT, *options)


def read(path: str) -> dict[str, Image.Image]:
    with tarfile.open(path, "r:gz") as archive:
        return {member.name: Image.open(BytesIO(archive.extractfile(member).read())) for member in archive.getmembers()}


def test_the_archive_holds_what_was_predicted(submit):
    status, out, err = submit()
    assert status == 0, err
    assert "Wrote 3 label maps to results_comp6_test.tgz" in out
    found = read("results_comp6_test.tgz")
    assert list(found) == [f"{INSIDE}/{name}.png" for name in SIZES]
    for seed, (name, (width, height)) in enumerate(SIZES.items()):
        image = found[f"{INSIDE}/{name}.png"]
        expected = np.random.default_rng(seed).integers(0, 21, (height, width), dtype=np.uint8)
        assert (image.mode, image.size) == ("P", (width, height))
        assert np.array_equal(np.array(image), expected)
        assert image.getpalette()[: 3 * 21] == voc_palette(21).flatten().tolist()


def test_equal_predictions_give_equal_archives(submit):
    for name in ("a.tgz", "b.tgz"):
        assert submit("--output", name)[0] == 0
    assert Path("a.tgz").read_bytes() == Path("b.tgz").read_bytes()
    assert Path("a.tgz").read_bytes()[4:8] == bytes(4), "the time of packing is in the file"


def test_competition_and_split_name_the_folder(submit):
    lists = Path("datasets/VOCdevkit/VOC2012/ImageSets/Segmentation")
    (lists / "val.txt").write_text("2008_000011\n")
    status, out, err = submit("--competition=comp5", "--split=val", "--predictions=predicted/labels")
    assert status == 0, err
    assert list(read("results_comp5_val.tgz")) == ["results/VOC2012/Segmentation/comp5_val_cls/2008_000011.png"]
    assert "Left out 2 label maps that are not of the split 'val', as 2008_000006.png" in out


def wrong_size(path: Path) -> None:
    save_palette_png(path, np.zeros((50, 36), dtype=np.uint8))


def void(path: Path) -> None:
    save_palette_png(path, np.full((50, 37), 255, dtype=np.uint8))


def gray(path: Path) -> None:
    Image.fromarray(np.zeros((50, 37), dtype=np.uint8)).save(path)


def colors(path: Path) -> None:
    save_palette_png(path, np.full((50, 37), 2, dtype=np.uint8), 255 - voc_palette(21))


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:900])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (wrong_size, "2008_000011.png has 36 x 50 pixels, its image 37 x 50"),
        (void, "2008_000011.png holds the label 255, expected 0 to 20"),
        (gray, "2008_000011.png is PNG with pixels of type L, expected a palette PNG"),
        (colors, "2008_000011.png has other colors than VOC's palette"),
        (half, "2008_000011.png cannot be checked"),
    ],
)
def test_what_the_server_would_not_take_is_refused(submit, damage, words):
    damage(Path("predicted/labels/2008_000011.png"))
    status, _, err = submit()
    assert status == 2
    assert f"1 of 3 predictions are wrong: {words}" in err
    assert not list(Path().glob("*.tgz"))


def test_missing_predictions_are_counted(submit):
    Path("predicted/labels/2010_003829.png").unlink()
    status, _, err = submit()
    assert status == 2
    assert "1 of the 3 images of the split 'test' have no prediction in predicted/labels" in err
    assert "2010_003829.png" in err


def test_a_missing_photograph_or_list_is_named(submit):
    Path("datasets/VOCdevkit/VOC2012/JPEGImages/2010_003829.jpg").unlink()
    assert "1 of the 3 images of the split 'test' are missing" in submit()[2]
    assert "no list" in submit("--split=val")[2]


def test_an_archive_is_replaced_only_on_demand(submit):
    assert submit()[0] == 0
    status, _, err = submit()
    assert status == 2
    assert "results_comp6_test.tgz is there already" in err
    assert submit("--overwrite")[0] == 0


def test_a_wrong_folder_is_named(submit):
    assert "`predictions`: there is no folder nowhere" in submit("--predictions=nowhere")[2]


def test_predictions_of_photographs_without_masks_can_be_submitted(run, shared):
    ours, theirs = Path("datasets/VOCdevkit/VOC2012"), shared / "data" / "VOCdevkit" / "VOC2012"
    names = (theirs / "ImageSets" / "Segmentation" / "val.txt").read_text().split()[:3]
    for folder in (ours / "JPEGImages", ours / "ImageSets" / "Segmentation"):
        folder.mkdir(parents=True)
    for name in names:
        (ours / "JPEGImages" / f"{name}.jpg").symlink_to(theirs / "JPEGImages" / f"{name}.jpg")
    (ours / "ImageSets" / "Segmentation" / "test.txt").write_text("\n".join(names))
    data = VOCDataModule("datasets", predict_split="test", num_workers=0)
    network = SMPNetwork(encoder="timm-mobilenetv3_small_minimal_100", encoder_weights=None)
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = Trainer(accelerator="cpu", callbacks=[PredictionWriter("predicted", overlays=False)], **quiet)
    trainer.predict(RegularizedLossModule(network, 21), data, return_predictions=False)
    status, _, err = run(*SUBMIT)
    assert status == 0, err
    found = read("results_comp6_test.tgz")
    assert list(found) == [f"{INSIDE}/{name}.png" for name in names]
    for name in names:
        predicted = np.array(Image.open(f"predicted/labels/{name}.png"))
        assert np.array_equal(np.array(found[f"{INSIDE}/{name}.png"]), predicted)
        assert predicted.shape[::-1] == image_size(ours / "JPEGImages" / f"{name}.jpg")
