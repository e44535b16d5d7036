"""Parts of the compiled core by C++ programs of their own: Python can neither fail a job nor call a logarithm."""

import subprocess
from pathlib import Path

import pytest
from run import build_command, find_compiler


@pytest.mark.parametrize("program", ["batch_scheduler", "logarithm"])
def test_a_program_finds_nothing_wrong(tmp_path, program):
    compiler = find_compiler()
    if compiler is None:
        pytest.skip("no C++ compiler to build the checks with")
    source, target = Path(__file__).with_name(f"{program}.cpp"), tmp_path / "checks"
    subprocess.run(build_command(compiler, "none", target, source), check=True)
    done = subprocess.run([target], capture_output=True, text=True, timeout=120, check=False)
    assert (done.stderr, done.returncode) == ("", 0)
