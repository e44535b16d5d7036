"""Two real processes (gloo on the CPU) and a shuffling sampler against one process."""

import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from two_ranks_amortized import make_data, make_module

from weakseg_lightning.modules.core.amortized import _digest
from weakseg_lightning.modules.core.latent_store import LatentStore


@pytest.fixture(scope="module")
def object_store():
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


def wait_for(port, seconds=60):
    """Wait until somebody listens."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"nothing listens at port {port} after {seconds} s")


@pytest.fixture(scope="module", params=["memory", "folder", "object store"])
def trained(request, tmp_path_factory, run_program):
    """The folder of a run on two ranks, and the path of its store; of a folder, the workers look labelings up."""
    folder = tmp_path_factory.mktemp(request.param.replace(" ", "-"))
    path = None if request.param == "memory" else str(folder / "latents")
    if request.param == "object store":
        path = request.getfixturevalue("object_store") + "/run"
    # A worker that is forked beside the threads of s3fs may stand still for ever: seen under load.
    run_program("ranks/two_ranks_amortized.py", folder, path or "", int(request.param == "folder"), ranks=2)
    return folder, path


def test_ranks_share_the_work_and_hand_labelings_on(trained):
    solved = [torch.load(trained[0] / f"solved-{rank}") for rank in range(2)]
    for cycle in (0, 1):
        images = [{name for epoch, name in mine if epoch // 2 == cycle} for mine in solved]
        everything = [name for mine in solved for epoch, name in mine if epoch // 2 == cycle]
        assert not images[0] & images[1], "nobody solves for what the other has found"
        assert len(everything) == len(set(everything)) >= 12, "12 of 14 images come in an epoch of 3 batches a rank"


def test_a_checkpoint_within_an_epoch_holds_the_labelings_of_all_ranks(trained):
    folder, path = trained
    state = torch.load(folder / "within.ckpt", weights_only=True)["amortized"]["store"]
    solved = [name for rank in range(2) for _, name in torch.load(folder / f"within-{rank}")]
    assert len(set(solved)) == 8, "2 batches of 2 on each rank"
    if path is None:
        (held,) = state["entries"].values()
        assert sorted(held["ids"]) == sorted(solved)
    else:
        assert state["entries"] == {}


def test_labelings_of_two_ranks_are_those_of_one_process(trained):
    """The last cycle by hand: its network, whole images one by one, warm from the cycle before."""
    folder, path = trained
    state = torch.load(folder / "trained.ckpt", weights_only=True)["amortized"]
    data = make_data()
    module = make_module(None, data.num_classes)
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
