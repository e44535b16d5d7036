import math

import pytest
import torch
from torch import Tensor

from weakseg_lightning.energies import GridPotts
from weakseg_lightning.metrics import MeanGridEnergy, grid_energy


def energy_by_hand(labels: Tensor, image: Tensor, valid: Tensor, potts: GridPotts) -> float:
    """One image, edge by edge in Python: labels ``(H, W)``, image ``(3, H, W)``."""
    steps = [(0, 1), (1, 0), (1, 1), (1, -1)][: potts.connectivity // 2]
    height, width = labels.shape
    edges = []
    for y in range(height):
        for x in range(width):
            for dy, dx in steps:
                v, u = y + dy, x + dx
                if v < height and 0 <= u < width and valid[y, x] and valid[v, u]:
                    contrast = float(((image[:, y, x] - image[:, v, u]).double() ** 2).sum())
                    edges.append((contrast, math.hypot(dy, dx), bool(labels[y, x] != labels[v, u])))
    if not edges:
        return 0.0
    sigma2 = sum(contrast for contrast, _, _ in edges) / len(edges) or 1.0
    cut = sum(
        potts.weight * math.exp(-contrast / (2 * sigma2)) / length for contrast, length, is_cut in edges if is_cut
    )
    return cut / len(edges)


@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (4, 1), (5, 6)])
@pytest.mark.parametrize("padded", [False, True])
def test_grid_energy_equals_a_count_by_hand(connectivity: int, size: tuple[int, int], padded: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    potts = GridPotts(weight=7.0, connectivity=4 if connectivity == 4 else 8)
    image = torch.rand(3, 3, *size, generator=generator)
    labels = torch.randint(0, 3, (3, *size), generator=generator)
    valid = torch.ones(3, *size, dtype=torch.bool)
    if padded:
        valid[:, :, (size[1] + 1) // 2 :] = False
        valid[1] = False  # an image of padding alone has no edges
    got = grid_energy(labels, image, potts, valid if padded else None)
    expected = [energy_by_hand(*item, potts) for item in zip(labels, image, valid, strict=True)]
    assert got.tolist() == pytest.approx(expected, rel=1e-5)


def test_mean_grid_energy_is_the_mean_over_images_of_any_size() -> None:
    generator, potts = torch.Generator().manual_seed(4), GridPotts()
    metric, expected = MeanGridEnergy(potts), []
    for size in [(1, 3, 4), (2, 6, 5)]:
        image = torch.rand(size[0], 3, *size[1:], generator=generator)
        labels = torch.randint(0, 2, size, generator=generator)
        metric.update(labels.to(torch.uint8), image)
        whole = torch.ones(size, dtype=torch.bool)
        expected += [energy_by_hand(*item, potts) for item in zip(labels, image, whole, strict=True)]
    assert metric.compute().item() == pytest.approx(sum(expected) / 3, rel=1e-6)
    metric.reset()
    metric.update(torch.zeros(1, 2, 2, dtype=torch.long), torch.rand(1, 3, 2, 2))
    assert metric.compute() == 0


def test_mean_grid_energy_of_nothing_is_nan() -> None:
    metric = MeanGridEnergy()
    metric.update(torch.zeros(0, 2, 2, dtype=torch.long), torch.zeros(0, 3, 2, 2))
    assert metric.compute().isnan()


def test_energy_is_summed_in_double_precision_in_a_half_precision_module() -> None:
    module = torch.nn.ModuleDict({"energy": MeanGridEnergy(GridPotts(weight=1.0))}).to(torch.bfloat16)
    for _ in range(2):
        module["energy"].reset()
        assert module["energy"].energy.dtype == torch.float64
    for _ in range(301):
        module["energy"].update(torch.tensor([[[0, 1]]]), torch.zeros(1, 3, 1, 2, dtype=torch.bfloat16))
    assert module["energy"].energy.item() == 301


def test_wrong_image_or_padding() -> None:
    labels, image = torch.zeros(2, 4, 5, dtype=torch.long), torch.zeros(2, 3, 4, 5)
    with pytest.raises(ValueError, match=r"`labels` must be \(B, H, W\) and `image` \(B, 3, H, W\) of the same size"):
        grid_energy(labels, image[..., :4], GridPotts())
    with pytest.raises(ValueError, match=r"`valid` must have the shape of `labels`, \(2, 4, 5\), got \(2, 4\)"):
        grid_energy(labels, image, GridPotts(), torch.ones(2, 4, dtype=torch.bool))
