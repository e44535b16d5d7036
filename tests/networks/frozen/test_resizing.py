"""Scores at the size of the image, against the steps one after another."""

import pytest
import torch
from torch.nn import functional as F

from weakseg_lightning.networks.frozen.resizing import enlarge

CASES = {  # maps, padded, cut, size
    "an image that the network computes on smaller": ((9, 12), (36, 48), (33, 47), (44, 63)),
    "one that it computes on larger": ((9, 12), (36, 48), (33, 47), (21, 30)),
    "one of its own size": ((9, 12), (36, 48), (33, 47), (33, 47)),
    "a single cell": ((1, 1), (4, 4), (1, 3), (1, 3)),
    "cells as pixels": ((5, 6), (5, 6), (5, 6), (5, 6)),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_one_step_after_another(case):
    cells, padded, cut, size = CASES[case]
    torch.manual_seed(0)
    maps = torch.randn(2, 3, *cells, dtype=torch.float64, requires_grad=True)
    larger = F.interpolate(maps, size=padded, mode="bilinear", align_corners=False)[..., : cut[0], : cut[1]]
    expected = F.interpolate(larger, size=size, mode="bilinear", align_corners=False)
    found = enlarge(maps, padded, cut, size)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    weights = torch.randn_like(found)
    gradients = [torch.autograd.grad(result, maps, weights)[0] for result in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-4)
