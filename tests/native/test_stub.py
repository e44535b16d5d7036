"""The stub of the compiled core is generated, but kept in the repository: a cross-compiled core cannot be imported."""

import subprocess
import sys
from pathlib import Path

import pytest

from weakseg_lightning import _native

STUB = Path(_native.__file__).with_name("_core.pyi")
COMMAND = "-m nanobind.stubgen -q -m weakseg_lightning._native._core -o"


def test_the_stub_is_that_of_the_compiled_core(tmp_path):
    pytest.importorskip("nanobind", reason="generates the stub")
    generated = tmp_path / "_core.pyi"
    subprocess.run([sys.executable, *COMMAND.split(), generated], check=True)
    here = "weakseg_lightning/_native/_core.pyi"
    assert STUB.read_text() == generated.read_text(), f"generate it again: python {COMMAND} {here}"
