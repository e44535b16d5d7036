"""Folders and a computer to try `weakseg init` on."""

import shutil
from pathlib import Path

from weakseg_lightning.cli.commands.init_choice import Hardware

TINY_COMPUTER = Hardware("a tiny computer", "cpu", 4, side=64, crop=32, steps=4, workers=0)


def keep(root: Path, *kept: str) -> None:
    """Remove the annotations that are not named."""
    for path in (*root.glob("*.csv"), root / "scribbles", root / "masks"):
        if path.name not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def say_all_sizes(root: Path) -> None:
    (root / "sizes.csv").write_text("image,class,size\na,cat,large\nb,dog,small\nc d é,cat,0.3\n", "utf-8")
