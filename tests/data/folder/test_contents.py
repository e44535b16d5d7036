"""Which file belongs to which image."""

import json
import unicodedata

import numpy as np
import pytest
from PIL import Image

from weakseg_lightning.data.folder.contents import read_folder
from weakseg_lightning.data.folder.inspection import inspect_all, nothing_labelled


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


@pytest.mark.parametrize("kind", ["scribbles", "accepted", "masks"])
def test_many_label_maps_of_no_image_are_one_problem(make_folder, kind):
    root = make_folder()
    (root / kind).mkdir(exist_ok=True)
    for name in ("u", "v", "w", "x", "y"):
        Image.new("L", (48, 40)).save(root / kind / f"{name}.png")
    (problem,) = read_folder(root).problems
    text = f"{kind}: 5 files belong to no image, as u.png, v.png, w.png: there are no images of these names; rename or"
    assert str(problem).startswith(text)
    for name in ("u", "v"):
        (root / kind / f"{name}.png").unlink()
    assert [problem.file for problem in read_folder(root).problems] == [f"{kind}/{name}.png" for name in "wxy"]


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
    assert {name: [one.label for one in annotations] for name, annotations in contents.annotations.items()} == {
        "positive/a": [1],
        "negative/a": [None],
    }
    assert list(contents.classes.names) == ["background", "class_1"]


def test_an_empty_folder_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no folder `images` in .*: put the images into"):
        read_folder(tmp_path)
    (tmp_path / "images").mkdir()
    with pytest.raises(FileNotFoundError, match=rf"did you mean {tmp_path}\?"):
        read_folder(tmp_path / "images")
    with pytest.raises(FileNotFoundError, match=r"no image in .*: put images there \(.jpg"):
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


@pytest.mark.parametrize(
    ("tags", "points", "told"),
    [
        ("b.jpg,sheep\n", "a.jpg,3,3,1\n", "1 is goat"),
        ("b.jpg,sheep\n", "a.jpg,3,3,goat\n", None),
        ("b.jpg,2\n", "a.jpg,3,3,1\n", None),  # numbers alone
    ],
)
def test_numbers_beside_names_are_told_where_their_order_is_a_guess(make_folder, tags, points, told):
    root = make_folder()
    for path in (*root.glob("masks/*"), *root.glob("scribbles/*"), *root.glob("*.csv"), root / "classes.yaml"):
        path.unlink()
    (root / "tags.csv").write_text(f"image,class\n{tags}b.jpg,{'goat' if 'sheep' in tags else 1}\n")
    (root / "points.csv").write_text(f"image,x,y,class\n{points}")
    notes = [note for note in read_folder(root).notes if "by alphabet" in note]
    assert [told in note for note in notes] == [True] * (told is not None)


def test_an_image_of_nothing_has_no_tag(make_folder):
    root = make_folder()
    for path in (*root.glob("masks/*"), *root.glob("scribbles/*"), *root.glob("*.csv")):
        path.unlink()
    (root / "tags.csv").write_text("image,class\na.jpg,\na.jpg,cat\nb.jpg,cat\n")
    faults = [str(problem) for one in inspect_all(read_folder(root), ["a", "b"]) for problem in one.problems]
    assert faults == ["tags.csv: tags 'a' without cat, which other annotations of it have: correct one of them"]


@pytest.mark.parametrize(
    ("rows", "lines"),
    [
        ("a.jpg,0.5,0.25,cat\nb.jpg,0.1,1,dog\n", ["line 2", "line 3"]),
        ("a.jpg,0.5,0.25,cat\nb.jpg,9,1,dog\n", []),  # the first pixel can be clicked on
        ("a.jpg,0.5,0.5,0\nb.jpg,0.5,0.5,0\n", []),  # a background seed in the corner of each
        ("a.jpg,0.5,0.25,cat\na.jpg,0.75,0.5,dog\nb.jpg,9,1,dog\n", ["line 2"]),
    ],
)
def test_clicks_that_look_like_fractions_are_refused(make_folder, rows, lines):
    root = make_folder()
    (root / "points.csv").write_text(f"image,x,y,class\n{rows}")
    faults = [str(fault) for fault in read_folder(root).problems]
    assert [fault.split(" has ")[0] for fault in faults] == [f"points.csv: {line}" for line in lines]
    assert all(fault.endswith("fractions of the image by the look of them: write pixels") for fault in faults)


@pytest.mark.parametrize("encoding", ["gb18030", "utf-16"])
def test_exports_in_other_encodings_say_what_to_do(make_folder, encoding):
    root = make_folder()
    (root / "images" / "a.json").write_bytes(
        json.dumps({"shapes": []}).encode(encoding) + "\u6807\u7b7e".encode(encoding)
    )
    (problem,) = read_folder(root).problems
    assert str(problem).startswith("images/a.json: is not UTF-8 text")
    assert str(problem).endswith("save it as UTF-8")


@pytest.mark.parametrize("leaf", [1, 255])
def test_masks_whose_only_class_is_void_are_one_problem(make_folder, leaf):
    """As programs write black and white masks."""
    root = make_folder()
    for path in (*root.glob("scribbles/*"), *root.glob("*.csv")):
        path.unlink()
    for path in root.glob("masks/*"):
        with Image.open(path) as image:
            Image.fromarray((np.array(image) > 0).astype(np.uint8) * np.uint8(leaf)).save(path)
    contents = read_folder(root)
    problems = nothing_labelled(contents, list(inspect_all(contents, ["a", "b"])))
    text = "masks: no mask has another class than background, all else is void (255): save classes as 1 to 254"
    assert [str(problem) for problem in problems] == [text] * (leaf == 255)
