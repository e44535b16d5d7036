"""Solvers, refinements, losses and metrics on an accelerator give what they give on the CPU."""

from functools import partial

import pytest
import torch

from weakseg_lightning.constraints import Suppression, preset
from weakseg_lightning.constraints.base import compile_constraints
from weakseg_lightning.constraints.linear import ImageFacts
from weakseg_lightning.devices import to_host
from weakseg_lightning.energies import GridPotts, VolumePotts
from weakseg_lightning.energies.lattice import Lattice, bilateral_features
from weakseg_lightning.losses import (
    DenseCRFLoss,
    EntropyLoss,
    GatedCRFLoss,
    GridPottsLoss,
    MumfordShahLoss,
    RobustCrossEntropy,
    TotalVariationLoss,
    collision_cross_entropy,
    latent_cross_entropy,
    mil_loss,
    partial_cross_entropy,
)
from weakseg_lightning.metrics import MeanGridEnergy, SegmentationScores, TagScores, TrimapScores
from weakseg_lightning.solvers import (
    AdaptiveBias,
    AlphaExpansion,
    ConstrainedLatent,
    GrabCut,
    MeanField,
    SoftPotts,
    VolumeExpansion,
)

pytestmark = pytest.mark.gpu
CLASSES = 4
NOT_NUMBERS = {"labels", "message", "solve_seconds", "transfer_seconds"}


def some_batch():
    """Noise with a few seeds, padding on the right, and a label that each image may not use."""
    torch.manual_seed(0)
    seeds = torch.full((2, 20, 24), 255)
    seeds[:, 3:6, 4], seeds[:, 12:15, 9] = 0, 2
    valid = torch.ones(2, 20, 24, dtype=torch.bool)
    valid[1, :, 20:] = False
    allowed = torch.tensor([[True, True, True, False], [True, False, True, True]])
    logits, image = torch.randn(2, CLASSES, 20, 24), torch.rand(2, 3, 20, 24)
    return {"logits": logits, "image": image, "seeds": seeds, "valid": valid, "allowed": allowed}


def moved(batch, device):
    return {name: value.to(device) for name, value in batch.items()}


def found_by(solver, batch):
    return solver.solve(
        batch["logits"], batch["image"], seeds=batch["seeds"], label_set=batch["allowed"], valid=batch["valid"]
    )


def numbers(result):
    return {name: value for name, value in vars(result).items() if name not in NOT_NUMBERS}


def test_tensors_of_all_types_come_to_the_cpu_together(device, same):
    given = [
        torch.rand(3, 5) > 0.5,
        torch.tensor(0.1, dtype=torch.float64),
        torch.arange(3, dtype=torch.uint8),
        torch.rand(2, 4, 3).transpose(1, 2),
        torch.zeros(0, 7),
        torch.arange(5),
        torch.rand(3).half(),
    ]
    found = to_host(*(each.to(device) for each in given), torch.tensor([4]))
    assert {each.device.type for each in found} == {"cpu"}
    same([*given, torch.tensor([4])], found)


# ---- solvers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "solver",
    [
        AlphaExpansion(GridPotts(20.0)),
        AlphaExpansion(GridPotts(20.0, connectivity=4, normalize_edges=True), start="zeros"),
        MeanField(),
        GrabCut(AlphaExpansion(GridPotts(20.0)), max_rounds=2),
        SoftPotts(GridPotts(5.0), max_sweeps=4),
    ],
    ids=lambda solver: type(solver).__name__,
)
def test_a_solver_finds_the_same_and_leaves_it_on_the_device(solver, device, same):
    batch = some_batch()
    expected, found = found_by(solver, batch), found_by(solver, moved(batch, device))
    assert found.latent.device == device
    assert found.labels.device == device
    assert found.message == expected.message
    alike = (expected.labels == found.labels.cpu()).double().mean()
    assert alike == 1 if device.type == "sim" else alike > 0.99
    same(numbers(expected), numbers(found), rounds=True)


def test_a_descent_that_is_not_convex_ends_as_low(device):
    batch, solver = some_batch(), SoftPotts(GridPotts(5.0), "collision_divergence", max_sweeps=4)
    expected, found = found_by(solver, batch), found_by(solver, moved(batch, device))
    assert found.latent.device == device
    assert torch.equal(found.evaluations, expected.evaluations)
    torch.testing.assert_close(found.energy, expected.energy, rtol=1e-4, atol=0)


def test_a_volume_is_labeled_where_its_scores_are(device, same):
    batch, solver = some_batch(), VolumeExpansion(VolumePotts(GridPotts(5.0)))
    names = ("logits", "image", "seeds", "valid")
    there = moved({name: batch[name] for name in names}, device)
    spacing, label_set = (3.0, 1.0, 1.0), batch["allowed"].any(0)
    expected = solver.solve(**{name: batch[name] for name in names}, spacing=spacing, label_set=label_set)
    found = solver.solve(**there, spacing=spacing, label_set=label_set.to(device))
    assert found.labels.device == device
    assert (expected.labels == found.labels.cpu()).double().mean() > (0.99 if device.type != "sim" else 1 - 1e-9)
    same(numbers(expected), numbers(found), rounds=True)


@pytest.mark.parametrize(
    "solver",
    [AlphaExpansion(GridPotts(20.0)), MeanField(), GrabCut(AlphaExpansion(GridPotts(20.0)), max_rounds=2)],
    ids=lambda solver: type(solver).__name__,
)
def test_a_label_set_may_stay_on_the_cpu_even_where_seeds_have_other_labels(solver, device, same):
    batch = some_batch()
    batch["seeds"][0, 8, 2:5] = 3  # not in the set of this image
    assert solver.label_set_on_host
    expected, found = found_by(solver, batch), found_by(solver, moved(batch, device) | {"allowed": batch["allowed"]})
    assert (expected.labels[0] == 3).any()
    assert found.labels.device == device
    assert (expected.labels == found.labels.cpu()).double().mean() > (0.99 if device.type != "sim" else 1 - 1e-9)
    same(numbers(expected), numbers(found), rounds=True)


@pytest.mark.parametrize("without", ["seeds", "valid"])
def test_a_label_set_may_stay_on_the_cpu_without_seeds_or_padding(without, device, same):
    batch, solver = some_batch(), AlphaExpansion(GridPotts(20.0))
    here = batch | {without: None}
    there = moved({name: batch[name] for name in batch if name != without}, device) | {without: None}
    expected, found = found_by(solver, here), found_by(solver, there | {"allowed": batch["allowed"]})
    assert (expected.labels == found.labels.cpu()).double().mean() > (0.99 if device.type != "sim" else 1 - 1e-9)
    initial = torch.zeros_like(batch["seeds"])
    given = {"label_set": batch["allowed"], "initial": initial.to(device)}
    again = solver.solve(there["logits"], there["image"], **given).labels
    here = solver.solve(batch["logits"], batch["image"], **(given | {"initial": initial})).labels
    assert (here == again.cpu()).double().mean() > 0.99


def test_wrong_seeds_are_found_beside_a_label_set_on_the_cpu(device):
    batch = some_batch()
    for wrong, x in ((77, 3), (300, 3), (-1, 3), (254, 3), (77, 22)):  # the last on padding
        seeds = batch["seeds"].clone()
        seeds[1, 2, x] = wrong
        given = moved(batch | {"seeds": seeds}, device) | {"allowed": batch["allowed"]}
        with pytest.raises(ValueError, match=rf"`seeds` must hold classes 0..3 or 255, got {wrong}"):
            found_by(AlphaExpansion(), given)
    with pytest.raises(ValueError, match=r"images \[0, 1\] of the batch have none"):
        found_by(AlphaExpansion(), moved(batch, device) | {"allowed": torch.zeros_like(batch["allowed"])})


@pytest.mark.parametrize("solver", [AdaptiveBias(), ConstrainedLatent()], ids=lambda solver: type(solver).__name__)
def test_a_distribution_fulfils_the_same_constraints(solver, device, same):
    rules = [Suppression()] if isinstance(solver, AdaptiveBias) else preset("tags")

    def solve(batch):
        names = ["background", "cat", "dog", "hen"]
        facts = ImageFacts(["a", "b"], names, batch["allowed"], batch["valid"], None, None, {})
        return solver.solve(batch["logits"], compile_constraints(rules, facts), valid=batch["valid"])

    batch = some_batch()
    expected, found = solve(batch), solve(moved(batch, device))
    assert found.probabilities.device == device
    same(expected.probabilities, found.probabilities, rounds=True)


@pytest.mark.parametrize("name", ["seeds", "initial"])
def test_wrong_labels_are_found_on_the_device_too(name, device):
    batch = moved(some_batch(), device)
    labels = batch["seeds"].clone()
    labels[1, 2, 3] = 77
    with pytest.raises(ValueError, match=rf"`{name}` must hold classes 0..3 or 255, got 77"):
        AlphaExpansion().solve(batch["logits"], batch["image"], **{name: labels})


def test_an_image_without_labels_is_found_on_the_device_too(device):
    batch = moved(some_batch(), device)
    with pytest.raises(ValueError, match=r"images \[0, 1\] of the batch have none"):
        AlphaExpansion().solve(batch["logits"], batch["image"], label_set=torch.zeros_like(batch["allowed"]))


def test_the_bound_of_a_labeling_is_the_same(device, same):
    solver, batch = AlphaExpansion(GridPotts(5.0)), some_batch()

    def bound(given):
        result = solver.solve(given["logits"], given["image"])
        return solver.bound_optimality_gap(result, given["logits"], given["image"], max_iterations=20).lower_bound

    same(bound(batch), bound(moved(batch, device)), rounds=True)


def test_a_refinement_gives_the_same_probabilities(device, same):
    batch = some_batch()
    refined = [
        MeanField().refine(given["logits"], given["image"], given["valid"]) for given in (batch, moved(batch, device))
    ]
    assert refined[1].device == device
    same(*refined, rounds=True)


@pytest.mark.parametrize("blur", ["forward", "adjoint", "mean"])
def test_a_lattice_filters_as_on_the_cpu(blur, device, same):
    image, values = torch.rand(2, 3, 33, 47), torch.randn(2, 21, 33, 47)
    lattice = Lattice.build(bilateral_features(image, sigma_rgb=15.0, sigma_xy=20.0))
    found = lattice.to(device).filter(values.to(device), blur)
    assert found.device == device
    same(lattice.filter(values, blur), found, rounds=True)


# ---- losses ------------------------------------------------------------------------------------------------------


def _regularized(loss, batch, logits):
    return loss(logits, batch["image"], batch["valid"])


LOSSES = {
    "partial": lambda batch, logits: partial_cross_entropy(logits, batch["seeds"]),
    "latent": lambda batch, logits: latent_cross_entropy(logits, batch["seeds"].byte(), batch["valid"]),
    "collision": lambda batch, logits: collision_cross_entropy(logits, batch["logits"].softmax(1), batch["valid"]),
    "mil": lambda batch, logits: mil_loss(logits, batch["allowed"], batch["valid"]),
    "robust": lambda batch, logits: RobustCrossEntropy(0.2, num_classes=CLASSES)(logits, batch["seeds"]),
} | {
    type(loss).__name__: partial(_regularized, loss)
    for loss in (
        GridPottsLoss(),
        DenseCRFLoss(),
        GatedCRFLoss(downscale=2),
        EntropyLoss(),
        TotalVariationLoss(),
        MumfordShahLoss(),
    )
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_and_its_gradient_are_the_same(name, device, same):
    def computed(batch):
        logits = batch["logits"].clone().requires_grad_()
        value = LOSSES[name](batch, logits)
        value.backward()
        return value, logits.grad

    batch = some_batch()
    found = computed(moved(batch, device))
    assert {each.device for each in found} == {device}
    same(computed(batch), found, rounds=True)


# ---- metrics -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "names"),
    [
        (lambda: SegmentationScores(CLASSES), ("labels", "target")),
        (lambda: TrimapScores(CLASSES, "boundary", 5), ("labels", "target")),
        (lambda: TrimapScores(CLASSES, "void", 5), ("labels", "target")),
        (lambda: MeanGridEnergy(GridPotts(5.0)), ("labels", "image", "valid")),
        (lambda: TagScores(CLASSES), ("labels", "tags", "valid")),
    ],
)
def test_a_metric_counts_the_same(metric, names, device, same):
    batch = some_batch()
    batch |= {"labels": batch["logits"].argmax(1), "target": torch.where(batch["valid"], batch["image"].argmax(1), 255)}
    batch["tags"] = batch["allowed"]

    def counted(given, where):
        counts = metric().to(where)
        for _ in range(2):
            counts.update(*(given[name] for name in names))
        return counts.compute()

    same(counted(batch, "cpu"), counted(moved(batch, device), device), rounds=True)
