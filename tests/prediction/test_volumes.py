"""Volumes as a network labels them: far values, and values that are almost all alike."""

import nibabel
import numpy as np
import pytest
import torch

from weakseg_lightning import RegularizedLossModule, SMPNetwork
from weakseg_lightning.channels import Channels
from weakseg_lightning.data import BadSampleError
from weakseg_lightning.data.images.volumes import SLICE, VolumeReader
from weakseg_lightning.prediction.segmenter import Segmenter
from weakseg_lightning.prediction.volumes import predict_volume

NOISE = np.random.default_rng(0).normal(100, 5, (32, 32, 5)).astype(np.float32)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    """Sees slices with their neighbors."""
    torch.manual_seed(0)
    three = (0.0,) * 3, (1.0,) * 3, (0.5,) * 3, (0.25,) * 3
    channels = Channels(("slice-1", "slice", "slice+1"), [SLICE], *three, (0, 1, 2))
    network = SMPNetwork("linknet", "tu-test_resnet", None).for_channels(*channels.normalization)
    module = RegularizedLossModule(network, 3).eval()
    module.channels = channels
    return Segmenter(module, "cpu")


def volume(path, values):
    nibabel.save(nibabel.Nifti1Image(values, np.diag([1.0, 1, 3, 1])), path)
    return path


def labels_of(segmenter, path):
    found = predict_volume(segmenter, VolumeReader(neighbors=1), path, path.with_name("labels.nii.gz"))
    return np.stack([one.labels for one in found])


def test_far_outliers_are_labeled(segmenter, tmp_path):
    values = NOISE.copy()
    values[3, 3, 3] = 30000
    assert labels_of(segmenter, volume(tmp_path / "metal.nii.gz", values)).shape == (5, 32, 32)
    assert (tmp_path / "labels.nii.gz").is_file()


def test_values_too_far_for_the_network_name_their_file(segmenter, tmp_path):
    values = NOISE * np.float32(1e-4)
    values[3, 3, 3] = 3e38
    with pytest.raises(BadSampleError, match=r"far.nii.gz cannot be labeled: the network's scores are not finite"):
        labels_of(segmenter, volume(tmp_path / "far.nii.gz", values))
    assert not (tmp_path / "labels.nii.gz").exists()


def test_a_volume_almost_all_of_one_value_has_its_full_range(segmenter, tmp_path):
    values = np.zeros((32, 32, 20), np.int16)
    values[10, 10, 10], values[11, 11, 10] = 500, 1000
    path, reader = volume(tmp_path / "sparse.nii.gz", values), VolumeReader(neighbors=1)
    (plane,) = reader.planes(path, 10, neighbors=0)
    assert (plane.min(), plane[10, 10], plane.max()) == (0, 0.5, 1)
    gray = reader.gray(path, 10)
    assert (gray.min(), gray[10, 10], gray.max()) == (0, 128, 255)
    assert labels_of(segmenter, path).shape == (20, 32, 32)
    path = volume(tmp_path / "constant.nii.gz", values * 0 + 7)
    assert not reader.planes(path, 3)[0].any()
