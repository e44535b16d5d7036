"""Ranks on GPUs, by NCCL, learn what one process learns on the same images: with DDP, and with shards (FSDP).

A single GPU runs both with one rank.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from processes import variables_of_ranks
from ranks import TRAINED

pytestmark = pytest.mark.gpu
RANKS = [1, pytest.param(2, marks=pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are no two GPUs"))]
CASES = [(strategy, name) for strategy in ("ddp", "fsdp") for name in TRAINED[strategy]]


@pytest.fixture(scope="module")
def trained(device, tmp_path_factory):
    """``trained(strategy, ranks)`` trains once, and returns the folder with what came out."""
    folder, done = tmp_path_factory.mktemp("ranks"), set()

    def train(strategy, ranks):
        if (strategy, ranks) in done:
            return folder
        words = [sys.executable, str(Path(__file__).with_name("ranks.py")), str(folder), strategy]
        variables = [{}] if strategy == "auto" else variables_of_ranks(ranks)
        started = [subprocess.Popen(words, env={**os.environ, **more}) for more in variables]
        try:
            assert [process.wait(300) for process in started] == [0] * len(started)
        finally:
            for process in started:
                process.kill()
        done.add((strategy, ranks))
        return folder

    return train


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize(("strategy", "name"), CASES)
def test_ranks_learn_what_one_process_learns(strategy, name, ranks, trained):
    expected = torch.load(trained("auto", 1) / f"{name}-auto-1.ckpt")
    found = torch.load(trained(strategy, ranks) / f"{name}-{strategy}-{ranks}.ckpt")
    assert torch.tensor(expected["losses"]).std() > 1e-4, "it has learned something"
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
