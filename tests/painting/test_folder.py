"""Folders of images: what is read, written, linked, and what cannot be used."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from weakseg_lightning.data.folder.contents import read_folder
from weakseg_lightning.data.images.reading import read_image
from weakseg_lightning.data.samples import BadSampleError
from weakseg_lightning.painting.document import Click, ImageAnnotation
from weakseg_lightning.painting.folder import PaintFolder
from weakseg_lightning.painting.open_image import read_open_image

CLASSES = ["background", "cat", "dog"]
SIZE, SMALL = (80, 120), (20, 30)


@pytest.fixture
def folder(data):
    return PaintFolder(data, CLASSES)


def add_image(path, **options):
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", SMALL[::-1]).save(path, **options)


def an_annotation(height: int = SIZE[0], width: int = SIZE[1]) -> ImageAnnotation:
    annotation = ImageAnnotation.empty(height, width)
    annotation.labels[10:13, 10:40] = 1
    return ImageAnnotation(annotation.labels, (Click(3.5, 70.1, 2), Click(3.0, 7.0, 0)), frozenset({1, 2}))


def accepting(annotation: ImageAnnotation, label: int = 1) -> ImageAnnotation:
    """The same with an upper half that is accepted."""
    labels = np.full_like(annotation.labels, 255)
    labels[: len(labels) // 2] = label
    return annotation.accepting(labels)


def test_what_is_written_is_read_again(data, folder):
    folder.write("a", an_annotation())
    again = PaintFolder(data)
    assert again.classes.names == CLASSES
    assert again.read("a", SIZE).same_as(an_annotation())
    assert again.read("b", SIZE).is_empty
    assert {name: entry.annotated for name, entry in again.entries.items()} == {"a": True, "b": False}
    assert (data / "points.csv").read_text() == "image,x,y,class\na.png,3.5,70.1,dog\na.png,3.0,7.0,background\n"
    assert (data / "tags.csv").read_text() == "image,class\na.png,cat\na.png,dog\n"
    assert not list(data.rglob("*unfinished*"))


def test_writing_nothing_removes_what_was_there(data, folder):
    folder.write("a", an_annotation())
    folder.write("a", ImageAnnotation.empty(*SIZE))
    assert sorted(path.name for path in data.rglob("*") if path.is_file()) == ["a.png", "b.png", "classes.yaml"]
    assert not folder.entries["a"].annotated


def test_accepted_labels_are_kept_apart(data, folder):
    folder.write("a", accepting(an_annotation()))
    folder.write("b", accepting(ImageAnnotation.empty(*SIZE), label=2))
    again = PaintFolder(data)
    assert again.read("a", SIZE).same_as(accepting(an_annotation()))
    for entries in (folder.entries, again.entries):
        assert [(entries[name].annotated, entries[name].accepted) for name in "ab"] == [(True, True), (False, True)]
    assert not (data / "scribbles" / "b.png").exists()
    with Image.open(data / "accepted" / "b.png") as written:
        assert written.mode == "P"
        assert np.unique(np.array(written)).tolist() == [2, 255]
    folder.write("a", an_annotation())
    assert [path.name for path in (data / "accepted").iterdir()] == ["b.png"]
    assert not folder.entries["a"].accepted
    assert not list(data.rglob("*unfinished*"))


def test_an_image_said_to_show_nothing_stays_so(data):
    (data / "tags.csv").write_text("image,class\nA,\n")
    folder = PaintFolder(data, CLASSES)
    assert folder.read("a", SIZE).tags == frozenset()
    folder.write("a", folder.read("a", SIZE))
    assert folder.read("a", SIZE).tags == frozenset()


@pytest.mark.parametrize("given", ["sub/c", "c", "C.JPG", "images/sub/c.jpg", "sub\\c.jpg"])
def test_images_in_folders_are_found_by_what_tables_call_them(data, given):
    add_image(data / "images" / "sub" / "c.jpg")
    (data / "tags.csv").write_text(f"image,class\n{given},cat\n")
    folder = PaintFolder(data, CLASSES)
    assert folder.entries["sub/c"].annotated
    folder.write("sub/c", an_annotation(*SMALL))
    assert (data / "scribbles" / "sub" / "c.png").is_file()
    assert folder.read("sub/c", SMALL).same_as(an_annotation(*SMALL))


KINDS = {
    "gray.png": Image.new("L", (30, 20), 9),
    "16 bits.png": Image.fromarray(np.full(SMALL, 40000, dtype=np.uint16)),
    "alpha.png": Image.new("RGBA", (30, 20), (9, 9, 9, 0)),
    "scan.tiff": Image.new("CMYK", (30, 20)),
    "Ünïcödé #1?.webp": Image.new("RGB", (30, 20)),
}


@pytest.mark.parametrize("name", KINDS)
def test_all_kinds_of_images_are_shown_as_training_reads_them(data, name):
    KINDS[name].save(data / "images" / name)
    folder = PaintFolder(data, CLASSES)
    read = folder.read_image(name.rsplit(".", 1)[0])
    assert (read == read_image(data / "images" / name)).all()
    assert read.shape == (3, 20, 30)


def test_a_turned_image_is_annotated_as_training_reads_it(data):
    exif = Image.Exif()
    exif[274] = 6
    add_image(data / "images" / "turned.jpg", exif=exif)
    folder = PaintFolder(data, CLASSES)
    size = tuple(folder.read_image("turned").shape[1:])
    assert size == read_image(data / "images" / "turned.jpg").shape[1:]
    folder.write("turned", an_annotation(*size))
    with Image.open(data / "scribbles" / "turned.png") as written:
        assert written.size == size[::-1]


# ---- what cannot be used ------------------------------------------------------------------------------------


def test_broken_images_are_listed_with_the_reason(data):
    (data / "images" / "c.jpg").write_bytes(b"nothing")
    Image.new("RGB", (9, 9)).save(data / "images" / "A.bmp")
    whole = (data / "images" / "a.png").read_bytes()
    (data / "images" / "cut.png").write_bytes(whole[: len(whole) // 2])
    folder = PaintFolder(data, CLASSES)
    assert "is not an image" in folder.entries["c"].problem
    doubled = [entry.problem for entry in folder.entries.values() if "has the name of" in (entry.problem or "")]
    assert len(doubled) == 1
    with pytest.raises(BadSampleError, match=r"cut\.png cannot be read"):
        folder.read_image("cut")
    with pytest.raises(BadSampleError, match="is not an image"):
        folder.read_image("c")


@pytest.mark.parametrize("kind", ["scribbles", "accepted"])
def test_labels_of_another_size_are_named(data, folder, kind):
    (data / kind).mkdir()
    Image.new("L", (9, 7)).save(data / kind / "a.png")
    with pytest.raises(BadSampleError, match=r"a\.png has 9 x 7 pixels, its image 120 x 80"):
        folder.read("a", SIZE)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("b,1,2,cow", "the class 'cow': expected one of background, cat, dog"),
        ("b,left,2,cat", "line 2 has 'left' in the column `x`"),
    ],
)
def test_rows_that_cannot_be_used_are_named(data, folder, row, message):
    (data / "points.csv").write_text(f"image,x,y,class\n{row}\n")
    with pytest.raises(BadSampleError, match=message):
        folder.read("b", SIZE)


@pytest.mark.parametrize(
    ("names", "message"), [(None, "--classes background cat dog"), (["one"], "2 to 255"), (["a", "A"], "'A' twice")]
)
def test_classes_must_be_known(data, names, message):
    with pytest.raises(ValueError, match=message):
        PaintFolder(data, names)
    assert not (data / "classes.yaml").exists()


def test_other_classes_than_those_of_the_file_raise(data, folder):
    assert PaintFolder(data, CLASSES).classes.names == CLASSES
    with pytest.raises(ValueError, match=r"has other ones \(background, cat, dog\)"):
        PaintFolder(data, ["background", "cow"])


def test_a_folder_without_images_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        PaintFolder(tmp_path / "none", CLASSES)
    with pytest.raises(FileNotFoundError, match="no folder `images` in"):
        PaintFolder(tmp_path, CLASSES)


# ---- links --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["scribbles", "accepted", "points.csv", "tags.csv", "classes.yaml"])
def test_what_is_written_follows_links(data, folder, tmp_path, name):
    known = accepting(an_annotation())
    folder.write("a", known)
    (data / name).rename(tmp_path / name)
    (data / name).symlink_to(tmp_path / name)
    folder = PaintFolder(data)
    assert folder.read("a", SIZE).same_as(known)
    folder.write("b", known)
    assert (data / name).is_symlink()
    assert PaintFolder(data).read("b", SIZE).same_as(known)
    assert PaintFolder(data).read("a", SIZE).same_as(known)


def test_linked_images_and_folders_are_annotated_as_training_reads_them(data, tmp_path):
    for name in ("x.png", "more/y.png"):
        add_image(tmp_path / name)
    (data / "images" / "c.png").symlink_to(tmp_path / "x.png")
    (data / "images" / "more").symlink_to(tmp_path / "more")
    (data / "images" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    folder = PaintFolder(data, CLASSES)
    assert {"a", "b", "c", "more/y"} <= set(folder.entries)
    for name in ("c", "more/y"):
        folder.write(name, an_annotation(*SMALL))
        assert folder.read(name, SMALL).same_as(an_annotation(*SMALL))
    assert (data / "scribbles" / "more" / "y.png").is_file()
    assert sorted(path.name for path in (tmp_path / "more").iterdir()) == ["y.png"]
    contents = read_folder(data)
    assert contents.can_train("more/y", "scribble")
    assert contents.can_train("c", "point")


# ---- one reader ---------------------------------------------------------------------------------------------


def test_tables_are_read_as_training_reads_them(data):
    (data / "points.csv").write_text("File;X;Y;Label\na;3,5;70,1;Dog\na;3;7;0\n")
    (data / "tags.csv").write_text("image,tag\na.png,cat | dog\n")
    folder = PaintFolder(data, CLASSES)
    annotation = folder.read("a", SIZE)
    assert annotation.clicks == (Click(3.5, 70.1, 2), Click(3.0, 7.0, 0))
    assert annotation.tags == frozenset({1, 2})
    folder.write("a", annotation)
    assert folder.read("a", SIZE).same_as(annotation)
    clicks = [
        one.annotation.points.tolist() for one in read_folder(data).annotations["a"] if one.annotation.kind == "click"
    ]
    assert sorted(clicks) == [[[3.0, 7.0]], [[3.5, 70.1]]]


def test_images_of_one_name_in_two_folders_are_two(data):
    add_image(data / "images" / "night" / "a.png")
    (data / "points.csv").write_text("image,x,y,class\nnight/a.png,1,2,cat\na.png,3,4,dog\n")
    folder = PaintFolder(data, CLASSES)
    assert folder.read("night/a", SMALL).clicks == (Click(1, 2, 1),)
    assert folder.read("a", SIZE).clicks == (Click(3, 4, 2),)


def test_images_that_other_tools_have_annotated_are_told(data):
    shape = {"label": "cat", "shape_type": "point", "points": [[3, 4]]}
    content = {"imagePath": "b.png", "imageWidth": 120, "imageHeight": 80, "shapes": [shape]}
    (data / "images" / "b.json").write_text(json.dumps(content))
    folder = PaintFolder(data, CLASSES)
    assert folder.foreign == ["b"]
    assert folder.entries["b"].annotated
    folder.write("b", ImageAnnotation.empty(*SIZE))
    assert folder.entries["b"].annotated


# ---- names over the network ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..", ""])
def test_names_are_looked_up_not_used_as_paths(folder, name):
    for action in (folder.read_image, lambda name: folder.write(name, an_annotation())):
        with pytest.raises(KeyError):
            action(name)


def test_rows_that_the_page_cannot_read_and_other_columns_stay(data):
    (data / "classes.yaml").write_text("classes: [background, cat, dog]\nignore: [junk]\n")
    rows = ["a.png,10,20,cat,eva", "a.png,11,21,cat,eva,extra", "a.png,12,22,cat", "a.png,30,30,junk,eva"]
    (data / "points.csv").write_text("\n".join(["image,x,y,class,annotator", *rows, ""]))
    (data / "tags.csv").write_text("image,class,annotator\na.png,cat|dog,eva\n")
    folder = PaintFolder(data)
    known = folder.read("a", SIZE)
    assert known.clicks == (Click(10.0, 20.0, 1),)
    folder.write("a", ImageAnnotation(an_annotation().labels, (*known.clicks, Click(1.5, 2.0, 2)), known.tags))
    assert (data / "points.csv").read_text().splitlines()[1:] == [*rows, "a.png,1.5,2.0,dog,"]
    assert (data / "tags.csv").read_text().splitlines()[1:] == ["a.png,cat|dog,eva"]
    folder.write("a", ImageAnnotation(an_annotation().labels, (), frozenset({2})))
    assert (data / "points.csv").read_text().splitlines()[1:] == rows[1:]
    assert (data / "tags.csv").read_text().splitlines()[1:] == ["a.png,dog,"]


def test_two_clicks_at_one_place_are_two_rows(data, folder):
    twice = ImageAnnotation(an_annotation().labels, (Click(3.0, 7.0, 1), Click(3.0, 7.0, 1)))
    for _ in range(2):
        folder.write("a", twice)
        assert folder.read("a", SIZE).clicks == twice.clicks


def test_a_folder_that_was_moved_away_is_said_and_nothing_is_written_in_its_place(data, folder):
    folder.write("a", an_annotation())
    moved = data.rename(data.with_name("moved"))
    for use in (lambda: folder.read("a", SIZE), lambda: folder.write("a", ImageAnnotation.empty(*SIZE))):
        with pytest.raises(BadSampleError, match=r"images/a\.png is not there: put the folder back where it was"):
            use()
    assert not data.exists()
    moved.rename(data)
    assert folder.read("a", SIZE).same_as(an_annotation())


@pytest.mark.parametrize("inner", ["images/a.png", " a.png", "a\nb.png", "a\\b.png"])
def test_what_is_said_of_an_image_is_never_about_another(data, inner):
    add_image(data / "images" / inner)
    folder = PaintFolder(data, CLASSES)
    (name,) = set(folder.entries) - {"a", "b"}
    if (problem := folder.entries[name].problem) is not None:
        assert "has a name that tables cannot hold: rename it" in problem
        return
    folder.write(name, an_annotation(*SMALL))
    assert folder.read(name, SMALL).same_as(an_annotation(*SMALL))
    assert folder.read("a", SIZE).is_empty


def test_a_name_that_is_no_utf8_is_a_problem_of_one_image(data):
    add_image(data / "images" / "c.png")
    try:
        (data / "images" / "c.png").rename(data / "images" / os.fsdecode(b"c\xe9.png"))
    except OSError:
        pytest.skip("this file system takes names in UTF-8 alone")
    folder = PaintFolder(data, CLASSES)
    json.dumps(list(folder.entries)).encode()
    assert [entry.problem is None for entry in folder.entries.values()] == [True, True, False]


def test_pixels_without_a_label_stay_so_whatever_the_colors_of_the_classes(data):
    (data / "classes.yaml").write_text('classes: [background, cat, {name: dog, color: "#e0e0c0"}]\n')
    folder = PaintFolder(data)
    folder.write("a", an_annotation())
    assert folder.read("a", SIZE).same_as(an_annotation())


def test_masks_and_boxes_keep_an_image_annotated_when_it_is_opened(data):
    (data / "boxes.csv").write_text("image,x1,y1,x2,y2,class\nb.png,3,3,9,9,cat\n")
    (data / "masks").mkdir()
    Image.fromarray(np.ones(SIZE, np.uint8)).save(data / "masks/a.png")
    folder = PaintFolder(data, CLASSES)
    for name in "ab":
        read_open_image(folder, name, {})
    assert folder.needed([]) == []
