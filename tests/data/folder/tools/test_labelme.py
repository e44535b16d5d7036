"""Files of LabelMe and its forks: which image they are about, what a label means, their versions."""

import json

import numpy as np
import pytest
from exports import SIZE, SQUARE, annotations_of, filled, labelme, mask_of, opened, shape
from PIL import Image

from weakseg_lightning.data.folder.contents import read_folder

# ---- what a label means ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", [None, "", "  ", "\t", float("nan"), "AUTOLABEL_OBJECT"])
@pytest.mark.parametrize("kind", ["polygon", "point"])
def test_shapes_without_a_label_are_named(bare, label, kind):
    (bare / "classes.yaml").unlink()
    labelme(bare, shape("polygon", SQUARE), shape(kind, SQUARE, label))
    contents = read_folder(bare)
    assert contents.classes.names == ["background", "cat"]
    assert {str(problem) for problem in contents.problems} == {
        "images/a.json: shape 2 has no label: give it one, or remove it"
    }
    assert {problem.image for problem in contents.problems} == {"a"}


@pytest.mark.parametrize("named", [True, False])
def test_ignored_and_background_are_what_labelme_means(bare, named):
    if not named:
        (bare / "classes.yaml").unlink()
    labelme(
        bare,
        shape("polygon", SQUARE),
        shape("polygon", [[10, 12], [14, 12], [14, 16], [10, 16]], "_background_"),
        shape("circle", [[20, 15], [20, 18]], "__ignore__"),
        shape("quadrilateral", [[30, 25], [36, 25], [36, 30], [30, 30]], "__ignore__"),
        shape("rectangle", [[40, 30], [46, 36]], "__ignore__"),
        flags={"__ignore__": False},
    )
    mask = mask_of(bare)
    assert opened(bare).classes.names[1] == "cat"
    assert (mask[12:16, 10:14] == 0).all()
    assert mask[15, 20] == 255
    assert (mask[25:30, 30:36] == 255).all()
    assert (mask[30:36, 40:46] == 255).all()
    assert set(np.unique(mask)) == {0, 1, 255}


def test_flags_are_attributes_or_classes(bare):
    flags = {"blurry": True, "dog": True, "cat": False, "seen": None, "weather": "rain", "count": 3, "": True}
    labelme(bare, shape("point", [[10, 10]], flags={"cat": True}), flags=flags, tags=["dog", "street", 5])
    contents = opened(bare)
    assert [known.label for known in contents.annotations["a"] if known.annotation.kind == "tag"] == [2, 2]
    assert "that name no class (2), as 'blurry'" in " ".join(contents.notes)
    assert "neither true nor false, or have no name (4), as 'weather': 'rain'" in " ".join(contents.notes)


@pytest.mark.parametrize("flags", [None, [], ["cat"], "cat"])
def test_flags_of_another_kind_are_no_fault(bare, flags):
    labelme(bare, shape("polygon", SQUARE, flags=None), flags=flags)
    assert annotations_of(bare) == [("region", 1)]
    opened(bare)


def test_prompts_of_automatic_labeling_are_left_out(bare):
    prompts = [shape("point", [[9, 9]], f"AUTOLABEL_{kind}") for kind in ("ADD", "REMOVE")]
    labelme(bare, shape("polygon", SQUARE), *prompts)
    assert annotations_of(bare) == [("region", 1)]
    assert any("prompts of automatic labeling (2)" in note for note in opened(bare).notes)


# ---- which image -----------------------------------------------------------------------------------------------------

ELSEWHERE = ["..\\images\\a.jpg", "D:\\photos\\2024\\a.jpg", "/home/me/a.jpg", "https://example.org/x/a.jpg?v=1"]


@pytest.mark.parametrize("given", [*ELSEWHERE, "", " ", None, "a.png", "./a.jpg", 5])
@pytest.mark.parametrize("file", ["images/a.json", "annotations/a.json", "a.json"])
def test_the_image_of_its_name_is_meant(bare, given, file):
    labelme(bare, shape("polygon", SQUARE), file=file, imagePath=given)
    contents = opened(bare)
    assert list(contents.annotations) == ["a"]


@pytest.mark.parametrize(
    ("given", "name"), [("..\\a.jpg", "a"), ("../b.png", "b"), ("night/a.png", "night/a"), ("a.png", "night/a")]
)
def test_paths_count_from_the_file(bare, given, name):
    (bare / "images" / "night").mkdir()
    Image.new("RGB", SIZE).save(bare / "images" / "night" / "a.png")
    folder = "images" if given.startswith("night") else "images/night"
    labelme(bare, shape("polygon", SQUARE), file=f"{folder}/x.json", imagePath=given)
    assert list(opened(bare).annotations) == [name]


@pytest.mark.parametrize("given", ["a.jpg", "../../photos/a.jpg", "day/a.jpg", "C:\\a.jpg"])
def test_a_namesake_is_never_meant(bare, given):
    (bare / "images" / "night").mkdir()
    labelme(bare, shape("polygon", SQUARE), file="images/night/a.json", imagePath=given)
    contents = read_folder(bare)
    assert contents.annotations == {}
    assert "which is not there" in str(contents.problems[0])


def test_renamed_images_are_noted(bare):
    labelme(bare, shape("polygon", SQUARE), file="images/b.json", imagePath="a.jpg")
    contents = opened(bare)
    assert list(contents.annotations) == ["b"]
    assert any("images/b.json names 'a.jpg', is read as of b" in note for note in contents.notes)


def test_two_files_of_one_image_are_named(bare):
    labelme(bare, shape("polygon", SQUARE))
    labelme(bare, shape("polygon", SQUARE), file="annotations/a.json")
    (problem,) = read_folder(bare).problems
    assert "images/a.json" in str(problem)
    assert "annotations/a.json" in str(problem)


# ---- versions and forks ----------------------------------------------------------------------------------------------


def test_files_of_2018_are_read(bare):
    old = {"label": "cat", "line_color": None, "fill_color": None, "points": SQUARE}
    content = {"shapes": [old], "lineColor": [0, 255, 0, 128], "fillColor": [255, 0, 0, 128], "imageData": "/9j/4AAQ"}
    (bare / "images" / "a.json").write_text("\ufeff" + json.dumps(content), "utf-8")
    assert (mask_of(bare) == filled(SQUARE)).all()


@pytest.mark.parametrize("side", [-1, 0, None, "unknown"])
def test_sizes_may_be_missing(bare, side):
    labelme(bare, shape("polygon", SQUARE), shape("quadrilateral", SQUARE, "dog"), imageWidth=side, imageHeight=side)
    assert (mask_of(bare) == 2 * filled(SQUARE)).all()


def test_what_x_anylabeling_adds_says_nothing_of_pixels(bare):
    added = {"score": 0.3, "description": "dog", "difficult": True, "attributes": {"": "dog"}, "kie_linking": [[1, 2]]}
    others = {"text": "", "description": "dog", "checked": True, "chat_history": []}
    labelme(bare, shape("polygon", SQUARE, visible=False, **added), **others)
    assert annotations_of(bare) == [("region", 1)]
    assert opened(bare).notes == []


def test_images_that_were_checked_without_a_shape_are_background(bare):
    labelme(bare, shape("polygon", SQUARE))
    labelme(bare, file="images/b.json", imagePath="b.png", checked=True)
    labelme(bare, file="images/c d \u00e9.json", imagePath="c d \u00e9.png", checked=True, flags={"cat": True})
    contents = opened(bare)
    assert not mask_of(bare, "b").any()
    assert not contents.has_mask("c d \u00e9")


@pytest.mark.parametrize(
    "others", [{}, {"checked": False}, {"checked": "true"}, {"shapes": None}, {"flags": {"cat": False}}]
)
def test_files_without_a_shape_say_nothing(bare, others):
    labelme(bare, shape("polygon", SQUARE))
    labelme(bare, file="images/b.json", **{"imagePath": "b.png", **others})
    contents = opened(bare)
    assert list(contents.annotations) == ["a"]
    assert contents.notes == ["left out: files without a shape (1), as images/b.json"]
