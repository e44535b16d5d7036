from itertools import pairwise

import pytest
import torch

from weakseg_lightning import ADMModule, GridPotts, SoftLabelModule, SoftPotts
from weakseg_lightning.losses import link_loss, partial_cross_entropy


@pytest.fixture
def batch():
    seeds = torch.full((2, 6, 6), 255)
    seeds[0, 0, 0], seeds[0, 5, 5], seeds[1, 2, 2] = 0, 2, 0
    sets = torch.tensor([[True, False, True, False], [True, False, False, False]])
    valid = torch.ones(2, 6, 6, dtype=torch.bool)
    valid[1, 4:] = False
    return {"image": torch.rand(2, 3, 6, 6), "seeds": seeds, "valid": valid, "seed_labels": sets, "tags": sets}


def test_the_soft_labels_keep_seeds_labels_and_padding(batch, tiny_network):
    module = SoftLabelModule(tiny_network, 4)
    found = module.solve_latent(torch.randn(2, 4, 6, 6), batch)
    seeded = batch["seeds"] != 255
    assert torch.equal(found.labels[seeded].long(), batch["seeds"][seeded])
    assert not found.probabilities[0, [1, 3]].any(), "labels of the image's scribbles alone"
    assert (found.probabilities.sum(1) > 0).equal(batch["valid"])
    assert found.probabilities[0, 0].unique().numel() > 2, "soft"


@pytest.mark.parametrize("link", ["collision", "cross_entropy", "reverse"])
def test_the_loss_is_the_seeds_cross_entropy_and_the_solvers_link(batch, tiny_network, link):
    solver = SoftPotts(GridPotts(5.0, 4), link=link)
    module = SoftLabelModule(tiny_network, 4, solver, eta=0.7)
    logits = torch.randn(2, 4, 6, 6, requires_grad=True)
    latent = module.solve_latent(logits.detach(), batch)
    terms = module.latent_loss(logits, latent, batch)
    unlabelled = batch["valid"] & (batch["seeds"] == 255)
    assert terms["pce"] == partial_cross_entropy(logits, batch["seeds"])
    assert terms["latent"] == 0.7 * link_loss(logits, latent.probabilities, unlabelled, link)
    sigma = logits.softmax(1)
    y = latent.probabilities
    pixel = {
        "collision": -(sigma * y).sum(1).log(),
        "cross_entropy": -(y * sigma.log()).sum(1),
        "reverse": -(sigma * y.clamp(min=1e-6).log()).sum(1),
    }[link]
    torch.testing.assert_close(terms["latent"], 0.7 * pixel[unlabelled].mean())


def test_an_alternation_lowers_the_joint_energy(batch, tiny_network):
    """Each solve and each step of the scores, in the units of both: the sums over pixels."""
    torch.manual_seed(0)
    potts = GridPotts(3.0, 4)
    solver = SoftPotts(potts, tolerance=1e-5)
    logits = torch.randn(2, 4, 6, 6, requires_grad=True)
    energies = []
    for _ in range(20):
        found = solver.solve(logits, batch["image"], seeds=batch["seeds"], valid=batch["valid"])
        energies.append(found.energy.sum().item())
        loss = link_loss(logits, found.probabilities, batch["valid"] & (batch["seeds"] == 255))
        (gradient,) = torch.autograd.grad(loss, logits)
        logits = (logits - 5.0 * gradient).detach().requires_grad_()
    assert all(later <= earlier * (1 + 1e-4) for earlier, later in pairwise(energies))
    assert energies[-1] < 0.9 * energies[0]


def test_failed_images_follow_their_seeds_alone(batch, tiny_network):
    module = SoftLabelModule(tiny_network, 4)
    logits = torch.randn(2, 4, 6, 6)
    broken = logits.clone()
    broken[0, 0, 3, 3] = torch.nan
    latent = module.solve_latent(broken, batch)
    assert [bool(message) for message in latent.message] == [True, False]
    loss = module.latent_loss(logits, latent, batch)["latent"]
    second = batch["valid"] & (batch["seeds"] == 255)
    second[0] = False
    assert loss == module.eta * link_loss(logits, latent.probabilities, second)


def test_arguments_are_those_of_adm_but_for_the_loss(tiny_network):
    for eta in (-1.0, float("inf")):
        with pytest.raises(ValueError, match=f"`eta` must be finite and at least 0, got {eta}"):
            SoftLabelModule(tiny_network, 4, eta=eta)
    given = {"labels": "tags", "hard_seeds": False, "latent_pixels": "all", "pce_fraction": 0.25, "on_unsolved": "stop"}
    soft, adm = SoftLabelModule(tiny_network, 4, **given), ADMModule(tiny_network, 4, **given)
    assert {name: getattr(soft, name) for name in given} == {name: getattr(adm, name) for name in given} == given
