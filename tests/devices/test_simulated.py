"""The tests of this folder on the simulated device, in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent


@pytest.mark.skipif(sys.platform != "linux", reason="the simulated device is written for Linux")
@pytest.mark.skipif(torch.__version__ < "2.10", reason="what PyTorch asks of a device differs before 2.10")
def test_all_tests_of_devices_pass_on_the_simulated_one():
    # Ranks are for CUDA alone; a file that is named here is collected whatever conftest.py says.
    files = sorted(set(HERE.glob("test_*.py")) - {Path(__file__), HERE / "test_ranks.py"})
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *map(str, files)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"WEAKSEG_TEST_DEVICE": "sim", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    skipped = [line for line in done.stdout.splitlines() if line.startswith("SKIPPED")]
    assert all("no code for the simulated device" in line for line in skipped), skipped
