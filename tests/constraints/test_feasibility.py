from itertools import product

import numpy as np
import pytest
import torch

from weakseg_lightning.constraints import (
    AreaBounds,
    AreaRatio,
    AreaTable,
    BoundingBoxes,
    CompiledRule,
    ConstraintRule,
    SizeBuckets,
    Suppression,
    feasibility,
    find_contradictions,
)

NAMES = ["background", "person", "dog", "cat"]


# ---- messages ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "tags", "sentence"),
    [
        (
            [Suppression(), AreaBounds("background", upper=0.2), AreaBounds("person", upper=0.1)],
            {1},
            "background <= 0.2 contradicts person <= 0.1 for image i0",
        ),
        (
            [AreaBounds("present", 0.4), AreaBounds("background", 0.1, 0.9)],
            {1, 2, 3},
            "person >= 0.4, dog >= 0.4 and cat >= 0.4 cannot hold together for image i0",
        ),
        (
            [Suppression(), AreaBounds(["person", "dog"], 0.3), AreaBounds("background", 0.8)],
            {1},
            "person + dog >= 0.3 contradicts background >= 0.8 for image i0",
        ),
        (
            [AreaBounds("dog", 0.3), AreaBounds("cat", upper=0.5), AreaRatio("dog", "cat", upper=0.5)],
            {2, 3},
            "dog >= 0.3, cat <= 0.5 and dog <= 0.5 cat cannot hold together for image i0",
        ),
        (
            [AreaBounds("dog", upper=0.4, region=[0, 0, 1, 0.5]), AreaBounds("dog", 0.8)],
            {2},
            "dog in [0, 0, 1, 0.5] <= 0.4 contradicts dog >= 0.8 for image i0",
        ),
        (
            [AreaBounds("present", 0.6, region=[0, 0, 1, 0.5])],
            {2, 3},
            "dog in [0, 0, 1, 0.5] >= 0.6 contradicts cat in [0, 0, 1, 0.5] >= 0.6 for image i0",
        ),
        (
            [Suppression(), AreaBounds("background", 0.7), AreaBounds("dog", 0.301)],
            {2},
            "background >= 0.7 contradicts dog >= 0.301 for image i0",
        ),
    ],
)
def test_a_contradiction_is_named(know, rules, tags, sentence):
    assert find_contradictions(rules, know(tags)) == {"i0": sentence}


def test_bounds_that_meet_exactly_are_no_contradiction(know):
    rules = [Suppression(), AreaBounds("present", 0.1), AreaBounds("background", 0.7, 0.7)]
    assert find_contradictions(rules, know({1, 2, 3})) == {}
    rules = [AreaBounds("dog", upper=0.4, region=[0, 0, 1, 0.5]), AreaBounds("dog", 0.7)]
    assert find_contradictions(rules, know({2})) == {}


def test_soft_rules_contradict_nothing(know):
    rules = [Suppression(), AreaBounds("background", upper=0.2), AreaBounds("person", upper=0.1, slack=2.0)]
    assert find_contradictions(rules, know({1})) == {}


def test_suppressed_classes_that_are_wanted_are_named(know, tmp_path):
    facts = know({1, 2}, sizes=[[1, 0, 1, 1]])
    small = SizeBuckets([(0, 0.01), (0.1, 1)], small_absent=True)
    found = find_contradictions([Suppression(), AreaBounds("person", 0.2), small], facts)
    assert found == {"i0": "person >= 0.2 contradicts person = 0 (small) for image i0"}
    (tmp_path / "areas.csv").write_text("image,class,lower,upper\ni0,cat,0.2,\n")
    found = find_contradictions([Suppression(), AreaTable(tmp_path / "areas.csv")], facts)
    assert found == {"i0": "cat >= 0.2 contradicts cat = 0 (not tagged) for image i0"}


def test_tagged_classes_that_are_suppressed_are_named_where_they_are_missed(know):
    facts = know({1, 2}, sizes=[[1, 0, 1, 1]])
    small = SizeBuckets([(0, 0.01), (0.1, 1)], small_absent=True)
    rules = [Suppression(), AreaBounds("background", upper=0.3), AreaBounds("dog", upper=0.3), small]
    sentence = "background <= 0.3, dog <= 0.3 and person = 0 (small) cannot hold together for image i0"
    assert find_contradictions(rules, facts) == {"i0": sentence}


def test_boxes(know):
    boxes = [[[0, 0, 4, 4, 1], [0, 0, 4, 2, 2]], [[0, 0, 4, 4, 1], [0, 0, 2, 2, 2]]]
    facts = know({1, 2}, {1, 2}, boxes=boxes)
    found = find_contradictions([Suppression(), BoundingBoxes(slack=None)], facts)
    # 12 of 16 cells and 6 of 8, or 3 of 4, within them
    assert found == {"i0": "person in box 1 >= 0.75 contradicts dog in box 2 >= 0.75 for image i0"}
    assert find_contradictions([Suppression(), BoundingBoxes()], facts) == {}
    rules = [Suppression(), BoundingBoxes(), AreaBounds("dog", 0.3, region=[0, 0.5, 1, 1])]
    sentence = "dog in [0, 0.5, 1, 1] >= 0.3 contradicts dog = 0 outside its boxes for image {}"
    assert find_contradictions(rules, facts) == {image: sentence.format(image) for image in ("i0", "i1")}


class NoBackground(ConstraintRule):
    def compile(self, facts):
        allowed = torch.ones(1, 4, dtype=torch.bool)
        allowed[0, 0] = False
        return CompiledRule(allowed=allowed, absence="no {class}")


def test_an_image_that_may_hold_nothing_is_a_contradiction(know):
    assert find_contradictions([Suppression(), NoBackground()], know({1}, set())) == {
        "i1": "no background cannot hold for image i1"
    }


def test_images_without_pixels_say_nothing(know):
    facts = know({1})
    facts.valid[:] = False
    assert find_contradictions([AreaBounds("person", 0.8), AreaBounds("background", 0.8)], facts) == {}


def test_batches_may_come_one_by_one_and_none_is_no_contradiction(know, monkeypatch):
    monkeypatch.setattr(feasibility, "_AT_ONCE", 2)
    rules = [Suppression(), AreaBounds("background", upper=0.2), AreaBounds("person", upper=0.1)]
    facts = know({1}, {2}, {1, 2}, {1}, {2})
    assert list(find_contradictions(rules, facts)) == ["i0", "i3"]
    assert list(find_contradictions(rules, iter([know({1}, {2})] * 2))) == ["i0"]
    assert find_contradictions(rules, []) == find_contradictions([], facts) == {}


def test_the_same_problem_is_solved_once(know, monkeypatch):
    solved = []
    solve = feasibility.linprog
    monkeypatch.setattr(feasibility, "linprog", lambda *given: solved.append(1) or solve(*given))
    rules = [Suppression(), AreaBounds("background", upper=0.2), AreaBounds("person", upper=0.1)]
    assert len(find_contradictions(rules, know({1}))) == 1
    alone = len(solved)
    assert len(find_contradictions(rules, know(*[{1}] * 500))) == 500
    assert len(solved) == 2 * alone
    find_contradictions([Suppression(), AreaBounds("background", 0.3, 0.7)], know(*[{1}] * 5))
    assert len(solved) == 2 * alone, "bounds of single classes need no program where they can hold"


# ---- against brute force ----------------------------------------------------------------------------------------


def compositions(total, parts):
    """All ways to write ``total`` as an ordered sum."""
    return [c for c in product(range(total + 1), repeat=parts) if sum(c) == total]


# A 2 x 5 map: 2 of 5 columns to the left, 3 to the right. All areas in tenths; with bounds in tenths (in quarters to
# the left, in sixths to the right) the program is one of transport: what is feasible has corners on this grid.
LEFT, RIGHT = [0, 0, 0.4, 1], [0.4, 0, 1, 1]
GRID = np.array([(*left, *right) for left in compositions(4, 3) for right in compositions(6, 3)]).reshape(-1, 2, 3)


def meets(rule):
    """The points of the grid at which a rule holds."""
    kinds = rule.classes if isinstance(rule.classes, list) else [rule.classes]
    places = {None: [0, 1], tuple(LEFT): [0], tuple(RIGHT): [1]}[rule.region and tuple(rule.region)]
    area = GRID[:, places][:, :, kinds].sum((1, 2)) / {(0, 1): 10, (0,): 4, (1,): 6}[tuple(places)]
    lower = 0 if rule.lower is None else rule.lower
    upper = 1 if rule.upper is None else rule.upper
    return (area >= lower - 1e-9) & (area <= upper + 1e-9)


def random_rule(random):
    region, steps = [(None, 10), (LEFT, 4), (RIGHT, 6)][random.integers(3)]
    classes = [[0], [1], [2], [1, 2], [0, 2]][random.integers(5)]
    share = float(random.integers(1, steps) / steps)
    side = {"lower": share} if random.random() < 0.5 else {"upper": share}
    return AreaBounds([int(k) for k in classes], **side, region=region)


@pytest.mark.parametrize("seed", range(60))
def test_against_all_points_of_a_grid(know, seed):
    random = np.random.default_rng(seed)
    by_name = {}
    for _ in range(random.integers(2, 8)):
        rule = random_rule(random)
        facts = know({1, 2}, size=(2, 5), names=NAMES[:3])
        by_name[rule.compile(facts).rows[0].names[0]] = rule
    possible = np.all([meets(rule) for rule in by_name.values()], axis=0).any()
    found = find_contradictions([Suppression(), *by_name.values()], facts)
    assert bool(found) != possible
    if found:
        named = [rule for name, rule in by_name.items() if name in listed(found["i0"])]
        assert len(named) == len(listed(found["i0"]))
        assert not np.all([meets(rule) for rule in named], axis=0).any()
        for left_out in named:
            rest = [meets(rule) for rule in named if rule is not left_out]
            assert np.all([np.ones(len(GRID), dtype=bool), *rest], axis=0).any(), "more is named than needed"


def listed(sentence):
    """The statements of a sentence."""
    said = sentence.removesuffix(" for image i0").removesuffix(" cannot hold together").removesuffix(" cannot hold")
    *others, last = said.replace(" contradicts ", " and ").split(" and ")
    # Commas stand within regions as well.
    parts, depth = [""], 0
    for letter in ", ".join(others):
        depth += (letter == "[") - (letter == "]")
        parts = [*parts, ""] if letter == "," and not depth else [*parts[:-1], parts[-1] + letter]
    return {part.strip() for part in [*parts, last] if part.strip()}


def test_the_grid_sees_both_kinds():
    """That the random problems are not all possible, nor all contradictory."""
    kinds = set()
    for seed in range(60):
        random = np.random.default_rng(seed)
        rules = [random_rule(random) for _ in range(random.integers(2, 8))]
        kinds.add(bool(np.all([meets(rule) for rule in rules], axis=0).any()))
    assert kinds == {True, False}
