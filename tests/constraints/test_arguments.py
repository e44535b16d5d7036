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
from weakseg_lightning.hyperparameters import describe

NAN = float("nan")


class Wrong(ConstraintRule):
    def compile(self, facts):
        return CompiledRule([Rows(torch.zeros(1, 2, 4), 0.5, torch.ones(1, 1).bool(), ["a", "b", "c"])])


def test_wrong_shapes_of_a_users_rule(know):
    with pytest.raises(ValueError, match=r"Wrong\.compile must give `coefficients` of the shape \(2, 3, 4\) .*1, 2, 4"):
        compile_constraints([Wrong()], know({1}, {1}))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: AreaBounds("dog"), "`lower` or `upper` must be given"),
        (lambda: AreaBounds("dog", lower=0, upper=1), "say nothing"),
        (lambda: AreaBounds("dog", lower=30), "`lower` must be between 0 and 1, got 30"),
        (lambda: AreaBounds("dog", upper=NAN), "`upper` must be between 0 and 1, got nan"),
        (lambda: AreaBounds("dog", lower=0.3, upper=0.2), "`lower` must not exceed `upper`, got 0.3 > 0.2"),
        (lambda: AreaBounds("dog", lower=0.3, slack=0), "`slack` must be .* above 0, got 0; null makes"),
        (lambda: AreaBounds([], lower=0.3), "`classes` must name a class or several"),
        (lambda: AreaBounds(["dog", "dog"], lower=0.3), "`classes` must name each class once"),
        (lambda: AreaBounds(["dog", "present"], lower=0.3), "must be 'present' alone or a list of classes"),
        (lambda: AreaBounds("dog", lower=0.3, region=[0, 0, 1]), r"`region` must be \[x1, y1, x2, y2\]"),
        (lambda: AreaBounds("dog", lower=0.3, region=[0, 0.5, 1, 0.5]), "`region` must be"),
        (lambda: AreaBounds("dog", lower=0.3, region=[0, 0, 10, 10]), "`region` must be"),
        (lambda: AreaBounds("dog", lower=0.3, region=""), "`region` must be"),
        (lambda: AreaRatio("dog", "cat"), "must be given"),
        (lambda: AreaRatio("present", "cat", lower=1), "`classes` must be a class, a list of classes"),
        (lambda: AreaRatio("cat", ["absent"], lower=1), "`to` must be a class, a list of classes"),
        (lambda: AreaRatio("dog", "cat", lower=-1), "`lower` must be finite and at least 0, got -1"),
        (lambda: AreaRatio("dog", "cat", lower=2, upper=1), "must not exceed"),
        (lambda: SizeBuckets([]), "`bounds` must hold"),
        (lambda: SizeBuckets([(0, 0.1), (0.5, 0.2)]), r"got \(0.5, 0.2\) for bucket 1"),
        (lambda: SizeBuckets([(0, 0.1)], slack=-1), "`slack` must be finite and above 0"),
        (lambda: BoundingBoxes(1.5), "`lower` must be between 0 and 1, got 1.5"),
        (lambda: BoundingBoxes(slack=float("inf")), "`slack` must be finite and above 0"),
        (lambda: AreaTable("a.csv", tolerance=2), "`tolerance` must be between 0 and 1, got 2"),
        (lambda: AreaTable("a.csv", missing="skip"), "`missing` must be one of 'allow', 'error', got 'skip'"),
        (lambda: AreaTable("a.csv", slack=0), "`slack` must be finite and above 0"),
    ],
)
def test_wrong_arguments(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (AreaBounds("dgo", 0.1), "`classes` must name a class, got 'dgo': did you mean 'dog'"),
        (AreaBounds("presnt", 0.1), "did you mean .present."),
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
    facts = know({1}, boxes=[[[0, 0, 1, 1, 1]]])
    facts.boxes[0] = torch.zeros(1, 4)
    with pytest.raises(ValueError, match=r"`boxes` must be x1, y1, x2, y2, class, float \(n, 5\), got \(1, 4\)"):
        compile_constraints([BoundingBoxes()], facts)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tags": torch.ones(1, 3).bool()}, r"`tags` must be a bool \(1, 4\)"),
        ({"valid": torch.ones(1, 4, 4)}, r"`valid` must be a bool \(1, H, W\), got torch.float32"),
        ({"sizes": torch.zeros(1, 4)}, "`sizes` must be an integer"),
        ({"boxes": []}, "`boxes` must hold one tensor per image, 1, got 0"),
        ({"masks": {"sky": torch.ones(1, 2, 2).bool()}}, r"`masks\['sky'\]` must be a bool \(1, 4, 4\)"),
    ],
)
def test_knowledge_that_does_not_fit_together(know, change, words):
    facts = know({1})
    with pytest.raises(ValueError, match=words):
        compile_constraints([], type(facts)(**{**vars(facts), **change}))


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
