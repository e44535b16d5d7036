"""Two real processes (gloo on the CPU) and a shuffling sampler against one process; a process that is killed."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from weakseg_lightning.data import ScenesDataModule
from weakseg_lightning.latents import LatentStore
from weakseg_lightning.modules import TrustRegionModule
from weakseg_lightning.modules.amortized import _digest

COMMON = """
import sys
from lightning.pytorch import Trainer, seed_everything
from weakseg_lightning.data import ScenesDataModule
from weakseg_lightning.energies import GridPotts
from weakseg_lightning.latents import LatentStore
from weakseg_lightning.modules import Optimizer, TrustRegionModule
from weakseg_lightning.networks import SMPNetwork
from weakseg_lightning.solvers import AlphaExpansion

def make_data():
    # no smaller crops: batch norm on two values at the deepest layer makes the gradients explode
    return ScenesDataModule(num_train=14, num_val=1, size=64, crop_size=48, batch_size=2, num_workers=0)

def make_module(path, classes):
    solver = AlphaExpansion(GridPotts(100, normalize_edges=True), unary_weight=0.5, start="zeros")
    network = SMPNetwork(architecture="unet", encoder="mobilenet_v2", encoder_weights=None)
    seed_everything(1, verbose=False)
    return TrustRegionModule(network, classes, solver, store=LatentStore(path), epochs_per_cycle=2, pce_fraction=0.0,
                             optimizer=Optimizer(lr=0.05))

quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
"""

TWO_RANKS = """
import torch
from lightning.pytorch import Callback

kind, folder = sys.argv[1], sys.argv[2]

class Count(Callback):
    solved = []
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.solved += [(trainer.current_epoch, batch["id"][position]) for position in batch.get("whole", {})]

data, count = make_data(), Count()
module = make_module(None if kind == "memory" else folder + "/latents", data.num_classes)
trainer = Trainer(accelerator="cpu", strategy="ddp", devices=2, max_epochs=4, limit_val_batches=0,
                  default_root_dir=folder, callbacks=[count], **quiet)
trainer.fit(module, data)
trainer.save_checkpoint(folder + "/trained.ckpt")
torch.save(count.solved, folder + f"/solved-{trainer.global_rank}")
"""


def run(script: Path, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, script, *arguments], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module", params=["memory", "folder"])
def trained(request, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    script = folder / "script.py"
    script.write_text(COMMON + TWO_RANKS)
    run(script, request.param, str(folder))
    return folder


@pytest.fixture(scope="module")
def scripted() -> dict:
    """What the scripts define."""
    names: dict = {}
    exec(COMMON, names)
    return names


def test_ranks_share_the_work_and_hand_labellings_on(trained: Path) -> None:
    solved = [torch.load(trained / f"solved-{rank}") for rank in range(2)]
    for cycle in (0, 1):
        images = [{name for epoch, name in mine if epoch // 2 == cycle} for mine in solved]
        everything = [name for mine in solved for epoch, name in mine if epoch // 2 == cycle]
        assert not images[0] & images[1], "nobody solves for what the other has found"
        assert len(everything) == len(set(everything)) >= 12, "12 of 14 images come in an epoch of 3 batches a rank"


def test_labellings_of_two_ranks_are_those_of_one_process(trained: Path, scripted: dict) -> None:
    """The last cycle by hand: its network, whole images one by one, warm from the cycle before."""
    state = torch.load(trained / "trained.ckpt", weights_only=True)["amortized"]
    data: ScenesDataModule = scripted["make_data"]()
    module: TrustRegionModule = scripted["make_module"](None, data.num_classes)
    memory = not (trained / "latents").exists()
    store = LatentStore(None if memory else str(trained / "latents"))
    store.settings = state["store"]["settings"]
    store.load_state_dict(state["store"])
    net = module.net.eval()
    net.load_state_dict(state["net"])
    assert store.generations[-1] == f"001-{_digest(net)}"
    source, found = data.train_source(), 0
    for index, name in enumerate(source.ids):
        stored = store.get(name)
        if stored is None:
            continue
        sample, before = source[index], store.get(name, age=1)
        present = torch.zeros(1, data.num_classes, dtype=torch.bool)
        present[0, [0, *sample.seeds[sample.seeds != 255].long().tolist()]] = True
        with torch.no_grad():
            logits = net(sample.image[None].float() / 255)
        result = module.solver.solve(
            logits,
            sample.image[None].float() / 255,
            seeds=sample.seeds[None].long(),
            label_set=present | (present.sum(1, keepdim=True) < 2),
            initial=None if before is None else torch.tensor(before)[None],
        )
        assert np.array_equal(result.labels[0].numpy(), stored), name
        found += 1
    assert found >= 12


KILLED = """
# Forks a run that kills itself at a random moment of stage A, a little after a solve began; resumes it from its last
# checkpoint, again and again, then lets it end. A fork takes no time: everything is imported.
import os, random, signal
from pathlib import Path
from threading import Timer
import torch
from lightning.pytorch import Callback

folder, kind, kills = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
last, chance = folder / "last.ckpt", random.Random(3)

class Keep(Callback):
    def on_train_epoch_end(self, trainer, module):
        trainer.save_checkpoint(folder / "next.ckpt")
        os.replace(folder / "next.ckpt", last)

class Mortal(TrustRegionModule):
    solves_left, delay = None, 0.0
    def solve_latent(self, logits, batch):
        if self.solves_left is not None:
            self.solves_left -= 1
            if self.solves_left < 0:
                Timer(self.delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
                self.solves_left = None
        return super().solve_latent(logits, batch)

def train(path, end, callbacks, solves_left=None, delay=0.0):
    torch.set_num_threads(1)
    data = make_data()
    module = make_module(path, data.num_classes)
    module.__class__, module.solves_left, module.delay = Mortal, solves_left, delay
    trainer = Trainer(accelerator="cpu", max_epochs=8, limit_val_batches=0, default_root_dir=folder,
                      callbacks=callbacks, **quiet)
    resume = last if callbacks and last.exists() else None
    trainer.fit(module, data, ckpt_path=resume, weights_only=True)
    torch.save(module.net.state_dict(), end)

def status_of_fork(*arguments):
    child = os.fork()
    if child == 0:
        try:
            train(*arguments)
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1]

assert status_of_fork(None, folder / "undisturbed", []) == 0
path, killed = None if kind == "memory" else str(folder / "latents"), 0
while killed < kills:
    status = status_of_fork(path, folder / "killed", [Keep()], chance.randrange(24), chance.uniform(0, 0.02))
    killed += os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    if not os.WIFSIGNALED(status):  # the run came to its end first: begin the next one
        assert status == 0
        last.unlink()
assert status_of_fork(path, folder / "killed", [Keep()]) == 0
"""


@pytest.mark.parametrize("kind", ["memory", "folder"])
def test_killed_twenty_times_in_stage_a_it_ends_with_the_weights_of_the_undisturbed_run(kind: str, tmp_path) -> None:
    script = tmp_path / "script.py"
    script.write_text(COMMON + KILLED)
    run(script, str(tmp_path), kind, "20")
    undisturbed, killed = (torch.load(tmp_path / name, weights_only=True) for name in ("undisturbed", "killed"))
    assert undisturbed.keys() == killed.keys()
    assert all(torch.equal(undisturbed[name], killed[name]) for name in killed)
    if kind == "folder":
        left = [path.name for path in (tmp_path / "latents").rglob("*") if path.is_file()]
        assert all(name.endswith((".labels", ".json")) or ".labels." in name for name in left)
