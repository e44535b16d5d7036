"""What `weakseg init` chooses: the method for what a folder holds, what of the network learns, the computer."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from init_folders import TINY_COMPUTER, keep, say_all_sizes
from PIL import Image

from weakseg_lightning.cli.commands.init.choice import (
    METHODS,
    choose_method,
    choose_what_learns,
    find_hardware,
    kinds_of,
)
from weakseg_lightning.data.folder.contents import read_folder


@pytest.mark.parametrize(
    ("kept", "recipe", "supervision"),
    [
        (("scribbles", "points.csv", "boxes.csv", "tags.csv", "masks"), "trust_region_grid", "scribble"),
        (("points.csv", "tags.csv"), "trust_region_grid", "point"),
        (("boxes.csv", "tags.csv", "masks"), "ccnn_boxes", "box"),
        (("tags.csv", "masks"), "ccnn_tags", "tags"),
        (("tags.csv", "sizes.csv"), "ccnn_tags_size", "tags"),
        (("masks",), "full", "full"),
    ],
)
def test_annotations_choose_the_method(make_folder, kept, recipe, supervision):
    root = make_folder()
    keep(root, *kept)
    if "sizes.csv" in kept:
        say_all_sizes(root)
    method = choose_method(read_folder(root))
    assert (method.recipe, method.supervision) == (recipe, supervision)


def test_two_folders_choose_the_decomposition(tmp_path):
    for folder in ("positive", "negative"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / folder / "a.png")
    assert choose_method(read_folder(tmp_path)).recipe == "decompose_dog"


def test_images_with_accepted_labels_alone_count_as_having_scribbles(make_folder):
    root = make_folder()
    (root / "scribbles").rename(root / "accepted")
    contents = read_folder(root)
    assert choose_method(contents) == replace(METHODS["scribble"], why="clicks and accepted labels")
    assert len(contents.of("scribble")) == 3


@pytest.mark.parametrize(
    ("kept", "accepted", "supervision"),
    [
        (("masks",), 1, "full"),
        (("masks",), 2, "scribble"),
        (("boxes.csv",), 1, "box"),
        (("boxes.csv", "masks"), 1, "box"),
        (("points.csv", "masks"), 1, "scribble"),  # which learns from clicks, too
        (("points.csv", "boxes.csv"), 1, "scribble"),
        (("tags.csv",), 1, "scribble"),
        (("scribbles", "masks"), 1, "scribble"),
    ],
)
def test_few_accepted_labels_do_not_outvote_masks_and_boxes_of_more_images(make_folder, kept, accepted, supervision):
    root = make_folder()  # two images have masks, boxes and points, three tags and scribbles
    (root / "accepted").mkdir()
    for name in ("a.png", "b.png")[:accepted]:
        shutil.copy(root / "scribbles" / name, root / "accepted")
    keep(root, *kept)
    contents = read_folder(root)
    assert choose_method(contents).supervision == supervision
    assert choose_method(contents, "scribble").supervision == "scribble"
    assert "scribble" in kinds_of(contents)


def test_clicks_beside_accepted_labels_are_learned_from_with_them(run, make_folder):
    root = make_folder()
    (root / "accepted").mkdir()
    shutil.copy(root / "scribbles" / "c d é.png", root / "accepted")  # the others have clicks
    keep(root, "points.csv", "masks")
    status, out, err = run("init", "photos", "--encoder_weights", "null")
    assert (status, err) == (0, "")
    assert out.startswith("Found 3 images, 2 with clicks, 1 with accepted labels, 2 with masks\nWrote photos.yaml: ")
    text = Path("photos.yaml").read_text()
    assert text.startswith("# Learns from the clicks and accepted labels of photos on ")
    assert yaml.safe_load(text)["data"]["init_args"]["supervision"] == "scribble"
    assert "# There are also clicks, masks: `weakseg init photos --supervision ...`" in text


def test_what_is_not_there_cannot_be_chosen(make_folder):
    root = make_folder()
    keep(root)
    with pytest.raises(ValueError, match=r"has no annotation to learn from: add scribbles/, points.csv"):
        choose_method(read_folder(root))
    with pytest.raises(ValueError, match=r"`supervision`: no image of .* has boxes"):
        choose_method(read_folder(root), "box")


@pytest.mark.parametrize(
    ("supervision", "learns", "images", "accelerator", "chosen", "recipe"),
    [
        ("scribble", "auto", 5000, "cpu", "head", "adm_grid"),
        ("point", "auto", 500, "gpu", "head", "adm_grid"),
        ("full", "auto", 501, "gpu", "encoder", "full"),
        ("scribble", "encoder", 3, "cpu", "encoder", "adm_grid"),
        ("scribble", "head", 5000, "gpu", "head", "adm_grid"),
        ("scribble", "network", 3, "cpu", "network", "trust_region_grid"),
        ("scribble", "auto", 50, "cpu", "head", "trust_region_grid"),
        ("point", "auto", 50, "gpu", "head", "trust_region_grid"),
        ("point", "auto", 51, "gpu", "head", "adm_grid"),
        ("tags", "auto", 3, "cpu", "head", "ccnn_tags"),
        ("box", "auto", 3, "cpu", "head", "ccnn_boxes"),
        ("box", "network", 3, "cpu", "network", "ccnn_boxes"),
    ],
)
def test_what_learns(supervision, learns, images, accelerator, chosen, recipe):
    hardware = replace(TINY_COMPUTER, accelerator=accelerator)
    method = choose_what_learns(METHODS[supervision], learns, images, 1024, hardware)
    assert (method.learns, method.recipe) == (chosen, recipe)
    assert method.fits_head or method == METHODS[supervision]


@pytest.mark.parametrize(("longest", "recipe"), [(1024, "trust_region_grid"), (1025, "adm_grid")])
def test_large_images_are_labeled_on_the_map(longest, recipe):
    assert choose_what_learns(METHODS["point"], "auto", 3, longest, TINY_COMPUTER).recipe == recipe


def test_the_computer_is_found(monkeypatch):
    class Card:
        name = "Some GPU"
        total_memory = 8 * 2**30

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_hardware().accelerator == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Card)
    assert (find_hardware().accelerator, find_hardware().batch_size) == ("gpu", 8)
