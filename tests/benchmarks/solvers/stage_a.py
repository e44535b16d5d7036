"""Time of a trust-region epoch without stage A over that of a pCE epoch, and the speed of stage A.

Both train the same network on the same photographs, in turn (A B A B ...); the ratio is that of the medians. Run from
the project's root::

    python tests/benchmarks stage_a --root DATASETS --weights tf_efficientnet_lite0.safetensors
"""

import argparse
import time
from functools import partial
from statistics import median
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from measuring import command_line, interleaved, machine

from weakseg_lightning import (
    AlphaExpansion,
    GridPotts,
    RegularizedLossModule,
    SMPNetwork,
    TrustRegionModule,
    VOCDataModule,
    WeakSegModule,
)


class Watch(Callback):
    """Measures the epochs and keeps the speed of stage A."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.solved = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.start = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds.append(time.perf_counter() - self.start)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.solved = float(trainer.callback_metrics.get("solved_images_per_second", 0))


def main() -> None:
    """Train both in turn and print the ratio."""
    parser = command_line(__doc__)
    parser.add_argument("--root", required=True)
    parser.add_argument("--weights", help="of the encoder; random by default")
    parser.add_argument("--batches", type=int, default=12, help="batches in an epoch")
    parser.add_argument("--epochs", type=int, default=4, help="epochs of a run, the first of which is not counted")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    watches = interleaved({name: partial(train, name, options) for name in ("pCE", "TR")}, options.repeats)
    pce, trust = (median(s for watch in several for s in watch.seconds[1:]) for several in watches.values())
    speeds = [watch.solved for watch in watches["TR"]]
    settings = f"{options.batches} batches of 8 crops of 192, {options.repeats} repeats"
    print(f"{options.threads} threads of {machine()}, {settings}")
    print(f"epoch of pCE {pce:.2f} s, of TR without stage A {trust:.2f} s: ratio of the medians {trust / pce:.3f}")
    print(f"stage A: {median(speeds):.2f} images a second (whole photographs, network and graph cut)")


def train(name: str, options: argparse.Namespace) -> Watch:
    """Train a few epochs; the labelings are solved for in the first."""
    seed_everything(0, verbose=False)
    data = VOCDataModule(options.root, crop_size=192, batch_size=8, scale_range=(0.5, 1.25), num_workers=1)
    weights = options.weights
    network = SMPNetwork("deeplabv3plus", "timm-tf_efficientnet_lite0", weights, decoder_channels=128, output_stride=16)
    watch = Watch()
    quiet: dict[str, Any] = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=options.epochs,
        limit_train_batches=options.batches,
        limit_val_batches=0,
        enable_model_summary=False,
        callbacks=[watch, SameImages()],
        **quiet,
    )
    trainer.fit(module(name, network, data.num_classes), data)
    return watch


class SameImages(Callback):
    """Shows the images of the first epoch in all: else a part of an epoch would meet images not yet solved for."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.train_dataloader.sampler.set_epoch(0)


def module(name: str, network: SMPNetwork, num_classes: int) -> WeakSegModule:
    """The module of a method, with the settings of its recipe."""
    if name == "pCE":
        return RegularizedLossModule(network, num_classes)
    solver = AlphaExpansion(GridPotts(100, normalize_edges=True), unary_weight=0.05, start="zeros")
    return TrustRegionModule(network, num_classes, solver, epochs_per_cycle=100, pce_fraction=0.0)


if __name__ == "__main__":
    main()
