"""Recipes, each built once."""

import pytest
import torch
from building import command

from weakseg_lightning.cli.command import WeakSegCLI
from weakseg_lightning.data import SegmentationDataModule


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """Parse and build what a recipe with overlays and options names, once; without its data set, without training.

    The weights of the network are not drawn: of most recipes that would take longer than all else, and tests of
    what is built read none.
    """
    built: dict[tuple[str, ...], WeakSegCLI] = {}
    folder = tmp_path_factory.mktemp("recipes")

    def call(*args: str) -> WeakSegCLI:
        if args not in built:
            with pytest.MonkeyPatch.context() as patches:
                patches.chdir(folder)
                patches.setenv("PL_GLOBAL_SEED", "0")  # so that it is taken back
                patches.setattr(SegmentationDataModule, "setup", lambda self, stage: None)
                patches.setattr(WeakSegCLI, "_run_subcommand", lambda self, subcommand: None)
                for name in ("uniform_", "normal_", "erfinv_"):
                    patches.setattr(torch.Tensor, name, lambda tensor, *_, **__: tensor)
                built[args] = command(*args)
        return built[args]

    return call
