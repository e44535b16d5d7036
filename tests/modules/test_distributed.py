"""Two real processes (gloo on the CPU) against one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import dataclasses, json, os, sys
import torch
from weakseg_lightning.constraints import preset
from lightning.pytorch import Trainer, seed_everything
from weakseg_lightning.data import ScenesDataModule
from weakseg_lightning.losses import DenseCRFLoss
from weakseg_lightning.modules import ADMModule, CCNNModule, RegularizedLossModule, TrustRegionModule
from weakseg_lightning.networks import SMPNetwork

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

class Diverging(ADMModule):
    def latent_loss(self, logits, latent, batch):
        terms = super().latent_loss(logits, latent, batch)
        return terms | ({"latent": logits.sum() * float("nan")} if self.global_rank == 1 else {})

class Watched(DenseCRFLoss):
    seen = 0
    def forward(self, logits, image, valid=None, built=None):
        fresh = self.build(image, valid)
        assert torch.equal(built.vertices, fresh.vertices) and torch.equal(built.weights, fresh.weights)
        self.seen += 1
        return super().forward(logits, image, valid, built)

def trained_module(mode):
    seed_everything(1)
    data = ScenesDataModule(num_train=8, num_val=5, size=48, crop_size=32, batch_size=2, num_workers=0)
    network = SMPNetwork(architecture="unet", encoder="mobilenet_v2", encoder_weights=None)
    module = ADMModule(network, data.num_classes, pce_fraction=0.0)
    if mode == "apart":
        module = Apart(network, data.num_classes, pce_fraction=0.0)
    if mode in ("skip", "stop"):
        module = Failing(network, data.num_classes, pce_fraction=0.0, on_unsolved=mode)
    if mode == "unused":  # by the encoder, and in the first phase the level of noise
        encoder = SMPNetwork(architecture="unet", encoder="timm-tf_efficientnet_lite0", encoder_weights=None)
        data = ScenesDataModule(num_train=8, size=64, crop_size=64, batch_size=2, num_workers=0)
        module = TrustRegionModule(encoder, data.num_classes, learn_eps=True, pce_fraction=0.5)
    if mode == "diverge":
        module = Diverging(network, data.num_classes, pce_fraction=0.0)
    if mode == "ccnn":
        data = ScenesDataModule(num_train=8, size=48, crop_size=48, batch_size=2, supervision="tags", full_fraction=0.5)
        module = Checked(network, data.num_classes, preset("tags"), map_stride=4)
    if mode == "dense":
        data = ScenesDataModule(num_train=8, size=48, crop_size=48, batch_size=2, scale_range=(0.5, 1.0), num_workers=1)
        module = RegularizedLossModule(network, data.num_classes, regularizer=Watched(1e-6, build_in="workers"))
    return module, data

def result_of(mode, folder):
    module, data = trained_module(mode)
    ranks = {"strategy": "ddp", "devices": 2} if mode != "one" else {"devices": 1}
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    quiet |= {"limit_val_batches": 1.0 if mode in ("one", "two") else 0}
    trainer = Trainer(accelerator="cpu", max_epochs=1, default_root_dir=folder, **quiet, **ranks)
    if mode in ("one", "two"):
        return trainer.validate(module, data, ckpt_path=folder + "/trained.ckpt", weights_only=True, verbose=False)[0]
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
    open(folder + "/results.json", "w").write(json.dumps(results))
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    folder = tmp_path_factory.mktemp("ranks")
    script = folder / "script.py"
    script.write_text(SCRIPT)
    return run(script, folder, "train", "apart", "two", "ccnn", "dense", "unused", "skip") | run(script, folder, "one")


def run(script: Path, folder: Path, *modes: str) -> dict[str, dict[str, float]]:
    command = [sys.executable, script, folder, *modes]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "results.json").read_text())  # type: ignore[no-any-return]


def test_hook_trains_on_two_ranks_and_batch_norm_counts_each_step_once(results: dict[str, dict[str, float]]) -> None:
    for mode in ("train", "apart"):  # one forward pass for hook and step, or two
        assert results[mode]["counted"] == 2, "8 images, 2 ranks, batches of 2"
        assert results[mode]["same"]


def test_constrained_cnn_trains_on_two_ranks(results: dict[str, dict[str, float]]) -> None:
    assert results["ccnn"]["same"]
    assert 0 <= results["ccnn"]["loss"] < float("inf")


def test_weights_that_are_not_used_do_not_stop_two_ranks(results: dict[str, dict[str, float]]) -> None:
    assert results["unused"]["same"]


def test_dense_crf_trains_on_two_ranks_with_lattices_from_their_workers(results: dict[str, dict[str, float]]) -> None:
    assert results["dense"]["same"]
    assert results["dense"]["seen"] == 2, "8 images, 2 ranks, batches of 2"


def test_an_image_that_one_rank_cannot_solve_is_skipped(results: dict[str, dict[str, float]]) -> None:
    assert results["skip"]["same"]


def test_an_image_that_one_rank_cannot_solve_ends_all_ranks_with_its_name(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, script, tmp_path, "stop"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)  # and does not hang
    assert ended.returncode != 0
    assert "has no latent labeling: too hard" in ended.stderr


def test_a_loss_that_is_not_finite_on_one_rank_ends_both_in_the_same_step(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, script, tmp_path, "diverge"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)  # and does not hang
    assert ended.returncode != 0
    assert "not finite at iteration 0 (on another rank)" in ended.stderr
    assert "not finite at iteration 0 (first images: " in ended.stderr


def test_two_ranks_score_as_one_to_the_last_digit(results: dict[str, dict[str, float]]) -> None:
    assert results["one"].keys() == results["two"].keys()
    assert "val_miou" in results["one"]
    # 5 images on 2 ranks: a sampler that repeats images would count one twice
    counts = {name: value for name, value in results["one"].items() if "energy" not in name}
    assert {name: results["two"][name] for name in counts} == counts
    assert results["two"]["val_grid_energy"] == pytest.approx(results["one"]["val_grid_energy"], rel=1e-6)
