import itertools
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image
from scenes import batch

from weakseg_lightning._native import _core
from weakseg_lightning.energies import GridPotts, potts_energy, unary_energy, unary_potentials
from weakseg_lightning.solvers import AlphaExpansion
from weakseg_lightning.solvers.potts import alpha_expansion


def same(a, b):
    assert torch.equal(a.labels, b.labels)
    torch.testing.assert_close(a.energy, b.energy, rtol=0, atol=0, equal_nan=True)


def test_the_number_of_threads_is_checked():
    with pytest.raises(ValueError, match="`num_threads` must be at least 1, got 0; or None to choose"):
        AlphaExpansion(num_threads=0)


def test_the_result_has_less_energy_than_argmax_and_smoother_labels():
    logits, image = batch()
    weights, unary = GridPotts(4.0).edge_weights(image), unary_potentials(logits)
    result = AlphaExpansion(GridPotts(4.0)).solve(logits, image)
    argmax = logits.argmax(1)
    assert (result.energy < 0.9 * (potts_energy(argmax, weights) + unary_energy(argmax, unary))).all()
    assert (result.labels.flatten(1).amin(1) < result.labels.flatten(1).amax(1)).all()


def test_without_edges_the_labels_are_the_argmax():
    logits, image = batch()
    result = AlphaExpansion(GridPotts(0.0), start="zeros").solve(logits * 1e-5, image)
    assert torch.equal(result.labels.long(), logits.argmax(1))


@pytest.mark.parametrize("threads", [2, 3, 16])
def test_threads_do_not_change_the_result(threads):
    logits, image = batch(images=7)
    one = AlphaExpansion(GridPotts(4.0), num_threads=1).solve(logits, image)
    same(one, AlphaExpansion(GridPotts(4.0), num_threads=threads).solve(logits, image))


def test_images_of_a_batch_do_not_touch_each_other():
    logits, image = batch(images=3)
    label_set = torch.tensor([[True, False, True, False], [True] * 4, [False, False, False, True]])
    together = AlphaExpansion(GridPotts(4.0)).solve(logits, image, label_set=label_set)
    for b in range(3):
        one = slice(b, b + 1)
        alone = AlphaExpansion(GridPotts(4.0)).solve(logits[one], image[one], label_set=label_set[one])
        assert torch.equal(alone.labels, together.labels[one])


def test_seeds_on_padding_do_not_count():
    logits, image = batch()
    valid = torch.ones(3, 20, 24, dtype=torch.bool)
    valid[:, :, 20:] = False
    seeds = torch.where(valid, 255, 2)
    only_background = torch.tensor([True, False, False, False]).repeat(3, 1)
    result = AlphaExpansion().solve(logits, image, seeds=seeds, label_set=only_background, valid=valid)
    assert torch.equal(result.labels, torch.where(valid, 0, 255).byte())
    assert result.converged.all()
    torch.testing.assert_close(result.lower_bound, result.energy, rtol=0, atol=0)


def test_all_padding():
    logits, image = batch()
    valid = torch.zeros(3, 20, 24, dtype=torch.bool)
    result = AlphaExpansion().solve(logits, image, valid=valid)
    assert (result.labels == 255).all()
    assert result.energy.tolist() == [0.0] * 3
    assert result.converged.all()


@pytest.mark.parametrize("classes", [2, 3])
def test_ties_keep_the_start(classes):
    image = torch.zeros(1, 3, 5, 6)
    logits = torch.zeros(1, classes, 5, 6)
    start = torch.full((1, 5, 6), classes - 1)
    given = AlphaExpansion(GridPotts(2.0), start="initial").solve(logits, image, initial=start)
    expected = 0 if classes == 2 else classes - 1  # two labels: the cut does not look at the start
    assert (given.labels == expected).all()
    assert (AlphaExpansion(GridPotts(2.0)).solve(logits, image).labels == 0).all()


def test_starts():
    logits, image = batch(classes=5, sharpness=1.0)
    potts = GridPotts(1.5)
    argmin, zeros = (AlphaExpansion(potts, max_sweeps=1, start=s).solve(logits, image) for s in ("argmin", "zeros"))
    given = AlphaExpansion(potts, max_sweeps=1, start="initial")
    same(given.solve(logits, image, initial=torch.zeros(3, 20, 24, dtype=torch.uint8)), zeros)
    same(given.solve(logits, image, initial=torch.full((3, 20, 24), 255)), argmin)
    same(given.solve(logits, image, initial=logits.argmax(1)), argmin)
    for start in ("coarse", "argmin", "zeros"):  # what is given goes before
        solver = AlphaExpansion(potts, max_sweeps=1, start=start)
        same(solver.solve(logits, image, initial=torch.zeros(3, 20, 24, dtype=torch.uint8)), zeros)
    assert not torch.equal(argmin.labels, zeros.labels)


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("size", [(9, 10), (8, 13), (12, 5)])
def test_the_coarse_start_is_the_best_labeling_of_blocks(connectivity, size):
    """Two labels, so that blocks are solved exactly: no other labeling that is constant on 4 x 4 blocks costs less."""
    height, width = size
    generator = torch.Generator().manual_seed(height * connectivity)
    logits, image = 0.5 * torch.randn(1, 2, *size, generator=generator), torch.rand(1, 3, *size, generator=generator)
    logits[:, 0, : height // 2] += 1.0
    logits[:, 1, height // 2 :] += 1.0
    valid = torch.ones(1, *size, dtype=torch.bool)
    valid[:, :2, -3:] = False
    potts = GridPotts(0.1, connectivity=connectivity)
    solver = AlphaExpansion(potts, start="coarse")
    object.__setattr__(solver, "max_sweeps", 0)  # the start itself
    start = solver.solve(logits, image, valid=valid)
    rows, columns = -(-height // 4), -(-width // 4)
    every = torch.tensor(list(itertools.product((0, 1), repeat=rows * columns))).view(-1, rows, columns)
    every = every.repeat_interleave(4, 1)[:, :height].repeat_interleave(4, 2)[:, :, :width]
    unary, edges = unary_potentials(logits)[0], potts.edge_weights(image, valid)
    energies = torch.where(valid, torch.where(every == 1, unary[1], unary[0]), 0).sum((1, 2))
    energies += potts_energy(every, edges.expand(len(every), -1, -1, -1))
    best = every[energies.argmin()]
    assert torch.equal(start.labels[0].long(), torch.where(valid[0], best, 255))
    assert 0 < best.float().mean() < 1


def test_the_coarse_start_keeps_seeds_and_ends_as_low_as_others():
    logits, image = batch(classes=5, sharpness=1.0)
    seeds = torch.full((3, 20, 24), 255)
    seeds[:, 3, 4:9], seeds[:, 4, 4:9] = 1, 2  # two labels in one block
    coarse, argmin, zeros = (
        AlphaExpansion(GridPotts(1.5), max_sweeps=50, start=start).solve(logits, image, seeds=seeds)
        for start in ("coarse", "argmin", "zeros")
    )
    assert torch.equal(coarse.labels[seeds != 255].long(), seeds[seeds != 255])
    assert coarse.converged.all()
    assert (coarse.energy <= 1.01 * torch.minimum(argmin.energy, zeros.energy)).all()


def test_start_labels_that_are_not_allowed_give_way_to_argmin():
    logits, image = batch()
    label_set = torch.tensor([False, True, True, True]).repeat(3, 1)
    zeros = AlphaExpansion(GridPotts(4.0), start="zeros").solve(logits, image, label_set=label_set)
    same(zeros, AlphaExpansion(GridPotts(4.0)).solve(logits, image, label_set=label_set))
    assert (zeros.labels > 0).all()


def test_a_converged_labeling_is_a_fixed_point():
    logits, image = batch(classes=5)
    first = AlphaExpansion(GridPotts(4.0), max_sweeps=50).solve(logits, image)
    assert first.converged.all()
    again = AlphaExpansion(GridPotts(4.0), start="initial", max_sweeps=1).solve(logits, image, initial=first.labels)
    same(first, again)
    assert again.converged.all()
    assert again.sweeps.tolist() == [1, 1, 1]


def test_sweeps_are_limited_and_lower_the_energy():
    logits, image = batch(classes=8, size=(40, 40), sharpness=1.0)
    results = [AlphaExpansion(GridPotts(2.0), max_sweeps=n).solve(logits, image) for n in (1, 2, 20)]
    assert not results[0].converged.any()
    assert results[0].sweeps.tolist() == [1, 1, 1]
    assert results[2].converged.all()
    for worse, better in itertools.pairwise(results):
        assert (better.energy <= worse.energy).all()


@pytest.mark.parametrize("exponents", list(itertools.product((-6, 0, 6), repeat=2)))
@pytest.mark.parametrize("classes", [2, 4])
def test_magnitudes(exponents, classes):
    """Scaling all terms alike changes no labeling; extreme ratios leave argmin or one label."""
    logit_scale, weight = (10.0**e for e in exponents)
    logits, image = batch(classes=classes, size=(15, 16))
    result = AlphaExpansion(GridPotts(weight), max_sweeps=20).solve(logits * logit_scale, image)
    assert result.converged.all()
    assert result.energy.isfinite().all()
    if logit_scale / weight >= 1e6:
        assert torch.equal(result.labels.long(), (logits * logit_scale).argmax(1))
    if weight / logit_scale >= 1e6:
        assert (result.pairwise == 0).all()
    scaled = AlphaExpansion(GridPotts(weight * 2.0**9), 2.0**9, max_sweeps=20).solve(logits * logit_scale, image)
    assert torch.equal(scaled.labels, result.labels)


def test_half_precision_and_strided_logits():
    logits, image = batch()
    half = AlphaExpansion(GridPotts(4.0)).solve(logits.half(), image)
    same(half, AlphaExpansion(GridPotts(4.0)).solve(logits.half().float(), image))
    last = logits.to(memory_format=torch.channels_last)
    same(AlphaExpansion(GridPotts(4.0)).solve(last, image), AlphaExpansion(GridPotts(4.0)).solve(logits, image))


def test_no_gradient_is_recorded():
    logits, image = batch()
    result = AlphaExpansion(GridPotts(4.0)).solve(logits.requires_grad_(), image)
    assert not result.energy.requires_grad
    with torch.inference_mode():
        same(AlphaExpansion(GridPotts(4.0)).solve(logits, image), result)


def test_other_python_threads_run_during_a_solve(monkeypatch):
    ticks, span, done = [], [], threading.Event()
    expand = _core.expand

    def watched(*arguments):
        began = time.perf_counter()
        answer = expand(*arguments)
        span.extend([began, time.perf_counter()])
        return answer

    def tick():
        while not done.wait(0.001):
            ticks.append(time.perf_counter())

    monkeypatch.setattr(alpha_expansion._core, "expand", watched)
    logits, image = batch(size=(200, 200), classes=6, images=3, sharpness=1.0)
    other = threading.Thread(target=tick)
    other.start()
    try:
        AlphaExpansion(GridPotts(20.0), num_threads=1).solve(logits, image)
    finally:
        done.set()
        other.join()
    # The interpreter may change threads just before and just after the call: what counts is the middle.
    quarter = (span[1] - span[0]) / 4
    assert quarter > 0.01
    assert any(span[0] + quarter < t < span[1] - quarter for t in ticks)


def test_real_photograph(shared):
    """Noisy scores of a mask on a photograph: the cut cleans them up, and gets its edges from the picture."""
    voc = shared / "data" / "VOCdevkit" / "VOC2012"
    name = sorted((voc / "SegmentationClass").glob("*.png"))[0].stem
    image = torch.from_numpy(np.array(Image.open(voc / "JPEGImages" / f"{name}.jpg").convert("RGB"))).permute(2, 0, 1)
    truth = torch.from_numpy(np.array(Image.open(voc / "SegmentationClass" / f"{name}.png"))).long()
    known = truth != 255
    scores = torch.nn.functional.one_hot(torch.where(known, truth, 0), 21).permute(2, 0, 1)[None].float()
    scores += torch.randn(scores.shape, generator=torch.Generator().manual_seed(0)) * 1.5
    result = AlphaExpansion(GridPotts(10.0)).solve(scores, image[None].float() / 255)
    cut, argmax = (
        float((labels[0][known] == truth[known]).float().mean()) for labels in (result.labels, scores.argmax(1))
    )
    assert argmax < 0.5
    assert cut > 0.9


@pytest.mark.parametrize("start", ["coarse", "argmin"])
@pytest.mark.parametrize("classes", [2, 3, 6])  # more of them would be best on equally many of the largest blocks
def test_the_numbering_of_the_labels_does_not_matter(classes, start):
    generator = torch.Generator().manual_seed(classes)
    coarse = torch.randn(6, classes, 5, 6, generator=generator)
    logits = 3 * torch.nn.functional.interpolate(coarse, size=(40, 48), mode="bilinear")
    image = torch.rand(6, 3, 40, 48, generator=generator)
    seeds = torch.full((6, 40, 48), 255)
    seeds[:3, 3:6, 4:30], seeds[:3, 30:33, 9:20] = 1, classes - 1
    order = torch.randperm(classes, generator=generator)
    number = torch.cat([order.argsort(), torch.full((256 - classes,), 255)])
    solver = AlphaExpansion(GridPotts(5.0), start=start)
    result = solver.solve(logits, image, seeds=seeds)
    permuted = solver.solve(logits[:, order], image, seeds=number[seeds])
    assert torch.equal(order[permuted.labels.long()].byte(), result.labels)
    torch.testing.assert_close(permuted.energy, result.energy, rtol=1e-6, atol=0)
    assert torch.equal(permuted.sweeps, result.sweeps)


def test_labels_that_are_best_on_more_pixels_move_first():
    """A tie between two moves of which only one can be made: the one of the label with the larger area is."""
    costs = torch.tensor([[[0.0, 4.0, 0.0]], [[4.0, 3.0, 4.0]], [[4.0, 3.0, 4.0]]])  # the middle wants 1 or 2, alike
    costs = torch.cat([costs, torch.full((3, 1, 3), 4.0)], 2)
    costs[2, 0, 3:] = 0.0  # label 2 is best on three more pixels, which the middle does not touch
    costs[0, 0, 3] = 0.0
    logits, image = -costs[None], torch.zeros(1, 3, 1, 6)
    start = torch.tensor([[[0, 0, 0, 0, 2, 2]]])
    for swap, expected in ((False, 2), (True, 1)):
        given = logits[:, [0, 2, 1]] if swap else logits
        initial = torch.where((start > 0) & swap, 3 - start, start)
        result = AlphaExpansion(GridPotts(0.1), start="initial").solve(given, image, initial=initial)
        assert result.labels[0, 0, 1] == expected
