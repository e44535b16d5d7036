"""The examples in the documentation of the data package run as written."""

import doctest
from importlib import import_module

import pytest


@pytest.mark.parametrize("name", ["annotations", "samples", "sampling", "scribbles", "simulation", "thinning", "voc"])
def test_examples(name):
    results = doctest.testmod(import_module(f"weakseg_lightning.data.{name}"))
    assert results.attempted > 0
    assert results.failed == 0
