"""Mean field, against pydensecrf and against a dense one on the explicit matrix of the lattice."""

import sys
from importlib.util import find_spec

import pytest
import torch
from scenes import photograph, several, stripes
from torch import Tensor

from weakseg_lightning.energies.lattice import Lattice, bilateral_features, spatial_features
from weakseg_lightning.hyperparameters import describe
from weakseg_lightning.solvers import MeanField, PyDenseCRF, Solver

needs_pydensecrf = pytest.mark.skipif(find_spec("pydensecrf") is None, reason="pydensecrf2 is missing (extra `crf`)")
PARAMETERS = [(6, 6, 50, 4, 5), (19, 15, 61, 10, 35), (3, 3, 80, 13, 10), (1, 3, 67, 3, 4), (3, 0, 100, 15, 10)]
SMALL = (2.0, 3.0, 8.0, 20.0, 4.0)


def coupling(crf: MeanField, image: Tensor) -> Tensor:
    """The weights k of all pairs of pixels of an image, the pixel itself included, float64 ``(N, N)``."""
    height, width = image.shape[2:]
    units = torch.eye(height * width, dtype=torch.float64).view(1, -1, height, width)
    total = torch.zeros(height * width, height * width, dtype=torch.float64)
    for weight, features in (
        (crf.spatial_weight, spatial_features(1, height, width, crf.spatial_sigma)),
        (crf.bilateral_weight, bilateral_features(image, crf.bilateral_sigma_rgb, crf.bilateral_sigma_xy)),
    ):
        kernel = Lattice.build(features).filter(units)[0].flatten(1).T
        sums = kernel.sum(1)
        before = {"symmetric": sums.rsqrt(), "before": 1 / sums}.get(crf.normalization, torch.ones_like(sums))
        after = {"symmetric": sums.rsqrt(), "after": 1 / sums}.get(crf.normalization, torch.ones_like(sums))
        total += weight * after[:, None] * kernel * before
    return total


def dense(crf: MeanField, logits: Tensor, image: Tensor, fixed: Tensor, allowed: Tensor, start: Tensor) -> Tensor:
    """Mean field step by step in double precision: fixed and initial labels ``(N,)``, 255 = none, to ``(N, K)``."""
    pairwise = coupling(crf, image)
    scores = logits[0].flatten(1).T.double().log_softmax(1).masked_fill(~allowed, -torch.inf)
    one_hot = torch.eye(256, dtype=torch.float64)[:, : logits.shape[1]]

    def clamp(found: Tensor, labels: Tensor) -> Tensor:
        return torch.where((labels != 255)[:, None], one_hot[labels], found)

    found = clamp(clamp(scores.softmax(1), start), fixed)
    for _ in range(crf.iterations):
        found = clamp((pairwise @ found + scores).softmax(1), fixed)
    return found


# ---- refinement -----------------------------------------------------------------------------------------------------


@needs_pydensecrf
@pytest.mark.parametrize("parameters", PARAMETERS)
def test_on_photographs_it_is_pydensecrf(shared, parameters):
    for index in range(2):
        logits, image, _ = photograph(shared, index)
        expected = PyDenseCRF(*parameters).refine(logits, image)
        torch.testing.assert_close(MeanField(*parameters).refine(logits, image), expected, atol=1e-3, rtol=0)


@needs_pydensecrf
@pytest.mark.parametrize("normalization", ["symmetric", "before", "after", "none"])
@pytest.mark.parametrize("classes", [1, 2, 9, 40])
def test_whatever_the_normalization_and_classes_it_is_pydensecrf(normalization, classes):
    logits, image = stripes(0, 15, 17, classes)
    parameters = (2.0, 0.3, 8.0, 20.0, 0.4, 5, normalization)
    expected = PyDenseCRF(*parameters).refine(logits, image)
    torch.testing.assert_close(MeanField(*parameters).refine(logits, image), expected, atol=1e-4, rtol=0)


def dark(seed: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Random scores of three classes, and dark noise, whose colors are near black."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(1, 3, height, width, generator=generator)
    return logits, 0.06 * torch.rand(1, 3, height, width, generator=generator)


def beside_far_pixels(crf: PyDenseCRF, logits: Tensor, image: Tensor, count: int) -> Tensor:
    """Refine an image together with `count` pixels that are so far away that no kernel reaches them."""
    height, width = image.shape[2:]
    wide, shown = torch.zeros(2, 1, 3, height, 150)
    wide[..., :width], shown[..., :width] = logits, image
    valid = torch.zeros(1, height, 150, dtype=torch.bool)
    valid[..., :width] = True
    valid[0, 0, 150 - count :] = True
    return crf.refine(wide, shown, valid)[..., :width]


@needs_pydensecrf
@pytest.mark.parametrize(("height", "width"), [(6, 6), (5, 7), (6, 7), (3, 3)])
def test_it_is_pydensecrf_where_the_pixels_fill_blocks_of_four(height, width):
    """Pydensecrf fills the last block with black pixels at the origin: more vertices in its lattice, if near others."""
    parameters, missing, off = (0.5, 3, 2, 8, 10), -height * width % 4, 0.0
    for seed in range(20):
        logits, image = dark(seed, height, width)
        found = MeanField(*parameters).refine(logits, image)
        filled = beside_far_pixels(PyDenseCRF(*parameters), logits, image, missing)
        torch.testing.assert_close(found, filled, atol=1e-3, rtol=0)
        off = max(off, (PyDenseCRF(*parameters).refine(logits, image) - found).abs().max().item())
    assert off > 0.3 if missing else off < 1e-3


@pytest.mark.parametrize("normalization", ["symmetric", "before", "after"])
@pytest.mark.parametrize("iterations", [0, 1, 7])
def test_it_is_mean_field_on_the_operator_of_the_lattice(normalization, iterations):
    crf = MeanField(*SMALL, iterations=iterations, normalization=normalization)
    logits, image = stripes(1)
    none, everything = torch.full((143,), 255), torch.ones(4, dtype=torch.bool)
    expected = dense(crf, logits, image, none, everything, none).T.reshape(1, 4, 11, 13)
    torch.testing.assert_close(crf.refine(logits, image).double(), expected, atol=1e-4, rtol=0)


def test_threads_and_company_do_not_change_a_bit():
    logits, image = several(0, 1, 2, 3, 4)
    together = MeanField(*SMALL, num_threads=1).refine(logits, image)
    assert torch.equal(together, MeanField(*SMALL, num_threads=4).refine(logits, image))
    for b in range(5):
        assert torch.equal(together[b, None], MeanField(*SMALL).refine(logits[b, None], image[b, None]))


def test_it_takes_extreme_scores():
    logits, image = stripes(3)
    extreme = MeanField(*SMALL).refine(logits * 1e4, image)
    torch.testing.assert_close(extreme.sum(1), torch.ones(1, 11, 13))
    assert torch.equal(extreme.argmax(1), logits.argmax(1))


# ---- latent labelings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_labelings_respect_seeds_label_sets_and_starts(seed):
    crf = MeanField(*SMALL, iterations=3)
    logits, image = stripes(seed)
    generator = torch.Generator().manual_seed(seed)
    seeds = torch.full((1, 11, 13), 255)
    seeds[0, 2:4, 3:9] = 3  # not in the label set: seeds bring theirs
    start = torch.randint(0, 3, (1, 11, 13), generator=generator)
    start[0, :5] = 255
    label_set = torch.tensor([[True, False, True, False]])
    allowed = torch.tensor([True, False, True, True])
    usable = torch.where(allowed[start.clamp(max=3)], start, 255)
    found = crf.solve(logits, image, seeds=seeds, label_set=label_set, initial=start)
    expected = dense(crf, logits, image, seeds.flatten(), allowed, usable.flatten())
    assert torch.equal(found.labels.flatten().long(), expected.argmax(1))
    assert (found.labels[0, 2:4, 3:9] == 3).all()
    assert found.message == ("",)
    assert found.sweeps.tolist() == [3]
    assert found.lower_bound.isnan().all()


@pytest.mark.parametrize("normalization", ["symmetric", "before"])
def test_the_energy_is_that_of_the_labeling(normalization):
    crf = MeanField(*SMALL, normalization=normalization)
    logits, image = stripes(5)
    found = crf.solve(logits, image)
    labels = found.labels.flatten().long()
    unary = -logits[0].flatten(1).T.double().log_softmax(1).gather(1, labels[:, None]).sum()
    pairwise = (coupling(crf, image) * (labels[:, None] != labels)).sum() / 2
    assert found.unary.item() == pytest.approx(unary.item(), rel=1e-5)
    assert found.pairwise.item() == pytest.approx(pairwise.item(), rel=1e-4)
    assert found.pairwise.item() > 0


def test_without_restrictions_the_labels_are_the_most_probable_ones_of_the_refinement():
    logits, image = several(0, 1)
    assert torch.equal(MeanField().solve(logits, image).labels, MeanField().refine(logits, image).argmax(1).byte())


def test_it_has_converged_where_the_last_iteration_changed_nothing():
    logits, image = stripes(0, 40, 40)
    labels = [MeanField(*SMALL, iterations=n).solve(logits, image) for n in (1, 2, 100)]
    assert not torch.equal(labels[0].labels, labels[1].labels)
    assert [bool(found.converged) for found in labels] == [False, False, True]
    assert not MeanField(iterations=0).solve(logits, image).converged.any()


def test_images_of_a_batch_have_label_sets_of_their_own():
    logits, image = several(0, 1, 2)
    label_set = torch.tensor([[True, True, True, True], [True, False, False, False], [False, True, False, True]])
    found = MeanField(*SMALL).solve(logits, image, label_set=label_set)
    for b in range(3):
        alone = MeanField(*SMALL).solve(logits[b, None], image[b, None], label_set=label_set[b, None])
        assert torch.equal(found.labels[b], alone.labels[0])
        torch.testing.assert_close(found.energy[b], alone.energy[0])
    assert found.labels[1].unique().tolist() == [0]
    assert set(found.labels[2].unique().tolist()) == {1, 3}
    assert found.pairwise[1] == 0


@pytest.mark.parametrize(("broken", "value"), [("logits", torch.nan), ("image", torch.inf), ("image", 1e5)])
def test_an_image_that_fails_says_why_and_leaves_the_others_alone(broken, value):
    logits, image = several(0, 1, 2)
    alone = MeanField(*SMALL).solve(logits, image)
    {"logits": logits, "image": image}[broken][1, 0, 3, 4] = value
    found = MeanField(*SMALL).solve(logits, image)
    assert found.message[::2] == ("", "")
    assert found.message[1].startswith(f"`{broken}`")
    assert (found.labels[1] == 255).all()
    assert found.energy[1].isnan()
    assert found.converged[1].item() is False
    assert torch.equal(found.labels[::2], alone.labels[::2])
    valid = torch.ones(3, 11, 13, dtype=torch.bool)
    valid[1, 3, 4] = False
    assert MeanField(*SMALL).solve(logits, image, valid=valid).message == ("", "", "")


def test_padding_is_void_and_costs_nothing():
    logits, image = stripes(2)
    alone = MeanField(*SMALL).solve(logits, image)
    wide, shown = torch.zeros(1, 4, 16, 20), torch.zeros(1, 3, 16, 20)
    wide[..., :11, :13], shown[..., :11, :13] = logits, image
    valid = torch.zeros(1, 16, 20, dtype=torch.bool)
    valid[:, :11, :13] = True
    found = MeanField(*SMALL).solve(wide, shown, valid=valid)
    assert torch.equal(found.labels[:, :11, :13], alone.labels)
    assert (found.labels[~valid] == 255).all()
    torch.testing.assert_close(found.unary, alone.unary)
    torch.testing.assert_close(found.pairwise, alone.pairwise)
    assert MeanField().solve(torch.zeros(0, 4, 5, 5), torch.zeros(0, 3, 5, 5)).labels.shape == (0, 5, 5)


# ---- arguments and memory -------------------------------------------------------------------------------------------


def test_it_is_a_solver_with_a_number_of_threads():
    assert isinstance(MeanField(), Solver)
    assert describe(MeanField(num_threads=2))["init_args"]["num_threads"] == 2
    with pytest.raises(ValueError, match="`num_threads` must be at least 1, got 0; or None to choose"):
        MeanField(num_threads=0)


@pytest.mark.skipif(sys.platform != "linux", reason="kilobytes of memory are counted on Linux alone")
def test_memory_does_not_grow_over_a_thousand_calls():
    logits, image = stripes(0, 40, 40)

    resource = pytest.importorskip("resource")

    def call(times: int) -> int:
        for _ in range(times):
            MeanField(*SMALL, iterations=1).refine(logits, image)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = call(20)
    assert call(1000) - before < 20_000
