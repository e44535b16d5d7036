"""Exports of Label Studio become annotations of the right image and the right class."""

import json

import pytest
from exports import (
    annotations_of,
    boxes,
    faults,
    label_studio,
    mask_of,
    notes,
    opened,
    percent,
    problems,
    rectangle,
    region,
    task,
)

from weakseg_lightning.data.folder.contents import read_folder

BOX = rectangle(8, 10, 28, 20)
CAT, DOG = [("box", 1)], [("box", 2)]
CORNERS = {"points": percent([[8, 10], [40, 12], [20, 35]])}


def choice(*labels: object, **others: object) -> dict:
    return {"id": "q", "type": "choices", "to_name": "image", "value": {"choices": list(labels)}, **others}


# ---- annotations --------------------------------------------------------------------------------------------------


NINE, TEN = "2024-05-01T09:00:00Z", "2024-05-01T10:00:00Z"


def annotation(label: str, **others: object) -> dict:
    return {"result": [rectangle(8, 10, 28, 20, label)], **others}


@pytest.mark.parametrize(
    ("annotations", "left_out"),
    [
        ([annotation("cat"), annotation("dog")], "earlier annotations of a task (1)"),
        ([annotation("dog"), annotation("cat", was_cancelled=True)], "skipped annotations (1)"),
        ([annotation("dog", ground_truth=True), annotation("cat")], "earlier annotations of a task (1)"),
        ([annotation("dog", updated_at=TEN), annotation("cat", updated_at=NINE)], "earlier annotations of a task (1)"),
        ([annotation("cat", created_at=1600000000), annotation("dog", created_at=1500000000)], "earlier annotations"),
        ([annotation("cat"), annotation("dog"), {"was_cancelled": True}], "earlier annotations of a task (1)"),
    ],
)
def test_one_annotation_of_a_task_counts(bare, annotations, left_out):
    label_studio(bare, task(annotations=annotations))
    assert annotations_of(bare) == DOG
    assert any(note.startswith(f"left out: {left_out}") for note in notes(bare))


def test_predictions_and_drafts_are_no_annotations(bare):
    others = {"predictions": [annotation("dog")], "drafts": [annotation("dog")], "annotations": []}
    label_studio(bare, task(**others), task(BOX, image="b.png", id=2, predictions=[17]))
    assert (annotations_of(bare), annotations_of(bare, "b")) == ([], CAT)
    assert notes(bare) == [
        "left out: predictions (2), as task 1 in project.json",
        "left out: drafts (1), as task 1 in project.json",
        "left out: tasks without an annotation (1), as task 1 in project.json",
    ]


@pytest.mark.parametrize("result", [[], {}])
def test_an_annotation_without_results_is_background(bare, result):
    tasks = task(annotations=[{"result": result}]), task(region("polygonlabels", CORNERS), image="b.png", id=2)
    label_studio(bare, *tasks)
    assert annotations_of(bare) == [("nothing", None)]
    assert not mask_of(bare).any()
    assert mask_of(bare, "b").any()


def test_what_was_not_annotated_is_not_background(bare):
    skipped = task(image="b.png", id=2, annotations=[{"result": [], "was_cancelled": True}])
    label_studio(bare, task(annotations=[]), skipped)
    assert (annotations_of(bare), annotations_of(bare, "b")) == ([], [])
    assert [note.partition(" (")[0] for note in notes(bare)] == [
        "left out: tasks without an annotation",
        "left out: skipped tasks",
    ]


def test_all_images_of_an_empty_task_are_background(bare):
    both = {"left": "a.jpg", "right": "b.png", "map": "c.png"}
    seen = task({**BOX, "to_name": "left"}, {**BOX, "to_name": "right"}, data={"left": "x.png", "right": "y.png"})
    label_studio(bare, task(data=both), {**seen, "id": 2})
    nothing = [("nothing", None)]
    assert [annotations_of(bare, name) for name in ("a", "b", "c d \u00e9")] == [nothing, nothing, []]
    label_studio(bare, task(data={"pages": ["a.jpg", "b.png"]}))
    assert [annotations_of(bare, name) for name in "ab"] == [nothing] * 2
    label_studio(bare, task(data=both))  # which of them was looked at is not known
    assert annotations_of(bare) == []
    assert notes(bare)[0].startswith("left out: empty annotations of an image that cannot be known (1)")


# ---- labels -------------------------------------------------------------------------------------------------------

PARTS = {
    "rectangle": {"x": 50, "y": 50, "width": 25, "height": 10, "rotation": 0},
    "polygon": CORNERS,
    "ellipse": {"x": 50, "y": 50, "radiusX": 20, "radiusY": 10},
    "keypoint": {"x": 50, "y": 50, "width": 0.3},
    "vector": {"vertices": [{"x": 10, "y": 10}, {"x": 50, "y": 20}], "closed": False},
}
KINDS = {"rectangle": "box", "polygon": "region", "ellipse": "region", "keypoint": "click", "vector": "stroke"}


def bare_shape(kind: str, **others: object) -> dict:
    return {**BOX, "type": kind, "id": "r1", "value": PARTS[kind], "from_name": "tool", **others}


@pytest.mark.parametrize("kind", PARTS)
def test_labels_belong_to_the_shape_of_their_id(bare, kind):
    shape = bare_shape(kind)
    whole = {**shape, "type": "labels", "from_name": "labels", "value": {**PARTS[kind], "labels": ["dog"]}}
    alone = {**whole, "value": {"labels": ["dog"]}}
    within = {**shape, "value": {**PARTS[kind], "labels": ["dog"]}}
    for results in ([shape, whole], [whole, shape], [alone, shape], [whole], [within]):
        label_studio(bare, task(*results))
        assert annotations_of(bare) == [(KINDS[kind], 2)]
        assert opened(bare).problems == []


def test_each_shape_has_the_labels_of_its_own_id(bare):
    other = {**BOX, "id": "r2", "value": {**PARTS["rectangle"], "x": 10}, "type": "rectangle"}
    labels = [
        {**BOX, "type": "labels", "id": i, "value": {"labels": [name]}} for i, name in (("r2", "cat"), ("r1", "dog"))
    ]
    label_studio(bare, task(bare_shape("rectangle"), other, *labels))
    assert [(x1, label) for x1, *_, label in boxes(bare)] == [(24, 2), (pytest.approx(4.8), 1)]


@pytest.mark.parametrize(
    "result",
    [
        *(bare_shape("rectangle"), rectangle(8, 10, 28, 20, None), rectangle(8, 10, 28, 20, [])),
        *(rectangle(8, 10, 28, 20, ""), rectangle(8, 10, 28, 20, [" "]), rectangle(8, 10, 28, 20, [None])),
        *(rectangle(8, 10, 28, 20, {"name": "dog"}), rectangle(8, 10, 28, 20, [[]]), rectangle(8, 10, 28, 20, True)),
    ],
)
def test_no_label_is_no_class(bare, result):
    (bare / "classes.yaml").unlink()
    label_studio(bare, task(result), task(BOX, image="b.png", id=2))
    assert "has no label: give it one, or remove it" in faults(bare)
    assert list(read_folder(bare).classes.names) == ["background", "cat"]


def test_two_classes_of_one_shape_are_named(bare):
    label_studio(bare, task(rectangle(8, 10, 28, 20, ["cat", "dog"])))
    assert "has 2 labels ('cat', 'dog'), but a pixel has one class: leave it one of them" in faults(bare)
    label_studio(bare, task(rectangle(8, 10, 28, 20, "cat", id="r"), rectangle(8, 10, 28, 20, "dog", id="r")))
    assert "has 2 labels ('cat', 'dog')" in faults(bare)
    label_studio(bare, task(rectangle(8, 10, 28, 20, ["Cat", "cat ", ""])))
    assert annotations_of(bare) == CAT


def test_one_id_for_all_shapes_is_no_id(bare):
    """Programs that write annotations may give each result the same id."""
    label_studio(bare, task(*(rectangle(x, 10, 28, 20, label, id="r") for x, label in ((8, "cat"), (9, "dog")))))
    assert annotations_of(bare) == CAT + DOG


def test_a_label_without_a_shape_that_could_be_of_two_is_named(bare):
    shapes = [{**bare_shape("rectangle"), "value": {**PARTS["rectangle"], "x": x}} for x in (10, 20)]
    label_studio(bare, task(*shapes, {**BOX, "type": "labels", "id": "r1", "value": {"labels": ["dog"]}}))
    assert annotations_of(bare) == []
    assert "result r1 (labels) is not as Label Studio writes it (it has no shape)" in faults(bare)


def test_choices_of_the_image_are_tags_if_they_name_a_class(bare):
    label_studio(bare, task(BOX, choice("cat", "Good"), choice(["animal", "dog"], id="n")))
    assert annotations_of(bare) == [("tag", 1), ("tag", 2), *CAT]
    assert notes(bare) == [
        "left out: flags, tags and choices that name no class (2), as 'Good' in project.json",
        "boxes that are not trained from, since more is drawn as lines or points, or tagged: what they leave would be "
        "background (1), as in a",
    ]


@pytest.mark.parametrize(
    "result",
    [
        *(choice("dog", id=BOX["id"]), choice("dog", parentID=BOX["id"])),
        {**choice("dog"), "value": {"choices": ["dog"], "x": 1, "y": 2, "width": 3, "height": 4}},
        {**choice("dog"), "value": {"choices": ["dog"], **CORNERS}},
        {**choice("dog"), "value": {"choices": ["dog"], "format": "rle", "rle": [1, 2, 3]}},
    ],
)
def test_choices_of_a_region_never_concern_the_image(bare, result):
    label_studio(bare, task(BOX, result))
    assert annotations_of(bare) == CAT
    assert notes(bare) == [
        f"left out: choices of regions (1), as task 1, result {result['id']} (choices) in project.json"
    ]


def test_choices_about_something_else_are_left_out(bare):
    about_text = task(BOX, choice("dog", to_name="text"), data={"image": "a.jpg", "text": "wuff"})
    about_pages = task({**BOX, "item_index": 0}, choice("dog"), data={"pages": ["b.png", "c d \u00e9.png"]})
    label_studio(bare, about_text, {**about_pages, "id": 2})
    assert (annotations_of(bare), annotations_of(bare, "b")) == (CAT, CAT)
    assert [note.partition(" (")[0] for note in notes(bare)] == [
        "left out: choices about other data than images",
        "left out: choices of tasks with several images",
    ]


def test_what_says_nothing_about_pixels_is_left_out_once(bare):
    kinds = ("textarea", "rating", "number", "datetime", "taxonomy", "pairwise", "ranker")
    others = [{"id": kind, "type": kind, "to_name": "image", "value": {kind: 1}} for kind in kinds]
    relations = [{"type": "relation", "from_id": "r1", "to_id": "r2", "direction": "right"}] * 3
    sounds = [
        {"id": "s", "type": kind, "value": {"start": 1, "end": 2, kind: ["dog"]}}
        for kind in ("labels", "timeserieslabels")
    ]
    label_studio(bare, task(BOX, *others, *relations, *sounds))
    assert (annotations_of(bare), problems(bare)) == (CAT, "")
    assert [note.partition(",")[0].removeprefix("left out: ") for note in notes(bare)] == [
        *("texts (1)", "ratings (1)", "numbers (1)", "dates (1)", "taxonomies (1)", "pairwises (1)", "rankers (1)"),
        *("relations (3)", "labels of texts"),
    ]


@pytest.mark.parametrize(
    ("result", "fault"),
    [
        ({**BOX, "type": "videorectangle", "value": {"labels": ["cat"]}}, "is on a video, which is not read"),
        ({**BOX, "type": "cuboidlabels"}, "is of a type that is not read"),
        ({**BOX, "type": None}, "is of a type that is not read"),
        ({**BOX, "id": "x", "value": {"rectanglelabels": ["cat"]}}, "it has no shape"),
        *(({**BOX, "value": None}, "it has no shape"), ({**BOX, "value": [1]}, "it has no shape")),
        *(({"id": "r"}, "KeyError('type')"), ("cat", "is not as Label Studio writes it"), (None, "of no type")),
    ],
)
def test_results_that_are_not_read_are_named(bare, result, fault):
    label_studio(bare, task(BOX, result))
    assert fault in problems(bare)


# ---- versions and other files -------------------------------------------------------------------------------------

OURS = {"contributor": "Label Studio"}


def test_completions_of_old_versions_are_annotations(bare):
    old = task(BOX)
    old["completions"] = [{"id": 1001, "lead_time": 15.053, **one} for one in old.pop("annotations")]
    label_studio(bare, old)
    assert boxes(bare) == [[8, 10, 28, 20, 1]]
    skipped = {**old["completions"][0], "skipped": True}
    label_studio(bare, {**old, "completions": [skipped]})
    assert annotations_of(bare) == []


@pytest.mark.parametrize(
    "content",
    [
        *(task(BOX), {"tasks": [task(BOX)], "total": 1}, {"count": 1, "next": None, "results": [task(BOX)]}),
        {"id": 5, "result": [BOX], "task": {"id": 1, "data": {"image": "s3://b/a.jpg"}}, "completed_by": {"id": 1}},
        [{"id": 5, "result": [BOX], "task": {"id": 1, "data": {"image": "s3://b/a.jpg"}}}],
        {"completions": [{"result": [BOX]}], "data": {"image": "https://h.org/a.jpg"}, "task_path": "../tasks.json"},
    ],
    ids=["one task", "answer of the server", "page of the server", "storage", "list of storage", "file of version 0.8"],
)
@pytest.mark.parametrize("before", ["", "\ufeff"])
def test_other_wrappings_of_tasks_are_read(bare, content, before):
    (bare / "project.json").write_text(before + json.dumps(content), "utf-8")
    assert boxes(bare) == [[8, 10, 28, 20, 1]]


def test_annotations_in_files_of_their_own(bare):
    for number, image in ((1, "a.jpg"), (2, "b.png"), (3, "s3://b/b.png")):
        content = {"id": number, "result": [BOX], "task": {"id": number, "data": {"image": image}}}
        (bare / f"{number}.json").write_text(json.dumps(content))
    assert "3.json: task 3 is about b, as 2.json, task 2 is" in problems(bare)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ([{"image": "a.jpg", "label": [{"x": 1, "rectanglelabels": ["cat"]}]}], "export it as JSON (not JSON-MIN)"),
        ({"images": [], "annotations": [], "info": OURS}, "in another format: export it as JSON"),
        ({"categories": [], "info": {**OURS, "version": "1.0"}}, "in another format"),
        ({"id": 14, "result": [BOX], "task": 6}, "has no tasks with `data` and `annotations`"),
        ([task(BOX, annotations=[12])], "has annotations without `result`"),
        ([task(BOX, annotations=7)], "task 1 has no"),
        ([task(BOX, annotations=[{"id": 4}])], "task 1 has annotations without `result`: export them in full"),
        ([task(BOX), {"id": 2, "image": "b.png"}], "task 2 has no `data` and `annotations`"),
        ({"images": [], "annotations": [], "categories": []}, "is JSON of neither LabelMe nor Label Studio"),
    ],
)
def test_other_exports_are_named_with_what_to_do(bare, content, fault):
    (bare / "result.json").write_text(json.dumps(content))
    (problem,) = read_folder(bare).problems
    assert fault in str(problem)
