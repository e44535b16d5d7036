import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import distance_transform_cdt
from torch import Tensor

from weakseg_lightning.metrics import (
    Definition,
    TrimapScores,
    confusion_matrix,
    segmentation_scores,
    trimap_confusion,
    trimap_distance,
)

DEFINITIONS: list[Definition] = ["void", "boundary"]


def patches(seed: int, num_classes: int = 4, shape: tuple[int, int, int] = (3, 13, 17)) -> tuple[Tensor, Tensor]:
    """Predicted and true maps of small squares, with blobs of void."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, num_classes, (shape[0], 4, 5))
    target = coarse.repeat(4, 1).repeat(4, 2)[:, : shape[1], : shape[2]]
    void = rng.random((shape[0], 7, 9)).repeat(2, 1).repeat(2, 2)[:, : shape[1], : shape[2]] < 0.15
    labels = np.where(rng.random(shape) < 0.7, target, rng.integers(0, num_classes, shape))
    return torch.from_numpy(labels), torch.from_numpy(np.where(void, 255, target))


def distance_by_hand(target: Tensor, definition: str, valid: Tensor) -> list[list[float]]:
    """Distance in one image, pixel by pixel in Python, infinite where there is no trimap; no limit of width."""
    height, width = target.shape
    pixels = [(y, x) for y in range(height) for x in range(width) if valid[y, x]]
    classes = {p: int(target[p]) for p in pixels if target[p] != 255}

    def apart(p: tuple[int, int], q: tuple[int, int]) -> int:
        return max(abs(p[0] - q[0]), abs(p[1] - q[1]))

    def nearest_class(p: tuple[int, int]) -> int:
        distance = min(apart(p, q) for q in classes)
        return max(k for q, k in classes.items() if apart(p, q) == distance)

    if definition == "void":
        middle = [p for p in pixels if p not in classes]
    else:
        filled = {p: classes[p] if p in classes else nearest_class(p) for p in pixels} if classes else {}
        around = [(0, 1), (1, 0), (0, -1), (-1, 0)]
        middle = [p for p in filled if any(filled.get((p[0] + v, p[1] + u), filled[p]) != filled[p] for v, u in around)]
    return [[min((apart((y, x), q) for q in middle), default=math.inf) for x in range(width)] for y in range(height)]


def distance_by_scipy(target: Tensor, definition: str) -> np.ndarray:
    """Distance in one image: SciPy's transform of each class, the nearest (largest) class, then of the boundary."""
    classes = target.numpy()
    middle = classes == 255
    if definition == "boundary":
        present = sorted({*np.unique(classes).tolist()} - {255}, reverse=True)
        far = np.stack([distance_transform_cdt(classes != k, "chessboard") for k in present])
        filled = np.array(present)[far.argmin(0)]  # the first, hence largest, of those equally near
        middle = np.zeros(filled.shape, bool)
        for step, axis in [(1, 0), (-1, 0), (1, 1), (-1, 1)]:
            other = np.roll(filled, step, axis) != filled
            other[(0 if step == 1 else -1, slice(None)) if axis == 0 else (slice(None), 0 if step == 1 else -1)] = False
            middle |= other
    if not middle.any():
        return np.full(classes.shape, np.inf)
    return np.asarray(distance_transform_cdt(~middle, "chessboard"))


def confusions(labels: Tensor, target: Tensor, distance: np.ndarray, num_classes: int, max_width: int) -> Tensor:
    """One count for each width, of a map of its own."""
    near = [torch.from_numpy(np.asarray(distance) <= width) for width in range(1, max_width + 1)]
    return torch.stack([confusion_matrix(labels, torch.where(band, target, 255), num_classes) for band in near])


# ---- distance -------------------------------------------------------------------------------------------------


def test_distance_to_void_by_hand() -> None:
    target = torch.tensor([[0, 0, 0, 0, 0], [0, 255, 0, 0, 0], [0, 0, 0, 1, 1]])
    expected = [[1, 1, 1, 2, 3], [1, 0, 1, 2, 3], [1, 1, 1, 2, 3]]
    assert trimap_distance(target[None], "void")[0].tolist() == expected


def test_distance_to_the_boundary_by_hand() -> None:
    target = torch.tensor([[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 1]])
    expected = [[3, 2, 2, 1, 1], [3, 2, 1, 1, 0], [3, 2, 1, 0, 0]]  # (1, 3) has the other class at its corner only
    assert trimap_distance(target[None], "boundary")[0].tolist() == expected


def test_the_boundary_runs_along_the_middle_of_a_void_rim() -> None:
    row = [0, 0, 0, 255, 255, 255, 255, 1, 1, 1]
    assert trimap_distance(torch.tensor([[row]]), "boundary")[0, 0].tolist() == [4, 3, 2, 1, 0, 0, 1, 2, 3, 4]
    odd = [0, 0, 255, 255, 255, 1, 1]  # the middle is as near to 0 as to 1, and goes to 1
    assert trimap_distance(torch.tensor([[odd]]), "boundary")[0, 0].tolist() == [2, 1, 0, 0, 1, 2, 3]


def test_void_alone_makes_no_boundary() -> None:
    target = torch.zeros(2, 9, 9, dtype=torch.long)
    target[0, 3:6, 3:6] = 255  # within one class
    target[1, :, 7:] = 255  # between a class and the edge
    assert (trimap_distance(target, "boundary", max_width=5) == 6).all()
    assert (trimap_distance(torch.full((1, 4, 4), 255), "boundary", max_width=5) == 6).all()


@pytest.mark.parametrize("definition", DEFINITIONS)
@pytest.mark.parametrize("seed", range(6))
def test_distance_equals_a_search_through_all_pixels(definition: Definition, seed: int) -> None:
    _, target = patches(seed)
    valid = torch.ones_like(target, dtype=torch.bool)
    valid[0, 9:], valid[0, :, 11:] = False, False
    for max_width in (1, 3, 40):
        found = trimap_distance(target, definition, max_width, valid=valid)
        for one, truth, inside in zip(found, target, valid, strict=True):
            expected = np.minimum(distance_by_hand(truth, definition, inside), max_width + 1)
            assert np.array_equal(one[inside], torch.from_numpy(expected)[inside])


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_padding_changes_nothing(definition: Definition) -> None:
    labels, target = patches(3)
    wide = torch.nn.functional.pad(target, (0, 5, 0, 6), value=255)
    valid = torch.zeros_like(wide, dtype=torch.bool)
    valid[:, :13, :17] = True
    alone = trimap_confusion(labels, target, 4, definition, 7)
    predicted = torch.nn.functional.pad(labels, (0, 5, 0, 6), value=3)
    assert torch.equal(trimap_confusion(predicted, wide, 4, definition, 7, valid=valid), alone)
    filled = torch.where(valid, wide, 0)  # whatever stands in the padding
    assert torch.equal(
        trimap_confusion(predicted, filled, 4, "void", 7, valid=valid), trimap_confusion(labels, target, 4, "void", 7)
    )


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_distance_in_masks_of_photographs_equals_that_of_scipy(definition: Definition, shared: Path) -> None:
    files = sorted((shared / "data/VOCdevkit/VOC2012/SegmentationClass").glob("*.png"))[::90]
    assert len(files) > 4
    for file in files:
        target = torch.from_numpy(np.array(Image.open(file)))
        labels = target.roll((3, -5), (0, 1)).clamp(max=20)
        distance = distance_by_scipy(target, definition)
        assert np.array_equal(trimap_distance(target[None], definition)[0], np.minimum(distance, 41)), file.name
        found = trimap_confusion(labels[None], target[None], 21, definition)
        assert torch.equal(found, confusions(labels, target, distance, 21, 40)), file.name
        assert found[-1].sum() > 1000


# ---- counts and scores ----------------------------------------------------------------------------------------


def test_scores_by_hand() -> None:
    target = torch.tensor([[[0, 0, 0, 1, 1, 1, 255, 1]]])
    labels = torch.tensor([[[0, 1, 0, 0, 1, 1, 0, 0]]])
    scores = {}
    for definition in DEFINITIONS:
        metric = TrimapScores(2, definition, max_width=3)
        metric.update(labels, target)
        scores |= metric.compute()
    # void: width 1 is columns 5 and 7, width 2 adds 4, width 3 adds 3
    assert scores["trimap_void_pixel_accuracy"].tolist() == pytest.approx([1 / 2, 2 / 3, 2 / 4])
    assert scores["trimap_void_miou"].tolist() == pytest.approx([1 / 2, 2 / 3, 2 / 4])  # class 1 alone is true
    # boundary: columns 2 and 3 are it, width 1 adds 1 and 4, width 2 adds 0 and 5, width 3 nothing (6 is void)
    assert scores["trimap_boundary_pixel_accuracy"].tolist() == pytest.approx([2 / 4, 4 / 6, 4 / 6])
    iou = [(1 / 3 + 1 / 3) / 2, (2 / 4 + 2 / 4) / 2, (2 / 4 + 2 / 4) / 2]
    assert scores["trimap_boundary_miou"].tolist() == pytest.approx(iou)


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_scores_of_a_data_set_equal_a_count_for_each_width(definition: Definition) -> None:
    metric, total = TrimapScores(4, definition, max_width=6), torch.zeros(6, 4, 4, dtype=torch.long)
    for seed in range(4):
        labels, target = patches(seed, shape=(1 + seed % 2, 11 + seed, 16))
        metric.update(labels.to(torch.uint8), target.to(torch.uint8))
        valid = torch.ones_like(target[0], dtype=torch.bool)
        for one, truth in zip(labels, target, strict=True):
            total += confusions(one, truth, np.array(distance_by_hand(truth, definition, valid)), 4, 6)
    assert metric.confusion.dtype == torch.int64
    assert torch.equal(metric.confusion, total)
    scores = [segmentation_scores(confusion) for confusion in total]
    for name in ("miou", "pixel_accuracy"):
        assert metric.compute()[f"trimap_{definition}_{name}"].tolist() == [float(one[name]) for one in scores]


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_trimaps_grow_to_the_whole_image(definition: Definition) -> None:
    labels, target = patches(1)
    counts = trimap_confusion(labels, target, 4, definition, max_width=20)
    assert (counts.diff(dim=0) >= 0).all()
    assert counts[0].sum() < counts[2].sum()
    assert torch.equal(counts[-1], confusion_matrix(labels, target, 4))  # each image has void and two classes


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_an_image_without_trimap_counts_nothing(definition: Definition) -> None:
    metric = TrimapScores(3, definition, max_width=4)
    nothing = {"void": torch.tensor([[[0, 1, 2]]]), "boundary": torch.tensor([[[1, 255, 1]]])}[definition]
    metric.update(torch.ones_like(nothing), nothing)
    metric.update(torch.zeros(1, 2, 3, dtype=torch.long), torch.full((1, 2, 3), 255))
    for shape in [(0, 3, 3), (1, 0, 3), (1, 3, 0)]:
        metric.update(torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long))
    assert metric.confusion.sum() == 0
    assert all(curve.shape == (4,) and curve.isnan().all() for curve in metric.compute().values())
    labels, target = patches(2)
    metric.update(labels.clamp(max=2), target.where(target == 255, target.clamp(max=2)))
    assert not any(curve.isnan().any() for curve in metric.compute().values())
    metric.reset()
    assert metric.confusion.sum() == 0


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_many_classes_small_integers_and_another_value_of_void(definition: Definition) -> None:
    labels, target = patches(4, num_classes=254)
    expected = trimap_confusion(labels, target, 254, definition, 2)
    assert torch.equal(trimap_confusion(labels.to(torch.uint8), target.to(torch.uint8), 254, definition, 2), expected)
    negative = target.where(target != 255, -1)
    assert torch.equal(trimap_confusion(labels, negative, 254, definition, 2, ignore_index=-1), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("definition", DEFINITIONS)
def test_cuda_counts_as_the_cpu(definition: Definition) -> None:
    labels, target = patches(5)
    metric = TrimapScores(4, definition).to("cuda")
    metric.update(labels.cuda(), target.cuda())
    assert torch.equal(metric.confusion.cpu(), trimap_confusion(labels, target, 4, definition))


# ---- errors ---------------------------------------------------------------------------------------------------


def test_wrong_shapes() -> None:
    maps = torch.zeros(1, 2, 3, dtype=torch.long)
    with pytest.raises(ValueError, match=r"`target` must be \(B, H, W\), got \(2, 3\); add a batch axis"):
        trimap_confusion(maps[0], maps[0], 2)
    with pytest.raises(
        ValueError, match=r"`valid` must be bool in the shape of `target`, \(1, 2, 3\), got torch.int64"
    ):
        trimap_distance(maps, valid=maps)


# ---- two processes --------------------------------------------------------------------------------------------


def test_two_processes_give_the_numbers_of_one(on_two_ranks) -> None:
    shares = [[patches(i, shape=(1, 9 + i, 12)) for i in range(3)], [patches(7)]]
    alone = [TrimapScores(4, definition, max_width=5) for definition in DEFINITIONS]
    for metric in alone:
        for pair in [*shares[0], *shares[1]]:
            metric.update(*pair)
    for results in on_two_ranks([(TrimapScores(4, definition, max_width=5), shares) for definition in DEFINITIONS]):
        for found, expected in zip(results, [metric.compute() for metric in alone], strict=True):
            assert found.keys() == expected.keys()
            assert all(torch.equal(found[name], curve) for name, curve in expected.items())
