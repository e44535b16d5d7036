"""Heads of volumes, the axis of their slices, and labels in their space."""

import os
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hearts import AFFINE, small_volume, write_volume

from weakseg_lightning.data import BadSampleError
from weakseg_lightning.data.images import volumes
from weakseg_lightning.data.images.nifti import VolumeHeader, is_volume, read_voxels, volume_name
from weakseg_lightning.data.images.volumes import VolumeReader
from weakseg_lightning.errors import UserError

VALUES = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)


def written(path, spacing=(1.0, 1.0, 1.0), values=VALUES, unit="mm", kind=nibabel.Nifti1Image) -> Path:
    image = kind(values, np.diag([*spacing, 1.0]))
    image.header.set_xyzt_units(unit)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize(
    ("spacing", "axis"),
    [
        ((1.5, 1.5, 8), 2),
        ((8, 1.5, 1.5), 0),
        ((1, 6, 1.2), 1),
        ((1, 1, 1), 2),
        ((1.1, 1, 1), 2),  # hardly thicker
        ((1, 1, 0.5), 2),  # no axis exceeds both others
    ],
)
def test_slices_are_counted_along_the_thickest_axis(tmp_path, spacing, axis):
    head = VolumeHeader.read(written(tmp_path / "a.nii.gz", spacing))
    assert head.axis == axis
    assert head.depth == VALUES.shape[axis]
    columns, rows = (other for other in range(3) if other != axis)
    assert head.size == (VALUES.shape[columns], VALUES.shape[rows])
    assert head.distances == pytest.approx((spacing[axis], spacing[rows], spacing[columns]))
    found = read_voxels(head)
    assert np.array_equal(found[1], VALUES.take(1, axis).T)


def test_the_affine_tells_the_spacing_and_contradictions_are_told(tmp_path, caplog):
    image = nibabel.Nifti1Image(VALUES, np.diag([1.0, 1.0, 5.0, 1.0]))
    image.header["pixdim"][1:4] = 1, 1, 2
    image.to_filename(tmp_path / "a.nii.gz")
    head = VolumeHeader.read(tmp_path / "a.nii.gz")
    assert (head.spacing, head.axis) == ((1, 1, 5), 2)
    assert head.doubts == (
        "says a spacing of 1 x 1 x 2 mm (pixdim), and its affine one of 1 x 1 x 5 mm, which is used",
    )
    image.header["pixdim"][1:4] = 0
    image.to_filename(tmp_path / "b.nii")
    assert VolumeHeader.read(tmp_path / "b.nii").spacing == (1, 1, 5)
    assert "0 x 0 x 0 mm (pixdim)" in VolumeHeader.read(tmp_path / "b.nii").doubts[0]
    image.header["sform_code"] = image.header["qform_code"] = 0
    (tmp_path / "c.nii").write_bytes(image.header.binaryblock + bytes(4) + VALUES.tobytes("F"))
    with pytest.raises(BadSampleError, match=r"c.nii has the spacing 0 x 0 x 0, expected lengths above 0"):
        VolumeHeader.read(tmp_path / "c.nii")
    assert not caplog.records, "nibabel names no file"


def test_forms_of_two_orientations_are_told(tmp_path):
    image = nibabel.Nifti1Image(VALUES, np.diag([1.0, 1.0, 5.0, 1.0]))
    image.set_sform(np.diag([-1.0, 1.0, 5.0, 1.0]), 1)
    image.set_qform(np.diag([1.0, 1.0, 5.0, 1.0]), 1)
    nibabel.save(image, tmp_path / "a.nii")
    assert VolumeHeader.read(tmp_path / "a.nii").doubts == (
        "is LAS by its sform, which is used, and RAS by its qform: viewers differ",
    )
    assert not VolumeHeader.read(written(tmp_path / "b.nii", (0.7, 0.7, 3))).doubts


def test_an_axis_can_be_chosen(tmp_path):
    path = written(tmp_path / "a.nii", (1, 1, 8))
    assert [VolumeHeader.read(path, axis).depth for axis in range(3)] == [2, 3, 4]
    with pytest.raises(UserError, match="`slice_axis` must be one of None, 0, 1, 2, got 3"):
        VolumeReader(axis=3)


def test_lengths_are_in_mm_and_later_axes_of_length_1_do_not_count(tmp_path):
    head = VolumeHeader.read(written(tmp_path / "a.nii.gz", (500, 500, 2000), VALUES[..., None], "micron"))
    assert head.spacing == (0.5, 0.5, 2.0)
    assert head.shape == (2, 3, 4)
    flat = VolumeHeader.read(written(tmp_path / "b.nii.gz", (1, 1, 1), VALUES[..., 0]))
    assert (flat.shape, flat.depth) == ((2, 3, 1), 1)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (1, -1, -1)])
def test_labels_are_in_the_space_of_their_image(tmp_path, kind, axes, signs):
    affine = AFFINE @ np.diag([*signs, 1])
    affine[:, :3] = affine[:, axes]
    values = small_volume().transpose(2, 1, 0).transpose(axes)
    image = kind(values.astype(np.float32) * 0.5, affine)
    image.header.set_qform(affine, code=1)
    image.header.set_sform(affine, code=4)
    image.header["cal_max"], image.header["descrip"] = 99, b"as it was"
    nibabel.save(image, tmp_path / "a.nii.gz")
    head = VolumeHeader.read(tmp_path / "a.nii.gz")
    head.write_labels(tmp_path / "labels.nii.gz", [np.uint8(3) * (one > 0) for one in read_voxels(head)])
    found = nibabel.load(tmp_path / "labels.nii.gz")
    assert type(found) is kind
    assert np.array_equal(np.asarray(found.dataobj), 3 * values)
    assert found.get_data_dtype() == np.asarray(found.dataobj).dtype == np.uint8
    assert np.array_equal(found.affine, image.affine)
    assert found.header.get_zooms() == image.header.get_zooms()
    for name in ("qform_code", "sform_code", "descrip", "xyzt_units"):
        assert found.header[name] == image.header[name]
    assert found.header["cal_max"] == 0


def test_names_of_volumes():
    assert [is_volume(Path(name)) for name in ("a.nii", "A.NII.GZ", "a.gz", "nii.gz.png")] == [True, True, False, False]
    assert [volume_name(Path(name)) for name in ("x/a.b.nii", "A.NII.GZ")] == ["a.b", "A"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux that is always full")
def test_a_full_disk_is_told(tmp_path, monkeypatch):
    write_volume(tmp_path / "a.nii.gz", small_volume())
    monkeypatch.setattr(volumes, "_temporary_file", lambda: os.open("/dev/full", os.O_RDWR))
    with pytest.raises(UserError, match=r"volumes cannot be unpacked .* set TMPDIR to a folder with more room"):
        VolumeReader().gray(tmp_path / "a.nii.gz", 0)
