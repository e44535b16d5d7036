"""The files that annotations are kept in."""

import numpy as np
import pytest
import yaml
from PIL import Image

from weakseg_lightning.data.folder.label_maps import read_map
from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.painting.layout import (
    full_palette,
    named_classes,
    read_paintable,
    write_classes,
    write_rows,
    write_scribbles,
    write_whole,
)
from weakseg_lightning.visualization import voc_palette

NAMES = ["background", "cat", "no", "Käse: alt", "1"]


def is_a(given: str) -> bool:
    return given in ("a", "a.png")


# ---- classes ------------------------------------------------------------------------------------------------


def test_classes_come_back(tmp_path):
    write_classes(tmp_path / "classes.yaml", named_classes(NAMES))
    content = yaml.safe_load((tmp_path / "classes.yaml").read_text(encoding="utf-8"))
    assert content["classes"][1] == {"name": "cat", "color": "#800000"}
    read = read_paintable(tmp_path / "classes.yaml")
    assert read.names == NAMES
    assert (full_palette(read) == voc_palette()).all()


@pytest.mark.parametrize(
    ("names", "message"), [(["background"], "2 to 255 names"), (["cat", "Cat"], "different names")]
)
def test_names_that_are_no_classes_are_refused(names, message):
    with pytest.raises(ValueError, match=message):
        named_classes(names)


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
    write_scribbles(path, labels, named_classes(NAMES))
    with Image.open(path) as image:
        assert image.mode == "P"
        assert (np.array(image) == labels).all()
        assert image.convert("RGB").getpixel((1, 1)) == (128, 0, 0)
    assert (read_map(path, named_classes(NAMES), scribbles=True) == labels).all()
    write_scribbles(path, np.full_like(labels, VOID), named_classes(NAMES))
    assert not path.exists()


# ---- tables -------------------------------------------------------------------------------------------------

OTHERS = "\ufeffFile;X;y;note;label\nb.png;1,5;2;x;cat\na.png;3;4;old;dog\n\nbroken row\n"


def test_rows_of_other_images_stay_as_they_are(tmp_path):
    path = tmp_path / "points.csv"
    path.write_text(OTHERS, encoding="utf-8")
    write_rows(tmp_path, "points.csv", is_a, [{"image": "a.png", "x": "7.5", "y": "8.0", "class": "cat"}])
    assert path.read_text() == "File;X;y;note;label\nb.png;1,5;2;x;cat\nbroken row\na.png;7.5;8.0;;cat\n"
    write_rows(tmp_path, "points.csv", is_a, [])
    assert path.read_text() == "File;X;y;note;label\nb.png;1,5;2;x;cat\nbroken row\n"


def test_a_table_without_rows_is_removed_and_untouched_where_nothing_changes(tmp_path):
    path = tmp_path / "tags.csv"
    write_rows(tmp_path, "tags.csv", is_a, [])
    assert list(tmp_path.iterdir()) == []
    write_rows(tmp_path, "tags.csv", is_a, [{"image": "a.png", "class": 'with "quotes", and comma'}])
    assert path.read_text() == 'image,class\na.png,"with ""quotes"", and comma"\n'
    before = path.stat().st_mtime_ns
    write_rows(tmp_path, "tags.csv", lambda given: given == "b", [])
    assert path.stat().st_mtime_ns == before
    write_rows(tmp_path, "tags.csv", is_a, [])
    assert list(tmp_path.iterdir()) == []


def test_the_columns_of_tags_may_be_called_as_training_has_them(tmp_path):
    path = tmp_path / "tags.csv"
    path.write_text("image,tag\nb.png,cow\na.png,cat\n")
    write_rows(tmp_path, "tags.csv", is_a, [{"image": "a.png", "class": "dog"}])
    assert path.read_text() == "image,tag\nb.png,cow\na.png,dog\n"


def test_a_linked_table_stays_a_link(tmp_path):
    (tmp_path / "elsewhere.csv").write_text("image,class\nb.png,cow\n")
    (tmp_path / "tags.csv").symlink_to(tmp_path / "elsewhere.csv")
    write_rows(tmp_path, "tags.csv", is_a, [{"image": "a.png", "class": "dog"}])
    assert (tmp_path / "tags.csv").is_symlink()
    assert (tmp_path / "elsewhere.csv").read_text() == "image,class\nb.png,cow\na.png,dog\n"


@pytest.mark.parametrize("content", [b"x,y\n1,2\n", b"image,x,y,class\n\xff\xfe\n", b"image,x,x,y,class\n"])
def test_another_table_is_not_overwritten(tmp_path, content):
    (tmp_path / "points.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"points\.csv"):
        write_rows(tmp_path, "points.csv", is_a, [{"image": "a", "x": "1", "y": "1", "class": "cat"}])
    assert (tmp_path / "points.csv").read_bytes() == content


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("old")

    def full(descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("weakseg_lightning.files.os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_whole(path, b"new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
