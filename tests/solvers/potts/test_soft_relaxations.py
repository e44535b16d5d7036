"""Soft labelings of every relaxation, in compiled code and by tensor operations; and where numbers are extreme."""

from typing import get_args

import pytest
import torch
from scenes import batch
from soft_energy import energy

from weakseg_lightning.energies import GridPotts
from weakseg_lightning.losses.potts import Relaxation
from weakseg_lightning.losses.soft_labels import Link
from weakseg_lightning.solvers import SoftPotts
from weakseg_lightning.solvers.potts.soft_descent import descend
from weakseg_lightning.solvers.potts.soft_problem import SoftProblem
from weakseg_lightning.solvers.problem import check_problem

RELAXATIONS = [name for name in get_args(Relaxation) if name not in ("quadratic", "absolute")]
EACH_LINK = pytest.mark.parametrize("link", get_args(Link))


@pytest.mark.parametrize("relaxation", ["quadratic", *RELAXATIONS])
@EACH_LINK
def test_tensor_operations_and_compiled_code_find_the_same(link, relaxation):
    logits, image = batch(size=(17, 22))
    seeds, valid = torch.full((3, 17, 22), 255), torch.ones(3, 17, 22, dtype=torch.bool)
    seeds[0, 3, 4], seeds[0, 10, 4], seeds[2, 8, 9] = 1, 2, 3
    valid[1, :, 15:], valid[2, 12:] = False, False
    allowed = torch.tensor([[True, False, False, True], [True, True, True, True], [False, True, False, False]])
    solver = SoftPotts(GridPotts(6.0, 8), relaxation, link, tolerance=1e-4)
    compiled = solver.solve(logits, image, seeds=seeds, label_set=allowed, valid=valid)
    problem = check_problem(logits, image, seeds, allowed, valid)
    soft = SoftProblem.of(logits, solver.potts.edge_weights(image, valid), problem, link, 1.0)
    found = descend(soft, "quadratic", 1e-4, 200)
    if relaxation != "quadratic":
        found = descend(soft, relaxation, 1e-4, 200, found)
    same = found.sweeps == compiled.evaluations
    assert same.sum() >= 2, "rounding may decide where a descent ends"
    # near the end rounding decides which steps lower the energy
    near, equal = (1e-4, 1e-5) if relaxation == "quadratic" else (5e-3, 1e-4)
    labelings = soft.image_of(found.distributions)
    torch.testing.assert_close(labelings[same], compiled.probabilities[same], rtol=0, atol=near)
    torch.testing.assert_close(found.total[same], compiled.energy[same], rtol=equal, atol=1e-4)
    torch.testing.assert_close(found.total, compiled.energy, rtol=1e-3, atol=1e-4)
    assert (compiled.probabilities.sum(1) > 0).equal(valid), "padding has no distribution"
    assert (compiled.probabilities[0, 1:3].sum(0) > 0).any(), "classes of seeds may be used"
    assert not compiled.probabilities[2, [0, 2]].any(), "nor others"
    free = valid & (seeds != 255)
    assert torch.equal(compiled.labels.long()[free], seeds[free])


@pytest.mark.parametrize("relaxation", RELAXATIONS)
@EACH_LINK
def test_no_energy_rises_from_the_quadratic_solution(relaxation, link):
    """3,000 small images over all relaxations and links; in half of them seeds of two classes touch."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(200, 3, 4, 5, generator=generator)
    image = torch.rand(200, 3, 4, 5, generator=generator)
    seeds = torch.full((200, 4, 5), 255)
    seeds[::2, 1, 1], seeds[::2, 1, 2] = 0, 2
    potts = GridPotts(4.0, 4)
    start = SoftPotts(potts, link=link).solve(logits, image, seeds=seeds)
    found = SoftPotts(potts, relaxation, link, max_sweeps=10).solve(logits, image, seeds=seeds)
    edges = potts.edge_weights(image)
    before = energy(start.probabilities.double(), logits, edges, potts, link, relaxation, seeds)
    after = energy(found.probabilities.double(), logits, edges, potts, link, relaxation, seeds)
    assert found.probabilities.isfinite().all()
    torch.testing.assert_close(after, found.energy, rtol=1e-4, atol=1e-3)
    point = found.probabilities.double().requires_grad_()
    (slope,) = torch.autograd.grad(energy(point, logits, edges, potts, link, relaxation, seeds).sum(), point)
    gap = ((slope * point).sum(1) - slope.amin(1)).detach()
    gap = torch.where(seeds == 255, gap, 0.0).flatten(1).sum(1)
    assert ((gap - found.gap).abs() < 1e-3 * (gap + 1)).float().mean() > 0.99, "except where a logarithm is cut off"
    assert (after <= before * (1 + 1e-6) + 1e-6).all()
    assert (after < before - 1e-3).float().mean() > 0.5, "most are lowered"


@pytest.mark.parametrize(
    ("lead", "weight", "link"), [(16, 1e5, "collision"), (13, 1e3, "collision"), (12, 20, "reverse")]
)
@pytest.mark.parametrize("relaxation", ["quadratic", "collision_divergence"])
def test_pixels_that_agree_cost_nothing_but_their_link(lead, weight, link, relaxation):
    """Sums over neighbors, in place of differences, left energies below 0, of which no gap is a small part."""
    logits = torch.zeros(1, 2, 40, 40)
    logits[:, 0] = lead
    found = SoftPotts(GridPotts(weight, 4), relaxation, link).solve(logits, torch.zeros(1, 3, 40, 40))
    assert found.converged
    assert found.pairwise == pytest.approx(0, abs=1e-9)
    at_output = energy(logits.double().softmax(1), logits, torch.zeros(1, 2, 40, 40), GridPotts(weight, 4), link)
    assert 0 <= found.link <= 1.001 * at_output


@pytest.mark.parametrize(("lead", "weight"), [(12.0, 0.1), (10.0, 0.5)])
@pytest.mark.parametrize("relaxation", ["collision", "collision_divergence"])
def test_where_a_logarithm_is_steep_a_pixel_beside_a_seed_finds_its_minimum(lead, weight, relaxation):
    logits = torch.tensor([[[[0.0, 0.0]], [[0.0, lead]]]])
    seeds, image, potts = torch.tensor([[[0, 255]]]), torch.zeros(1, 3, 1, 2), GridPotts(weight, 4)
    p = torch.linspace(0, 1, 100_001, dtype=torch.float64)
    y = torch.stack([torch.stack([torch.ones_like(p), p], 1), torch.stack([torch.zeros_like(p), 1 - p], 1)], 1)[
        :, :, None
    ]
    of_all = energy(y, logits, potts.edge_weights(image), potts, "collision", relaxation, seeds.expand(len(p), 1, 2))
    found = SoftPotts(potts, relaxation).solve(logits, image, seeds=seeds)
    assert found.energy.item() <= of_all.min().item() * 1.01
