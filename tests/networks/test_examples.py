import doctest
from importlib import import_module

import pytest


@pytest.mark.parametrize(
    "name",
    [
        *("coarse_grid", "ddp_unused", "decomposition", "dual_branch", "evaluation", "fcn"),
        *("large_fov", "smp", "tags", "unet2d"),
    ],
)
def test_docstring_examples(name: str) -> None:
    results = doctest.testmod(import_module(f"weakseg_lightning.networks.{name}"))
    assert results.attempted > 0
    assert results.failed == 0
