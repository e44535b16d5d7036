"""Recipes, each built once."""

import pytest
from building import command

from weakseg_lightning.cli.command import WeakSegCLI
from weakseg_lightning.data import SegmentationDataModule


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """Parse and build what a recipe with overlays and options names, once; without its data set, without training."""
    built: dict[tuple[str, ...], WeakSegCLI] = {}
    folder = tmp_path_factory.mktemp("recipes")

    def call(*args: str) -> WeakSegCLI:
        if args not in built:
            with pytest.MonkeyPatch.context() as patches:
                patches.chdir(folder)
                patches.setenv("PL_GLOBAL_SEED", "0")  # so that it is taken back
                patches.setattr(SegmentationDataModule, "setup", lambda self, stage: None)
                patches.setattr(WeakSegCLI, "_run_subcommand", lambda self, subcommand: None)
                built[args] = command(*args)
        return built[args]

    return call
