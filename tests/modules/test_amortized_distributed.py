"""Two real processes (gloo on the CPU) and a shuffling sampler against one process."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from weakseg_lightning.data import ScenesDataModule
from weakseg_lightning.modules import TrustRegionModule
from weakseg_lightning.modules.core.amortized import _digest
from weakseg_lightning.modules.core.latent_store import LatentStore

COMMON = """
import sys
from lightning.pytorch import Trainer, seed_everything
from weakseg_lightning.data import ScenesDataModule
from weakseg_lightning.energies import GridPotts
from weakseg_lightning.modules.core.latent_store import LatentStore
from weakseg_lightning.modules import Optimizer, TrustRegionModule
from weakseg_lightning.networks import SMPNetwork
from weakseg_lightning.solvers import AlphaExpansion

def make_data(num_workers=0):
    # no smaller crops: batch norm on two values at the deepest layer makes the gradients explode
    return ScenesDataModule(num_train=14, num_val=1, size=64, crop_size=48, batch_size=2, num_workers=num_workers)

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

folder, path = sys.argv[1], sys.argv[2] or None

class Count(Callback):
    solved = []
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.solved += [(trainer.current_epoch, batch["id"][position]) for position in batch.get("whole", {})]

data, count = make_data(num_workers=int(sys.argv[3])), Count()
module = make_module(path, data.num_classes)
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


@pytest.fixture(scope="module")
def object_store() -> Iterator[str]:
    """The address of an empty bucket of a local server that speaks S3."""
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    pytest.importorskip("moto", reason="moto is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-p", str(port)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server, pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        try:
            wait_for(port)
            yield "s3://labelings"
        finally:
            server.terminate()


def wait_for(port: int, seconds: float = 60) -> None:
    """Wait until somebody listens."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"nothing listens at port {port} after {seconds} s")


@pytest.fixture(scope="module", params=["memory", "folder", "object store"])
def trained(request, tmp_path_factory) -> tuple[Path, str | None]:
    """The folder of a run on two ranks, and the path of its store; of a folder, the workers look labelings up."""
    folder = tmp_path_factory.mktemp(request.param.replace(" ", "-"))
    path = None if request.param == "memory" else str(folder / "latents")
    if request.param == "object store":
        path = request.getfixturevalue("object_store") + "/run"
    script = folder / "script.py"
    script.write_text(COMMON + TWO_RANKS)
    # A worker that is forked beside the threads of s3fs may stand still for ever: seen under load.
    run(script, str(folder), path or "", "1" if request.param == "folder" else "0")
    return folder, path


@pytest.fixture(scope="module")
def scripted() -> dict:
    """What the scripts define."""
    names: dict = {}
    exec(COMMON, names)
    return names


def test_ranks_share_the_work_and_hand_labelings_on(trained: tuple[Path, str | None]) -> None:
    solved = [torch.load(trained[0] / f"solved-{rank}") for rank in range(2)]
    for cycle in (0, 1):
        images = [{name for epoch, name in mine if epoch // 2 == cycle} for mine in solved]
        everything = [name for mine in solved for epoch, name in mine if epoch // 2 == cycle]
        assert not images[0] & images[1], "nobody solves for what the other has found"
        assert len(everything) == len(set(everything)) >= 12, "12 of 14 images come in an epoch of 3 batches a rank"


def test_labelings_of_two_ranks_are_those_of_one_process(trained: tuple[Path, str | None], scripted: dict) -> None:
    """The last cycle by hand: its network, whole images one by one, warm from the cycle before."""
    folder, path = trained
    state = torch.load(folder / "trained.ckpt", weights_only=True)["amortized"]
    data: ScenesDataModule = scripted["make_data"]()
    module: TrustRegionModule = scripted["make_module"](None, data.num_classes)
    store = LatentStore(path)
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
