import pytest

from weakseg_lightning.constraints import compile_constraints, find_contradictions, preset
from weakseg_lightning.hyperparameters import describe


def stated(name, facts, said, **numbers):
    """Statements of a preset about the first image, with the slack of each row."""
    constraints = compile_constraints(preset(name, **numbers), facts)
    slack = constraints.slack[0][constraints.active[0]].tolist()
    return dict(zip(said(constraints), slack, strict=True)), constraints.allowed[0].tolist()


HARD = float("inf")
BACKGROUND = {"background >= 0.3": HARD, "background <= 0.7": HARD}


RELEASED = {"background >= 0.2": HARD, "background <= 0.7": HARD}
BOXES = {"boxes": [[[0, 0, 2, 2, 1]]]}


@pytest.mark.parametrize(
    ("name", "tags", "facts", "rows", "allowed"),
    [
        ("tags", {1, 3}, {}, {"person >= 0.05": 2, "cat >= 0.05": 2, **BACKGROUND}, {0, 1, 3}),
        ("random_crops", {1, 3}, {}, {"person >= 0.05": 2, "cat >= 0.05": 2, **BACKGROUND}, {0, 1, 3}),
        (
            *("tags_size", {1, 2, 3}, {"sizes": [[1, 1, 0, -1]]}),
            *({"person >= 0.1": 2, "dog <= 0.01": 2, **BACKGROUND}, {0, 1, 2, 3}),
        ),
        ("tags_size_released", {1, 2}, {"sizes": [[1, 1, 0, 0]]}, {"person >= 0.1": HARD, **RELEASED}, {0, 1}),
        ("tags_size_released", {1, 2}, {"sizes": [[1, 0, 0, 0]]}, {}, {0}),  # all classes are small
        ("boxes", {1, 2}, BOXES, {"person in box 1 >= 0.75": 2}, {0, 1}),
    ],
)
def test_what_presets_say(know, said, name, tags, facts, rows, allowed):
    assert stated(name, know(tags, **facts), said) == (rows, [k in allowed for k in range(4)])


def test_the_default_of_the_ablation(know, said):
    numbers = {"foreground_lower": 0.1, "background_lower": 0.2, "background_upper": 0.7}
    rows, _ = stated("tags_size", know({1}, sizes=[[1, 1, -1, -1]]), said, **numbers)
    assert set(rows) == {"person >= 0.1", "background >= 0.2", "background <= 0.7"}
    rows, _ = stated("tags", know({1}), said, **numbers)
    assert set(rows) == {"person >= 0.1", "background >= 0.2", "background <= 0.7"}


def test_no_preset_contradicts_itself(know):
    images = [{k for k in range(1, 4) if number >> k & 1} for number in range(16)]
    for bucket in (-1, 0, 1):
        boxes = [[[0, 0, 3, 3, k] for k in image] for image in images]
        facts = know(*images, sizes=[[bucket, bucket, (bucket + 2) % 3 - 1, 0]] * 16, boxes=boxes)
        for name in ("tags", "tags_size", "tags_size_released", "boxes", "random_crops"):
            assert find_contradictions(preset(name), facts) == {}, name


def test_rules_of_presets_can_be_written_down():
    for name in ("tags", "tags_size", "tags_size_released", "boxes", "random_crops"):
        assert describe(preset(name)[0])["init_args"] == {}
        assert [describe(rule) for rule in preset(name)] == [describe(rule) for rule in preset(name)]


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"`name` must be one of 'tags', 'tags_size', .*, got 'tag'"):
        preset("tag")
    with pytest.raises(ValueError, match="`background_lower` says nothing to the preset 'boxes'"):
        preset("boxes", background_lower=0.1)
    with pytest.raises(ValueError, match=r"`lower` must not exceed `upper`, got 0\.8 > 0\.7"):
        preset("tags", background_lower=0.8)
    with pytest.raises(ValueError, match="must be between 0 and 1, got 10"):
        preset("tags", foreground_lower=10)
