"""Two machines, made of network namespaces on this one: own addresses, a cable between, one rank on each."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from processes import variables_of_ranks, wait_for
from small_fit import arguments, start_rank, weights_of

MACHINES = {"weakseg0": "10.77.31.1", "weakseg1": "10.77.31.2"}
SMALL = [
    *("--trainer.strategy=ddp", "--trainer.max_steps=20", "--last_checkpoint.every_n_minutes=0"),
    *("--data.num_train=20", "--name=two"),
]


@pytest.fixture(scope="module")
def machines() -> Iterator[None]:
    """Two namespaces with an address each; skipped where they cannot be made."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("making network namespaces takes root and iproute2")
    first, second = MACHINES
    commands = [
        *(f"netns add {name}" for name in MACHINES),
        f"link add {first} netns {first} type veth peer name {second} netns {second}",
        *(f"-n {name} address add {address}/24 dev {name}" for name, address in MACHINES.items()),
        *(f"-n {name} link set {device} up" for name in MACHINES for device in (name, "lo")),
    ]
    try:
        for command in commands:
            done = subprocess.run(["ip", *command.split()], capture_output=True, text=True, check=False)
            if done.returncode != 0:
                pytest.skip(f"network namespaces cannot be made here: {done.stderr.strip()}")
        yield
    finally:
        for name in MACHINES:
            switch_off(name)
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def launch(folder: Path, port: int, *more: str) -> list[subprocess.Popen[bytes]]:
    """Start the same training on both machines by torchrun."""
    started = []
    shape = ("--trainer.devices=1", "--trainer.num_nodes=2")
    for rank, name in enumerate(MACHINES):
        launcher = [
            *("ip", "netns", "exec", name, sys.executable, "-m", "torch.distributed.run"),
            *("--nnodes=2", "--nproc_per_node=1", f"--node_rank={rank}", f"--master_port={port}"),
            *(f"--master_addr={MACHINES['weakseg0']}", "-m", "weakseg_lightning"),
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": name}
        command = [*launcher, *arguments([*SMALL, *shape, *more])]
        with (folder / f"{port}-{rank}.log").open("wb") as file:
            started.append(subprocess.Popen(command, cwd=folder, env=environment, stdout=file, stderr=file))
    return started


def switch_off(machine: str) -> None:
    """Kill all that runs on a machine; torchrun starts its workers in sessions of their own."""
    pids = subprocess.run(["ip", "netns", "pids", machine], capture_output=True, text=True, check=False).stdout
    for pid in map(int, pids.split()):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def finish(processes: list[subprocess.Popen[bytes]], folder: Path) -> None:
    try:
        codes = [process.wait(timeout=400) for process in processes]
    finally:
        for machine in MACHINES:
            switch_off(machine)
    assert codes == [0, 0], "\n".join(path.read_text()[-2000:] for path in sorted(folder.glob("*.log")))


@pytest.mark.usefixtures("machines")
def test_a_machine_that_is_lost_costs_nothing_but_a_restart(tmp_path: Path) -> None:
    """The two end with the weights of two ranks on one machine that nobody disturbed."""
    undisturbed = [
        start_rank([*SMALL, "--trainer.devices=2"], tmp_path / f"one-{rank}.log", **variables)
        for rank, variables in enumerate(variables_of_ranks(2))
    ]
    assert wait_for(undisturbed, 400) == [0, 0], (tmp_path / "one-0.log").read_text()[-2000:]
    first, second = launch(tmp_path, 29812)
    last = tmp_path / "runs/two/version_1/checkpoints/last.ckpt"
    started = time.monotonic()
    while not last.exists():
        assert first.poll() is None, (tmp_path / "29812-0.log").read_text()[-2000:]
        assert time.monotonic() - started < 400
        time.sleep(0.05)
    switch_off("weakseg1")
    second.wait(timeout=60)
    try:
        assert first.wait(timeout=120) != 0, "the other machine notices, and does not wait for ever"
    finally:
        switch_off("weakseg0")
    assert torch.load(last, weights_only=True)["global_step"] < 20, "killed within the run"
    finish(launch(tmp_path, 29813, f"--ckpt_path={last}"), tmp_path)
    expected, resumed = (weights_of(tmp_path / f"runs/two/version_{run}", 20) for run in (0, 2))
    assert expected.keys() == resumed.keys()
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)
