"""Real photographs for the learner."""

from pathlib import Path

import pytest
from photographs import Photographs


@pytest.fixture(scope="session")
def photographs(shared: Path) -> Photographs:
    return Photographs(shared)
