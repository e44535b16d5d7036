"""The files that annotations are kept in."""

import numpy as np
import pytest
import yaml
from PIL import Image

from weakseg_lightning.data.folder.label_maps import read_map
from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.painting.layout import named_classes, read_paintable, write_classes, write_labels, write_rows
from weakseg_lightning.visualization import voc_palette

NAMES = ["background", "cat", "no", "Käse: alt", "1"]


def is_a(given: str) -> bool:
    return given in ("a", "a.png")


def said(row, delimiter):
    return [tuple(row.get(name) for name in ("x", "y", "class"))]


# ---- classes ------------------------------------------------------------------------------------------------


def test_classes_come_back(tmp_path):
    write_classes(tmp_path / "classes.yaml", named_classes(NAMES))
    content = yaml.safe_load((tmp_path / "classes.yaml").read_text(encoding="utf-8"))
    assert content["classes"][1] == {"name": "cat", "color": "#800000"}
    read = read_paintable(tmp_path / "classes.yaml")
    assert read.names == NAMES
    assert (read.palette == voc_palette(len(NAMES))).all()


def test_a_class_whose_strokes_would_be_lost_is_named(tmp_path):
    path = tmp_path / "classes.yaml"
    path.write_text("classes: [a, b]\nunlabelled: 0\n")
    with pytest.raises(ValueError, match="its strokes would be lost") as raised:
        read_paintable(path)
    assert str(path) in str(raised.value)


# ---- scribbles ----------------------------------------------------------------------------------------------


def test_scribbles_are_palette_pngs_whose_values_are_classes(tmp_path):
    labels = np.full((4, 5), VOID, dtype=np.uint8)
    labels[1, :3] = 0, 1, 2
    path = tmp_path / "scribbles" / "a.png"
    write_labels(path, labels, named_classes(NAMES))
    with Image.open(path) as image:
        assert image.mode == "P"
        assert (np.array(image) == labels).all()
        assert image.convert("RGB").getpixel((1, 1)) == (128, 0, 0)
    assert (read_map(path, named_classes(NAMES), scribbles=True) == labels).all()
    write_labels(path, np.full_like(labels, VOID), named_classes(NAMES))
    assert not path.exists()


# ---- tables -------------------------------------------------------------------------------------------------

ANOTHER = "\ufeffFile;X;y;note;label\nb.png;1,5;2;x;cat\na.png;3;4;old;dog\n\nbroken row\n"
KEPT = "File;X;y;note;label\nb.png;1,5;2;x;cat\nbroken row\n"
CLICK = {"image": "a.png", "x": "7.5", "y": "8.0", "class": "cat"}
TAG = {"image": "a.png", "class": "dog"}


@pytest.mark.parametrize(
    ("file", "before", "rows", "after"),
    [
        ("points.csv", ANOTHER, [CLICK], f"{KEPT}a.png;7.5;8.0;;cat\n"),
        ("points.csv", ANOTHER, [], KEPT),
        ("tags.csv", "image,tag\nb.png,cow\na.png,cat\n", [TAG], "image,tag\nb.png,cow\na.png,dog\n"),
    ],
)
def test_rows_of_other_images_and_names_of_columns_stay_as_they_are(tmp_path, file, before, rows, after):
    (tmp_path / file).write_text(before, encoding="utf-8")
    write_rows(tmp_path, file, is_a, rows, said)
    assert (tmp_path / file).read_text() == after


def test_a_table_without_rows_is_removed_and_untouched_where_nothing_changes(tmp_path):
    path = tmp_path / "tags.csv"
    write_rows(tmp_path, "tags.csv", is_a, [], said)
    assert list(tmp_path.iterdir()) == []
    write_rows(tmp_path, "tags.csv", is_a, [{"image": "a.png", "class": 'with "quotes", and comma'}], said)
    assert path.read_text() == 'image,class\na.png,"with ""quotes"", and comma"\n'
    before = path.stat().st_mtime_ns
    write_rows(tmp_path, "tags.csv", lambda given: given == "b", [], said)
    assert path.stat().st_mtime_ns == before
    write_rows(tmp_path, "tags.csv", is_a, [], said)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"x,y\n1,2\n", b"image,x,y,class\n\xff\xfe\n", b"image,x,x,y,class\n"])
def test_another_table_is_not_overwritten(tmp_path, content):
    (tmp_path / "points.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"points\.csv"):
        write_rows(tmp_path, "points.csv", is_a, [CLICK], said)
    assert (tmp_path / "points.csv").read_bytes() == content


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "tags.csv"
    path.write_text("image,class\n")

    def full(descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("weakseg_lightning.files.os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_rows(tmp_path, "tags.csv", is_a, [TAG], said)
    assert path.read_text() == "image,class\n"
    assert list(tmp_path.iterdir()) == [path]
