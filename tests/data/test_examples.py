"""The examples in the documentation of the data package run as written."""

import doctest
from importlib import import_module

import pytest

NAMES = [
    *("weak_labels", "samples", "sampling", "scribbles.strokes", "scribbles.simulate", "scribbles.centerlines"),
    *("voc.datamodule", "folder.tools.shapes"),
]


@pytest.mark.parametrize("name", NAMES)
def test_examples(name):
    results = doctest.testmod(import_module(f"weakseg_lightning.data.{name}"))
    assert results.attempted > 0
    assert results.failed == 0
