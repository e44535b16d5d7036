"""Folders of small rasters."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path += [str(HERE), str(HERE.parents[1] / "prediction")]


@pytest.fixture
def make_maps(tmp_path: Path) -> Callable[..., Path]:
    """Writes a folder of maps: ``make_maps(names, masks=...)``, RGB of 8 bits with lines in each square."""
    from map_folders import write_maps

    return lambda *args, **options: write_maps(tmp_path / "maps", *args, **options)
