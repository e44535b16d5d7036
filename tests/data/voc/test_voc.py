"""VOC as a data module: fake trees with every kind of supervision, and the real images."""

import json
import logging

import numpy as np
import pytest
import torch
from PIL import Image

from weakseg_lightning.data import VOCDataModule
from weakseg_lightning.data.scribbles.strokes import shorten_labels
from weakseg_lightning.data.voc.datamodule import scribble_folder_name
from weakseg_lightning.hyperparameters import describe

# ---- supervision ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("supervision", ["full", "scribble", "tags", "box"])
def test_kinds_of_supervision(make_data, supervision):
    data = make_data(supervision=supervision)
    data.setup("fit")
    sample = data.train_source()[0]
    labels = data.train_source().labels(0)
    assert labels.image.shape == sample.image.shape
    assert torch.equal(labels.seeds, sample.seeds)
    labelled = sample.seeds != 255
    assert sample.tags.nonzero().flatten().tolist() == [0, 15]
    assert (sample.boxes is None) == (supervision != "box")
    if supervision == "full":
        assert torch.equal(sample.seeds, sample.mask)
    elif supervision == "scribble":
        assert set(sample.seeds[labelled].tolist()) == {0, 15}
        assert torch.equal(sample.seeds[labelled], sample.mask[labelled])
    elif supervision == "tags":
        assert not labelled.any()
    else:
        assert sample.boxes.tolist() == [[10, 10, 30, 20, 15]]
        assert (~labelled).sum() == 12 * 22  # the box and its rim of void
    batch = next(iter(data.train_dataloader()))
    assert ("boxes" in batch) == (supervision == "box")
    expected = [0] if supervision in ("tags", "box") else [0, 15]
    assert all(row.nonzero().flatten().tolist() == expected for row in batch["seed_labels"])


def test_clicks_from_json(make_data, tmp_path):
    data = make_data(supervision="point")
    (tmp_path / "points").mkdir()
    objects = {name: [{"x": 20, "y": 15, "cls": 15}] for name in ("a_1", "a_2", "a_3")}
    background = {name: [{"x": 60.0, "y": -2, "cls": 0}] for name in objects}
    (tmp_path / "points" / "voc_whats_the_point.json").write_text(json.dumps(objects))
    (tmp_path / "points" / "voc_whats_the_point_bg_from_scribbles.json").write_text(json.dumps(background))
    data.setup("fit")
    seeds = data.train_source()[1].seeds
    assert (seeds == 15).sum() == 9
    assert (seeds == 0).sum() == 4  # clipped to the corner
    assert seeds[0, 47] == 0


def test_scribbles_of_another_length(make_data):
    data = make_data(scribble_length=0.3)
    source, target = data.files.folder / "pascal_2012_scribble", data.files.folder / "pascal_2012_scribble0.3"
    source.rename(target)
    data.setup("fit")
    assert "pascal_2012_scribble0.3" in data.train_source().origin(0, "seeds")


def test_scribbles_of_a_length_that_is_not_there_are_made_from_whole_ones(make_data, caplog):
    whole = make_data().train_source()[0].seeds
    data = make_data(scribble_length=0.5)
    with caplog.at_level(logging.INFO):
        shorter = data.train_source()[0].seeds
    assert caplog.text.count("scribbles of length 0.5: those in VOCdevkit/VOC2012/pascal_2012_scribble are short") == 1
    assert shorter.tolist() == shorten_labels(whole.numpy(), 0.5).tolist()
    assert 0 < (shorter != 255).sum() < (whole != 255).sum()


def test_ready_scribbles_and_a_folder_of_ones_own_are_taken_as_they_are(make_data):
    data = make_data(scribble_length=0.5)
    whole, ready = (data.files.folder / scribble_folder_name(length) for length in (1, 0.5))
    ready.mkdir()
    for path in whole.iterdir():
        Image.fromarray(np.full((40, 48), 7, np.uint8)).save(ready / path.name)
    assert (data.train_source()[0].seeds == 7).all()
    own = make_data(scribble_length=0.5, scribble_dir=whole).train_source()[0].seeds
    assert torch.equal(own, make_data().train_source()[0].seeds)


def test_scribbles_from_xml(make_data, tmp_path):
    folder = tmp_path / "scribble_annotation" / "pascal_2012"
    folder.mkdir(parents=True)
    for name in ("a_1", "a_2", "a_3"):
        points = "".join(f"<point><X>{x}</X><Y>15</Y></point>" for x in (12, 18, 27))
        size = "<size><width>48</width><height>40</height></size>"
        polygon = f"<polygon><tag>person</tag>{points}</polygon>"
        (folder / f"{name}.xml").write_text(f"<annotation>{size}{polygon}</annotation>")
    for length, pixels in ((1.0, 18 * 3), (0.0, 9)):
        data = make_data(scribble_format="xml", scribble_length=length)
        data.setup("fit")
        assert int((data.train_source()[0].seeds == 15).sum()) == pixels


def test_validation_images_have_masks_and_no_seeds(make_data):
    data = make_data()
    data.setup("validate")
    batches = list(data.val_dataloader())
    assert [batch["id"] for batch in batches] == [["v_1"], ["v_2"]]
    assert all(batch["image"].shape == (1, 3, 40, 48) for batch in batches)
    assert set(batches[0]["mask"].unique().tolist()) == {0, 15, 255}
    assert (batches[0]["seeds"] == 255).all()


def test_classes_are_known_without_files(tmp_path):
    data = VOCDataModule(tmp_path / "nowhere")
    assert data.num_classes == len(data.class_names) == 21
    assert data.class_names[0] == "background"
    assert data.class_names[15] == "person"
    assert data.palette[1].tolist() == [128, 0, 0]


def test_constructor_arguments_are_kept(tmp_path):
    described = describe(VOCDataModule(tmp_path, points_files=["a.json"]))["init_args"]
    assert described["root"] == str(tmp_path)
    assert described["points_files"] == ["a.json"]


# ---- the real images --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("split", "count"), [("train", 442), ("train_aug", 772)])
def test_real_splits(shared, split, count):
    data = VOCDataModule(shared / "data", train_split=split)
    data.setup("fit")
    assert len(data.train_source()) == count
    assert len(data.val_source()) == 225
    assert not set(data.train_source().ids) & set(data.val_source().ids)


@pytest.mark.parametrize("length", [1.0, 0.8, 0.5, 0.3, 0.0])
def test_real_scribbles_lie_on_their_objects(shared, length):
    source = VOCDataModule(shared / "data", scribble_length=length).train_source()
    shares = []
    for index in range(0, len(source), 40):
        sample = source[index]
        labelled = (sample.seeds != 255) & (sample.mask != 255)
        assert labelled.any()
        shares.append(float((sample.seeds == sample.mask)[labelled].float().mean()))
    assert min(shares) > 0.97


def test_real_clicks_hit_their_objects(shared):
    source = VOCDataModule(shared / "data", supervision="point").train_source()
    assert source.find_problems() == {}
    right = total = 0
    for index in range(0, len(source), 20):
        sample = source[index]
        labelled = (sample.seeds != 255) & (sample.mask != 255)
        right += int((sample.seeds == sample.mask)[labelled].sum())
        total += int(labelled.sum())
    assert right / total > 0.9


def test_real_boxes_hold_their_objects(shared):
    source = VOCDataModule(shared / "data", supervision="box").train_source()
    for index in range(0, len(source), 60):
        sample = source[index]
        classes = {int(label) for label in sample.mask.unique() if 0 < label < 255}
        assert classes == {int(box[4]) for box in sample.boxes}
        assert (sample.seeds[(sample.mask > 0) & (sample.mask < 255)] == 255).all()
