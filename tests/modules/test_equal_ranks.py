"""Two processes (gloo on the CPU) learn what one learns on the same images: losses in each step, weights at the end.

With synchronised batch norm; the methods without a solver with sharded weights, too.
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
from weakseg_lightning.callbacks import PanelWriter
from weakseg_lightning.callbacks.checkpoints import LastCheckpoint
from weakseg_lightning.constraints import preset
from weakseg_lightning.data import ScenesDataModule
from weakseg_lightning.energies import GridPotts
from weakseg_lightning.losses import DenseCRFLoss, GatedCRFLoss, GridPottsLoss
from weakseg_lightning.modules import Optimizer
from weakseg_lightning.networks import Network, SegmentationNet

here, folder, *kind = sys.argv[1:]
sys.path.append(here)
from discs import TinyDecomposition, TinyTags
from on_cpus import CPUShards, allow_sync_batch_norm

allow_sync_batch_norm()
own_pixels, sharded = (kind == [name] for name in ("own_pixels", "sharded"))

class PlainNet(SegmentationNet):
    def __init__(self, num_classes):
        super().__init__((0.5,) * 3, (0.25,) * 3, 1)
        normed = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.body = nn.Sequential(normed, nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
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

class Watch(Callback):
    def __init__(self):
        self.losses = []
    def on_train_batch_end(self, trainer, module, *_):
        assert not hasattr(module, "shares_forward") or module.shares_forward() == (not isinstance(module, Apart))
        self.losses.append(float(trainer.callback_metrics["train_loss"]))

whole = {"supervision": "tags", "scale_range": (1.0, 1.0)}
world = int(os.environ.get("WORLD_SIZE", 1))
quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
ranks = {"accelerator": "cpu", "devices": world, "strategy": "auto" if world == 1 else "ddp"}
if world > 1 and torch.__version__ < "2.12":
    ranks["strategy"] = DDPStrategy(broadcast_buffers=False)
if own_pixels:  # each rank counts its own
    from contextlib import nullcontext
    modules.core.base.ranks_together = nullcontext

def train(name, make, fast=0.3, accumulate=1, callbacks=(), resume=None, **given):
    seed_everything(1, verbose=False)
    given = {"scale_range": (0.5, 1.0)} | given  # padding, so that images differ in what counts
    data = ScenesDataModule(num_train=8, size=32, crop_size=32, batch_size=4 // world, num_workers=0, **given)
    watch = Watch()
    module = make(data.num_classes, Optimizer("sgd", fast, 0.9, 1e-4, 1.0, "poly"))
    trainer = Trainer(max_epochs=2, limit_val_batches=0, callbacks=[watch, *callbacks], default_root_dir=folder,
                      enable_checkpointing=bool(callbacks),
                      accumulate_grad_batches=accumulate, sync_batchnorm=True,
                      **ranks | ({"strategy": CPUShards()} if sharded else {}), **quiet)
    trainer.fit(module, data, ckpt_path=resume, weights_only=True)
    saved = f"{folder}/{'-'.join([name, str(world), *kind])}.ckpt"
    trainer.save_checkpoint(saved)
    if trainer.is_global_zero:
        torch.save(torch.load(saved, weights_only=True) | {"losses": watch.losses}, saved)

def plain(cls, **given):
    return lambda classes, optimizer: cls(Plain(), classes, optimizer=optimizer, **given)

def decomposition(classes, optimizer):
    given = {"cls_weight": 0.1, "optimizer": optimizer, "classifier_checkpoint": folder + "/g-1.ckpt"}
    return modules.DecomposeReconstructModule(TinyDecomposition(), classes, TinyTags("tiny", None), **given)

if sharded:
    train("pce", plain(modules.RegularizedLossModule), callbacks=[PanelWriter(), LastCheckpoint(folder)])
    after_an_epoch = folder + "/previous.ckpt"
    train("pce_resumed", plain(modules.RegularizedLossModule), resume=after_an_epoch)
else:
    train("pce", plain(modules.RegularizedLossModule))
    train("adm", plain(modules.ADMModule, pce_fraction=0.0))
    train("adm_apart", plain(Apart, pce_fraction=0.0))
    train("adm_accumulated", plain(modules.ADMModule, pce_fraction=0.0), accumulate=2)
    cycle = {"pce_fraction": 0.0, "epochs_per_cycle": 1}
    train("trust_region", plain(modules.TrustRegionModule, **cycle))
    train("trust_region_seeds", plain(modules.TrustRegionModule, **cycle, normalizer="seeds"), fast=3)
if not (sharded or own_pixels):
    train("ccnn", plain(modules.CCNNModule, constraints=preset("tags"), map_stride=4), **whole)
    train("ccnn_semi", plain(modules.CCNNModule, constraints=preset("tags"), map_stride=4), **whole, full_fraction=0.4)
if not own_pixels:
    train("mil", plain(modules.MILModule, map_stride=4), **whole)
    for name, regularizer in (("grid", GridPottsLoss()), ("dense", DenseCRFLoss(1e-6)), ("gated", GatedCRFLoss())):
        train(name, plain(modules.RegularizedLossModule, regularizer=regularizer))
    train("g", lambda classes, optimizer: modules.TagClassifierModule(TinyTags("tiny", None), classes,
                                                                      optimizer=optimizer), **whole)
    train("decomposition", decomposition)
"""

COUNTED_IN_PIXELS = ["pce", "adm", "adm_apart", "adm_accumulated", "trust_region", "trust_region_seeds"]
WITH_SOLVER = ["ccnn", "ccnn_semi"]
WITHOUT_SOLVER = ["mil", "grid", "dense", "gated", "g", "decomposition"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("equal")
    script = folder / "script.py"
    script.write_text(SCRIPT)
    arguments = [str(script), str(Path(__file__).parent), str(folder)]
    two = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    for command in (arguments, *([*two, *arguments, *kind] for kind in ([], ["own_pixels"], ["sharded"]))):
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    return folder


def read(folder: Path, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses of the steps; weights and statistics of batch norm at the end."""
    found: dict[str, Any] = torch.load(folder / f"{name}.ckpt", weights_only=True)
    state = [value.flatten().float() for _, value in sorted(found["state_dict"].items())]
    return torch.tensor(found["losses"]), torch.cat(state)


@pytest.mark.parametrize(
    ("method", "ranks"),
    [(method, "2") for method in COUNTED_IN_PIXELS + WITH_SOLVER + WITHOUT_SOLVER]
    + [(method, "2-sharded") for method in ["pce", *WITHOUT_SOLVER]],
)
def test_two_ranks_learn_what_one_learns_on_the_same_images(folder: Path, method: str, ranks: str) -> None:
    (losses, weights), (losses_of_two, weights_of_two) = (read(folder, f"{method}-{ranks}") for ranks in ("1", ranks))
    assert len(losses) == 4
    assert losses.std() > 1e-4, "it has learned something"
    torch.testing.assert_close(losses_of_two, losses, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(weights_of_two, weights, rtol=0, atol=1e-5)


def test_ranks_that_count_their_own_pixels_would_learn_something_else(folder: Path) -> None:
    for method in COUNTED_IN_PIXELS:
        (_, weights), (_, weights_of_two) = read(folder, f"{method}-1"), read(folder, f"{method}-2-own_pixels")
        assert (weights - weights_of_two).abs().max() > 1e-4, method


def test_panels_of_sharded_weights_are_drawn_and_disturb_nothing(folder: Path) -> None:
    assert sorted(path.name for path in (folder / "panels").iterdir()) == ["epoch_0000.png", "epoch_0001.png"]


def test_a_resumed_run_with_sharded_weights_ends_as_the_undisturbed_one(folder: Path) -> None:
    (losses, weights), (losses_after, same) = read(folder, "pce-2-sharded"), read(folder, "pce_resumed-2-sharded")
    assert torch.equal(losses_after, losses[2:])
    assert torch.equal(same, weights)
