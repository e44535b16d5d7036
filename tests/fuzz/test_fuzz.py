"""The fuzz target builds and passes a short run, so that the script stays of use."""

import subprocess
import sys

import pytest
import run as fuzz


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    compiler = fuzz.find_compiler()
    if compiler is None:
        pytest.skip("no C++ compiler to build the fuzz target with")
    path = tmp_path_factory.mktemp("fuzz") / "target"
    subprocess.run(fuzz.build_command(compiler, "none", path), check=True)
    return path


def run(target, *options):
    return subprocess.run([target, *map(str, options)], capture_output=True, text=True, timeout=300, check=False)


def test_single_problems_pass(target):
    done = run(target, "--seed", 0, "--count", 3000)
    assert (done.stderr, done.returncode) == ("", 0)
    assert "3000 inputs passed" in done.stdout


def test_batches_on_threads_pass(target):
    done = run(target, "--seed", 0, "--count", 200, "--threads", 3)
    assert (done.stderr, done.returncode) == ("", 0)


def test_a_misspelt_option_is_refused(target):
    done = run(target, "--cuont", 5)
    assert done.returncode == 2
    assert "unknown option --cuont" in done.stderr


def test_a_missing_compiler_is_named(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CXX", "")
    monkeypatch.setattr(sys, "argv", ["run.py"])
    assert fuzz.main() == 2
    assert "CXX" in capsys.readouterr().err
