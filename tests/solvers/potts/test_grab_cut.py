from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from weakseg_lightning.energies import GridPotts
from weakseg_lightning.hyperparameters import describe
from weakseg_lightning.metrics import SegmentationScores
from weakseg_lightning.solvers import AlphaExpansion, GrabCut

COLORS = torch.tensor([[0.2, 0.3, 0.2], [0.8, 0.3, 0.2], [0.2, 0.3, 0.9], [0.9, 0.9, 0.2]])


def scene(size: int = 40, classes: int = 4, noise: float = 0.1) -> tuple[Tensor, Tensor, Tensor]:
    """Quarters of noisy colors, one a class, and a stroke in each: image, mask, seeds."""
    half = torch.arange(size) >= size // 2
    mask = (2 * half[:, None].long() + half.long()) % classes
    image = COLORS[mask].permute(2, 0, 1) + noise * torch.randn(
        3, size, size, generator=torch.Generator().manual_seed(0)
    )
    seeds = torch.full_like(mask, 255)
    rows = torch.tensor([size // 4, 3 * size // 4])
    seeds[rows, 2:-2] = mask[rows, 2:-2]
    return image.clamp(0, 1)[None], mask[None], seeds[None]


def solve(image: Tensor, seeds: Tensor, classes: int = 4, solver: GrabCut | None = None, **arguments: Tensor):
    scores = torch.zeros(len(image), classes, *image.shape[2:])
    return (solver or GrabCut()).solve(scores, image, seeds=seeds, **arguments)


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_classes_of_different_colors_are_found(classes: int) -> None:
    image, mask, seeds = scene(classes=classes)
    result = solve(image, seeds, classes)
    assert torch.equal(result.labels.long(), mask)
    assert result.converged.tolist() == [True]
    assert 2 <= int(result.sweeps) <= 10
    assert result.message == ("",)
    assert result.lower_bound.isnan().all()


def test_scores_say_nothing_but_their_shape() -> None:
    image, _, seeds = scene(noise=0.3)
    random = torch.randn(1, 4, 40, 40)
    assert torch.equal(GrabCut().solve(random, image, seeds=seeds).labels, solve(image, seeds).labels)


def test_seeds_are_kept_and_the_label_set_holds() -> None:
    image, _, seeds = scene(noise=0.4)
    seeds[0, 3, 3] = 3  # in the quarter of 0
    result = solve(image, seeds, 6, label_set=torch.zeros(1, 6, dtype=torch.bool))
    labelled = seeds != 255
    assert torch.equal(result.labels.long()[labelled], seeds[labelled])
    assert set(result.labels.unique().tolist()) <= {0, 1, 2, 3}


def test_energies_are_those_of_the_last_models() -> None:
    """One turn by hand: histogram-free, with the density of each class at each pixel."""
    from weakseg_lightning.solvers.potts.color_models import ColorMixture, ColorTable

    image, _, seeds = scene(noise=0.3)
    table = ColorTable.of(image[0].numpy())
    mixtures = [ColorMixture.fitted(table.colors, table.count((seeds[0] == k).numpy()), 5) for k in range(4)]
    density = np.stack([0.95 * np.exp(mixture.log_density(table.colors))[table.index] + 0.05 for mixture in mixtures])
    scores = torch.from_numpy(np.log(density)).float()[None]
    by_hand = AlphaExpansion(GridPotts(50.0)).solve(scores, image, seeds=seeds)
    result = solve(image, seeds, solver=GrabCut(max_rounds=1))
    assert torch.equal(result.labels, by_hand.labels)
    assert result.energy.item() == pytest.approx(by_hand.energy.item(), rel=1e-4)
    assert (result.converged.tolist(), result.sweeps.tolist()) == ([False], [1])


def test_new_models_come_from_the_labeling() -> None:
    # the right third has a color that no seed has, close to that of 1's other pixels
    image = torch.tensor([[0.2], [0.2], [0.2]]).repeat(1, 60)[None, :, None].repeat(1, 1, 20, 1)
    image[..., 20:40] = torch.tensor([0.5, 0.5, 0.5])[:, None, None]
    image[..., 40:] = torch.tensor([0.58, 0.58, 0.58])[:, None, None]
    seeds = torch.full((1, 20, 60), 255)
    seeds[0, 10, 2:18], seeds[0, 10, 22:38] = 0, 1
    result = solve(image, seeds, 2)
    assert result.labels[0, :, 40:].float().mean() == 1
    assert result.converged.all()


def test_an_image_without_seeds_is_not_solved_and_says_so() -> None:
    image, mask, seeds = scene()
    nothing = torch.full_like(seeds, 255)
    result = solve(torch.cat([image, image]), torch.cat([nothing, seeds]))
    assert result.message == ("the image has no seeds", "")
    assert result.converged.tolist() == [False, True]
    assert (result.labels[0] == 255).all()
    assert torch.equal(result.labels[1].long(), mask[0])
    assert result.energy.isnan().tolist() == [True, False]


def test_an_image_of_one_class_needs_no_seeds() -> None:
    valid = torch.ones(2, 4, 5, dtype=torch.bool)
    valid[0, 0] = False
    sets = torch.tensor([[False, True, False], [True, False, False]])
    result = GrabCut().solve(torch.zeros(2, 3, 4, 5), torch.rand(2, 3, 4, 5), label_set=sets, valid=valid)
    assert result.labels[valid].unique().tolist() == [0, 1]
    assert (result.labels[0][valid[0]] == 1).all()
    assert (result.labels[1] == 0).all()
    assert result.message == ("", "")
    assert result.converged.all()


def test_seeds_of_one_class_flood_where_nothing_else_is_allowed() -> None:
    image, _, seeds = scene()
    only = torch.where(seeds == 2, 2, 255)
    result = solve(image, only, label_set=torch.zeros(1, 4, dtype=torch.bool))
    assert (result.labels == 2).all()


def test_a_class_without_seeds_begins_with_the_colors_of_the_rest() -> None:
    image, mask, seeds = scene(classes=2)
    only = torch.where(seeds == 1, 1, 255)
    background = torch.tensor([[True, False]])
    assert torch.equal(solve(image, only, 2, label_set=background).labels.long(), mask)


def test_padding_has_no_influence() -> None:
    image, mask, seeds = scene()
    valid = torch.zeros(1, 50, 48, dtype=torch.bool)
    valid[:, :40, :40] = True
    padded, wide = torch.rand(1, 3, 50, 48), torch.full((1, 50, 48), 255)
    padded[..., :40, :40], wide[:, :40, :40] = image, seeds
    result = solve(padded, wide, valid=valid)
    assert torch.equal(result.labels[:, :40, :40].long(), mask)
    assert (result.labels[~valid] == 255).all()


def test_same_labels_again() -> None:
    image, _, seeds = scene(noise=0.4)
    assert torch.equal(solve(image, seeds).labels, solve(image.clone(), seeds.clone()).labels)


def test_a_start_may_be_given() -> None:
    image, mask, _ = scene()
    one_seed = torch.full_like(mask, 255)
    for y, x in ((5, 5), (5, 35), (35, 5), (35, 35)):
        one_seed[0, y, x] = mask[0, y, x]
    assert torch.equal(solve(image, one_seed, initial=mask).labels.long(), mask)


def test_no_pixels() -> None:
    assert GrabCut().solve(torch.zeros(0, 2, 4, 4), torch.zeros(0, 3, 4, 4)).labels.shape == (0, 4, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"components": 0}, "`components` must be at least 1, got 0"),
        ({"max_rounds": 0}, "`max_rounds` must be at least 1, got 0"),
        ({"outliers": 1.0}, "`outliers` must be at least 0 and below 1, got 1.0"),
    ],
)
def test_arguments_are_checked(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GrabCut(**arguments)


def test_description() -> None:
    described = describe(GrabCut(components=3))["init_args"]
    assert (described["components"], described["outliers"], described["max_rounds"]) == (3, 0.05, 10)
    assert described["solver"]["init_args"]["potts"]["weight"] == 50


# ---------------------------------------------------------------- photographs


@pytest.fixture(scope="module")
def photographs(shared: Path) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Image, mask and scribbles of some training images of VOC."""
    folder = shared / "data/VOCdevkit/VOC2012"
    lists = folder / "ImageSets/SegmentationAug/train.txt"
    names = [line.split()[0].rsplit("/", 1)[-1].removesuffix(".jpg") for line in lists.read_text().splitlines()]
    found = []
    for name in names[3::150]:
        image = np.asarray(Image.open(folder / f"JPEGImages/{name}.jpg").convert("RGB"))
        mask, seeds = (
            np.asarray(Image.open(folder / kind / f"{name}.png"))
            for kind in ("SegmentationClassAug", "pascal_2012_scribble")
        )
        parts = (image.transpose(2, 0, 1).astype(np.float32) / 255, mask.astype(np.int64), seeds.astype(np.int64))
        found.append(tuple(torch.from_numpy(part)[None] for part in parts))
    return found


def test_photographs_are_labelled_better_than_by_the_nearest_seed(photographs) -> None:
    ours, nearest = SegmentationScores(21), SegmentationScores(21)
    for image, mask, seeds in photographs:
        allowed = torch.zeros(1, 21, dtype=torch.bool)
        allowed[0, [0, *seeds[seeds != 255].tolist()]] = True
        result = solve(image, seeds, 21, label_set=allowed)
        ours.update(result.labels.long(), mask)
        where = distance_transform_edt(seeds[0] == 255, return_distances=False, return_indices=True)
        nearest.update(seeds[0][tuple(torch.from_numpy(where))][None], mask)
    for name in ("pixel_accuracy", "miou"):
        assert ours.compute()[name] > nearest.compute()[name] + 0.08
