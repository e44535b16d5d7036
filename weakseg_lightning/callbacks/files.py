"""Where callbacks write."""

from pathlib import Path

from lightning.pytorch import Trainer


def run_folder(trainer: Trainer) -> Path:
    """Folder of the run, to be asked for on every rank: that of a logger is broadcast."""
    return Path(trainer.log_dir or trainer.default_root_dir)
