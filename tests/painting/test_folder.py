"""Folders of images, and what does not belong to them."""

import numpy as np
import pytest
from PIL import Image

from weakseg_lightning.data.files import read_image
from weakseg_lightning.data.samples import BadSampleError
from weakseg_lightning.painting.document import Annotation, Click
from weakseg_lightning.painting.folder import PaintFolder

CLASSES = ["background", "cat", "dog"]


def an_annotation(height: int = 80, width: int = 120) -> Annotation:
    annotation = Annotation.empty(height, width)
    annotation.labels[10:13, 10:40] = 1
    return Annotation(annotation.labels, (Click(3.5, 70.1, 2), Click(3.0, 7.0, 0)), frozenset({1, 2}))


def test_what_is_written_is_read_again(data):
    PaintFolder(data, CLASSES).write("a", an_annotation())
    again = PaintFolder(data)
    assert again.classes.names == CLASSES
    assert again.read("a", (80, 120)).same_as(an_annotation())
    assert again.read("b", (80, 120)).is_empty
    assert {name: entry.annotated for name, entry in again.entries.items()} == {"a": True, "b": False}
    assert (data / "points.csv").read_text() == "image,x,y,class\na.png,3.5,70.1,dog\na.png,3.0,7.0,background\n"
    assert (data / "tags.csv").read_text() == "image,class\na.png,cat\na.png,dog\n"
    assert not list(data.rglob("*unfinished*"))


def test_writing_nothing_removes_what_was_there(data):
    folder = PaintFolder(data, CLASSES)
    folder.write("a", an_annotation())
    folder.write("a", Annotation.empty(80, 120))
    assert sorted(path.name for path in data.rglob("*") if path.is_file()) == ["a.png", "b.png", "classes.yaml"]
    assert not folder.entries["a"].annotated


def test_an_image_said_to_show_nothing_stays_so(data):
    (data / "tags.csv").write_text("image,class\nA,\n")
    folder = PaintFolder(data, CLASSES)
    assert folder.read("a", (80, 120)).tags == frozenset()
    folder.write("a", folder.read("a", (80, 120)))
    assert folder.read("a", (80, 120)).tags == frozenset()


@pytest.mark.parametrize("given", ["sub/c", "c", "C.JPG", "images/sub/c.jpg", "sub\\c.jpg"])
def test_images_in_folders_are_found_by_what_tables_call_them(data, given):
    (data / "images" / "sub").mkdir()
    Image.new("RGB", (30, 20)).save(data / "images" / "sub" / "c.jpg")
    (data / "tags.csv").write_text(f"image,class\n{given},cat\n")
    folder = PaintFolder(data, CLASSES)
    assert folder.entries["sub/c"].annotated
    folder.write("sub/c", an_annotation(20, 30))
    assert (data / "scribbles" / "sub" / "c.png").is_file()
    assert folder.read("sub/c", (20, 30)).same_as(an_annotation(20, 30))


KINDS = {
    "grey.png": Image.new("L", (30, 20), 9),
    "16 bits.png": Image.fromarray(np.full((20, 30), 40000, dtype=np.uint16)),
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


def test_a_turned_photograph_is_annotated_as_training_reads_it(data):
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (30, 20)).save(data / "images" / "turned.jpg", exif=exif)
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


def test_annotations_that_do_not_fit_are_named(data):
    folder = PaintFolder(data, CLASSES)
    (data / "scribbles").mkdir()
    Image.new("L", (9, 7)).save(data / "scribbles" / "a.png")
    with pytest.raises(BadSampleError, match=r"a\.png has 9 x 7 pixels, its image 120 x 80"):
        folder.read("a", (80, 120))
    (data / "points.csv").write_text("image,x,y,class\nb,1,2,cow\n")
    with pytest.raises(BadSampleError, match="the class 'cow', expected one of background, cat, dog"):
        folder.read("b", (80, 120))
    (data / "points.csv").write_text("image,x,y,class\nb,left,2,cat\n")
    with pytest.raises(BadSampleError, match="a row of 'b' is wrong"):
        folder.read("b", (80, 120))


@pytest.mark.parametrize(
    ("names", "message"),
    [(None, "--classes background cat dog"), (["one"], "2 to 255"), (["a", "A"], "different names")],
)
def test_classes_must_be_known(data, names, message):
    with pytest.raises(ValueError, match=message):
        PaintFolder(data, names)
    assert not (data / "classes.yaml").exists()


def test_other_classes_than_those_of_the_file_are_refused(data):
    PaintFolder(data, CLASSES)
    assert PaintFolder(data, CLASSES).classes.names == CLASSES
    with pytest.raises(ValueError, match=r"has other ones \(background, cat, dog\)"):
        PaintFolder(data, ["background", "cow"])


def test_a_folder_without_images_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        PaintFolder(tmp_path / "none", CLASSES)
    with pytest.raises(FileNotFoundError, match="images holds no images"):
        PaintFolder(tmp_path, CLASSES)


# ---- ways out of the folder ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["scribbles", "points.csv", "tags.csv", "classes.yaml"])
def test_links_that_leave_the_folder_are_refused(data, tmp_path, name):
    outside = tmp_path / "outside"
    outside.mkdir()
    (data / name).symlink_to(outside)
    with pytest.raises(ValueError, match="leads out of"):
        PaintFolder(data, CLASSES)
    assert list(outside.iterdir()) == []


def test_a_linked_folder_of_images_is_refused(data, tmp_path):
    (data / "images").rename(tmp_path / "elsewhere")
    (data / "images").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="leads out of"):
        PaintFolder(data, CLASSES)


def test_a_linked_image_or_scribble_is_a_problem_of_that_image(data, tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "secret.png")
    (data / "images" / "c.png").symlink_to(tmp_path / "secret.png")
    (data / "images" / "inside.png").symlink_to(data / "images" / "a.png")
    (data / "scribbles").mkdir()
    (data / "scribbles" / "b.png").symlink_to(tmp_path / "secret.png")
    folder = PaintFolder(data, CLASSES)
    problems = {name: entry.problem for name, entry in folder.entries.items()}
    assert problems["a"] is problems["inside"] is None
    assert "leads out of" in problems["b"]
    assert "leads out of" in problems["c"]
    with pytest.raises(ValueError, match="leads out of"):
        folder.read_image("c")


def test_a_link_that_appears_later_is_not_followed(data, tmp_path):
    folder = PaintFolder(data, CLASSES)
    outside = tmp_path / "outside"
    outside.mkdir()
    (data / "scribbles").symlink_to(outside)
    with pytest.raises(ValueError, match="leads out of"):
        folder.write("a", an_annotation())
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..", ""])
def test_names_are_looked_up_not_used_as_paths(data, name):
    folder = PaintFolder(data, CLASSES)
    for action in (folder.read_image, lambda name: folder.write(name, an_annotation())):
        with pytest.raises(KeyError):
            action(name)
