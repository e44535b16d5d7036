import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from gpu import gains, table

BENCHMARKS = Path(__file__).parents[1]


def row(method, speed, **others):
    measured = {"images_per_second": speed, "step_ms": 12000 / speed, "solver": None, "waiting": 0.01, "peak_gib": None}
    return {"network": "resnet101", "method": method, **measured, **others}


def test_rows_are_compared_with_pce_of_their_network_and_failures_are_told():
    rows = [row("pCE", 100.0, peak_gib=30.04), row("ADM", 80.0, solver=0.2)]
    failed = {"network": "resnet101", "method": "Dense-GD", "error": "RuntimeError: out of | memory"}
    other = row("ADM", 50.0) | {"network": "mobilenet_v2"}
    header, rule, *lines = table([*rows, failed, other]).splitlines()
    assert {line.count("|") for line in lines} == {header.count("|")} == {rule.count("---") + 1}
    assert lines == [
        "| resnet101 | pCE | 100.0 | 100.0 % | 120.0 | - | 1.0 % | 30.0 |",
        "| resnet101 | ADM | 80.0 | 80.0 % | 150.0 | 20.0 % | 1.0 % | - |",
        "| resnet101 | Dense-GD | RuntimeError: out of / memory |  |  |  |  |  |",
        "| mobilenet_v2 | ADM | 50.0 | - | 240.0 | - | 1.0 % | - |",
    ]


def test_the_gain_of_a_lag_is_that_of_adm_where_both_were_measured():
    lagging = row("ADM, latent_lag 1", 88.0)
    assert gains([row("ADM", 80.0), lagging]) == {"resnet101": pytest.approx(0.1)}
    assert gains([lagging]) == {}
    assert gains([{"network": "resnet101", "method": "ADM", "error": "no"}, lagging]) == {}


@pytest.mark.skipif(sys.platform != "linux", reason="the simulated device is written for Linux")
@pytest.mark.skipif(torch.__version__ < "2.10", reason="what PyTorch asks of a device differs before 2.10")
def test_all_that_is_measured_on_a_gpu_can_be_tried_on_the_simulated_device(tmp_path):
    words = ["gpu", "--accelerator", "sim", "--quick", "--out", tmp_path, "--methods", "pCE", "ADM"]
    done = subprocess.run([sys.executable, BENCHMARKS, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert (tmp_path / "gpu.md").read_text() in done.stdout
    plain, adm = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert plain["device"] == "sim"
    assert plain["solver"] is None
    assert 0 < adm["solver"] < 1
    with gzip.open(tmp_path / "trace.json.gz") as file:
        names = {event["name"] for event in json.load(file)["traceEvents"]}
    assert "aten::convolution" in names
    assert "aten::convolution" in (tmp_path / "trace.txt").read_text()
