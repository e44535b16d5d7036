"""Prediction on lists of VOC whose images have no masks, such as that of the evaluation server."""

import shutil

import pytest
import torch

from weakseg_lightning.data import VOCDataModule


@pytest.fixture
def root(make_voc):
    """VOC with a list `test` of two images without masks and one with."""
    root = make_voc()
    voc = root / "VOCdevkit" / "VOC2012"
    for name in ("t_1", "t_2"):
        shutil.copy(voc / "JPEGImages" / "v_1.jpg", voc / "JPEGImages" / f"{name}.jpg")
    (voc / "ImageSets" / "Segmentation" / "test.txt").write_text("t_1\nv_2\nt_2\n")
    return root


def test_images_without_masks_are_predicted_and_validation_stays(root):
    data = VOCDataModule(root, train_split="train", predict_split="test", num_workers=0)
    data.setup("predict")
    samples = [data.predict_source()[index] for index in range(3)]
    assert [sample.id for sample in samples] == ["t_1", "v_2", "t_2"]
    assert [sample.mask is None for sample in samples] == [True, False, True]
    assert samples[0].tags.nonzero().flatten().tolist() == [0]
    batches = list(data.predict_dataloader())
    assert [batch["id"] for batch in batches] == [["t_1"], ["v_2"], ["t_2"]]
    assert batches[0]["image"].shape == (1, 3, 40, 48)
    assert (batches[0]["mask"] == 255).all()
    assert (batches[0]["seeds"] == 255).all()
    assert batches[0]["valid"].all()
    assert torch.equal(batches[1]["mask"][0].to(torch.uint8), samples[1].mask)
    assert data.test_source().ids == data.val_source().ids == ["v_1", "v_2"]


def test_by_default_the_validation_images_are_predicted(root):
    data = VOCDataModule(root, train_split="train", num_workers=0)
    assert data.predict_source().ids == ["v_1", "v_2"]


def test_validation_still_needs_its_masks(root):
    (root / "VOCdevkit" / "VOC2012" / "SegmentationClass" / "v_1.png").unlink()
    with pytest.raises(ValueError, match=r"v_1.png is missing"):
        VOCDataModule(root, train_split="train", num_workers=0).setup("validate")


def test_a_damaged_mask_is_still_an_error(root):
    (root / "VOCdevkit" / "VOC2012" / "SegmentationClass" / "v_2.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"v_2.png is not an image"):
        VOCDataModule(root, predict_split="test", num_workers=0).setup("predict")


def test_a_missing_list_is_an_error_that_names_what_there_is(root):
    (root / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation" / "test.txt").unlink()
    words = r"no list .*test.txt of the split 'test' in .*; there are: train, val. .*VOC2012test.tar"
    with pytest.raises(FileNotFoundError, match=words):
        VOCDataModule(root, predict_split="test").setup("predict")


def test_missing_photographs_are_counted(root):
    for name in ("t_1", "t_2"):
        (root / "VOCdevkit" / "VOC2012" / "JPEGImages" / f"{name}.jpg").unlink()
    words = "2 of the 3 images of the split 'test' are missing in .*, the first is .*t_1.jpg"
    with pytest.raises(FileNotFoundError, match=words):
        VOCDataModule(root, predict_split="test").setup("predict")
