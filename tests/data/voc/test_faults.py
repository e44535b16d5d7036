"""Trees of VOC with every fault: told before training, or when the file is read."""

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from weakseg_lightning.data import BadSampleError, VOCDataModule


def test_missing_data_set_is_one_message_with_the_ways_out(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        VOCDataModule(tmp_path / "nowhere").setup("fit")
    message = str(caught.value)
    for part in (
        f"not complete in {tmp_path / 'nowhere'} (`data.root`)",
        "VOCdevkit/VOC2012/ImageSets/Segmentation/train.txt",
        "benchmark_RELEASE/dataset/cls",
        "VOCdevkit/VOC2012/pascal_2012_scribble",
        "benchmark.tgz",
        "VOCtrainval_11-May-2012.tar",
        "pascal_2012_scribble.zip",
        "--data.download true",
        "--config recipes/data/scenes.yaml",
    ):
        assert part in message
    assert message.count("VOCtrainval") == 1
    assert "\n" not in message


def test_missing_sbd_is_named(make_data):
    with pytest.raises(FileNotFoundError, match=r"masks of SBD for `train_split: train_aug`.*benchmark\.tgz") as caught:
        make_data(train_split="train_aug").setup("fit")
    assert "VOCtrainval" not in str(caught.value)


def test_missing_scribbles_are_named_with_the_lengths_that_are_there(make_data):
    data = make_data(scribble_length=0.5)
    (data.files.folder / "pascal_2012_scribble").rename(data.files.folder / "pascal_2012_scribble0.3")
    message = r"no VOCdevkit/VOC2012/pascal_2012_scribble0\.5, found pascal_2012_scribble0\.3;"
    with pytest.raises(FileNotFoundError, match=message):
        data.setup("fit")
    with pytest.raises(FileNotFoundError, match=r"scribble_annotation/pascal_2012; .*scribble_annotation\.zip"):
        make_data(scribble_format="xml").setup("fit")


def test_missing_clicks_are_named(make_data, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"clicks.*points/voc_whats_the_point\.json.*whats-the-point1"):
        make_data(supervision="point").setup("fit")
    with pytest.raises(FileNotFoundError, match=r"no mine\.json"):
        make_data(supervision="point", points_files=[str(tmp_path / "mine.json")]).setup("fit")


def test_missing_split_is_named(make_data):
    with pytest.raises(FileNotFoundError, match=r"Segmentation/test\.txt"):
        make_data(val_split="test").setup("validate")


def test_length_out_of_range():
    with pytest.raises(ValueError, match="`scribble_length` must be between 0 and 1, got 2"):
        VOCDataModule(scribble_length=2)


def remove(path) -> None:
    path.unlink()


def enlarge(path) -> None:
    image = Image.open(path)
    image.resize((60, 40), Image.Resampling.NEAREST).save(path)


def garble(path) -> None:
    path.write_bytes(b"garbage")


def truncate(path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def repaint(value: int):
    def paint(path) -> None:
        image = np.array(Image.open(path))
        image[:] = value
        Image.fromarray(image).save(path)

    return paint


IMAGE, MASK, SCRIBBLE = "JPEGImages/a_2.jpg", "SegmentationClass/a_2.png", "pascal_2012_scribble/a_2.png"
EARLY = [
    (IMAGE, remove, "is missing"),
    (IMAGE, garble, "is not an image that can be read"),
    (IMAGE, enlarge, r"SegmentationClass/a_2\.png has 48 x 40 pixels, its image 60 x 40"),
    (MASK, remove, "is missing"),
    (MASK, enlarge, "has 60 x 40 pixels, its image 48 x 40"),
    (SCRIBBLE, remove, "is missing"),
    (SCRIBBLE, enlarge, "has 60 x 40 pixels, its image 48 x 40"),
]
LATE = [
    (IMAGE, truncate, "cannot be read"),
    (MASK, truncate, "cannot be read"),
    (MASK, repaint(21), "holds the labels 21, expected 0 to 20"),
    (SCRIBBLE, repaint(200), "holds the labels 200, expected 0 to 20"),
    (SCRIBBLE, repaint(255), "has no labelled pixel"),
]


@pytest.mark.parametrize(("file", "spoil", "message"), EARLY)
def test_fault_stops_before_training(make_data, file, spoil, message):
    data = make_data()
    spoil(data.files.folder / file)
    with pytest.raises(BadSampleError, match=f"1 of 3 train samples: .*{message}") as caught:
        data.setup("fit")
    assert "a_2." in str(caught.value)


@pytest.mark.parametrize(("file", "spoil", "message"), EARLY)
def test_fault_is_skipped_before_training(make_data, file, spoil, message):
    data = make_data(on_bad_sample="skip")
    spoil(data.files.folder / file)
    with pytest.warns(UserWarning, match=f"skipping 1 of 3 train samples: .*{message}"):
        data.setup("fit")
    assert sorted(name for batch in data.train_dataloader() for name in batch["id"]) == ["a_1", "a_3"]


@pytest.mark.parametrize(("file", "spoil", "message"), LATE)
def test_bad_content_stops_training_with_the_file(make_data, file, spoil, message):
    data = make_data(batch_size=3)
    spoil(data.files.folder / file)
    data.setup("fit")
    with pytest.raises(BadSampleError, match=f"{file}.*{message}"):
        list(data.train_dataloader())


@pytest.mark.parametrize(("file", "spoil", "message"), LATE)
def test_bad_content_is_skipped_with_a_named_warning(make_data, file, spoil, message):
    data = make_data(batch_size=3, on_bad_sample="skip")
    spoil(data.files.folder / file)
    data.setup("fit")
    loader = data.train_dataloader()
    with pytest.warns(UserWarning, match=f"skipping the sample 'a_2': .*{file}.*{message}"):
        (batch,) = list(loader)
    assert set(batch["id"]) <= {"a_1", "a_3"}
    assert len(list(loader)) == 1  # no second warning


def test_bad_content_is_named_through_workers(make_data):
    data = make_data(num_workers=2)
    truncate(data.files.folder / "SegmentationClass" / "v_2.png")
    data.setup("validate")
    with pytest.raises(BadSampleError, match=r"v_2\.png cannot be read"):
        list(data.val_dataloader())


def test_bad_validation_images_are_left_out(make_data):
    data = make_data(on_bad_sample="skip")
    truncate(data.files.folder / "JPEGImages" / "v_1.jpg")
    with pytest.warns(UserWarning, match=r"skipping 1 of 2 val samples: .*v_1\.jpg cannot be read"):
        data.setup("validate")
    assert [batch["id"] for batch in data.val_dataloader()] == [["v_2"]]


def test_mask_of_sbd_of_another_size_is_named(make_data):
    data = make_data(train_split="train_aug", supervision="full", batch_size=3)
    (data.files.folder / "SegmentationClass" / "a_2.png").unlink()
    sbd = data.files.folder.parents[1] / "benchmark_RELEASE" / "dataset"
    (sbd / "cls").mkdir(parents=True)
    savemat(sbd / "cls" / "a_2.mat", {"GTcls": {"Segmentation": np.zeros((4, 5), dtype=np.uint8)}})
    (sbd / "train.txt").write_text("a_2\n")
    (sbd / "val.txt").write_text("")
    data.setup("fit")
    with pytest.raises(BadSampleError, match=r"a_2\.mat has 5 x 4 pixels, its image 48 x 40"):
        list(data.train_dataloader())
