"""Data modules on folders of a few images."""

import pytest

from weakseg_lightning.data import FolderDataModule


@pytest.fixture
def make_data(make_folder):
    """Builds the data module on a sound folder."""

    def make(**options) -> FolderDataModule:
        root = options.pop("root", None) or make_folder()
        return FolderDataModule(root, crop_size=32, **{"batch_size": 2, "num_workers": 0, **options})

    return make
