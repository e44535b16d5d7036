"""What a label means, and which sources contradict each other."""

import numpy as np
import pytest

from weakseg_lightning.data.folder.annotations import Annotation, LeftOut, Problem
from weakseg_lightning.data.folder.assignment import Assignment
from weakseg_lightning.data.folder.classes import Classes, guess_classes
from weakseg_lightning.data.folder.names import address_ref, file_ref, row_ref, task_ref

CLASSES = Classes(["background", "cat", "big dog"], ignore=["unsure", "Not Mine"])


def assigned(*readings, classes=CLASSES, images=("a", "b", "night/a")) -> Assignment:
    assignment = Assignment(images, classes)
    for reading in readings:
        assignment.add(reading)
    return assignment


def region(label: str, file: str = "images/a.json", given: str = "a.png", **others) -> Annotation:
    return Annotation("region", file_ref(file, given), label, file, "shape 1", np.zeros((3, 2)), **others)


def tag(label: str, **others) -> Annotation:
    return Annotation(
        "tag", file_ref("images/a.json", "a.png"), label, "images/a.json", "flags", optional=True, **others
    )


def row(label: str, given: str = "a.png", line: int = 2, file: str = "points.csv") -> Annotation:
    return Annotation("click", row_ref(given), label, file, f"line {line}", np.zeros((1, 2)), by_index=True)


def labels(assignment: Assignment, name: str = "a") -> list:
    return [one.label for one in assignment.annotations.get(name, ())]


# ---- labels ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "index"),
    [
        *(("cat", 1), ("Cat ", 1), ("big dog", 2), ("BIG  DOG", 2), ("big\u00a0dog", 2), ("\tcat\n", 1)),
        *(("unsure", 255), ("UNSURE", 255), ("not  mine", 255), ("background", 0), ("_background_", 0)),
        *(("2", 2), ("0", 0)),
    ],
)
def test_labels_of_tools_are_names_whatever_their_case_and_blanks(label, index):
    assignment = assigned(region(label))
    assert (labels(assignment), assignment.problems) == ([index], [])


@pytest.mark.parametrize("label", ["", "  ", "\n"])
def test_no_label_is_no_class(label):
    (problem,) = assigned(region(label)).problems
    assert str(problem) == "images/a.json: shape 1 has no label: give it one, or remove it"
    assert problem.image == "a"


@pytest.mark.parametrize("label", ["None", "null", "cow", "3", "-1", "1.0", "bigdog"])
def test_labels_of_no_class_are_named(label):
    (problem,) = assigned(region(label)).problems
    assert f"names the class {label!r}" in str(problem)


def test_an_index_in_place_of_a_name_is_told():
    notes = list(assigned(region("2"), region("1")).notes())
    assert notes == ["labels that are no names, read as indices (2), as '2' is big dog, in images/a.json"]
    assert list(assigned(row("2")).notes()) == []  # in tables both are written


def test_where_classes_are_called_by_numbers_a_number_is_a_name():
    digits = Classes(["background", "0", "7"])
    assert labels(assigned(region("0"), region("7"), row("0"), row("2"), classes=digits)) == [1, 2, 1, 2]
    (problem,) = assigned(region("1"), classes=digits).problems
    assert "names the class '1'" in str(problem)


@pytest.mark.parametrize(("label", "meaning"), [("__ignore__", 255), ("_background_", 0), ("background", 0)])
def test_what_a_tool_means_by_a_label_holds_unless_classes_say_otherwise(label, meaning):
    assert labels(assigned(region(label, meaning=meaning))) == [meaning]
    assert labels(assigned(region(label, meaning=meaning), classes=Classes(["x", "y", label]))) == [2]


def test_an_index_is_told_where_classes_are_called_by_numbers():
    notes = list(assigned(row("1"), classes=Classes(["background", "10", "20"])).notes())
    assert notes == ["labels that are no names, read as indices (1), as '1' is 10, in points.csv"]


def test_void_of_labelme_is_void_of_every_tool_and_table():
    assert labels(assigned(region("__ignore__"), region("__IGNORE__ "))) == [255, 255]
    assert list(guess_classes(["__ignore__", "cat"], [], ["__ignore__", "dog"]).names) == ["background", "cat", "dog"]


def test_several_spellings_of_void_are_no_class():
    assignment = assigned(
        region("unsure"), region("Not sure"), classes=Classes(["x", "y"], ignore=["unsure", "not sure"])
    )
    assert labels(assignment) == [255, 255]
    assert list(assignment.notes()) == []


def test_several_spellings_are_one_class_and_told():
    assignment = assigned(region("Cat"), region("cat "), region("cat"), region("big dog"))
    assert labels(assignment) == [1, 1, 1, 2]
    assert list(assignment.notes()) == ["read as one class: 'Cat', 'cat'"]


@pytest.mark.parametrize(
    ("tools", "tables", "expected"),
    [
        (["7", "0"], [], ["0", "7"]),
        (["Cat", "cat ", "cat"], [], ["Cat"]),
        (["_background_", "background", "dog"], [], ["dog"]),
        (["dog"], ["2"], ["dog", "class_2"]),
        (["7"], ["7"], ["7"]),
        (["caf\u00e9", "cafe\u0301"], [], ["caf\u00e9"]),
    ],
)
def test_classes_of_tools_are_guessed_as_names(tools, tables, expected):
    classes = guess_classes(tables, [], tools)
    assert (classes.names[0], len(classes.names)) == ("background", 1 + len(expected))
    assert [classes.find_name(name) for name in expected] == list(range(1, 1 + len(expected)))


# ---- attributes --------------------------------------------------------------------------------------------------


def test_flags_that_name_no_class_are_attributes():
    assignment = assigned(tag("blurry"), tag("cat"), tag("sharp"), region("big dog"))
    assert labels(assignment) == [1, 2]
    assert assignment.problems == []
    assert list(assignment.notes()) == [
        "left out: flags, tags and choices that name no class (2), as 'blurry' in images/a.json"
    ]


@pytest.mark.parametrize(("tags", "expected"), [([], []), (["cat"], [1]), (["CAT ", "big dog"], [1, 2])])
def test_classes_say_which_are_tags(tags, expected):
    classes = Classes(["background", "cat", "big dog"], tags=tags)
    assert labels(assigned(tag("cat"), tag("big dog"), tag("x"), classes=classes)) == expected


def test_tags_of_tables_are_no_attributes():
    annotation = Annotation("tag", row_ref("a"), "blurry", "tags.csv", "line 2", by_index=True)
    (problem,) = assigned(annotation).problems
    assert "names the class 'blurry'" in str(problem)


# ---- what is told ------------------------------------------------------------------------------------------------


def test_what_is_left_out_is_told_once_with_a_count():
    readings = [LeftOut("e.json", "relations", f"{n} to {n + 1}") for n in range(3)] + [LeftOut("e.json", "ratings")]
    assert list(assigned(*readings).notes()) == [
        "left out: relations (3), as 0 to 1 in e.json",
        "left out: ratings (1), as e.json",
    ]


def test_problems_of_a_row_belong_to_its_image():
    problem = Problem("points.csv", "line 2 is wrong", about=row_ref("night/a.png"))
    assert assigned(problem).problems[0].image == "night/a"
    assert assigned(Problem("points.csv", "line 2 is wrong", about=row_ref("x.png"))).problems[0].image is None


# ---- two sources -------------------------------------------------------------------------------------------------

PAIRS = {
    "two subsets": [
        Annotation("region", task_ref("b.png", subset), "cat", "annotations.xml", entry=f"image '{subset}/b.png'")
        for subset in ("train", "val")
    ],
    "two tasks": [
        Annotation("click", address_ref("x", f"{folder}/b.png"), "cat", "export.json", entry=f"task {number}")
        for number, folder in enumerate(("one", "two"))
    ],
    "two files of one image": [region("cat", "images/b.json", "b.png"), region("cat", "annotations/b.json", "b.png")],
    "two exports": [
        Annotation("click", address_ref("x", "b.png"), "cat", f"{day}.json", entry="task 1") for day in ("old", "new")
    ],
    "two tools": [
        region("cat", "images/b.json", "b.png"),
        Annotation("box", task_ref("b.png"), "cat", "annotations.xml", entry="image 'b.png'"),
    ],
    "two rows": [row("cat", "b.png"), row("cat", "/elsewhere/b.png", 3)],
}


@pytest.mark.parametrize("kind", PAIRS)
def test_two_sources_of_one_image_are_an_error_that_names_both(kind):
    first, second = PAIRS[kind]
    (problem,) = assigned(first, second).conflicts()
    assert problem.image == "b"
    for annotation in (first, second):
        assert annotation.file in str(problem)
        assert (annotation.where if annotation.by_index else annotation.entry) in str(problem)


@pytest.mark.parametrize("kind", PAIRS)
def test_one_source_may_say_several_things(kind):
    for annotation in PAIRS[kind]:
        assert list(assigned(annotation, annotation, row("cat", "a"), row("cat", "A.png")).conflicts()) == []
