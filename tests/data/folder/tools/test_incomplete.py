"""Images of which a part is drawn in one way, a part in another: what is drawn never becomes background in silence."""

import numpy as np
import pytest
from exports import SQUARE, annotate, labelme, opened, shape
from PIL import Image

from weakseg_lightning.data import FolderDataModule
from weakseg_lightning.data.folder.contents import read_folder
from weakseg_lightning.data.folder.inspection import inspect_image

FAR_BOX = [[34, 25], [46, 38]]
FAR_AWAY = "boxes, lines or points, or tagged"


def boxes_and_seeds(root, name="a"):
    source = FolderDataModule(root, supervision="box", val_fraction=0, crop_size=32).train_source()
    sample = source[list(source.ids).index(name)]
    return sample.boxes.tolist(), sample.seeds.numpy()


def faults(root, name="a"):
    return [str(problem) for problem in inspect_image(read_folder(root), name).problems]


@pytest.mark.parametrize("tool", ["labelme", "cvat", "label_studio"])
def test_a_region_beside_a_box_has_a_box_of_its_own(bare, tool):
    annotate(bare, tool, ("region", SQUARE, "cat"), ("box", FAR_BOX, "dog"))
    boxes, seeds = boxes_and_seeds(bare)
    assert boxes == [[34, 25, 46, 38, 2], [8, 10, 28, 20, 1]]
    assert (seeds[10:20, 8:28] == 255).all()
    assert (seeds[25:38, 34:46] == 255).all()
    assert (seeds == 0).sum() == 48 * 40 - 20 * 10 - 12 * 13


@pytest.mark.parametrize(
    ("other", "is_mask"),
    [
        (("box", [[7, 9], [30, 22]], "cat"), True),  # of the region itself
        (("box", FAR_BOX, "cat"), False),
        (("click", [[20, 15]], "cat"), True),
        (("click", [[40, 30]], "cat"), False),
        (("stroke", [[10, 12], [26, 18]], "cat"), True),
        (("stroke", [[10, 30], [26, 34]], "cat"), False),
        (("stroke", [[5, 15], [31, 15]], "cat"), True),  # both of its ends lie outside
        (("click", [[30, 15]], "cat"), True),  # beside it
        (("click", [[40, 30]], "background"), True),
    ],
)
def test_regions_make_a_mask_unless_more_of_their_class_is_drawn(bare, other, is_mask):
    annotate(bare, "labelme", ("region", SQUARE, "cat"), other)
    contents = opened(bare)
    assert contents.has_mask("a") == is_mask
    assert any(FAR_AWAY in note for note in contents.notes) == (not is_mask)


def test_a_stroke_over_several_regions_is_about_all_of_them(bare):
    squares = [[[x, 10], [x + 10, 10], [x + 10, 20], [x, 20]] for x in (8, 18, 28)]
    annotate(
        bare, "labelme", *(("region", square, "cat") for square in squares), ("stroke", [[10, 15], [36, 15]], "cat")
    )
    assert opened(bare).has_mask("a")


def test_many_regions_and_clicks_are_compared_at_once(bare):
    rng = np.random.default_rng(0)
    corners = rng.uniform(2, 35, (400, 2)).round(2)
    squares = [[[x, y], [x + 3, y], [x + 3, y + 3], [x, y + 3]] for x, y in corners.tolist()]
    clicks = [("click", [[x + 1, y + 1]], "cat") for x, y in corners.tolist()]
    annotate(bare, "labelme", *(("region", square, "cat") for square in squares), *clicks)
    assert opened(bare).has_mask("a")


@pytest.mark.parametrize(("tags", "is_mask"), [("cat", True), ("cat|dog", False)])
def test_a_class_that_is_tagged_alone_may_be_anywhere(bare, tags, is_mask):
    annotate(bare, "labelme", ("region", SQUARE, "cat"))
    (bare / "tags.csv").write_text(f"image,class\na,{tags}\n")
    assert opened(bare).has_mask("a") == is_mask


@pytest.mark.parametrize(
    ("other", "is_used"), [(("click", [[20, 15]], "cat"), True), (("click", [[40, 30]], "cat"), False)]
)
def test_boxes_are_no_supervision_where_more_is_drawn(bare, other, is_used):
    annotate(bare, "labelme", ("box", [SQUARE[0], SQUARE[2]], "cat"), other)
    contents = opened(bare)
    assert contents.can_train("a", "box") == is_used
    assert any("boxes that are not trained from" in note for note in contents.notes) == (not is_used)


def test_scribbles_that_leave_their_box_are_no_background(bare):
    annotate(bare, "labelme", ("box", [SQUARE[0], SQUARE[2]], "cat"))
    drawn = np.full((40, 48), 255, np.uint8)
    drawn[14, 20:36] = 1
    Image.fromarray(drawn).save(bare / "scribbles/a.png")
    _, seeds = boxes_and_seeds(bare)
    assert (seeds[14, 28:36] == 255).all()
    assert (seeds == 0).sum() == 48 * 40 - 200 - 8


def test_a_mask_without_a_class_that_is_drawn_or_tagged_is_named(make_folder):
    root = make_folder()
    mask = np.array(Image.open(root / "masks/a.png"))
    mask[mask == 2] = 0
    Image.fromarray(mask).save(root / "masks/a.png")
    assert faults(root) == [
        "masks/a.png: has no pixel of dog for 'a', which sizes.csv has: correct one of them",
    ]
    mask[25, 20] = 255  # there may be a dog
    Image.fromarray(mask).save(root / "masks/a.png")
    assert faults(root) == []


@pytest.mark.parametrize("kind", ["polygon", "rectangle"])
def test_areas_of_the_first_class_say_what_areas_leave(bare, kind):
    (bare / "classes.yaml").write_text("classes: [leaf, cat]\n")
    corners = SQUARE if kind == "polygon" else [SQUARE[0], SQUARE[2]]
    labelme(bare, shape(kind, corners, "leaf"), shape("polygon", [[30, 25], [40, 25], [40, 30]]))
    (fault,) = faults(bare)
    assert fault == (
        "images/a.json: shape 1 has an area of 'leaf', the first class, which is what areas leave, too: if that is not "
        "meant, name `background` first in classes.yaml"
    )
    labelme(bare, shape("polygon", [[0, 0], [48, 0], [48, 40], [0, 40]], "leaf"), shape("polygon", SQUARE))
    assert faults(bare) == []  # nothing is left
    hole = [[12, 12], [16, 12], [16, 16], [12, 16]]
    labelme(bare, shape("polygon", SQUARE), shape("polygon", hole, "leaf"))
    assert faults(bare) == []  # it is the hole of another


def test_damaged_areas_of_the_first_class_are_named(bare):
    (bare / "classes.yaml").write_text("classes: [leaf, cat]\n")
    corners = [SQUARE[0], SQUARE[2]]
    labelme(bare, shape("rectangle", corners, "leaf"), shape("mask", corners, mask="AAAA"))
    (fault,) = faults(bare)
    assert "is a mask that cannot be read" in fault


def test_a_tiny_polygon_beside_others_of_its_class_is_nothing(bare):
    labelme(bare, shape("polygon", SQUARE), shape("polygon", [[40.2, 30.2], [40.3, 30.2], [40.3, 30.3]]))
    assert faults(bare) == []


@pytest.mark.parametrize(
    ("kind", "points", "text"),
    [
        ("polygon", [[0.1, 0.1], [0.45, 0.1], [0.3, 0.4]], "has a region with a corner at 0.3, 0.4, fractions of the"),
        ("rectangle", [[0.1, 0.1], [0.6, 0.6]], "has a box with a corner at 0.6, 0.6, fractions of the image"),
        ("linestrip", [[0.1, 0.1], [0.6, 0.6]], "has a stroke with a corner at 0.6, 0.6, fractions of the image"),
        ("polygon", [[3, 3], [9, 9], [6, 6]], "has a region that covers no pixel: draw it again or remove it"),
    ],
)
def test_shapes_that_cover_nothing_are_named(bare, kind, points, text):
    labelme(bare, shape(kind, points))
    (fault,) = faults(bare)
    assert text in fault


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        ("a,cat,0.1\na,Cat,0.9", "line 3 gives 'a' two sizes of Cat, as line 2 does: correct one"),
        ("a,cat,0.335\na,dog,0.67", None),
        ("a,cat,0.7\na,dog,40%", "has sizes of 'a' that make 110% of the image together: correct them"),
        ("a,cat,0", "line 2 has cat in 'a', of size 0 in sizes.csv: correct one"),
    ],
)
def test_sizes_that_contradict_each_other_are_named(bare, sizes, text):
    (bare / "sizes.csv").write_text(f"image,class,size\n{sizes}\n")
    if sizes.endswith(",0"):
        (bare / "tags.csv").write_text("image,class\na,cat\n")
    assert [fault.partition(": ")[2] for fault in faults(bare)] == [text] * (text is not None)


def test_a_size_of_nothing_is_no_tag(bare):
    (bare / "sizes.csv").write_text("image,class,size\na,cat,0\na,dog,0.5\n")
    source = FolderDataModule(bare, supervision="tags", val_fraction=0, crop_size=32).train_source()
    assert source[0].tags.tolist() == [True, False, True]
