"""Trains and validates on two ranks and writes what came out: ``two_ranks.py FOLDER MODE...``."""

import dataclasses
import json
import os
import sys
from pathlib import Path

import torch
from lightning.pytorch import seed_everything
from small_runs import quiet_trainer

from weakseg_lightning.constraints import preset
from weakseg_lightning.data import ScenesDataModule
from weakseg_lightning.losses import DenseCRFLoss
from weakseg_lightning.modules import ADMModule, CCNNModule, RegularizedLossModule, TrustRegionModule
from weakseg_lightning.networks import FrozenFeatures, SMPNetwork


class Checked(CCNNModule):
    def solve_latent(self, logits, batch):
        self.solved_on = logits
        return super().solve_latent(logits, batch)

    def latent_loss(self, logits, latent, batch):
        assert torch.equal(self.solved_on, logits.detach()), "the step sees other logits than the hook"
        return super().latent_loss(logits, latent, batch)


class Apart(ADMModule):
    def shares_forward(self):
        return False


class Failing(ADMModule):
    def solve_latent(self, logits, batch):
        result = super().solve_latent(logits, batch)
        if self.global_rank == 1 and self.trainer.global_step == 1:
            return dataclasses.replace(result, message=("too hard", *result.message[1:]))
        return result


class FailingInRounds(ADMModule):  # of preparing, which the first rank does for all
    def solve_latent(self, logits, batch):
        return dataclasses.replace(super().solve_latent(logits, batch), message=("too hard",) * len(logits))


class Diverging(ADMModule):
    def latent_loss(self, logits, latent, batch):
        terms = super().latent_loss(logits, latent, batch)
        return terms | ({"latent": logits.sum() * float("nan")} if self.global_rank == 1 else {})


class Watched(DenseCRFLoss):
    seen = 0

    def forward(self, logits, image, valid=None, built=None):
        fresh = self.build(image, valid)
        assert torch.equal(built.vertices, fresh.vertices)
        assert torch.equal(built.weights, fresh.weights)
        self.seen += 1
        return super().forward(logits, image, valid, built)


def scenes(size, **options):
    return ScenesDataModule(num_train=8, size=size, batch_size=2, **{"crop_size": size, "num_workers": 0, **options})


def unet(encoder):
    return SMPNetwork(architecture="unet", encoder=encoder, encoder_weights=None)


def trained_module(mode):
    seed_everything(1)
    network = unet("mobilenet_v2")
    if mode == "unused":  # by the encoder, and in the first phase the level of noise
        data = scenes(64)
        encoder = unet("timm-tf_efficientnet_lite0")
        return TrustRegionModule(encoder, data.num_classes, learn_eps=True, pce_fraction=0.5), data
    if mode == "ccnn":
        data = scenes(48, supervision="tags", full_fraction=0.5)
        return Checked(network, data.num_classes, preset("tags"), map_stride=4), data
    if mode == "dense":
        data = scenes(48, scale_range=(0.5, 1.0), num_workers=1)
        regularizer = Watched(1e-6, build_in="workers")
        return RegularizedLossModule(network, data.num_classes, regularizer=regularizer), data
    if mode == "rounds":
        network = FrozenFeatures("test_efficientnet", None, latent_rounds=1)
        data = scenes(48, scale_range=(1.0, 1.0))
        return FailingInRounds(network, data.num_classes, on_unsolved="stop", pce_fraction=0.0), data
    data = scenes(48, num_val=5, crop_size=32)
    cls = {"apart": Apart, "skip": Failing, "stop": Failing, "diverge": Diverging}.get(mode, ADMModule)
    failures = {"on_unsolved": mode} if cls is Failing else {}
    return cls(network, data.num_classes, pce_fraction=0.0, **failures), data


def result_of(mode, folder):
    module, data = trained_module(mode)
    ranks = {"strategy": "ddp", "devices": 2} if mode != "one" else {"devices": 1}
    if mode in ("one", "two"):
        trainer = quiet_trainer(folder, limit_val_batches=1.0, **ranks)
        return trainer.validate(module, data, ckpt_path=folder + "/trained.ckpt", weights_only=True, verbose=False)[0]
    trainer = quiet_trainer(folder, max_epochs=1, **ranks)
    trainer.fit(module, data)
    if mode == "train":
        trainer.save_checkpoint(folder + "/trained.ckpt")
    weights = torch.nn.utils.parameters_to_vector(module.net.parameters()).detach()
    of_ranks, state = trainer.strategy.all_gather(weights), module.net.state_dict()
    return {
        "same": bool((of_ranks[0] == of_ranks[1]).all()),
        "loss": float(trainer.callback_metrics["train_loss"]),
        "counted": int(state[next(name for name in state if "num_batches" in name)]),
        "seen": getattr(module.regularizer, "seen", None) if mode == "dense" else None,
    }


folder, *modes = sys.argv[1:]
results = {mode: result_of(mode, folder) for mode in modes}  # one start for all of them: starts take longest
if int(os.environ.get("LOCAL_RANK", 0)) == 0:
    Path(folder, "results.json").write_text(json.dumps(results))
