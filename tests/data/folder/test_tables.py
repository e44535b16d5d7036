"""CSV files as people and spreadsheets write them."""

import pytest

from weakseg_lightning.data.folder.annotations import Annotation
from weakseg_lightning.data.folder.tables.annotations import read_table

PLAIN = "image,x,y,class\na.jpg,1.5,2,cat\n"


def annotations(tmp_path, name: str, content: str | bytes) -> list[Annotation]:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_table(path, tmp_path))


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        PLAIN.replace("\n", "\r\n"),
        PLAIN.encode("utf-8-sig"),
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        "image;x;y;class\na.jpg;1,5;2,0;cat\n",
        '"class","y","x","image","who"\n"cat",2," 1.5 ","a.jpg","me"\n\n',
        "Filename,X,Y,Label\na.jpg,1.5,2,cat\n",
        "\n\nimage,x,y,class\na.jpg,1.5,2,cat",
        "sep=;\nimage;x;y;class\na.jpg;1,5;2;cat\n",
    ],
)
def test_tables_are_read_however_they_were_saved(tmp_path, content):
    (annotation,) = annotations(tmp_path, "points.csv", content)
    assert (annotation.kind, annotation.image.given, annotation.label, annotation.points.tolist()) == (
        "click",
        "a.jpg",
        "cat",
        [[1.5, 2.0]],
    )


def test_lines_are_counted_as_an_editor_does(tmp_path):
    found = annotations(tmp_path, "points.csv", "image,x,y,class\n\na,1,2,cat\na,1,,cat\n")
    assert [getattr(one, "where", None) for one in found] == ["line 3", None]
    assert str(found[1]).startswith("points.csv: line 4 has '' in the column `y`")


def test_boxes_are_two_corners(tmp_path):
    (annotation,) = annotations(tmp_path, "boxes.csv", "image,xmin,ymin,xmax,ymax,class\na,1,2,3,4,dog\n")
    assert annotation.points.tolist() == [[1, 2], [3, 4]]


def test_a_row_may_have_several_tags_or_none(tmp_path):
    found = annotations(tmp_path, "tags.csv", "image,class\na,cat | dog\nb,\n")
    assert [(annotation.image.given, annotation.label) for annotation in found] == [
        ("a", "cat"),
        ("a", "dog"),
        ("b", ""),
    ]


@pytest.mark.parametrize(
    ("text", "fraction"),
    [("0.15", 0.15), ("15%", 0.15), ("15 %", 0.15), ("Small", "small"), ("large", "large"), ("1", 1.0)],
)
def test_sizes_are_fractions_or_words(tmp_path, text, fraction):
    (annotation,) = annotations(tmp_path, "sizes.csv", f"image,class,size\na,cat,{text}\n")
    assert annotation.fraction == fraction


def test_sizes_may_have_a_decimal_comma(tmp_path):
    (annotation,) = annotations(tmp_path, "sizes.csv", "image;class;size\na;cat;0,15\n")
    assert annotation.fraction == 0.15


@pytest.mark.parametrize("header", ['"image,x,y,class', '"image"x,x,y,class'])
def test_a_quote_out_of_place_in_the_first_line_is_named(tmp_path, header):
    (tmp_path / "points.csv").write_text(f"{header}\na,1,1,cat\n")
    (fault,) = read_table(tmp_path / "points.csv", tmp_path)
    assert str(fault).startswith("points.csv: line 1 cannot be read (")
