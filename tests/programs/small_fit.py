"""Ranks of `weakseg fit` on the smallest run of ADM, each a process of its own."""

import os
import subprocess
from pathlib import Path

import torch
from torch import Tensor

from weakseg_lightning.cli.recipes import recipes_folder

SMALL = [
    *("--trainer.accelerator=cpu", "--trainer.limit_val_batches=0", "--trainer.num_sanity_val_steps=0"),
    *("--trainer.enable_progress_bar=false", "--trainer.logger=false", "--model.pce_fraction=0.2"),
    *("--model.network.encoder=timm-mobilenetv3_small_minimal_100", "--data.num_workers=0", "--data.num_val=2"),
    *("--data.size=64", "--data.crop_size=64", "--data.batch_size=2"),
]


def start_rank(launcher: list[str], options: list[str], log: Path, **environment: str) -> subprocess.Popen[bytes]:
    """Start a rank in the folder of its log; ``launcher`` ends with the Python that runs it."""
    recipes = [f"--config={recipes_folder() / name}.yaml" for name in ("adm_grid", "data/scenes")]
    command = [*launcher, "-m", "weakseg_lightning", "fit", *recipes, *SMALL, *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    with log.open("wb") as file:
        return subprocess.Popen(command, cwd=log.parent, env=environment, stdout=file, stderr=file)


def weights_of(run: Path, steps: int | None = None) -> dict[str, Tensor]:
    """The weights at the end of a run, which took so many steps."""
    saved = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    assert saved["global_step"] == (steps or saved["global_step"])
    return dict(saved["state_dict"])
