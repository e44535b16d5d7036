import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from weakseg_lightning.solvers.potts import gco as external

ADM = ["fit", "--config", "recipes/adm/adm_grid.yaml"]


def test_gco_is_chosen_by_its_name_and_keeps_the_recipes_options(run, capsys):
    Path("gco.yaml").write_text("model: {init_args: {solver: {class_path: GCO, init_args: {start: zeros}}}}")
    with pytest.raises(SystemExit):
        run(*ADM, "--config", "gco.yaml", "--print_config")
    solver = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]["solver"]
    assert solver["class_path"] == "weakseg_lightning.solvers.GCO"
    expected = {"weight": 80.0, "connectivity": 8, "normalize_edges": False, "edges": "contrast", "dilation": 5}
    assert solver["init_args"] == {"potts": expected, "unary_weight": 1.0, "max_sweeps": 5, "start": "zeros"}


@pytest.mark.skipif(find_spec("gco") is None, reason="gco-wrapper is not installed (extra `gco`)")
def test_a_run_with_gco(run, tiny):
    status, out, err = run(*ADM, *tiny, "--model.solver=GCO")
    assert status == 0, err
    assert "val_miou" in out


def test_without_gco_the_command_says_what_to_install(run, tiny, monkeypatch):
    external.load_gco.cache_clear()
    monkeypatch.setitem(sys.modules, "gco", None)  # what Python takes for "not installed"
    status, _, err = run(*ADM, *tiny, "--model.solver=GCO")
    assert status == 2
    assert err.endswith(
        "weakseg: error: GCO: the solver `GCO` needs gco-wrapper, not installed here: "
        'pip install ".[gco]" in the checkout\n'
    )
