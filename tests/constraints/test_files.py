import pytest

from weakseg_lightning.constraints import AreaTable, compile_constraints, find_contradictions
from weakseg_lightning.hyperparameters import describe

NAMES = ["background", "person", "dog", "cat"]


@pytest.fixture
def write(tmp_path):
    def writer(text, **arguments):
        path = tmp_path / "areas.csv"
        path.write_text(text, encoding="utf-8")
        return AreaTable(path, **arguments)

    return writer


def test_bounds(know, said, write):
    rule = write("image,class,lower,upper\ni0,dog,0.1,0.25\n\ni2, 1 ,,0.5\ni0,background,0.4,\n", slack=2.0)
    constraints = compile_constraints([rule], know({2}, {1}, {1}))
    assert said(constraints) == ["background >= 0.4", "dog >= 0.1", "dog <= 0.25"]
    assert said(constraints, 1) == []
    assert said(constraints, 2) == ["person <= 0.5"]
    row = constraints.names.index("dog <= {bound}")
    assert constraints.coefficients[0, row].tolist() == [0, 0, -1, 0]
    assert constraints.bounds[0, row] == pytest.approx(-0.25)
    assert (constraints.slack == 2).all()


def test_areas_have_a_tolerance_and_columns_any_order(know, said, write):
    rule = write("class,area,image\ndog,0.3,i0\ncat,0.02,i0\nperson,0.99,i1\n", tolerance=0.05)
    constraints = compile_constraints([rule], know({2, 3}, {1}))
    assert said(constraints) == ["dog >= 0.25", "dog <= 0.35", "cat <= 0.07"]
    assert said(constraints, 1) == ["person >= 0.94"]
    assert constraints.slack.isinf().all()


def test_a_byte_order_mark_is_no_part_of_the_first_column(know, said, write):
    rule = write("\ufeffimage,class,lower,upper\ni0,dog,0.1,\n")
    assert said(compile_constraints([rule], know({2}))) == ["dog >= 0.1"]


def test_a_head_alone_says_nothing(know, said, write):
    assert said(compile_constraints([write("image,class,area\n", tolerance=0.1)], know({2}))) == []


def test_bounds_of_untagged_classes_are_contradictions(know, write):
    rule = write("image,class,lower,upper\ni0,dog,0.6,\ni0,cat,0.5,\n")
    assert find_contradictions([rule], know({2, 3})) == {"i0": "dog >= 0.6 contradicts cat >= 0.5 for image i0"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"line 1: the columns must be image,class,lower,upper or image,class,area, got nothing$"),
        ("image,class,low\ni0,dog,0.1\n", "line 1: .*, got image,class,low"),
        ("image,class,area,lower\n", "line 1: the columns must be"),
        ("image,class,lower,upper\ni0,dog,0.1\n", "line 2: there must be 4 fields, got 3"),
        ("image,class,lower,upper\ni0,dgo,0.1,\n", "line 2: `class` must name a class, got 'dgo': did you mean 'dog'"),
        ("image,class,lower,upper\ni0,dog,0.1,\ni0,4,0,1\n", r"line 3: `class` must name one of the classes 0\.\.3"),
        ("image,class,lower,upper\ni0,dog,0.1,1.5\n", r"line 2: `upper` must be a fraction between 0 and 1, got 1\.5"),
        ("image,class,lower,upper\ni0,dog,nan,1\n", "line 2: `lower` must be a fraction between 0 and 1, got nan"),
        ("image,class,lower,upper\ni0,dog,a lot,1\n", "line 2: `lower` must be a fraction between 0 and 1, got a lot"),
        ("image,class,lower,upper\ni0,dog,0.3,0.2\n", r"line 2: `lower` must not exceed `upper`, got 0\.3 > 0\.2"),
        ("image,class,lower,upper\ni0,dog,,\n", "line 2: `lower` or `upper` must be given, got neither"),
        (
            "image,class,lower,upper\ni0,dog,0.1,\n\ni0,2,0.2,\n",
            "line 4: the class dog of the image i0 is there already, in line 2",
        ),
        ("image,class,lower,upper\n,dog,0.1,\n", "line 2: `image` must be the name of an image, got nothing"),
        ("image,class,area\ni0,dog,\n", "line 2: `area` must be a fraction between 0 and 1, got nothing"),
        ("image,class,area\ni0,dog,0.5\n", "line 2: a file of areas needs `tolerance`"),
        ('image,class,area\ni0,"dog\n', "line 2: there must be 3 fields"),
    ],
)
def test_wrong_files_are_named_with_the_line(know, write, text, words):
    with pytest.raises(ValueError, match=rf"areas\.csv, {words}"):
        compile_constraints([write(text)], know({2}))


def test_files_that_cannot_be_read(know, tmp_path):
    with pytest.raises(ValueError, match=r"none\.csv cannot be read as a CSV file of areas: .*No such file"):
        compile_constraints([AreaTable(tmp_path / "none.csv")], know({2}))
    (tmp_path / "image.csv").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(ValueError, match=r"image\.csv cannot be read as a CSV file"):
        compile_constraints([AreaTable(tmp_path / "image.csv")], know({2}))


def test_images_that_the_data_set_does_not_have(write):
    rule = write("image,class,lower,upper\ni0,dog,0.1,\n" + "".join(f"x{n},dog,0.1,\n" for n in range(7)))
    with pytest.raises(ValueError, match=r"areas\.csv, line 3: the data set has no training image x0, x1, .* 2 more"):
        rule.check(["i0", "i1"], NAMES)
    rule.check(["i0", *(f"x{n}" for n in range(7))], NAMES)


def test_images_that_the_file_does_not_have(know, write):
    text = "image,class,lower,upper\ni0,dog,0.1,\n"
    write(text).check(["i0", "i1"], NAMES)
    strict = write(text, missing="error")
    with pytest.raises(ValueError, match=r"areas\.csv has no row for the image i1: add rows, or set `missing`"):
        strict.check(["i0", "i1"], NAMES)
    with pytest.raises(ValueError, match="no row for the image i1"):
        compile_constraints([strict], know({2}, {2}))


def test_a_rule_does_not_need_its_file_to_exist():
    rule = AreaTable("gone.csv", tolerance=0.1)
    assert describe(rule)["init_args"] == {"path": "gone.csv", "tolerance": 0.1, "slack": None, "missing": "allow"}
