import doctest
from importlib import import_module

import pytest
import torch
from jsonargparse import ArgumentError, ArgumentParser

from weakseg_lightning.constraints import (
    AreaBounds,
    AreaRatio,
    AreaTable,
    BoundingBoxes,
    CompiledRule,
    ConstraintRule,
    Rows,
    SizeBuckets,
    Suppression,
    compile_constraints,
)
from weakseg_lightning.constraints.arguments import box_masks
from weakseg_lightning.hyperparameters import describe

NAN = float("nan")


def only(constraints, image=0):
    """Coefficients, bounds, slack of the active rows of an image."""
    active = constraints.active[image]
    return tuple(t[image][active].tolist() for t in (constraints.coefficients, constraints.bounds, constraints.slack))


@pytest.mark.parametrize("name", ["rule", "presets", "feasibility", "linear", "rules", "boxes", "files", "arguments"])
def test_examples(name):
    assert doctest.testmod(import_module(f"weakseg_lightning.constraints.{name}")).failed == 0


# ---- areas ------------------------------------------------------------------------------------------------------


def test_suppression_allows_the_tags(know):
    constraints = compile_constraints([Suppression()], know({1}, {2, 3}))
    assert constraints.allowed.tolist() == [[True, True, False, False], [True, False, True, True]]
    assert constraints.coefficients.shape == (2, 0, 4)
    assert constraints.names == ()
    assert constraints.regions is constraints.region_of is constraints.allowed_at is None


def test_background_bounds(know, said):
    constraints = compile_constraints([AreaBounds("background", 0.3, 0.7)], know({1}))
    coefficients, bounds, slack = only(constraints)
    assert said(constraints) == ["background >= 0.3", "background <= 0.7"]
    assert coefficients == [[1, 0, 0, 0], [-1, 0, 0, 0]]
    assert bounds == pytest.approx([0.3, -0.7])
    assert slack == [float("inf")] * 2


def test_present_is_each_tagged_class_by_itself(know, said):
    constraints = compile_constraints([AreaBounds("present", 0.05, slack=2.0)], know({1, 3}, set()))
    coefficients, bounds, slack = only(constraints)
    assert said(constraints) == ["person >= 0.05", "cat >= 0.05"]
    assert coefficients == [[0, 1, 0, 0], [0, 0, 0, 1]]
    assert bounds == pytest.approx([0.05] * 2)
    assert slack == [2.0, 2.0]
    assert said(constraints, 1) == []


def test_absent_is_each_class_without_a_tag(know, said):
    constraints = compile_constraints([AreaBounds("absent", upper=0.01, slack=1)], know({1, 3}))
    assert said(constraints) == ["dog <= 0.01"]


def test_foreground_is_all_tagged_classes_together(know, said):
    constraints = compile_constraints([AreaBounds("foreground", 0.3)], know({1, 3}, set()))
    assert said(constraints) == ["foreground >= 0.3"]
    assert only(constraints)[0] == [[0, 1, 0, 1]]
    assert said(constraints, 1) == []


@pytest.mark.parametrize("classes", [["person", "dog"], [1, "dog"], ["1", 2]])
def test_a_list_is_taken_together_where_one_of_it_is_tagged(know, said, classes):
    constraints = compile_constraints([AreaBounds(classes, 0.3, 0.5)], know({1}, {2, 3}, {3}))
    assert said(constraints) == said(constraints, 1) == ["person + dog >= 0.3", "person + dog <= 0.5"]
    assert only(constraints)[0] == [[0, 1, 1, 0], [0, -1, -1, 0]]
    assert said(constraints, 2) == []


def test_ratio_is_linear_and_needs_both_tags(know, said):
    rule = AreaRatio("cat", ["person", "dog"], lower=0.25, upper=0.5, slack=3.0)
    constraints = compile_constraints([rule], know({2, 3}, {3}, {1, 2}))
    coefficients, bounds, slack = only(constraints)
    assert said(constraints) == ["cat >= 0.25 (person + dog)", "cat <= 0.5 (person + dog)"]
    assert coefficients == [[0, -0.25, -0.25, 1], [0, 0.5, 0.5, -1]]
    assert bounds == [0, 0]
    assert slack == [3, 3]
    assert said(constraints, 1) == said(constraints, 2) == []


def test_a_ratio_above_1_is_kept(know, said):
    constraints = compile_constraints([AreaRatio("cat", "dog", upper=4)], know({2, 3}))
    assert said(constraints) == ["cat <= 4 dog"]


def test_buckets_bound_the_classes_whose_size_is_known(know, said):
    rules = [SizeBuckets([(0, 0.01), (0.05, 0.2), (0.1, 1)], slack=2.0)]
    known = know({1, 2, 3}, {1}, sizes=[[0, 0, 2, -1], [2, 1, 2, 2]])
    constraints = compile_constraints(rules, known)
    assert said(constraints) == ["dog >= 0.1", "person <= 0.01"]
    assert said(constraints, 1) == ["person >= 0.05", "person <= 0.2"]
    assert only(constraints, 1)[1] == pytest.approx([0.05, -0.2])
    assert constraints.allowed.all()


def test_small_classes_may_count_as_absent(know, said):
    known = know({1, 2}, sizes=[[0, 0, 1, 0]])
    constraints = compile_constraints([SizeBuckets([(0, 0.01), (0.1, 1)], small_absent=True)], known)
    assert said(constraints) == ["dog >= 0.1"]
    assert constraints.allowed.tolist() == [[True, False, True, True]], "the background's bucket says nothing"


# ---- regions ----------------------------------------------------------------------------------------------------


def test_a_region_is_a_share_of_the_image_without_its_padding(know, said):
    known = know({1}, size=(6, 8))
    known.valid[0, 4:] = False
    known.valid[0, :, :2] = False  # 4 x 6 cells are left
    rules = [AreaBounds("present", 0.5, region=[0, 0.5, 0.5, 1]), AreaBounds("background", 0.1)]
    constraints = compile_constraints(rules, known)
    expected = torch.zeros(6, 8, dtype=torch.bool)
    expected[2:4, 2:5] = True
    assert constraints.regions[0].tolist() == [expected.tolist()]
    assert constraints.region_of.tolist() == [[0, 0, 0, -1]]
    assert said(constraints) == ["person in [0, 0.5, 0.5, 1] >= 0.5", "background >= 0.1"]


def test_a_region_may_be_a_mask_and_empty_ones_say_nothing(know, said):
    sky = torch.zeros(2, 4, 4, dtype=torch.bool)
    sky[0, :2] = True
    known = know({1}, {1}, masks={"sky": sky})
    known.valid[0, 0] = False
    rules = [AreaBounds("dog", 0.1), AreaBounds(1, upper=0.3, region="sky")]
    constraints = compile_constraints(rules, known)
    assert constraints.regions.sum((1, 2, 3)).tolist() == [4, 0], "padding belongs to no region"
    assert said(constraints) == ["person in sky <= 0.3"]
    assert said(constraints, 1) == []


def test_regions_of_several_rules_are_told_apart(know):
    half, quarter = [0, 0, 1, 0.5], [0, 0, 0.5, 0.5]
    rules = [AreaBounds("person", 0.1, 0.9, region=half), AreaRatio("person", "dog", lower=1, region=quarter)]
    constraints = compile_constraints(rules, know({1, 2}))
    cells = constraints.regions[0].sum((1, 2))[constraints.region_of[0]]
    assert cells.tolist() == [8, 8, 4]
    assert constraints.names[2] == "person in [0, 0, 0.5, 0.5] >= 1 dog"


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ([1, 0, 3, 2], [0, 1], [1, 2]),
        ([0.4, 0.6, 1.6, 1.4], [1], [0, 1]),  # centres at 0.5 and 1.5; none between 0.6 and 1.4: that of y = 1.0
        ([2.6, 3.1, 2.9, 3.2], [3], [2]),
        ([-5, -5, 1, 9], [0, 1, 2, 3], [0]),
        ([-1, 0, 0, 4], [], []),
        ([4, 0, 9, 4], [], []),
        ([NAN] * 4, [], []),
    ],
)
def test_cells_of_a_box(box, rows, columns):
    expected = torch.zeros(4, 4, dtype=torch.bool)
    expected[[[r] for r in rows], columns] = True
    assert torch.equal(box_masks(torch.tensor([[box]]).float(), 4, 4)[0, 0], expected)


# ---- boxes ------------------------------------------------------------------------------------------------------


def test_boxes(know, said):
    boxes = [[[0, 0, 2, 2, 2], [1, 1, 4, 4, 1]], [], [[3.1, 3.1, 3.2, 3.2, 2]]]
    constraints = compile_constraints([BoundingBoxes()], know({1, 2, 3}, {1}, {2}, boxes=boxes))
    assert said(constraints) == ["dog in box 1 >= 0.75", "person in box 2 >= 0.75"]
    assert said(constraints, 1) == []
    assert said(constraints, 2) == ["dog in box 1 >= 0.75"]
    coefficients, bounds, slack = only(constraints)
    assert coefficients == [[0, 0, 1, 0], [0, 1, 0, 0]]
    assert bounds == [0.75, 0.75]
    assert slack == [2, 2]
    assert constraints.regions.sum((2, 3)).tolist() == [[4, 9], [0, 0], [1, 0]]
    assert constraints.allowed.tolist() == [
        [True, True, True, False],  # a cat is tagged, but has no box
        [True, False, False, False],
        [True, False, True, False],
    ]
    assert constraints.allowed_at[0].sum((1, 2)).tolist() == [16, 9, 4, 0]
    assert constraints.allowed_at[0, 2, :2, :2].all()
    assert constraints.allowed_at[2].sum((1, 2)).tolist() == [16, 0, 1, 0]


def test_boxes_end_at_the_padding(know):
    known = know({1}, {1}, boxes=[[[0, 0, 4, 4, 1]], [[0, 0, 1, 1, 1]]])
    known.valid[:, :2] = False
    constraints = compile_constraints([BoundingBoxes()], known)
    assert constraints.regions.sum((1, 2, 3)).tolist() == [8, 0]
    assert constraints.active.tolist() == [[True], [False]]


# ---- how rules combine ------------------------------------------------------------------------------------------


def test_a_class_must_be_allowed_by_all_rules(know, said):
    known = know({1, 2}, sizes=[[1, 0, 1, 1]])
    rules = [Suppression(), SizeBuckets([(0, 0.1), (0.1, 1)], small_absent=True), AreaBounds("present", 0.05, slack=2)]
    constraints = compile_constraints(rules, known)
    assert constraints.allowed.tolist() == [[True, False, True, False]]
    assert said(constraints) == ["dog >= 0.1", "dog >= 0.05"], "a soft wish for a suppressed class is given up"


def test_a_hard_wish_for_a_suppressed_class_stays(know, said):
    known = know({1, 2}, sizes=[[1, 0, 1, 1]])
    rules = [SizeBuckets([(0, 0.1), (0.1, 1)], small_absent=True), AreaBounds("person", 0.05, 0.2)]
    assert said(compile_constraints(rules, known)) == ["dog >= 0.1", "person >= 0.05"]


def test_a_soft_ratio_to_a_suppressed_class_is_given_up(know, said):
    known = know({1, 2}, sizes=[[1, 0, 1, 1]])
    absent = SizeBuckets([(0, 0.1), (0, 1)], small_absent=True)
    rules = [absent, AreaRatio("dog", "person", upper=0.5, slack=1), AreaRatio("dog", "person", upper=0.6)]
    assert said(compile_constraints(rules, known)) == ["dog <= 0.6 person"]


def test_where_only_the_background_is_left_nothing_is_said_of_it(know, said):
    constraints = compile_constraints([Suppression(), AreaBounds("background", 0.3, 0.7)], know(set(), {1}))
    assert said(constraints) == []
    assert len(said(constraints, 1)) == 2


def test_no_rules_and_no_images(know):
    nothing = compile_constraints([], know({1}))
    assert nothing.coefficients.shape == (1, 0, 4)
    assert nothing.allowed.all()
    rules = [Suppression(), AreaBounds("present", 0.1, region=[0, 0, 1, 0.5]), SizeBuckets([(0, 0.5)]), BoundingBoxes()]
    assert compile_constraints(rules, know(sizes=[], boxes=[])).active.shape[0] == 0


class Stripes(ConstraintRule):
    """One number for all images, a bound for each, and classes that depend on the row."""

    def __init__(self, share: float = 0.25) -> None:
        self.share = share

    def compile(self, knowledge):
        each = torch.eye(4)[None, 1:2]
        allowed = torch.ones(1, 4, 4, 4, dtype=torch.bool)
        allowed[0, 1, ::2] = False
        bounds = self.share * torch.arange(1, 1 + len(knowledge.ids))[:, None]
        return CompiledRule([Rows(each, bounds, torch.tensor([[True]]), ["person >= {bound}"])], None, allowed)


def test_rules_of_users_may_broadcast(know, said):
    constraints = compile_constraints([Stripes(), Suppression()], know({1}, {1, 2}))
    assert said(constraints) == ["person >= 0.25"]
    assert said(constraints, 1) == ["person >= 0.5"]
    assert constraints.allowed_at.shape == (2, 4, 4, 4)
    assert constraints.coefficients.shape == (2, 1, 4)


# ---- errors -----------------------------------------------------------------------------------------------------


class Wrong(ConstraintRule):
    def compile(self, knowledge):
        return CompiledRule([Rows(torch.zeros(1, 2, 4), 0.5, torch.ones(1, 1).bool(), ["a", "b", "c"])])


def test_wrong_shapes_of_a_users_rule(know):
    with pytest.raises(ValueError, match=r"Wrong\.compile must give `coefficients` of the shape \(2, 3, 4\) .*1, 2, 4"):
        compile_constraints([Wrong()], know({1}, {1}))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"classes": "dog"}, "`lower` or `upper` must be given"),
        ({"classes": "dog", "lower": 0, "upper": 1}, "say nothing"),
        ({"classes": "dog", "lower": 30}, "`lower` must be a share between 0 and 1, got 30"),
        ({"classes": "dog", "upper": NAN}, "`upper` must be a share"),
        ({"classes": "dog", "lower": 0.3, "upper": 0.2}, "`lower` must not exceed `upper`, got 0.3 > 0.2"),
        ({"classes": "dog", "lower": 0.3, "slack": 0}, "`slack` must be above 0, or null for a hard constraint, got 0"),
        ({"classes": [], "lower": 0.3}, "`classes` must name a class or several"),
        ({"classes": ["dog", "dog"], "lower": 0.3}, "`classes` must name each class once"),
        ({"classes": ["dog", "present"], "lower": 0.3}, "must be 'present' alone or a list of classes"),
        ({"classes": "dog", "lower": 0.3, "region": [0, 0, 1]}, r"`region` must be \[x1, y1, x2, y2\]"),
        ({"classes": "dog", "lower": 0.3, "region": [0, 0.5, 1, 0.5]}, "`region` must be"),
        ({"classes": "dog", "lower": 0.3, "region": [0, 0, 10, 10]}, "`region` must be"),
        ({"classes": "dog", "lower": 0.3, "region": ""}, "`region` must be"),
    ],
)
def test_wrong_arguments_of_area_bounds(arguments, words):
    with pytest.raises(ValueError, match=words):
        AreaBounds(**arguments)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: AreaRatio("dog", "cat"), "must be given"),
        (lambda: AreaRatio("present", "cat", lower=1), "`classes` must be a class, a list of classes"),
        (lambda: AreaRatio("cat", ["absent"], lower=1), "`to` must be a class, a list of classes"),
        (lambda: AreaRatio("dog", "cat", lower=-1), "`lower` must be finite and at least 0, got -1"),
        (lambda: AreaRatio("dog", "cat", lower=2, upper=1), "must not exceed"),
        (lambda: SizeBuckets([]), "`bounds` must hold"),
        (lambda: SizeBuckets([(0, 0.1), (0.5, 0.2)]), r"got \(0.5, 0.2\) for bucket 1"),
        (lambda: SizeBuckets([(0, 0.1)], slack=-1), "`slack` must be above 0"),
        (lambda: BoundingBoxes(1.5), "`lower` must be a share"),
        (lambda: BoundingBoxes(slack=float("inf")), "`slack` must be above 0"),
        (lambda: AreaTable("a.csv", tolerance=2), "`tolerance` must be between 0 and 1, got 2"),
        (lambda: AreaTable("a.csv", missing="skip"), "`missing` must be one of allow, error, got 'skip'"),
        (lambda: AreaTable("a.csv", slack=0), "`slack` must be above 0"),
    ],
)
def test_wrong_arguments(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (AreaBounds("dgo", 0.1), "`classes` must name a class, got 'dgo': did you mean 'dog'"),
        (AreaBounds("aeroplane", 0.1), "got 'aeroplane': the classes are background, person, dog, cat"),
        (AreaBounds(4, 0.1), r"`classes` must name one of the classes 0\.\.3, got 4"),
        (AreaBounds([2, "dog"], 0.1), "`classes` must name each class once"),
        (AreaBounds("dog", 0.1, region="sky"), "`region` must be the name of a mask, got 'sky': the data has none"),
        (AreaRatio("dog", "ct", lower=1), "`to` must name a class, got 'ct': did you mean 'cat'"),
        (AreaRatio("foreground", ["dog", "cat"], lower=1), "must not share classes, but both hold dog, cat"),
        (SizeBuckets([(0, 1)]), "SizeBuckets needs the sizes of the classes"),
        (BoundingBoxes(), "BoundingBoxes needs bounding boxes"),
    ],
)
def test_rules_that_do_not_fit_the_data(know, rule, words):
    with pytest.raises(ValueError, match=words):
        compile_constraints([rule], know({1}))


def test_sizes_and_boxes_that_do_not_fit(know):
    with pytest.raises(ValueError, match="`bounds` has 1 buckets, but the data has sizes of bucket 2"):
        compile_constraints([SizeBuckets([(0, 0.5)])], know({1}, sizes=[[0, 2, 0, 0]]))
    with pytest.raises(ValueError, match=r"`boxes` must be of the classes 1\.\.3, got \[7\.0\] for image i0"):
        compile_constraints([BoundingBoxes()], know({1}, boxes=[[[0, 0, 1, 1, 7]]]))
    known = know({1}, boxes=[[[0, 0, 1, 1, 1]]])
    known.boxes[0] = torch.zeros(1, 4)
    with pytest.raises(ValueError, match=r"`boxes` must be x1, y1, x2, y2, class, float \(n, 5\), got \(1, 4\)"):
        compile_constraints([BoundingBoxes()], known)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tags": torch.ones(1, 3).bool()}, r"`tags` must be a bool \(1, 4\)"),
        ({"valid": torch.ones(1, 4, 4)}, r"`valid` must be a bool \(1, H, W\), got torch.float32"),
        ({"sizes": torch.zeros(1, 4)}, "`sizes` must be an integer"),
        ({"boxes": []}, "`boxes` must hold one tensor an image, 1, got 0"),
        ({"masks": {"sky": torch.ones(1, 2, 2).bool()}}, r"`masks\['sky'\]` must be a bool \(1, 4, 4\)"),
    ],
)
def test_knowledge_that_does_not_fit_together(know, change, words):
    known = know({1})
    with pytest.raises(ValueError, match=words):
        compile_constraints([], type(known)(**{**vars(known), **change}))


# ---- recipes ----------------------------------------------------------------------------------------------------

RECIPE = """
- Suppression
- {class_path: AreaBounds, init_args: {classes: background, lower: 0.3, upper: 0.7}}
- {class_path: AreaBounds, init_args: {classes: [person, 3], lower: 0.3, slack: 2, region: [0, 0, 1, 0.5]}}
- {class_path: AreaBounds, init_args: {classes: 2, upper: 0.3, region: sky}}
- {class_path: AreaRatio, init_args: {classes: cat, to: dog, upper: 0.5}}
- {class_path: SizeBuckets, init_args: {bounds: [[0, 0.01], [0.1, 1]], slack: 2}}
- BoundingBoxes
- {class_path: AreaTable, init_args: {path: areas.csv, tolerance: 0.1}}
"""


@pytest.fixture
def parser(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_argument("--constraints", type=list[ConstraintRule])
    return parser


def test_a_recipe_and_back(parser, tmp_path):
    indented = "".join(f"  {line}\n" for line in RECIPE.strip().splitlines())
    (tmp_path / "recipe.yaml").write_text(f"constraints:\n{indented}")
    instantiate = getattr(parser, "instantiate", None) or parser.instantiate_classes
    rules = instantiate(parser.parse_args(["--config", "recipe.yaml"])).constraints
    assert [type(rule) for rule in rules] == [
        *(Suppression, AreaBounds, AreaBounds, AreaBounds, AreaRatio, SizeBuckets, BoundingBoxes, AreaTable)
    ]
    assert rules[2].classes == ["person", 3]
    assert rules[2].region == [0, 0, 1, 0.5]
    assert (rules[3].classes, rules[3].region) == (2, "sky")
    described = [describe(rule) for rule in rules]
    assert described[5]["init_args"] == {"bounds": [[0.0, 0.01], [0.1, 1.0]], "slack": 2.0, "small_absent": False}
    again = instantiate(parser.parse_object({"constraints": [describe(rule) for rule in rules]})).constraints
    assert [describe(rule) for rule in again] == described


def test_lists_may_stand_on_the_command_line(parser):
    given = ["--constraints+=AreaBounds", "--constraints.classes", "[person, dog]", "--constraints.lower", "0.2"]
    given += ["--constraints.region", "[0, 0, 1, 0.5]"]
    (rule,) = parser.parse_args(given).constraints
    assert rule.init_args.classes == ["person", "dog"]
    assert rule.init_args.region == [0, 0, 1, 0.5]


def test_a_misspelt_option_is_refused(parser):
    with pytest.raises(ArgumentError, match="lowr"):
        parser.parse_object({"constraints": [{"class_path": "AreaBounds", "init_args": {"classes": 1, "lowr": 0.1}}]})
