"""A job of SLURM, played by its environment, its signal and a `scontrol` that writes down what it is asked for."""

import os
import signal
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
import torch
from processes import kill, wait_for, wait_for_text
from small_fit import start_rank, weights_of

from weakseg_lightning.callbacks.slurm import checkpoint_of_job, job_id, sign

SMALL = ["--trainer.max_steps=36", "--name=job"]


def start(folder: Path, log: str, ranks: int, job: dict[str, str]) -> list[ForkServerProcess]:
    """Start a rank each as `srun` does; 24 steps per epoch."""
    sizes = [f"--trainer.devices={ranks}", f"--data.num_train={48 * ranks}"] + ["--trainer.strategy=ddp"] * (ranks > 1)
    tasks = {"SLURM_NTASKS": str(ranks), "SLURM_NTASKS_PER_NODE": str(ranks), "SLURM_JOB_NAME": "train"}
    tasks |= {"SLURM_NNODES": "1", "SLURM_NODEID": "0", "MASTER_ADDR": "127.0.0.1"} | job
    names = ("SLURM_PROCID", "SLURM_LOCALID")
    return [
        start_rank([*SMALL, *sizes], folder / f"{log}{rank}", **tasks, **dict.fromkeys(names, str(rank)))
        for rank in range(ranks)
    ]


def ended_well(processes: list[ForkServerProcess]) -> bool:
    return not any(wait_for(processes, 300))


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_job_that_is_announced_to_end_is_requeued_and_goes_on_within_its_epoch(ranks: int, tmp_path: Path) -> None:
    (undisturbed := tmp_path / "undisturbed").mkdir()
    (folder := tmp_path / "job").mkdir()
    assert ended_well(start(undisturbed, "log", ranks, {"SLURM_JOB_ID": "76"}))

    scontrol = folder / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" > {folder}/asked.txt\n')
    scontrol.chmod(0o755)
    job = {"SLURM_JOB_ID": "77", "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    processes = start(folder, "first", ranks, job)
    try:
        wait_for_text(folder / "first0", "Latent solver:", processes)  # all is set up, training is about to begin
        for process in reversed(processes):  # in other moments, or other steps
            os.kill(process.pid, signal.SIGUSR1)
            time.sleep(0.1)
        wait_for_text(folder / "asked.txt", "requeue 77\n", processes)
    finally:
        kill(processes)
    first = torch.load(folder / "runs/job/version_0/checkpoints/last.ckpt", weights_only=True)
    assert 0 < first["global_step"] < 24, "within the first epoch, whose end would have saved by itself"

    assert ended_well(start(folder, "second", ranks, job | {"SLURM_RESTART_COUNT": "1"}))
    said = (folder / "second0").read_text()
    assert "requeued, it goes on from runs/job/version_0/checkpoints/last.ckpt" in said, said[-2000:]
    ended, expected = (weights_of(run) for run in (folder / "runs/job/version_1", undisturbed / "runs/job/version_0"))
    assert all(torch.equal(ended[name], expected[name]) for name in expected)


def test_only_a_requeued_job_goes_on_and_only_from_its_own_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID", raising=False)
    for number, (job, file) in enumerate([("5", "last.ckpt"), ("6", "last.ckpt"), ("5", "previous.ckpt"), ("5", None)]):
        folder = tmp_path / f"version_{number}"
        (folder / "checkpoints").mkdir(parents=True)
        monkeypatch.setenv("SLURM_JOB_ID", job)
        sign(folder)
        if file is not None:
            (folder / "checkpoints" / file).touch()
            os.utime(folder / "checkpoints" / file, (number, number))
    assert checkpoint_of_job(tmp_path) is None, "started for the first time"
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert checkpoint_of_job(tmp_path) == str(tmp_path / "version_2" / "checkpoints" / "last.ckpt")
    monkeypatch.setenv("SLURM_JOB_ID", "6")
    assert checkpoint_of_job(tmp_path) == str(tmp_path / "version_1" / "checkpoints" / "last.ckpt")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert checkpoint_of_job(tmp_path) is None


def test_a_job_of_an_array_is_known_by_its_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "9")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "8")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert job_id() == "8_3"
