"""Which file belongs to which image."""

import json
import unicodedata

import pytest
from PIL import Image

from weakseg_lightning.data.folder_contents import read_folder


@pytest.mark.parametrize(
    "given",
    [
        *("a", "a.jpg", "A.JPG", "images/a.jpg", "images\\a.jpg", "C:\\Users\\me\\photos\\a.jpg", "/home/me/a.jpg"),
        *("a.png", "a.json"),  # other suffixes: converted since
    ],
)
def test_images_are_found_by_whatever_names_them(make_folder, given):
    assert read_folder(make_folder()).find(given) == "a"


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_accents_may_be_written_in_two_ways(make_folder, form):
    root = make_folder()
    path = root / "scribbles" / "c d é.png"
    path.rename(path.with_name(unicodedata.normalize(form, path.name)))
    contents = read_folder(root)
    assert contents.problems == []
    assert set(contents.scribbles) == {"a", "b", "c d é"}
    assert contents.find(unicodedata.normalize(form, "c d é.png")) == "c d é"


def test_images_in_folders_keep_them_apart(make_folder):
    root = make_folder()
    for folder in ("x", "y"):
        (root / "images" / folder).mkdir()
        Image.new("RGB", (8, 8)).save(root / "images" / folder / "v1.2.jpg")
    contents = read_folder(root)
    assert {"x/v1.2", "y/v1.2"} <= set(contents.images)
    assert contents.find("x/v1.2.jpg") == "x/v1.2"
    assert contents.find("v1.2.jpg") is None  # could be either


def test_files_that_systems_leave_behind_are_nobodys(make_folder):
    root = make_folder()
    for name in (".DS_Store", "Thumbs.db", "._a.jpg", "desktop.ini"):
        (root / "images" / name).write_bytes(b"x")
    assert read_folder(root).problems == []


def test_two_folders_are_tagged_images(tmp_path):
    for folder in ("positive", "negative"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / folder / "a.png")
    contents = read_folder(tmp_path)
    assert {name: [one.label for one in marks] for name, marks in contents.marks.items()} == {
        "positive/a": [1],
        "negative/a": [None],
    }
    assert list(contents.classes.names) == ["background", "class_1"]


def test_an_empty_folder_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder `images` in .*: put the photographs into"):
        read_folder(tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no image in .*: put photographs there \(.jpg"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("kinds", "masked"),
    [
        (["region cat"], True),
        (["region cat", "rectangle cat", "point cat"], True),
        (["region cat", "point background"], True),
        (["region cat", "rectangle dog"], False),
        (["region cat", "line dog"], False),
        (["region cat", "point dog", "region dog"], True),
        (["rectangle dog"], False),
    ],
)
def test_regions_make_a_mask_unless_a_class_is_drawn_in_another_way_alone(make_folder, kinds, masked):
    root = make_folder()
    for path in (*root.glob("masks/*"), *root.glob("scribbles/*"), *root.glob("*.csv")):
        path.unlink()
    points = {"region": [[1, 1], [9, 1], [9, 9]], "rectangle": [[1, 1], [9, 9]], "line": [[1, 1], [9, 9]]}
    shapes = [
        {"shape_type": kind.replace("region", "polygon"), "label": label, "points": points.get(kind, [[3, 3]])}
        for kind, label in map(str.split, kinds)
    ]
    content = {"imagePath": "a.jpg", "imageWidth": 48, "imageHeight": 40, "shapes": shapes}
    (root / "images" / "a.json").write_text(json.dumps(content))
    contents = read_folder(root)
    assert contents.has_mask("a") == masked
    told = any("regions that make no mask" in note for note in contents.notes)
    assert told == (not masked and "region cat" in kinds)
