import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from weakseg_lightning import __version__
from weakseg_lightning.cli import main

WITHOUT_TORCH = """
import sys
import weakseg_lightning
from weakseg_lightning.cli import main
status = main(sys.argv[1:])
assert "torch" not in sys.modules, "torch was imported"
assert "lightning" not in sys.modules, "lightning was imported"
sys.exit(status)
"""


@pytest.mark.parametrize(
    ("args", "expected"),
    [(["--version"], f"weakseg {__version__}"), (["--help"], "recipes/adm/adm_grid.yaml"), ([], "usage: weakseg")],
)
def test_version_and_help_answer_without_torch(args, expected, tmp_path):
    command = [sys.executable, "-c", WITHOUT_TORCH, *args]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout


def test_runs_as_a_module_and_ends_with_status_2_after_a_users_error(tmp_path):
    command = [sys.executable, "-m", "weakseg_lightning", "fit", "--config", "nosuch.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("weakseg: error: no recipe `nosuch.yaml`")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "command", [["--help"], ["init", "--help"], ["fit", "--config", "adm_grid", "--print_config"], ["check", "data"]]
)
def test_output_that_nobody_reads_any_more_is_no_error(command, unbuffered, tmp_path):
    (tmp_path / "data" / "images").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "data" / "images" / "a.png")
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    reading, writing = os.pipe()
    os.close(reading)
    ran = subprocess.run(
        [sys.executable, "-m", "weakseg_lightning", *command],
        stdout=writing, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment,
    )  # fmt: skip
    os.close(writing)
    assert ran.returncode in ({141, 0} if "--help" in command else {141})  # argparse takes no notice
    assert ran.stderr == ""


def test_closed_standard_output_is_no_error():
    command = shlex.join([sys.executable, "-m", "weakseg_lightning", "--version"])
    done = subprocess.run(f"{command} >&-", shell=True, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_help_names_all_commands_and_shipped_recipes(capsys):
    assert main(["-h"]) == 0
    printed = capsys.readouterr().out
    for word in ("fit", "validate", "test", "predict", "adm_grid", "data/scenes", "hardware/cpu"):
        assert word in printed


def test_help_of_a_command_lists_its_options(run):
    with pytest.raises(SystemExit) as ended:
        run("fit", "--help")
    assert ended.value.code == 0


def test_help_of_a_class_by_its_short_name(run, capsys):
    with pytest.raises(SystemExit) as ended:
        run("fit", "--model.help=ADMModule")
    assert ended.value.code == 0
    assert "--model.gamma" in capsys.readouterr().out


def test_interruption_while_starting_is_no_traceback(run, monkeypatch):
    def interrupted(args):
        raise KeyboardInterrupt

    monkeypatch.setattr("weakseg_lightning.cli.place_configs", interrupted)
    assert run("fit") == (130, "", "weakseg: interrupted\n")


INTERRUPTED = """
import sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupting())
from weakseg_lightning.cli import main
sys.exit(main(["fit", "--config", "recipes/baselines/pce.yaml"]))
"""


def test_interruption_while_libraries_are_imported_is_no_traceback(tmp_path):
    command = [sys.executable, "-c", INTERRUPTED]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (130, "weakseg: interrupted\n")


def test_a_mistyped_recipe_is_told_by_the_nearest_one(refused):
    Path("Blätter_neu.yaml").touch()
    Path("leaves.yaml").touch()
    for given, meant in (
        ("Blätter neu.yaml", "Blätter_neu.yaml"),
        ("leaves.yml", "leaves.yaml"),
        ("adm_gird", "recipes/adm/adm_grid.yaml"),
    ):
        told = refused("fit", "--config", given)
        assert told.endswith(f"; did you mean `{meant}`?")


def test_traceback_on_demand(run, monkeypatch):
    monkeypatch.setenv("WEAKSEG_TRACEBACK", "1")
    with pytest.raises(FileNotFoundError, match=r"no recipe `nosuch.yaml`"):
        run("fit", "--config", "nosuch.yaml")


def test_print_config_shows_what_would_run(run, capsys):
    with pytest.raises(SystemExit) as ended:
        run("fit", "--config", "recipes/adm/adm_grid.yaml", "--model.gamma=2", "--print_config")
    assert ended.value.code == 0
    assert "gamma: 2.0" in capsys.readouterr().out
    assert not Path("runs").exists()
