"""The labeling that follows the pen."""

import numpy as np
import pytest
import torch

from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.painting.document import AddClick, Click, ImageAnnotation, Stroke
from weakseg_lightning.painting.preview import LONGEST_SIDE, Labeling, Preview, accepted_labels


def two_colors(height: int, width: int) -> torch.Tensor:
    """The left half red, the right half blue."""
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    image[0, :, : width // 2] = image[2, :, width // 2 :] = 200
    return image


def drawn(height, width, *changes):
    annotation = ImageAnnotation.empty(height, width)
    for change in changes:
        annotation = change.applied_to(annotation)
    return annotation


@pytest.mark.parametrize(("height", "width"), [(40, 60), (900, 1400), (1, 50)])
@pytest.mark.parametrize("classes", [(0, 1), (7, 3), (254, 0)])
def test_each_color_gets_the_class_drawn_on_it(height, width, classes):
    middle = height / 2
    left, right = (Stroke(((x * width, middle),), 1, label) for x, label in zip((0.2, 0.8), classes, strict=True))
    found = Preview(two_colors(height, width)).solve(drawn(height, width, left, right))
    assert max(found.labels.shape) == min(width, LONGEST_SIDE)
    columns = found.labels.shape[1]
    assert (found.labels[:, : columns // 2] == classes[0]).all()
    assert (found.labels[:, -(columns // 2) :] == classes[1]).all()
    assert found.seconds > 0


def test_clicks_count_like_scribbles():
    clicks = (AddClick(Click(5.0, 5.0, 1)), AddClick(Click(59.9, 39.9, 0)))
    found = Preview(two_colors(40, 60)).solve(drawn(40, 60, *clicks))
    assert found.labels[:, :30].all()
    assert not found.labels[:, 30:].any()


@pytest.mark.parametrize("changes", [(), (Stroke(((5.0, 5.0),), 3, 1),), (AddClick(Click(5.0, 5.0, 1)),)])
def test_one_class_alone_gives_no_labeling(changes):
    assert Preview(two_colors(40, 60)).solve(drawn(40, 60, *changes)) is None


def test_no_stroke_is_too_thin_for_the_reduced_image():
    annotation = drawn(3000, 3000, Stroke(((200.0, 100.0), (2900.0, 2500.0)), 1, 1))
    seeds = Preview(two_colors(3000, 3000))._seeds(annotation)
    assert (seeds == 1).sum() >= 0.85 * LONGEST_SIDE
    assert set(np.unique(seeds)) == {1, VOID}


# ---------------------------------------------------------------- with scores


def scores_of(probabilities: np.ndarray) -> np.ndarray:
    """Log-probabilities as the page gets them."""
    return np.log(probabilities).astype(np.float16)


def halves(left: int, right: int, classes: int, sure: float = 0.8, size: tuple[int, int] = (6, 8)) -> np.ndarray:
    """Scores that expect one class on the left and another on the right."""
    found = np.full((classes, *size), (1 - sure) / (classes - 1))
    found[left, :, : size[1] // 2] = found[right, :, size[1] // 2 :] = sure
    return scores_of(found)


@pytest.mark.parametrize(("height", "width"), [(40, 60), (900, 1400), (1, 50), (50, 1)])
@pytest.mark.parametrize("size", [(6, 8), (1, 2), (75, 100)])
def test_scores_label_an_image_without_any_stroke(height, width, size):
    found = Preview(two_colors(height, width)).solve(drawn(height, width), halves(3, 20, 21, size=size))
    columns = found.labels.shape[1]
    assert max(found.labels.shape) == min(max(height, width), LONGEST_SIDE)
    assert found.confidence.shape == found.labels.shape
    if width > 1:
        assert (found.labels[:, : columns // 2] == 3).all()
        assert (found.labels[:, -(columns // 2) :] == 20).all()


@pytest.mark.parametrize("label", [0, 1, 2])
def test_one_class_drawn_is_enough_with_scores(label):
    annotation = drawn(40, 60, Stroke(((5.0, 5.0), (5.0, 30.0)), 3, label))
    found = Preview(two_colors(40, 60)).solve(annotation, halves(0, 1, 3, sure=0.5))
    assert (found.labels[:, :30] == label).all()
    assert (found.labels[:, 30:] == 1).all()


def test_a_stroke_brings_a_class_that_the_scores_do_not_know():
    annotation = drawn(40, 60, Stroke(((50.0, 5.0), (50.0, 30.0)), 3, 2))
    found = Preview(two_colors(40, 60)).solve(annotation, halves(0, 0, 4, sure=0.4))
    assert (found.labels[:, :30] == 0).all()
    assert (found.labels[:, 30:] == 2).all()


def test_strokes_go_before_scores_wherever_they_touch():
    annotation = drawn(40, 60, Stroke(((2.0, 9.5), (58.0, 9.5)), 1, 1), Stroke(((2.0, 10.5), (58.0, 10.5)), 1, 0))
    annotation = AddClick(Click(30.0, 30.0, 2)).applied_to(annotation)
    seeds = Preview(two_colors(40, 60))._seeds(annotation)
    found = Preview(two_colors(40, 60)).solve(annotation, halves(0, 1, 3, sure=0.99))
    assert (found.labels[seeds != VOID] == seeds[seeds != VOID]).all()
    assert set(np.unique(seeds)) == {0, 1, 2, VOID}


def test_an_image_all_of_one_class():
    found = Preview(two_colors(40, 60)).solve(drawn(40, 60), halves(2, 2, 3, sure=0.9))
    assert (found.labels == 2).all()
    assert (found.confidence == round(255 * 0.9)).all()


def test_confidence_is_the_probability_of_the_class_that_was_found():
    random = np.random.default_rng(0)
    scores = scores_of(random.dirichlet(np.ones(4), (10, 15)).transpose(2, 0, 1))
    annotation = drawn(40, 60, Stroke(((5.0, 5.0), (50.0, 30.0)), 3, 3))
    found = Preview(two_colors(40, 60)).solve(annotation, scores)
    logits = torch.nn.functional.interpolate(torch.tensor(scores)[None].float(), (40, 60), mode="bilinear")
    probability = logits.softmax(1)[0].numpy()
    own = np.take_along_axis(probability, found.labels[None].astype(int), 0)[0]
    assert np.abs(found.confidence - 255 * own).max() < 0.51


def test_specks_of_other_classes_do_not_occur_unless_they_are_drawn():
    scores = halves(0, 1, 4, sure=0.9, size=(40, 60))
    scores[:, 5, 5] = np.log([0.001, 0.001, 0.001, 0.997])
    image = two_colors(40, 60)
    image[1, 5, 5] = 255  # no neighbor smooths it away
    preview = Preview(image)
    assert set(np.unique(preview.solve(drawn(40, 60), scores).labels)) == {0, 1}
    found = preview.solve(drawn(40, 60, Stroke(((5.5, 5.5),), 1, 3)), scores)
    assert found.labels[5, 5] == 3


def test_damaged_scores_give_no_labeling():
    scores = halves(0, 1, 2)
    scores[:, 3, 3] = np.nan
    assert Preview(two_colors(40, 60)).solve(drawn(40, 60), scores) is None


def test_without_scores_there_is_no_confidence():
    annotation = drawn(40, 60, AddClick(Click(5.0, 5.0, 1)), AddClick(Click(55.0, 5.0, 0)))
    found = Preview(two_colors(40, 60)).solve(annotation)
    assert found.confidence is None
    with pytest.raises(ValueError, match="a labeling without scores has no confidence: accept one that was found with"):
        accepted_labels(found, 0.9, (40, 60))


# ---------------------------------------------------------------- accepted labels


@pytest.mark.parametrize(("threshold", "kept"), [(0, 4), (0.5, 3), (0.9, 2), (1, 1)])
def test_labels_are_accepted_where_they_are_probable_enough(threshold, kept):
    labels = np.array([[5, 0, 7, 254]], dtype=np.uint8)
    labeling = Labeling(labels, 0.1, np.array([[255, 230, 128, 100]], dtype=np.uint8))
    accepted = accepted_labels(labeling, threshold, (6, 40))
    expected = labels.copy()
    expected[0, kept:] = VOID
    assert accepted.dtype == np.uint8
    assert np.array_equal(accepted, expected.repeat(6, axis=0).repeat(10, axis=1))


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_the_threshold_is_checked(threshold):
    one = np.zeros((1, 1), dtype=np.uint8)
    with pytest.raises(ValueError, match=f"`threshold` must be between 0 and 1, got {threshold}"):
        accepted_labels(Labeling(one, 0.1, one), threshold, (1, 1))
