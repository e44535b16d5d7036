"""The batch scheduler of the compiled core, by a C++ program: Python can neither fail a job nor watch the threads."""

import subprocess
from pathlib import Path

import pytest
from run import build_command, find_compiler


def test_jobs_threads_exceptions_and_the_object_pool(tmp_path):
    compiler = find_compiler()
    if compiler is None:
        pytest.skip("no C++ compiler to build the checks with")
    source, target = Path(__file__).with_name("batch_scheduler.cpp"), tmp_path / "checks"
    subprocess.run(build_command(compiler, "none", target, source), check=True)
    done = subprocess.run([target], capture_output=True, text=True, timeout=120, check=False)
    assert (done.stderr, done.returncode) == ("", 0)
