import pytest
import torch
from torch.nn import functional

from weakseg_lightning.energies import GridPotts, potts_energy
from weakseg_lightning.losses import GridPottsLoss, potts_loss, relaxed_potts_energy

RELAXATIONS = ["bilinear", "quadratic", "absolute"]
OFFSETS = {4: [(0, 1), (1, 0)], 8: [(0, 1), (1, 0), (1, 1), (1, -1)]}


def by_hand(probabilities: torch.Tensor, image: torch.Tensor, relaxation: str, connectivity: int) -> float:
    """Mean over images of the energy an edge at weight 1, from the definition, one edge at a time."""
    values = []
    for s, rgb in zip(probabilities, image, strict=True):
        height, width = rgb.shape[1:]
        edges = [
            ((y, x), (y + dy, x + dx))
            for dy, dx in OFFSETS[connectivity]
            for y in range(height)
            for x in range(width)
            if y + dy < height and 0 <= x + dx < width
        ]
        contrasts = [float((rgb[:, *p] - rgb[:, *q]).square().sum()) for p, q in edges]
        sigma2 = sum(contrasts) / len(contrasts) or 1.0
        energy = 0.0
        for (p, q), contrast in zip(edges, contrasts, strict=True):
            length = ((p[0] - q[0]) ** 2 + (p[1] - q[1]) ** 2) ** 0.5
            a, b = s[:, *p], s[:, *q]
            distance = {
                "bilinear": (a * (1 - b)).sum(),
                "quadratic": (a - b).square().sum() / 2,
                "absolute": (a - b).abs().sum() / 2,
            }[relaxation]
            energy += float(torch.exp(torch.tensor(-contrast / (2 * sigma2)))) / length * float(distance)
        values.append(energy / len(edges))
    return sum(values) / len(values)


@pytest.mark.parametrize("relaxation", RELAXATIONS)
@pytest.mark.parametrize("connectivity", [4, 8])
def test_value_equals_hand_count(relaxation: str, connectivity: int) -> None:
    torch.manual_seed(0)
    logits, image = torch.randn(2, 3, 4, 5), torch.rand(2, 3, 4, 5)
    potts = GridPotts(weight=2.0, connectivity=connectivity)
    expected = 2.0 * by_hand(logits.softmax(1), image, relaxation, connectivity)
    assert float(potts_loss(logits, image, potts, relaxation=relaxation)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("relaxation", RELAXATIONS)
@pytest.mark.parametrize("connectivity", [4, 8])
def test_one_hot_labeling_has_the_discrete_energy(relaxation: str, connectivity: int) -> None:
    torch.manual_seed(1)
    labels = torch.randint(0, 4, (2, 6, 7))
    weights = GridPotts(weight=5.0, connectivity=connectivity).edge_weights(torch.rand(2, 3, 6, 7))
    one_hot = functional.one_hot(labels, 4).permute(0, 3, 1, 2).float()
    relaxed = relaxed_potts_energy(one_hot, weights, connectivity, relaxation)
    torch.testing.assert_close(relaxed.double(), potts_energy(labels, weights), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("relaxation", ["bilinear", "quadratic"])
def test_gradient_agrees_with_finite_differences(relaxation: str) -> None:
    torch.manual_seed(2)
    weights = torch.rand(1, 4, 4, 3, dtype=torch.float64)
    logits = torch.randn(1, 3, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f: relaxed_potts_energy(f.softmax(1), weights, 8, relaxation), (logits,))


def test_padding_adds_nothing() -> None:
    torch.manual_seed(3)
    logits, image = torch.randn(1, 3, 5, 6), torch.rand(1, 3, 5, 6)
    inside = potts_loss(logits[..., :4, :4], image[..., :4, :4], GridPotts())
    valid = torch.zeros(1, 5, 6, dtype=torch.bool)
    valid[:, :4, :4] = True
    assert float(potts_loss(logits, image, GridPotts(), valid)) == pytest.approx(float(inside), rel=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1)])
def test_degenerate_shapes_are_finite(shape: tuple[int, int]) -> None:
    logits = torch.randn(1, 2, *shape, requires_grad=True)
    loss = potts_loss(logits, torch.rand(1, 3, *shape), GridPotts())
    loss.backward()
    assert torch.isfinite(loss)
    assert shape != (1, 1) or loss.item() == 0.0


@pytest.mark.parametrize(("padding", "weight"), [(0, 70.0), (1, 70 * 52 / 53)])
def test_the_weight_of_the_authors_layer_in_units_of_this_loss(padding: int, weight: float) -> None:
    """Theirs is 3.5 sum over images of 1/|N| sum over N of w (1 - <S_p, S_q>), and padding's edges are in |N|.

    Equation 9 without its factor of two, for 20 images of one row of 54 pixels in one color, so that w = 1.
    """
    torch.manual_seed(4)
    logits = torch.randn(20, 3, 1, 54).double()
    if padding:
        logits[..., -padding - 1 :] = torch.tensor([99.0, 0.0, 0.0], dtype=torch.float64)[None, :, None, None]
    logits.requires_grad_()
    soft = logits.softmax(1)
    authors = 3.5 * (1 - (soft[..., :-1] * soft[..., 1:]).sum(1)).mean((1, 2)).sum()
    valid = torch.ones(20, 1, 54, dtype=torch.bool)
    valid[..., 54 - padding :] = False
    image = torch.full((20, 3, 1, 54), 0.5)
    ours = potts_loss(logits, image, GridPotts(weight), valid)
    assert ours.item() == pytest.approx(authors.item(), rel=1e-5)
    gradients = [torch.autograd.grad(loss, logits, retain_graph=True)[0] for loss in (ours, authors)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-7)
    assert weight == pytest.approx(70 if padding == 0 else 68.7, abs=0.05)


def test_unknown_relaxation_is_refused() -> None:
    with pytest.raises(ValueError, match="`relaxation` must be one of"):
        potts_loss(torch.zeros(1, 2, 2, 2), torch.zeros(1, 3, 2, 2), GridPotts(), relaxation="cubic")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`relaxation` must be one of .*, got 'squared'"):
        GridPottsLoss(relaxation="squared")  # type: ignore[arg-type]


def test_a_batch_without_images_has_no_energy() -> None:
    logits = torch.zeros(0, 3, 4, 5, requires_grad=True)
    loss = potts_loss(logits, torch.zeros(0, 3, 4, 5), GridPotts())
    loss.backward()
    assert loss.item() == 0
