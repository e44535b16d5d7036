"""Data modules on trees of a few images."""

import pytest

from weakseg_lightning.data import VOCDataModule


@pytest.fixture
def make_data(make_voc):
    def make(**arguments) -> VOCDataModule:
        root = make_voc()
        return VOCDataModule(
            root, **{"train_split": "train", "num_workers": 0, "batch_size": 2, "crop_size": 32, **arguments}
        )

    return make
