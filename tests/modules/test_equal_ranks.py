"""Two processes (gloo on the CPU) learn what one learns on the same images: losses in each step, weights at the end.

Networks without batch norm, or with frozen batch norm: its statistics are those of a rank's own images (SyncBatchNorm,
which makes them everybody's, is of GPUs).
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

SCRIPT = """
import os, sys
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.strategies import DDPStrategy
from torch import nn
from weakseg_lightning import modules
from weakseg_lightning.constraints import preset
from weakseg_lightning.data import ScenesDataModule
from weakseg_lightning.energies import GridPotts
from weakseg_lightning.losses import DenseCRFLoss, GatedCRFLoss, GridPottsLoss
from weakseg_lightning.modules import Optimizer
from weakseg_lightning.networks import Network, SegmentationNet

here, folder, *switched_off = sys.argv[1:]
sys.path.append(here)
from discs import TinyDecomposition, TinyTags

class PlainNet(SegmentationNet):
    def __init__(self, num_classes):
        super().__init__((0.5,) * 3, (0.25,) * 3, 1)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
        self.head = nn.Conv2d(8, num_classes, 1)
    def compute_logits(self, x):
        return self.head(self.body(x))
    def head_parameters(self):
        return list(self.head.parameters())

class Plain(Network):
    def build(self, num_classes):
        torch.manual_seed(0)
        return PlainNet(num_classes)

class Apart(modules.ADMModule):
    def shares_forward(self):
        return False

modules.Apart = Apart

class Watch(Callback):
    def __init__(self):
        self.losses = []
    def on_train_epoch_start(self, trainer, module):
        for part in module.net.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.eval()
    def on_train_batch_end(self, trainer, module, *_):
        assert not hasattr(module, "shares_forward") or module.shares_forward() == (not isinstance(module, Apart))
        self.losses.append(float(trainer.callback_metrics["train_loss"]))

whole = {"supervision": "tags", "scale_range": (1.0, 1.0)}
world = int(os.environ.get("WORLD_SIZE", 1))
quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
ranks = {"accelerator": "cpu", "devices": world, "strategy": "auto" if world == 1 else "ddp"}
if world > 1 and torch.__version__ < (2, 12):
    ranks["strategy"] = DDPStrategy(broadcast_buffers=False)
if switched_off:  # each rank counts its own pixels
    from contextlib import nullcontext
    modules.base.ranks_together = nullcontext

def train(name, make, fast=0.3, accumulate=1, **given):
    seed_everything(1, verbose=False)
    given = {"scale_range": (0.5, 1.0)} | given  # padding, so that images differ in what counts
    data = ScenesDataModule(num_train=8, size=32, crop_size=32, batch_size=4 // world, num_workers=0, **given)
    watch = Watch()
    module = make(data.num_classes, Optimizer("sgd", fast, 0.9, 1e-4, 1.0, "poly"))
    trainer = Trainer(max_epochs=2, limit_val_batches=0, callbacks=[watch], default_root_dir=folder,
                      accumulate_grad_batches=accumulate, **ranks, **quiet)
    trainer.fit(module, data)
    weights = torch.nn.utils.parameters_to_vector(module.net.parameters()).detach().clone()
    if trainer.is_global_zero:
        torch.save({"losses": watch.losses, "weights": weights}, f"{folder}/{name}-{world}{len(switched_off)}.pt")
    return trainer

def plain(kind, **given):
    return lambda classes, optimizer: getattr(modules, kind)(Plain(), classes, optimizer=optimizer, **given)

def decomposition(classes, optimizer):
    return modules.DecomposeReconstructModule(TinyDecomposition(), classes, TinyTags("tiny", None), folder + "/g.ckpt",
                                              cls_weight=0.1, optimizer=optimizer)

train("pce", plain("RegularizedLossModule"))
train("adm", plain("ADMModule", pce_fraction=0.0))
train("adm_apart", plain("Apart", pce_fraction=0.0))
train("adm_accumulated", plain("ADMModule", pce_fraction=0.0), accumulate=2)
cycle = {"pce_fraction": 0.0, "epochs_per_cycle": 1}
train("trust_region", plain("TrustRegionModule", **cycle))
train("trust_region_seeds", plain("TrustRegionModule", **cycle, normalizer="seeds"), fast=3)
if not switched_off:
    train("ccnn", plain("CCNNModule", constraints=preset("tags"), map_stride=4), **whole)
    train("ccnn_semi", plain("CCNNModule", constraints=preset("tags"), map_stride=4), **whole, full_share=0.4)
    train("mil", plain("MILModule", map_stride=4), **whole)
    for name, regularizer in (("grid", GridPottsLoss()), ("dense", DenseCRFLoss(1e-6)), ("gated", GatedCRFLoss())):
        train(name, plain("RegularizedLossModule", regularizer=regularizer))
    if world == 1:  # the classifier that both then ask
        train("g", lambda classes, optimizer: modules.TagClassifierModule(TinyTags("tiny", None), classes)
              ).save_checkpoint(folder + "/g.ckpt")
    train("decomposition", decomposition)
"""

COUNTED_IN_PIXELS = ["pce", "adm", "adm_apart", "adm_accumulated", "trust_region", "trust_region_seeds"]
OVER_IMAGES = ["ccnn", "ccnn_semi", "mil", "grid", "dense", "gated", "decomposition"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("equal")
    script = folder / "script.py"
    script.write_text(SCRIPT)
    arguments = [str(script), str(Path(__file__).parent), str(folder)]
    two = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    for command in (arguments, [*two, *arguments], [*two, *arguments, "each"]):
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    return folder


def read(folder: Path, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    found: dict[str, Any] = torch.load(folder / f"{name}.pt")
    return torch.tensor(found["losses"]), found["weights"]


@pytest.mark.parametrize("method", COUNTED_IN_PIXELS + OVER_IMAGES)
def test_two_ranks_learn_what_one_learns_on_the_same_images(folder: Path, method: str) -> None:
    (losses, weights), (losses_of_two, weights_of_two) = (read(folder, f"{method}-{ranks}0") for ranks in (1, 2))
    assert len(losses) == 4
    assert losses.std() > 1e-4, "it has learnt something"
    torch.testing.assert_close(losses_of_two, losses, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(weights_of_two, weights, rtol=0, atol=1e-5)


def test_ranks_that_count_their_own_pixels_would_learn_something_else(folder: Path) -> None:
    for method in COUNTED_IN_PIXELS:
        (_, weights), (_, weights_of_two) = read(folder, f"{method}-10"), read(folder, f"{method}-21")
        assert (weights - weights_of_two).abs().max() > 1e-4, method
