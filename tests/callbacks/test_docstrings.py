import doctest
from types import ModuleType

import pytest

from weakseg_lightning.callbacks import cases, gradients, pictures, trimap


@pytest.mark.parametrize(("module", "least"), [(cases, 2), (gradients, 3), (pictures, 4), (trimap, 2)])
def test_docstring_examples(module: ModuleType, least: int) -> None:
    results = doctest.testmod(module)
    assert results.attempted >= least
    assert results.failed == 0
