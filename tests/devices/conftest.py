"""The device that the tests of this folder run on, beside the CPU.

CUDA, where there is a GPU: `pytest -m gpu`. With the environment variable WEAKSEG_TEST_DEVICE=sim the simulated one,
which `test_simulated.py` does in a process of its own: a device is known to all of PyTorch once it is loaded.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import SingleDeviceStrategy
from simulated import SimAccelerator, load
from small_runs import quiet_trainer
from torch import Tensor

NAME = os.environ.get("WEAKSEG_TEST_DEVICE", "cuda")
collect_ignore = ["test_ranks.py"] if NAME == "sim" else ["test_counts.py", "test_simulated_device.py"]


@pytest.fixture(scope="session")
def device() -> torch.device:
    """The device under test."""
    if NAME == "sim":
        load()
    elif not torch.cuda.is_available():
        pytest.skip("no GPU here; test_simulated.py runs this on the simulated device")
    else:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False  # to compare with the CPU
    return torch.device(NAME, 0)


@pytest.fixture(autouse=True)
def _untouched() -> Iterator[None]:
    """Fail where something on the CPU read or wrote memory of the simulated device."""
    if hasattr(torch, "sim"):
        torch.ops.sim.watch()
    yield
    if hasattr(torch, "sim"):
        torch.ops.sim.synchronize()
        assert torch.ops.sim.take_touched() == 0, "the CPU touched memory of the device"


@pytest.fixture
def trainer_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Trainer]:
    """Small trainers on a device: ``trainer_on(device, max_steps=4)``."""
    monkeypatch.setenv("PL_GLOBAL_SEED", "3")

    def make(where: torch.device | str, **options: Any) -> Trainer:
        settings: dict[str, Any] = {"max_steps": 4, "max_epochs": -1, "log_every_n_steps": 1} | options
        if (kind := torch.device(where).type) == "sim":
            settings |= {"accelerator": SimAccelerator(), "strategy": SingleDeviceStrategy(torch.device("sim", 0))}
        else:
            settings |= {"accelerator": kind, "devices": 1}
        return quiet_trainer(str(tmp_path), **settings)

    return make


@pytest.fixture
def same(device: torch.device) -> Callable[..., None]:
    """Compare numbers of the CPU with those of the device: ``same(expected, found)``.

    The simulated device computes them bit for bit, but where the CPU has kernels of its own (``rounds=True``).
    """
    tolerances = {True: {"rtol": 1e-4, "atol": 1e-6}, False: {"rtol": 0.0, "atol": 0.0}}

    def compare(expected: Any, found: Any, rounds: bool = False) -> None:
        allowed = tolerances[rounds] if device.type == "sim" else {"rtol": 1e-2, "atol": 1e-3}
        torch.testing.assert_close(_on_cpu(found), _on_cpu(expected), equal_nan=True, **allowed)

    return compare


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {name: _on_cpu(each) for name, each in value.items()}
    return [_on_cpu(each) for each in value] if isinstance(value, list | tuple) else value
