"""GrabCut where the scores count."""

from itertools import product

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, logsumexp
from scipy.stats import multivariate_normal
from torch import Tensor

from weakseg_lightning.energies import GridPotts
from weakseg_lightning.solvers import AlphaExpansion, GrabCut
from weakseg_lightning.solvers.potts.color_models import ColorMixture, ColorTable

COLORS = torch.tensor([[0.2, 0.3, 0.2], [0.8, 0.3, 0.2], [0.2, 0.3, 0.9]])
NOTHING = torch.full((1, 30, 30), 255)


def scene(noise: float = 0.1) -> tuple[Tensor, Tensor, Tensor]:
    """Three columns of noisy colors, one a class: image, mask, and scores that are right at three pixels of four."""
    random = torch.Generator().manual_seed(0)
    mask = torch.arange(3).repeat_interleave(10).expand(30, 30)
    image = COLORS[mask].permute(2, 0, 1) + noise * torch.randn(3, 30, 30, generator=random)
    said = torch.where(torch.rand(30, 30, generator=random) < 0.25, (mask + 1) % 3, mask)
    scores = torch.nn.functional.one_hot(said, 3).permute(2, 0, 1).float()
    return image.clamp(0, 1)[None], mask[None], scores[None]


def strokes(mask: Tensor, *classes: int) -> Tensor:
    seeds = torch.full_like(mask, 255)
    seeds[:, 10:13] = mask[:, 10:13]
    return torch.where(torch.isin(seeds, torch.tensor(classes)), seeds, 255)


def mixtures_of_seeds(image: Tensor, seeds: Tensor) -> Tensor:
    """Log-likelihoods of the colors in each class, by its seeds."""
    table = ColorTable.of(image[0].numpy())
    fits = [ColorMixture.fitted(table.colors, table.count((seeds[0] == k).numpy()), 5) for k in range(3)]
    density = [0.95 * np.exp(fit.log_density(table.colors))[table.index] + 0.05 for fit in fits]
    return torch.from_numpy(np.log(np.stack(density))).float()[None]


@pytest.mark.parametrize("weight", [0.5, 4.0])
def test_it_is_alpha_expansion_on_the_sum_of_colors_and_scores(weight: float) -> None:
    image, mask, scores = scene(noise=0.5)
    seeds, solver = strokes(mask, 0, 1, 2), AlphaExpansion(GridPotts(5.0))
    unary = mixtures_of_seeds(image, seeds) + weight * scores.log_softmax(1)
    by_hand = solver.solve(unary, image, seeds=seeds)
    found = GrabCut(solver, max_rounds=1, score_weight=weight).solve(scores, image, seeds=seeds)
    assert torch.equal(found.labels, by_hand.labels)
    assert found.energy.item() == pytest.approx(by_hand.energy.item(), rel=1e-5)
    colors_alone = GrabCut(solver, max_rounds=1).solve(scores, image, seeds=seeds)
    assert not torch.equal(found.labels, colors_alone.labels)


@pytest.mark.parametrize("case", range(6))
def test_the_labeling_is_the_best_of_all(case: int) -> None:
    """Two classes on six pixels, each seed a color of its own: the energy as the docstring has it, by enumeration."""
    random = np.random.default_rng(case)
    colors = (
        np.array([[3, 5, 8], [9, 5, 8]])[random.integers(0, 2, (2, 3))] + random.integers(0, 3, (2, 3, 3)) + 0.5
    ) / 32
    seeds, scores = np.full((2, 3), 255), 3 * random.standard_normal((2, 2, 3))
    seeds[0, 0], seeds[1, 2] = case % 2, 1 - case % 2
    weight, potts = 1.5, 6.0
    models = [multivariate_normal(colors[seeds == k][0], 5e-4 * np.eye(3)) for k in (0, 1)]
    unary = -np.log([0.95 * model.pdf(colors) + 0.05 for model in models]) - weight * log_softmax(scores, axis=0)
    unary = unary + logsumexp(-unary, axis=0)
    best = min(
        (energy(np.array(values).reshape(2, 3), unary, colors, potts), values)
        for values in product((0, 1), repeat=6)
        if all(seed in (255, value) for seed, value in zip(seeds.flat, values, strict=True))
    )
    found = GrabCut(AlphaExpansion(GridPotts(potts)), max_rounds=1, score_weight=weight).solve(
        torch.from_numpy(scores)[None],
        torch.from_numpy(colors).permute(2, 0, 1)[None].float(),
        seeds=torch.from_numpy(seeds)[None],
    )
    assert tuple(found.labels.flatten().tolist()) == best[1]
    assert found.energy.item() == pytest.approx(best[0], rel=1e-4)


def energy(labels: np.ndarray, unary: np.ndarray, colors: np.ndarray, potts: float) -> float:
    cells = list(np.ndindex(labels.shape))
    edges = [(p, q) for p in cells for q in cells if p < q and max(abs(p[0] - q[0]), abs(p[1] - q[1])) == 1]
    contrast = {edge: float(((colors[edge[0]] - colors[edge[1]]) ** 2).sum()) for edge in edges}
    spread = np.mean(list(contrast.values()))
    cut = sum(
        np.exp(-contrast[p, q] / (2 * spread)) / np.hypot(p[0] - q[0], p[1] - q[1])
        for p, q in edges
        if labels[p] != labels[q]
    )
    return float(np.take_along_axis(unary, labels[None], 0).sum() + potts * cut)


# ---------------------------------------------------------------- what the scores begin with


@pytest.mark.parametrize("drawn", [(), (0,), (2,), (0, 1), (0, 1, 2)])
@pytest.mark.parametrize("max_rounds", [1, 10])
def test_classes_are_found_with_or_without_seeds(drawn: tuple[int, ...], max_rounds: int) -> None:
    image, mask, scores = scene()
    found = GrabCut(max_rounds=max_rounds, score_weight=10.0).solve(scores, image, seeds=strokes(mask, *drawn))
    assert torch.equal(found.labels.long(), mask)
    assert found.message == ("",)
    assert found.converged.tolist() == [max_rounds > 1]


def test_without_a_weight_scores_are_not_read_and_seeds_are_needed() -> None:
    image, mask, scores = scene()
    seeds = torch.cat([strokes(mask, 0, 1, 2), NOTHING])
    twice, nan = image.repeat(2, 1, 1, 1), torch.full_like(scores, torch.nan).repeat(2, 1, 1, 1)
    found = GrabCut().solve(nan, twice, seeds=seeds)
    assert found.message == ("", "the image has no seeds")
    assert torch.equal(found.labels, GrabCut(score_weight=0).solve(torch.zeros_like(nan), twice, seeds=seeds).labels)
    assert GrabCut(score_weight=10.0).solve(scores, image, seeds=NOTHING).message == ("",)


def test_a_class_with_seeds_is_not_modeled_from_its_scores() -> None:
    """Seeds know their class; the scores, which mistake most of class 0 for 1, do not spoil its colors."""
    image, mask, _ = scene(noise=0.05)
    wrong = torch.where(mask == 0, (torch.arange(30)[None, :, None] % 5 > 0).long(), mask)
    scores = torch.nn.functional.one_hot(wrong, 3).movedim(-1, 1).float()
    solver, some = GrabCut(AlphaExpansion(GridPotts(0.0)), max_rounds=1, score_weight=1.0), strokes(mask, 0, 1)
    right = [(solver.solve(scores, image, seeds=seeds).labels == mask).float().mean() for seeds in (some, NOTHING)]
    assert right[0] > right[1] + 0.1, right


def test_the_label_set_holds_and_its_best_class_stands_in() -> None:
    image, mask, scores = scene()
    allowed = torch.tensor([[True, False, True]])
    found = GrabCut(score_weight=10.0).solve(scores, image, label_set=allowed).labels.long()
    assert set(found.unique().tolist()) <= {0, 2}
    assert torch.equal(found[mask != 1], mask[mask != 1])
    # models of 0 and 2 begin where they are the better of the two: colors then mend what the scores have wrong
    hidden = scores - 8 * torch.eye(3)[[0, 2]].sum(0)[:, None, None]
    solver = GrabCut(AlphaExpansion(GridPotts(0.0)), max_rounds=1, score_weight=1.0)
    found = solver.solve(hidden, image, label_set=allowed).labels
    assert (found == mask)[mask != 1].float().mean() > 0.97
    alone = GrabCut(score_weight=10.0).solve(scores, image, label_set=torch.tensor([[False, True, False]]))
    assert (alone.labels == 1).all()


@pytest.mark.parametrize("order", [[1, 0, 2], [2, 1, 0], [1, 2, 0]])
def test_the_numbers_of_the_classes_do_not_matter(order: list[int]) -> None:
    image, mask, scores = scene(noise=0.5)
    seeds, names = strokes(mask, 0, 1), torch.tensor(order)
    solver = GrabCut(AlphaExpansion(GridPotts(5.0)), score_weight=3.0)
    renamed = torch.where(seeds == 255, 255, names[seeds.clamp(max=2)])
    found = solver.solve(scores[:, names.argsort()], image, seeds=renamed).labels.long()
    assert torch.equal(found, names[solver.solve(scores, image, seeds=seeds).labels.long()])


def test_seeds_go_before_scores_and_colors() -> None:
    image, mask, scores = scene()
    seeds = NOTHING.clone()
    seeds[0, 5, :] = (mask[0, 5] + 1) % 3  # against everything else, and one next to the other
    found = GrabCut(score_weight=10.0).solve(scores, image, seeds=seeds)
    assert torch.equal(found.labels.long()[seeds != 255], seeds[seeds != 255])


def test_what_a_start_leaves_open_comes_from_the_scores() -> None:
    image, mask, scores = scene()
    initial = torch.where(mask == 1, 1, 255)
    found = GrabCut(max_rounds=1, score_weight=10.0).solve(scores, image, initial=initial)
    assert torch.equal(found.labels.long(), mask)


def test_padding_has_no_influence() -> None:
    image, _, scores = scene(noise=0.4)
    valid, seeds = torch.zeros(1, 40, 33, dtype=torch.bool), torch.full((1, 40, 33), 255)
    valid[:, :30, :30] = True
    seeds[:, 35], seeds[:, 37] = 1, 2
    wide, more = torch.rand(1, 3, 40, 33), torch.full((1, 3, 40, 33), torch.nan)
    wide[..., :30, :30], more[..., :30, :30] = image, scores
    solver = GrabCut(AlphaExpansion(GridPotts(2.0)), max_rounds=1, score_weight=1.0)
    found = solver.solve(more, wide, seeds=seeds, valid=valid)
    assert torch.equal(found.labels[:, :30, :30], solver.solve(scores, image).labels)
    assert (found.labels[~valid] == 255).all()


def test_an_image_with_damaged_scores_says_so_and_the_others_go_on() -> None:
    image, mask, scores = scene()
    damaged = torch.cat([scores, scores])
    damaged[0, 1, 3, 3] = torch.nan
    found = GrabCut(score_weight=10.0).solve(damaged, torch.cat([image, image]))
    assert found.message == ("`logits` hold nan or infinite values", "")
    assert (found.labels[0] == 255).all()
    assert torch.equal(found.labels[1].long(), mask[0])


@pytest.mark.parametrize("weight", [-0.5, float("nan"), float("inf")])
def test_the_weight_is_checked(weight: float) -> None:
    with pytest.raises(ValueError, match=f"`score_weight` must be finite and at least 0, got {weight}"):
        GrabCut(score_weight=weight)
