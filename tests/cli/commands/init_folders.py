"""Folders and a computer to try `weakseg init` on."""

import shlex
import shutil
from pathlib import Path

from weakseg_lightning.cli.commands.init.choice import Hardware

QUICK = [
    *("--trainer.max_steps=3", "--trainer.val_check_interval=3", "--trainer.log_every_n_steps=1"),
    *("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.accelerator=cpu"),
    *("--data.num_workers=0", "--data.batch_size=4"),
]
TINY_ENCODERS = {
    "head": "--model.network.encoder=test_efficientnet",
    "encoder": "--model.network.encoder=test_efficientnet",
    "network": "--model.network.encoder=timm-mobilenetv3_small_minimal_100",
}
TINY_COMPUTER = Hardware("a tiny computer", "cpu", 4, side=64, crop=32, steps=4, workers=0)


def keep(root: Path, *kept: str) -> None:
    """Remove the annotations that are not named."""
    for path in (*root.glob("*.csv"), root / "scribbles", root / "masks"):
        if path.name not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def say_all_sizes(root: Path) -> None:
    (root / "sizes.csv").write_text("image,class,size\na,cat,large\nb,dog,small\nc d é,cat,0.3\n", "utf-8")


def printed_command(out: str) -> list[str]:
    """The command that was printed last, as its words."""
    (line,) = [line for line in out.splitlines() if line.startswith("  weakseg ")][-1:]
    return shlex.split(line)[1:]
