"""Trains methods on as many GPUs as its environment says: ``ranks.py FOLDER STRATEGY``, which is auto, ddp or fsdp."""

import os
import sys
from pathlib import Path

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "programs")]

import torch
from every_method import METHODS
from lightning.pytorch import Callback, seed_everything
from lightning.pytorch.strategies import DDPStrategy
from small_runs import quiet_trainer

WORLD = int(os.environ.get("WORLD_SIZE", 1))  # Lightning removes it after a run
TRAINED = {
    "auto": ("pce", "gated_crf", "adm", "adm_lag", "soft_labels", "trust_region"),
    "ddp": ("pce", "adm", "adm_lag", "soft_labels", "trust_region"),
    "fsdp": ("pce", "gated_crf"),
}


class Losses(Callback):
    def __init__(self):
        self.found = []

    def on_train_batch_end(self, trainer, *_):
        self.found.append(float(trainer.callback_metrics["train_loss"]))


def train(name: str, folder: str, strategy: str) -> None:
    """Train a method on batches of 4 images of all ranks, and write the losses and the weights."""
    seed_everything(1, verbose=False)
    losses = Losses()
    # Before PyTorch 2.12 DDP's exchange of buffers would keep the hook's graph from the step.
    chosen = DDPStrategy(broadcast_buffers=False) if strategy == "ddp" else strategy
    module = METHODS[name].module(drops=False)
    data = METHODS[name].scenes(batch_size=4 // WORLD)
    options = {"accelerator": "cuda", "devices": WORLD, "callbacks": [losses], "sync_batchnorm": strategy != "auto"}
    trainer = quiet_trainer(folder, strategy=chosen, max_epochs=2, **options)
    trainer.fit(module, data)
    path = f"{folder}/{name}-{strategy}-{WORLD}.ckpt"
    trainer.save_checkpoint(path, weights_only=True)
    if trainer.is_global_zero:
        weights = torch.load(path, weights_only=True, map_location="cpu")["state_dict"]
        torch.save({"losses": losses.found, "weights": weights}, path)


if __name__ == "__main__":
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    for method in TRAINED[sys.argv[2]]:
        train(method, *sys.argv[1:])
