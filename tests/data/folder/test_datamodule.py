"""The data module for a folder of one's own images."""

import logging
import shutil
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from weakseg_lightning.data import BadSampleError, FolderDataModule
from weakseg_lightning.hyperparameters import describe

# ---- what batches hold ------------------------------------------------------------------------------------------


def test_classes_and_colors_are_those_of_the_file(make_data):
    data = make_data()
    assert data.class_names == ["background", "cat", "dog"]
    assert data.num_classes == 3
    assert data.palette.tolist() == [[0, 0, 0], [255, 0, 0], [0, 0, 255]]


def test_scribbles_of_all_forms_are_the_same(make_data):
    data = make_data(val_fraction=0)
    (data.root / "points.csv").unlink()
    source = data.train_source()
    assert list(source.ids) == ["a", "b", "c d é"]
    gray, indexed, colored = (source[index].seeds for index in range(3))
    assert torch.equal(gray, indexed)
    assert torch.equal(gray, colored)
    assert {label: int((gray == label).sum()) for label in (0, 1, 2)} == {0: 105, 1: 36, 2: 36}


def test_clicks_join_the_scribbles_or_stand_alone(make_data):
    root = make_data().root
    both = make_data(root=root, val_fraction=0).train_source()
    alone = make_data(root=root, supervision="point", val_fraction=0).train_source()
    assert list(alone.ids) == ["a", "b"]
    clicks = alone[0].seeds
    assert clicks[11:14, 11:14].tolist() == [[1] * 3] * 3  # the click at 12, 12
    assert int((clicks != 255).sum()) == 9
    assert (both[0].seeds[11:14, 11:14] == 1).all()
    assert int((both[0].seeds == 1).sum()) == 36 + 9


def test_boxes_come_from_the_table_or_the_mask(make_data):
    source = make_data(supervision="box", val_fraction=0).train_source()
    sample = source[0]
    # The mask knows a dog that nobody has put a box around.
    assert sample.boxes.tolist() == [[10, 10, 30, 20, 1], [20, 25, 40, 35, 2]]
    assert (sample.seeds[10:20, 10:30] == 255).all()
    assert (sample.seeds[25:35, 20:40] == 255).all()
    assert int((sample.seeds == 0).sum()) == 40 * 48 - 400
    (source.contents.root / "boxes.csv").unlink()
    derived = make_data(root=source.contents.root, supervision="box", val_fraction=0).train_source()[0]
    assert derived.boxes.tolist() == [[10, 10, 30, 20, 1], [20, 25, 40, 35, 2]]


def test_tags_are_all_that_anything_says(make_data, make_folder):
    root = make_folder("bare")
    for path in (*root.glob("scribbles/*"), *root.glob("masks/*"), root / "boxes.csv", root / "sizes.csv"):
        path.unlink()
    (root / "points.csv").write_text("image,x,y,class\na,3,3,dog\n")
    (root / "tags.csv").write_text("image,class\nb,cat\nc d é,\n", "utf-8")
    source = make_data(root=root, supervision="tags").train_source()
    assert [source[index].tags.tolist() for index in range(3)] == [
        [True, False, True],
        [True, True, False],
        [True, False, False],
    ]
    assert (source[1].seeds == 255).all()


def test_sizes_reach_the_batches_without_masks(make_data):
    data = make_data(supervision="tags", val_fraction=0)
    shutil.rmtree(data.root / "masks")
    (data.root / "sizes.csv").write_text(
        "image,class,size\na,cat,12%\na,dog,small\nb,1,0.1\nb,2,large\nc d é,1,0.01\n", "utf-8"
    )
    known = {one["id"]: one["sizes"].tolist() for one in data.facts_of_training()}
    assert known == {"a": [-1, 1, 0], "b": [-1, 0, 1], "c d é": [-1, 0, -1]}
    batch = next(iter(data.train_dataloader()))
    assert batch["sizes"].tolist() == [known[name] for name in batch["id"]]


def test_masks_are_full_supervision(make_data):
    source = make_data(supervision="full", val_fraction=0).train_source()
    assert list(source.ids) == ["a", "b"]
    assert torch.equal(source[0].seeds, source[0].mask)
    assert int((source[0].mask == 2).sum()) == 200


def test_training_and_validation_batches(make_data):
    data = make_data()
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (2, 3, 32, 32)
    (held_out,) = list(data.val_dataloader())
    assert held_out["image"].shape == (1, 3, 40, 48)
    assert (held_out["seeds"] == 255).all()
    assert set(held_out["mask"].unique().tolist()) == {0, 1, 2}
    assert held_out["id"][0] not in list(data.train_source().ids)


def test_all_images_are_predicted(make_data):
    data = make_data()
    data.setup("predict")
    assert [batch["id"] for batch in data.predict_dataloader()] == [["a"], ["b"], ["c d é"]]


# ---- the value without a label ------------------------------------------------------------------------------------


def test_another_value_can_mean_no_label_in_scribbles_alone(make_data):
    root = make_data().root
    (root / "points.csv").unlink()
    for name in ("b", "c d é"):
        (root / "scribbles" / f"{name}.png").unlink()
    text = (root / "classes.yaml").read_text()
    (root / "classes.yaml").write_text(f"{text}unlabelled: 0\n")
    sample = make_data(root=root, val_fraction=0).train_source()[0]
    assert not (sample.seeds == 0).any()
    assert int((sample.seeds == 1).sum()) == 36
    assert (sample.mask == 0).any()
    drawn = np.zeros((40, 48), np.uint8)
    drawn[3], drawn[9] = 3, 1
    Image.fromarray(drawn).save(root / "scribbles" / "a.png")
    (root / "classes.yaml").write_text(f"{text}unlabelled: 0\nbackground: 3\n")
    seeds = make_data(root=root, val_fraction=0).train_source()[0].seeds
    assert (seeds[3] == 0).all()
    assert (seeds[9] == 1).all()
    assert int((seeds != 255).sum()) == 2 * 48


def test_a_color_can_mean_no_label(make_data):
    root = make_data().root
    labels = np.full((40, 48, 3), (250, 250, 250), np.uint8)
    labels[:4] = (0, 0, 255)
    Image.fromarray(labels).save(root / "scribbles" / "c d é.png")
    text = (root / "classes.yaml").read_text()
    (root / "classes.yaml").write_text(f'{text}unlabelled: "#fafafa"\n')
    seeds = make_data(root=root, val_fraction=0).train_source()[2].seeds
    assert (seeds[:4] == 2).all()
    assert (seeds[4:] == 255).all()


def test_without_masks_there_is_no_validation(make_data, caplog):
    data = make_data()
    shutil.rmtree(data.root / "masks")
    with caplog.at_level(logging.INFO):
        data.setup("fit")
    assert not data.has_validation
    assert data.val_dataloader() == []
    assert "no image with a mask is held out, so that there is no validation" in caplog.text
    for stage in ("validate", "test"):
        with pytest.raises(ValueError, match="there is nothing to evaluate on"):
            make_data(root=data.root).setup(stage)


# ---- what is refused ----------------------------------------------------------------------------------------------


def test_missing_parts_are_named_with_the_way_out(make_data, tmp_path):
    with pytest.raises(FileNotFoundError, match="`root`: there is no folder"):
        FolderDataModule(tmp_path / "nowhere").setup("fit")
    root = make_data().root
    (root / "classes.yaml").unlink()
    with pytest.raises(FileNotFoundError, match=r"no classes.yaml in .*: `weakseg init .*` writes one"):
        FolderDataModule(root).setup("fit")


def test_supervision_without_such_labels_is_refused(make_data):
    data = make_data(supervision="point")
    (data.root / "points.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"no training image in .* has clicks \(`points.csv`"):
        data.setup("fit")


def test_bad_files_can_be_skipped(make_data):
    data = make_data(on_bad_sample="skip", val_fraction=0)
    (data.root / "images" / "a.jpg").write_bytes(b"")
    with (data.root / "points.csv").open("a") as table:
        table.write("b,900,3,cat\nnobody,1,1,cat\n")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        data.setup("fit")
        assert set(next(iter(data.train_dataloader()))["id"]) == {"c d é"}
    texts = " ".join(str(one.message) for one in told)
    for part in ("images/a.jpg", "line 4 reaches (900, 3)", "line 5 is about the image 'nobody'"):
        assert part in texts


def test_full_masks_are_shown_where_there_are_some(make_data):
    data = make_data(full_fraction=0.5, val_fraction=0)
    data.setup("fit")
    known = list(data.facts_of_training())
    assert sum(bool(one["full"]) for one in known) == 2
    assert not known[2]["full"]
    greedy = make_data(root=data.root, full_fraction=1.0, val_fraction=0)
    with pytest.raises(
        ValueError, match=r"`full_fraction: 1\.0` asks for 3 of 3 training images with a mask, 2 have one"
    ):
        greedy.setup("fit")


def test_tags_of_crops_need_masks(make_data):
    with pytest.raises(ValueError, match="`tags_from: crop` needs a mask of every training image, 'c d é' has none"):
        make_data(supervision="tags", tags_from="crop", val_fraction=0).setup("fit")


def test_constructor_arguments_are_kept(tmp_path):
    described = describe(FolderDataModule(tmp_path, supervision="tags", val_list="v.txt"))["init_args"]
    assert (described["supervision"], described["val_list"]) == ("tags", "v.txt")


def test_a_sample_that_vanishes_is_named(make_data):
    data = make_data(val_fraction=0)
    data.setup("fit")
    (data.root / "images" / "a.jpg").unlink()
    with pytest.raises(BadSampleError, match=r"a\.jpg is missing"):
        data.whole_images("train").read(0)


@pytest.mark.parametrize("supervision", ["scribble", "tags", "box"])
def test_crops_of_a_single_image_fill_the_batch(make_data, supervision):
    data = make_data(supervision=supervision, val_fraction=0)
    data.batch_size = 4
    for name in ("b.png", "c d \u00e9.png"):
        (data.root / "images" / name).unlink()
        for folder in ("scribbles", "masks"):
            (data.root / folder / name).unlink(missing_ok=True)
    for table in data.root.glob("*.csv"):
        lines = table.read_text("utf-8").splitlines()
        table.write_text("\n".join([lines[0], *(line for line in lines[1:] if line.startswith("a"))]) + "\n")
    data.setup("fit")
    (batch,) = data.train_dataloader()
    assert batch["id"] == ["a"] * 4
    assert len(torch.unique(batch["image"].flatten(1), dim=0)) == 4


def test_void_of_a_mask_is_no_background_of_its_boxes(make_folder):
    root = make_folder()
    mask = np.asarray(Image.open(root / "masks" / "a.png")).copy()
    mask[:, 44:] = 255
    Image.fromarray(mask).save(root / "masks" / "a.png")
    for file in ("boxes.csv", "tags.csv", "sizes.csv"):
        (root / file).unlink(missing_ok=True)
    source = FolderDataModule(root, "box", val_fraction=0).train_source()
    seeds = source[list(source.ids).index("a")].seeds
    assert (seeds[:, 44:] == 255).all()
    assert (seeds[:, 40:44] == 0).all()


def test_masks_that_are_void_all_over_give_no_boxes_to_train_on(make_folder):
    root = make_folder()
    for path in (*root.glob("scribbles/*"), *root.glob("*.csv")):
        path.unlink()
    for path in root.glob("masks/*"):
        Image.fromarray(np.full((40, 48), 255, np.uint8)).save(path)
    problems = FolderDataModule(root, "box", val_fraction=0).train_source().find_problems()
    assert all("all are void (255)" in text for text in problems.values())
    assert problems
