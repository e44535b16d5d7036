"""Ranks of `weakseg fit` on the smallest run of ADM, each a process of its own."""

from multiprocessing.context import ForkServerProcess
from pathlib import Path

import torch
from processes import start
from torch import Tensor

from weakseg_lightning.cli.recipes import recipes_folder

SMALL = [
    *("--trainer.accelerator=cpu", "--trainer.limit_val_batches=0", "--trainer.num_sanity_val_steps=0"),
    *("--trainer.enable_progress_bar=false", "--trainer.logger=false", "--model.pce_fraction=0.2"),
    *("--model.network.encoder=timm-mobilenetv3_small_minimal_100", "--data.num_workers=0", "--data.num_val=2"),
    *("--data.size=64", "--data.crop_size=64", "--data.batch_size=2"),
]


def arguments(options: list[str]) -> list[str]:
    """The arguments of the command."""
    recipes = [f"--config={recipes_folder() / name}.yaml" for name in ("adm/adm_grid", "data/scenes")]
    return ["fit", *recipes, *SMALL, *options]


def start_rank(options: list[str], log: Path, **environment: str) -> ForkServerProcess:
    """Start a rank in the folder of its log."""
    return start("weakseg_lightning", *arguments(options), out=log, folder=log.parent, **environment)


def weights_of(run: Path, steps: int | None = None) -> dict[str, Tensor]:
    """The weights at the end of a run, which took so many steps."""
    saved = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    assert saved["global_step"] == (steps or saved["global_step"])
    return dict(saved["state_dict"])
