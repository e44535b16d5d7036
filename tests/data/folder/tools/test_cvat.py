"""Exports of CVAT become annotations of the right image, class and pixels."""

import numpy as np
import pytest
from exports import SIZE, SQUARE, annotations_of, boxes, cvat, cvat_image, cvat_shape, faults, filled, mask_of, opened
from PIL import Image

from weakseg_lightning.data.folder.contents import read_folder
from weakseg_lightning.data.folder.labels import read_seeds

BOX = '<box label="cat" xtl="8" ytl="10" xbr="28" ybr="20"/>'
DOG = BOX.replace("cat", "dog")


def runs_of(pixels: np.ndarray) -> str:
    """Runs of a mask as CVAT writes them: row by row, outside first."""
    values = np.concatenate([[False], pixels.ravel(), [not pixels.ravel()[-1]]])
    edges = np.flatnonzero(values[1:] != values[:-1])
    return ", ".join(map(str, np.diff(np.concatenate([[0], edges])).tolist()))


def decoded(runs: str, height: int, width: int) -> np.ndarray:
    """The same by COCO's code, which goes column by column."""
    coco = pytest.importorskip("pycocotools.mask")
    counts = [int(run) for run in runs.split(",")]
    return coco.decode(coco.frPyObjects({"counts": counts, "size": [width, height]}, width, height)).T


# ---- pixels -------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
@pytest.mark.parametrize("seed", range(5))
def test_masks_are_those_of_coco(bare, seed):
    random = np.random.default_rng(seed)
    height, width = random.integers(3, 20, 2).tolist()
    left, top = random.integers(0, 20, 2).tolist()
    runs = runs_of(random.uniform(size=(height, width)) > 0.4)
    place = f'left="{left}" top="{top}" width="{width}" height="{height}"'
    cvat(bare, cvat_image(f'<mask label="dog" rle="{runs}" {place}/>'))
    expected = np.zeros((40, 48), dtype=np.uint8)
    expected[top : top + height, left : left + width] = 2 * decoded(runs, height, width)
    assert (mask_of(bare) == expected).all()


@pytest.mark.parametrize(
    ("orders", "above"), [(("0", "1"), 2), (("1", "0"), 1), (("-2", "-1"), 2), (("0", "-1"), 1), (("", "1.0"), 2)]
)
def test_shapes_of_a_higher_order_lie_above(bare, orders, above):
    shapes = [cvat_shape("region", SQUARE, label) for label in ("cat", "dog")]
    ordered = [shape.replace("/>", f' z_order="{z}"/>') for shape, z in zip(shapes, orders, strict=True)]
    cvat(bare, cvat_image("".join(ordered)))
    assert (mask_of(bare) == above * filled(SQUARE)).all()


@pytest.mark.parametrize(
    ("corners", "degrees", "box"),
    [
        ((8, 10, 28, 20), 0, [8, 10, 28, 20]),
        ((14, 18, 34, 22), 90, [22, 10, 26, 30]),
        ((14, 18, 34, 22), 450, [22, 10, 26, 30]),
        ((20, 10, 30, 20), 45, [25 - 50**0.5, 15 - 50**0.5, 25 + 50**0.5, 15 + 50**0.5]),
        ((0, 10, 20, 20), 90, [5, 5, 15, 25]),
        ((0, 0, 20, 8), 90, [6, 0, 14, 14]),  # cut at the border
    ],
)
def test_turned_boxes_are_enclosed(bare, corners, degrees, box):
    left, top, right, bottom = corners
    inside = f'<box label="cat" xtl="{left}" ytl="{top}" xbr="{right}" ybr="{bottom}" rotation="{degrees}"/>'
    cvat(bare, cvat_image(inside))
    assert np.allclose(boxes(bare), [[*box, 1]], atol=1e-4)


def test_lines_and_points(bare):
    inside = '<polyline label="cat" points="8.5,10.5;27.5,10.5"/><points label="dog" points="30.2,30.7; 40.5,5.5;"/>'
    cvat(bare, cvat_image(inside))
    seeds = read_seeds(opened(bare), "a", SIZE, "scribble")
    assert int((seeds == 1).sum()) == 3 * 22
    assert int((seeds == 2).sum()) == 2 * 9
    assert seeds[30, 30] == seeds[5, 40] == 2


@pytest.mark.parametrize(
    ("inside", "text"),
    [
        ('<mask label="cat" rle="1,2" left="0" top="0" width="2" height="2"/>', "runs cover 3 pixels, expected 4"),
        ('<mask label="cat" rle="4" left="0" top="0" width="2" height="2"/>', "covers no pixel"),
        ('<mask label="cat" rle="-1,5" left="0" top="0" width="2" height="2"/>', "runs cover"),
        ('<mask label="cat" rle="0,4" left="-3" top="0" width="2" height="2"/>', "outside its image"),
        ('<mask label="cat" rle="0,4" left="47" top="39" width="4" height="1"/>', "outside its image"),
        ('<mask label="cat" left="0" top="0" width="2" height="2"/>', "KeyError('rle')"),
        ('<polygon label="cat" points="1,1;9;9,9"/>', "no points of x and y"),
        ('<polygon label="cat" points=""/>', "no points of x and y"),
        ('<box label="cat" xtl="1" ytl="x" xbr="9" ybr="9"/>', "could not convert"),
        ('<box label="cat" xtl="9" ytl="9" xbr="1" ybr="1"/>', "empty box"),
        ('<ellipse label="cat" cx="9" cy="9" rx="0" ry="5"/>', "radii"),
        ('<polygon label="cat" points="1,1;9,1;9,9" z_order="top"/>', "`z_order` that is no number"),
        ('<cuboid label="cat" xtl1="1" ytl1="1"/>', "cuboid 1 is of a type that is not read"),
        ('<skeleton label="cat"><points label="1" outside="0" points="4,8"/></skeleton>', "skeleton 1 is of a type"),
        ('<polygon points="1,1;9,1;9,9"/>', "polygon 1 has no label"),
        ('<polygon label=" " points="1,1;9,1;9,9"/>', "polygon 1 has no label"),
        ('<box label="bird" xtl="1" ytl="1" xbr="9" ybr="9"/>', "'bird'"),
    ],
)
def test_damaged_shapes_are_named(bare, inside, text):
    cvat(bare, cvat_image(inside), cvat_image(BOX, "b.png"))
    problems = "; ".join([faults(bare), *map(str, read_folder(bare).problems)])
    assert "annotations.xml: image 'a.jpg'" in problems
    assert text in problems
    assert annotations_of(bare, "b") == [("box", 1)]
    assert faults(bare, "b") == ""


# ---- what a label means -------------------------------------------------------------------------------------------


def test_tags_are_attributes_or_classes(bare):
    cvat(bare, cvat_image(f'{BOX}<tag label="daytime" source="manual"/><tag label="dog"/>'))
    assert annotations_of(bare) == [("box", 1), ("tag", 2)]
    assert any("that name no class (1), as 'daytime'" in note for note in opened(bare).notes)


def test_attributes_of_shapes_and_groups_say_nothing(bare):
    inside = BOX.replace("/>", ' group_id="3" occluded="1"><attribute name="dog">dog</attribute></box>')
    cvat(bare, cvat_image(inside))
    assert annotations_of(bare) == [("box", 1)]
    assert opened(bare).notes == []


def test_labels_are_names(bare):
    (bare / "classes.yaml").unlink()
    labels = "<task><labels><label><name>unused</name><type>tag</type></label></labels></task>"
    cvat(bare, cvat_image(BOX.replace("cat", "7") + BOX.replace("cat", "Gr\u00f6\u00dfe &amp; Form")), meta=labels)
    assert opened(bare).classes.names == ["background", "7", "Gr\u00f6\u00dfe & Form"]


def test_labels_may_be_void(bare):
    (bare / "classes.yaml").write_text("classes: [background, cat, dog]\nignore: [unsure]\n")
    mask = '<mask label="Unsure" rle="0,4" left="10" top="12" width="2" height="2" z_order="1"/>'
    polygon = cvat_shape("region", SQUARE, "cat")
    cvat(bare, cvat_image(polygon + mask + '<box label="unsure" xtl="20" ytl="10" xbr="22" ybr="12" z_order="1"/>'))
    expected = filled(SQUARE).astype(np.uint8)
    expected[12:14, 10:12] = expected[10:12, 20:22] = 255
    assert (mask_of(bare) == expected).all()


def test_shapes_outside_of_their_image_are_left_out(bare):
    cvat(bare, cvat_image(BOX + '<box label="dog" outside="1" xtl="8" ytl="10" xbr="28" ybr="20"/>'))
    assert annotations_of(bare) == [("box", 1)]
    assert any("shapes outside of their image (1), as image 'a.jpg', box 2" in note for note in opened(bare).notes)


# ---- which image --------------------------------------------------------------------------------------------------


@pytest.fixture
def folders(bare):
    """Images of one name in the folders train and val, and flat."""
    for folder in ("train", "val"):
        (bare / "images" / folder).mkdir()
        for name in ("1.png", "cats/2.png"):
            (bare / "images" / folder / name).parent.mkdir(exist_ok=True)
            Image.new("RGB", SIZE).save(bare / "images" / folder / name)
    return bare


@pytest.mark.parametrize(
    ("name", "subset", "found"),
    [
        ("1.png", "train", "train/1"),
        ("1.png", "val", "val/1"),
        ("train/1.png", None, "train/1"),
        ("train\\1.png", "default", "train/1"),
        ("images/val/1.png", "default", "val/1"),
        ("/upload/2024/val/1.png", None, "val/1"),
        ("cats/2.png", "train", "train/cats/2"),
        ("a.jpg", "default", "a"),
        ("c d e\u0301.png", None, "c d \u00e9"),  # an accent apart from its letter, as macOS writes it
        ("A.JPG", None, "a"),
        ("b", None, "b"),  # frames have no suffix
    ],
)
def test_subsets_and_folders_are_part_of_the_name(folders, name, subset, found):
    cvat(folders, cvat_image(BOX, name, subset=subset, task_id=4))
    assert list(opened(folders).annotations) == [found]


@pytest.mark.parametrize(
    ("name", "subset"), [("1.png", None), ("1.png", "test"), ("a.jpg", "train"), ("test/1.png", "default"), ("", None)]
)
def test_a_namesake_is_never_meant(folders, name, subset):
    cvat(folders, cvat_image(BOX, name, subset=subset))
    contents = read_folder(folders)
    assert contents.annotations == {}
    assert "which is not there" in str(contents.problems[0])


@pytest.mark.parametrize("folder", [True, False])
def test_images_of_no_subset_may_have_a_folder(folders, folder):
    if folder:
        (folders / "images" / "default").mkdir()
        Image.new("RGB", SIZE).save(folders / "images" / "default" / "a.png")
    cvat(folders, cvat_image(BOX, "a.jpg", subset="default"), cvat_image(DOG, "1.png", subset="val"))
    assert set(opened(folders).annotations) == {"default/a" if folder else "a", "val/1"}


def test_messages_name_images_as_the_file_does(folders):
    cvat(folders, cvat_image(BOX, "z.png", subset="default"), cvat_image(BOX, "z.png", subset="val"))
    problems = [str(problem) for problem in read_folder(folders).problems]
    assert ["image 'z.png', box 1 is" in problems[0], "image 'val/z.png', box 1 is" in problems[1]] == [True, True]


@pytest.mark.parametrize("kind", ["task", "job"])
def test_the_subset_of_a_task_counts_for_its_images(folders, kind):
    for subset, shape in (("train", BOX), ("val", DOG)):
        meta = f"<{kind}><subset>{subset}</subset></{kind}>"
        cvat(folders, cvat_image(shape, "1.png"), meta=meta, file=f"annotations/{subset}.xml")
    assert annotations_of(folders, "train/1") == [("box", 1)]
    assert annotations_of(folders, "val/1") == [("box", 2)]
    opened(folders)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"subset": "train"}, {"subset": "val"}),
        ({"name": "x/a.jpg"}, {"name": "y/a.jpg"}),
        ({"task_id": 1}, {"task_id": 2}),
        ({"name": "a.jpg"}, {"name": "a.png"}),
        ({"name": "A.jpg"}, {"name": "folder\\a.jpg"}),
    ],
)
@pytest.mark.parametrize("inside", [DOG, ""])
def test_two_entries_of_one_image_are_named(bare, first, second, inside):
    cvat(bare, cvat_image(BOX, **first), cvat_image(inside, **second))
    (problem,) = read_folder(bare).problems
    one, other = (part.split("'")[1] for part in str(problem).split("image ")[1:3])
    assert problem.image == "a"
    assert one != other or "(number 1)" in str(problem)


def test_two_exports_of_one_task_share_its_images(bare):
    cvat(bare, cvat_image(BOX), cvat_image("", "b.png"))
    cvat(bare, cvat_image(""), cvat_image(DOG, "b.png"), file="annotations/second.xml")
    assert [annotations_of(bare, name) for name in ("a", "b")] == [[("box", 1)], [("box", 2)]]
    assert any("images without a shape (2)" in note for note in opened(bare).notes)


def test_exports_of_version_1_0_state_no_size(bare):
    cvat(bare, cvat_image(BOX, width=None, height=None))
    assert boxes(bare) == [[8, 10, 28, 20, 1]]


# ---- versions and encodings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "windows-1252"])
def test_encodings_that_xml_declares(bare, encoding):
    (bare / "classes.yaml").unlink()
    declared = encoding.removesuffix("-sig")
    head = f'<?xml version="1.0" encoding="{declared}"?><!DOCTYPE annotations>'
    text = f"{head}<annotations>{cvat_image(BOX)}</annotations>".replace("cat", "B\u00e4r")
    (bare / "annotations.xml").write_bytes(text.encode(encoding))
    assert opened(bare).classes.names == ["background", "B\u00e4r"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("<annotations><track label='cat'><box frame='0' outside='0'/></track></annotations>", "tracks of a video"),
        (f"<annotations>{cvat_image(BOX)}<track id='0' label='cat'/></annotations>", "tracks of a video"),
        ("<annotation><object><name>cat</name><bndbox/></object></annotation>", "is of PASCAL VOC"),
        ("<project/>", "is no export of CVAT"),
        ("<annotations><image", "is not XML"),
        ("", "is not XML"),
        ('<!DOCTYPE a [<!ENTITY b "b"><!ENTITY c "&b;&b;">]><annotations>&c;</annotations>', "is not XML"),
        ('<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><annotations>&b;</annotations>', "is not XML"),
        ('<?xml version="1.0" encoding="utf-16"?><annotations/>', "is not XML"),
    ],
)
def test_other_files_are_named(bare, text, fault):
    (bare / "annotations.xml").write_text(text)
    (problem,) = read_folder(bare).problems
    assert str(problem).startswith("annotations.xml: ")
    assert fault in str(problem)


def test_exports_without_an_image_are_left_out(bare):
    cvat(bare)
    assert opened(bare).notes == ["left out: exports without an image (1), as annotations.xml"]
