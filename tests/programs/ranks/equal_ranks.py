"""Trains every method on as many ranks as its environment says: ``equal_ranks.py FOLDER [own_pixels | sharded]``."""

import os
import sys
from contextlib import nullcontext

import torch
from discs import TinyDecomposition, TinyTags
from lightning.pytorch import Callback, seed_everything
from lightning.pytorch.strategies import DDPStrategy
from on_cpus import CPUShards, allow_sync_batch_norm
from small_runs import Tiny, quiet_trainer
from timm.layers import BatchNormAct2d
from torch import nn

from weakseg_lightning import modules
from weakseg_lightning.callbacks import PanelWriter
from weakseg_lightning.callbacks.checkpoints import LastCheckpoint
from weakseg_lightning.constraints import preset
from weakseg_lightning.data import ScenesDataModule
from weakseg_lightning.losses import (
    DenseCRFLoss,
    EntropyLoss,
    GatedCRFLoss,
    GridPottsLoss,
    MumfordShahLoss,
    TotalVariationLoss,
)
from weakseg_lightning.modules import Optimizer, RegularizedLossModule
from weakseg_lightning.networks import FrozenFeatures, UNet2DDualBranch
from weakseg_lightning.solvers import SoftPotts

folder, *kind = sys.argv[1:]
own_pixels, sharded = (kind == [name] for name in ("own_pixels", "sharded"))
world = int(os.environ.get("WORLD_SIZE", 1))
whole = {"supervision": "tags", "scale_range": (1.0, 1.0)}
ranks = {"devices": world, "strategy": "auto" if world == 1 else "ddp"}
if world > 1 and torch.__version__ < "2.12":
    ranks["strategy"] = DDPStrategy(broadcast_buffers=False)
if own_pixels:  # each rank counts its own
    modules.core.base.ranks_together = nullcontext
allow_sync_batch_norm()


class Plain(Tiny):
    def make_body(self):
        normed = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        return nn.Sequential(normed, nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())


class Activated(Tiny):
    def make_body(self):
        return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), BatchNormAct2d(8), nn.Conv2d(8, 8, 3, padding=1))


class Apart(modules.ADMModule):
    def shares_forward(self):
        return False


class Watch(Callback):
    def __init__(self):
        self.losses = []

    def on_train_batch_end(self, trainer, module, *_):
        assert not hasattr(module, "shares_forward") or module.shares_forward() == (not isinstance(module, Apart))
        self.losses.append(float(trainer.callback_metrics["train_loss"]))


def train(name, make, fast=0.3, accumulate=1, callbacks=(), resume=None, **given):
    seed_everything(1, verbose=False)
    given = {"scale_range": (0.5, 1.0)} | given  # padding, so that images differ in what counts
    data = ScenesDataModule(num_train=8, size=32, crop_size=32, batch_size=4 // world, num_workers=0, **given)
    watch = Watch()
    module = make(data.num_classes, Optimizer("sgd", fast, 0.9, 1e-4, 1.0, "poly"))
    how = ranks | ({"strategy": CPUShards()} if sharded else {}) | {"accumulate_grad_batches": accumulate}
    how |= {"callbacks": [watch, *callbacks], "enable_checkpointing": bool(callbacks), "sync_batchnorm": True}
    trainer = quiet_trainer(folder, max_epochs=2, **how)
    trainer.fit(module, data, ckpt_path=resume, weights_only=True)
    assert name != "activated" or any(isinstance(layer, BatchNormAct2d) for layer in module.modules())
    saved = f"{folder}/{'-'.join([name, str(world), *kind])}.ckpt"
    trainer.save_checkpoint(saved)
    if trainer.is_global_zero:
        torch.save(torch.load(saved, weights_only=True) | {"losses": watch.losses}, saved)


def plain(cls, **given):
    return lambda classes, optimizer: cls(Plain(), classes, optimizer=optimizer, **given)


def activated(classes, optimizer):
    return RegularizedLossModule(Activated(), classes, optimizer=optimizer)


def frozen(classes, optimizer):
    network = FrozenFeatures("tf_efficientnet_lite0", None, hidden=8, dropout=0.0)
    return RegularizedLossModule(network, classes, optimizer=optimizer)


def two_decoders(classes, optimizer):
    network = UNet2DDualBranch(3, widths=(6, 8), dropout=(0.0, 0.0), perturbation=0.0)
    return modules.DMPLSModule(network, classes, optimizer=optimizer)


def classifier(classes, optimizer):
    return modules.TagClassifierModule(TinyTags("tiny", None), classes, optimizer=optimizer)


def decomposition(classes, optimizer):
    given = {"cls_weight": 0.1, "optimizer": optimizer, "classifier_checkpoint": folder + "/g-1.ckpt"}
    return modules.DecomposeReconstructModule(TinyDecomposition(), classes, TinyTags("tiny", None), **given)


if sharded:
    train("pce", plain(RegularizedLossModule), callbacks=[PanelWriter(), LastCheckpoint(folder)])
    train("pce_resumed", plain(RegularizedLossModule), resume=folder + "/previous.ckpt")  # after an epoch
else:
    train("pce", plain(RegularizedLossModule))
    train("adm", plain(modules.ADMModule, pce_fraction=0.0))
    # Rounding may let a solve end a check sooner or later: what that changes is within its tolerance.
    train("soft_labels", plain(modules.SoftLabelModule, solver=SoftPotts(tolerance=1e-5), pce_fraction=0.0))
    train("adm_apart", plain(Apart, pce_fraction=0.0))
    train("adm_accumulated", plain(modules.ADMModule, pce_fraction=0.0), accumulate=2)
    cycle = {"pce_fraction": 0.0, "epochs_per_cycle": 1}
    train("trust_region", plain(modules.TrustRegionModule, **cycle))
    train("trust_region_seeds", plain(modules.TrustRegionModule, **cycle, normalizer="seeds"), fast=3)
train("dmpls", two_decoders, fast=0.1)
if not (sharded or own_pixels):
    train("ccnn", plain(modules.CCNNModule, constraints=preset("tags"), map_stride=4), **whole)
    train("frozen", frozen)
    collision = {"link": "collision", "map_stride": 4}
    train("ccnn_collision", plain(modules.CCNNModule, constraints=preset("tags"), **collision), **whole)
    train("ccnn_semi", plain(modules.CCNNModule, constraints=preset("tags"), map_stride=4), **whole, full_fraction=0.4)
if not own_pixels:
    train("mil", plain(modules.MILModule, map_stride=4), **whole)
    regularizers = {"grid": GridPottsLoss(), "dense": DenseCRFLoss(1e-6), "gated": GatedCRFLoss()}
    regularizers |= {"entropy": EntropyLoss(), "tv": TotalVariationLoss(3.0)}
    # Absolute differences have a kink at 0, where rounding chooses the gradient: in even regions it may be another.
    regularizers |= {"mumford_shah": MumfordShahLoss(0.3, penalty="quadratic")}
    for name, regularizer in regularizers.items():
        train(name, plain(RegularizedLossModule, regularizer=regularizer))
    train("activated", activated)
    train("g", classifier, **whole)
    train("decomposition", decomposition)
