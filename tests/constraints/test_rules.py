import doctest
from importlib import import_module

import pytest
import torch

from weakseg_lightning.constraints import (
    AreaBounds,
    AreaRatio,
    BoundingBoxes,
    CompiledRule,
    ConstraintRule,
    Rows,
    SizeBuckets,
    Suppression,
    compile_constraints,
)
from weakseg_lightning.constraints.arguments import box_masks

NAN = float("nan")


def only(constraints, image=0):
    """Coefficients, bounds, slack of the active rows of an image."""
    active = constraints.active[image]
    return tuple(t[image][active].tolist() for t in (constraints.coefficients, constraints.bounds, constraints.slack))


@pytest.mark.parametrize("name", ["base", "presets", "feasibility", "linear", "rules", "boxes", "files", "arguments"])
def test_examples(name):
    assert doctest.testmod(import_module(f"weakseg_lightning.constraints.{name}")).failed == 0


# ---- areas ------------------------------------------------------------------------------------------------------


def test_suppression_allows_the_tags(know):
    constraints = compile_constraints([Suppression()], know({1}, {2, 3}))
    assert constraints.allowed.tolist() == [[True, True, False, False], [True, False, True, True]]
    assert constraints.coefficients.shape == (2, 0, 4)
    assert constraints.names == ()
    assert constraints.regions is constraints.region_of is constraints.allowed_at is None


@pytest.mark.parametrize(
    ("rule", "says", "coefficients", "bounds", "slack"),
    [
        (
            *(AreaBounds("background", 0.3, 0.7), ["background >= 0.3", "background <= 0.7"]),
            *([[1, 0, 0, 0], [-1, 0, 0, 0]], [0.3, -0.7], float("inf")),
        ),
        (
            *(AreaBounds("present", 0.05, slack=2.0), ["person >= 0.05", "cat >= 0.05"]),
            *([[0, 1, 0, 0], [0, 0, 0, 1]], [0.05, 0.05], 2),
        ),
        (AreaBounds("absent", upper=0.01, slack=1), ["dog <= 0.01"], [[0, 0, -1, 0]], [-0.01], 1),
        (AreaBounds("foreground", 0.3), ["foreground >= 0.3"], [[0, 1, 0, 1]], [0.3], float("inf")),
    ],
)
def test_words_stand_for_classes(know, said, rule, says, coefficients, bounds, slack):
    constraints = compile_constraints([rule], know({1, 3}, set()))
    assert said(constraints) == says
    assert only(constraints) == (coefficients, pytest.approx(bounds), [slack] * len(says))
    if rule.classes in ("present", "foreground"):
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
    facts = know({1, 2, 3}, {1}, sizes=[[0, 0, 2, -1], [2, 1, 2, 2]])
    constraints = compile_constraints(rules, facts)
    assert said(constraints) == ["dog >= 0.1", "person <= 0.01"]
    assert said(constraints, 1) == ["person >= 0.05", "person <= 0.2"]
    assert only(constraints, 1)[1] == pytest.approx([0.05, -0.2])
    assert constraints.allowed.all()


def test_small_classes_may_count_as_absent(know, said):
    facts = know({1, 2}, sizes=[[0, 0, 1, 0]])
    constraints = compile_constraints([SizeBuckets([(0.001, 0.01), (0.1, 1)], small_absent=True)], facts)
    assert said(constraints) == ["dog >= 0.1"]
    assert constraints.allowed.tolist() == [[True, False, True, True]], "the background's bucket says nothing"


# ---- regions ----------------------------------------------------------------------------------------------------


def test_a_region_is_a_share_of_the_image_without_its_padding(know, said):
    facts = know({1}, size=(6, 8))
    facts.valid[0, 4:] = False
    facts.valid[0, :, :2] = False  # 4 x 6 cells are left
    rules = [AreaBounds("present", 0.5, region=[0, 0.5, 0.5, 1]), AreaBounds("background", 0.1)]
    constraints = compile_constraints(rules, facts)
    expected = torch.zeros(6, 8, dtype=torch.bool)
    expected[2:4, 2:5] = True
    assert constraints.regions[0].tolist() == [expected.tolist()]
    assert constraints.region_of.tolist() == [[0, 0, 0, -1]]
    assert said(constraints) == ["person in [0, 0.5, 0.5, 1] >= 0.5", "background >= 0.1"]


def test_a_region_may_be_a_mask_and_empty_ones_say_nothing(know, said):
    sky = torch.zeros(2, 4, 4, dtype=torch.bool)
    sky[0, :2] = True
    facts = know({1}, {1}, masks={"sky": sky})
    facts.valid[0, 0] = False
    rules = [AreaBounds("dog", 0.1), AreaBounds(1, upper=0.3, region="sky")]
    constraints = compile_constraints(rules, facts)
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
        ([0.4, 0.6, 1.6, 1.4], [1], [0, 1]),  # centers at 0.5 and 1.5; none between 0.6 and 1.4: that of y = 1.0
        ([2.6, 3.1, 2.9, 3.2], [3], [2]),
        ([-5, -5, 1, 9], [0, 1, 2, 3], [0]),
        ([-3, 0, 0.4, 1], [0], [0]),
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
    facts = know({1}, {1}, boxes=[[[0, 0, 4, 4, 1]], [[0, 0, 1, 1, 1]]])
    facts.valid[:, :2] = False
    constraints = compile_constraints([BoundingBoxes()], facts)
    assert constraints.regions.sum((1, 2, 3)).tolist() == [8, 0]
    assert constraints.active.tolist() == [[True], [False]]


# ---- how rules combine ------------------------------------------------------------------------------------------


def test_a_class_must_be_allowed_by_all_rules(know, said):
    facts = know({1, 2}, sizes=[[1, 0, 1, 1]])
    rules = [Suppression(), SizeBuckets([(0, 0.1), (0.1, 1)], small_absent=True), AreaBounds("present", 0.05, slack=2)]
    constraints = compile_constraints(rules, facts)
    assert constraints.allowed.tolist() == [[True, False, True, False]]
    assert said(constraints) == ["dog >= 0.1", "dog >= 0.05"], "a soft wish for a suppressed class is given up"


def test_a_hard_wish_for_a_suppressed_class_stays(know, said):
    facts = know({1, 2}, sizes=[[1, 0, 1, 1]])
    rules = [SizeBuckets([(0, 0.1), (0.1, 1)], small_absent=True), AreaBounds("person", 0.05, 0.2)]
    assert said(compile_constraints(rules, facts)) == ["dog >= 0.1", "person >= 0.05"]


def test_a_soft_ratio_to_a_suppressed_class_is_given_up(know, said):
    facts = know({1, 2}, sizes=[[1, 0, 1, 1]])
    absent = SizeBuckets([(0, 0.1), (0, 1)], small_absent=True)
    rules = [absent, AreaRatio("dog", "person", upper=0.5, slack=1), AreaRatio("dog", "person", upper=0.6)]
    assert said(compile_constraints(rules, facts)) == ["dog <= 0.6 person"]


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

    def compile(self, facts):
        each = torch.eye(4)[None, 1:2]
        allowed = torch.ones(1, 4, 4, 4, dtype=torch.bool)
        allowed[0, 1, ::2] = False
        bounds = self.share * torch.arange(1, 1 + len(facts.ids))[:, None]
        return CompiledRule([Rows(each, bounds, torch.tensor([[True]]), ["person >= {bound}"])], None, allowed)


def test_rules_of_users_may_broadcast(know, said):
    constraints = compile_constraints([Stripes(), Suppression()], know({1}, {1, 2}))
    assert said(constraints) == ["person >= 0.25"]
    assert said(constraints, 1) == ["person >= 0.5"]
    assert constraints.allowed_at.shape == (2, 4, 4, 4)
    assert constraints.coefficients.shape == (2, 1, 4)
