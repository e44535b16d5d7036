"""Edge weights from maps of regions and boundaries, against brute force and counts by hand."""

import math

import pytest
import torch
from torch import Tensor

from weakseg_lightning.energies import GridPotts

STEPS = ((0, 1), (1, 0), (1, 1), (1, -1))


def brute_force(guide: Tensor, valid: Tensor, potts: GridPotts) -> Tensor:
    """Weights of one map ``(H, W)``, edge by edge, from all pixels near either end."""
    height, width = guide.shape
    weights = torch.zeros(potts.connectivity // 2, height, width)
    far = potts.dilation
    for plane, (dy, dx) in enumerate(STEPS[: potts.connectivity // 2]):
        for y in range(height):
            for x in range(width):
                y2, x2 = y + dy, x + dx
                if not (0 <= y2 < height and 0 <= x2 < width and valid[y, x] and valid[y2, x2]):
                    continue
                near = {
                    float(guide[i, j])
                    for a, b in ((y, x), (y2, x2))
                    for i in range(max(a - far, 0), min(a + far + 1, height))
                    for j in range(max(b - far, 0), min(b + far + 1, width))
                    if valid[i, j]
                }
                cut = len(near) > 1 if potts.edges == "regions" else max(near) > 0
                weights[plane, y, x] = 0.0 if cut else potts.weight / math.hypot(dy, dx)
    return weights


@pytest.mark.parametrize("dilation", [0, 1, 2])
@pytest.mark.parametrize("connectivity", [4, 8])
@pytest.mark.parametrize("edges", ["regions", "boundaries"])
def test_weights_equal_brute_force(edges: str, connectivity: int, dilation: int) -> None:
    generator = torch.Generator().manual_seed(dilation)
    coarse = torch.randint(0, 3, (4, 1, 3, 4), generator=generator).float()
    guide = coarse.repeat_interleave(4, 2).repeat_interleave(3, 3)
    guide[:, :, 9:, 4:] = 0  # room for edges that are not cut
    valid = torch.rand(4, 12, 12, generator=generator) < 0.97
    valid[0] = True
    potts = GridPotts(3.0, connectivity, edges=edges, dilation=dilation)  # type: ignore[arg-type]
    found = potts.edge_weights(guide, valid)
    assert found.count_nonzero() > 0
    for b in range(4):
        torch.testing.assert_close(found[b], brute_force(guide[b, 0], valid[b], potts))


def test_dilation_widens_a_cut_by_so_many_edges_on_either_side() -> None:
    guide = torch.zeros(1, 1, 1, 20)
    guide[..., 10:] = 70_000.0  # the numbers of regions have no upper bound but 2^24
    for dilation in (0, 1, 5):
        weights = GridPotts(1.0, 4, edges="regions", dilation=dilation).edge_weights(guide)[0, 0, 0, :19]
        cut = (weights == 0).nonzero().flatten().tolist()
        assert cut == list(range(9 - dilation, 10 + dilation))


def test_a_boundary_cuts_the_edges_of_its_own_pixels() -> None:
    guide = torch.zeros(1, 1, 1, 12)
    guide[..., 6] = 255.0
    for dilation in (0, 2):
        weights = GridPotts(1.0, 4, edges="boundaries", dilation=dilation).edge_weights(guide)[0, 0, 0, :11]
        assert (weights == 0).nonzero().flatten().tolist() == list(range(5 - dilation, 7 + dilation))


@pytest.mark.parametrize("edges", ["regions", "boundaries"])
def test_padding_is_no_edge_whatever_stands_there(edges: str) -> None:
    guide = torch.full((1, 1, 8, 9), 255.0)
    guide[..., :6, :7] = 0.0
    valid = torch.zeros(1, 8, 9, dtype=torch.bool)
    valid[:, :6, :7] = True
    potts = GridPotts(2.0, edges=edges, normalize_edges=True)  # type: ignore[arg-type]
    weights = potts.edge_weights(guide, valid)
    flat = GridPotts(2.0, normalize_edges=True).edge_weights(torch.zeros(1, 3, 8, 9), valid)
    torch.testing.assert_close(weights, flat)
    assert weights.dtype == torch.float32


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="`edges` must be one of 'contrast', 'regions', 'boundaries', got 'maps'"):
        GridPotts(edges="maps")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`dilation` must be at least 0, got -1"):
        GridPotts(dilation=-1)
    with pytest.raises(ValueError, match=r"`image` must be the map of each image, float \(B, 1, H, W\), where"):
        GridPotts(edges="regions").edge_weights(torch.rand(2, 3, 4, 5))
