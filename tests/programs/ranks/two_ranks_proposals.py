"""Trains on proposals on two ranks and writes the labels that each has: ``two_ranks_proposals.py FOLDER``."""

import sys

import torch
from lightning.pytorch import seed_everything
from small_runs import quiet_trainer

from weakseg_lightning.data import ScenesDataModule
from weakseg_lightning.modules import ProposalModule
from weakseg_lightning.networks import SMPNetwork

folder = sys.argv[1]
seed_everything(1, verbose=False)
data = ScenesDataModule(num_train=8, num_val=1, size=40, crop_size=32, batch_size=2, num_workers=0)
module = ProposalModule(SMPNetwork("unet", "timm-mobilenetv3_small_minimal_100", None), data.num_classes)
trainer = quiet_trainer(folder, strategy="ddp", devices=2, max_epochs=2)
trainer.fit(module, data)
labels = {name: torch.tensor(module.store.get(name)) for name in data.train_source().ids}
torch.save(labels, f"{folder}/{trainer.global_rank}")
