"""`classes.yaml`, read, written and guessed."""

import pytest

from weakseg_lightning.data.folder.classes import Classes, classes_text, guess_classes, read_classes


@pytest.mark.parametrize("number", [2, 255])
def test_as_many_classes_as_a_byte_holds(tmp_path, number):
    path = tmp_path / "classes.yaml"
    path.write_text(f"classes: {[f'class {index}' for index in range(number)]}")
    classes = read_classes(path)
    assert len(classes.names) == len(classes.palette) == number
    assert len({tuple(color) for color in classes.palette.tolist()}) == number


@pytest.mark.parametrize(("unlabelled", "background"), [(255, 0), (0, 7), ((250, 1, 2), 0)])
def test_what_is_written_is_read_again(tmp_path, unlabelled, background):
    names = ["background", "big cat", "yes", "3", 'a "quoted" one', "früh: x", "#none"]
    classes = Classes(names, {1: (255, 136, 0), 5: (1, 2, 3)}, unlabelled, background)
    path = tmp_path / "classes.yaml"
    path.write_text(classes_text(classes), encoding="utf-8")
    again = read_classes(path)
    assert (list(again.names), again.given_colors, again.unlabelled) == (names, classes.given_colors, unlabelled)
    assert again.background == background


def test_classes_are_found_by_name_in_any_case_or_index():
    classes = Classes(["background", "Cat", "7"])
    given = ("Cat", "cat ", "1", "0", "7", "3", "dog", "", "-1")
    assert [classes.find(text) for text in given] == [1, 1, 1, 0, 2, None, None, None, None]


@pytest.mark.parametrize(
    ("names", "indices", "expected"),
    [
        (["dog", "cat", "Dog", "Background"], [], ["background", "cat", "dog"]),
        ([], [0, 3, 255], ["background", "class_1", "class_2", "class_3"]),
        (["2", "1"], [], ["background", "class_1", "class_2"]),
        (["cat"], [0, 2], ["background", "cat", "class_2"]),
        ([""], [255], ["background"]),
        (["nan", "None", "null", "cat", "N/A"], [], ["background", "cat"]),  # missing values
    ],
)
def test_classes_are_guessed(names, indices, expected):
    assert list(guess_classes(names, indices).names) == expected


@pytest.mark.parametrize("name", ["010", "1:30", "0x1F", "1_000", "+7", "007"])
def test_numbers_are_names_as_they_are_written(tmp_path, name):
    path = tmp_path / "classes.yaml"
    path.write_text(f"classes: [background, {name}, {{name: {name}a, color: '#ff0000'}}]\n")
    assert list(read_classes(path).names) == ["background", name, f"{name}a"]
    path.write_text(f"classes: [background, {{name: {name}}}]\n")
    assert list(read_classes(path).names) == ["background", name]


def test_the_word_of_tables_for_a_mean_is_no_class(tmp_path):
    (tmp_path / "classes.yaml").write_text("classes: [background, mean]\n")
    with pytest.raises(ValueError, match="names 'mean', which in tables of scores is the mean over the classes"):
        read_classes(tmp_path / "classes.yaml")


def test_a_color_without_quotes_is_a_comment(tmp_path):
    (tmp_path / "classes.yaml").write_text("classes:\n  - background\n  - name: leaf\n    color: #008000\n")
    with pytest.raises(ValueError, match="has no color for 'leaf': write it in quotes, as color: \"#ff8800\""):
        read_classes(tmp_path / "classes.yaml")
