"""Objects of volumes against scipy's labels of the whole array, whatever the order of its voxels."""

import csv

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from weakseg_lightning.data.images.nifti import VolumeHeader
from weakseg_lightning.prediction.objects import COLUMNS, VOLUME_COLUMNS, ImageObjects, ObjectTable, VolumeObjects

NAMES = ["background", "RV", "Myo"]
TURN = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])


def blobs(shape=(9, 14, 12), classes=3):
    draw = np.random.default_rng(0)
    labels = ndimage.gaussian_filter(draw.random((classes, *shape)), (0, 1, 1, 1)).argmax(0).astype(np.uint8)
    labels[draw.random(shape) < 0.03] = 255
    return labels


def stored(path, slices, axis, spacing=(1.25, 1.5, 10.0), unit="mm"):
    """Save ``(slices, H, W)`` with slices along an axis of the array, obliquely in space, and read the head."""
    order = [axis, *[other for other in range(3) if other != axis][::-1]]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = TURN @ np.diag(spacing), (5, -7, 30)
    image = nibabel.Nifti1Image(slices.transpose(np.argsort(order)).astype(np.int16), affine)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, path)
    return VolumeHeader.read(path, axis)


def measured(head, labels, *values):
    objects = VolumeObjects(head)
    for number, one in enumerate(labels):
        objects.add(one, np.stack([channel[number] for channel in values], axis=-1))
    return objects


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_objects_are_those_of_the_whole_array(tmp_path, axis):
    labels, values = blobs(), np.random.default_rng(1).normal(-500, 300, (9, 14, 12)).round()
    head = stored(tmp_path / "a.nii", values, axis)
    image = nibabel.load(tmp_path / "a.nii")
    array = labels.transpose(np.argsort(head.order))  # as it lies in the file
    found = measured(head, labels, values).table(NAMES)
    theirs = {}
    for k in (1, 2):
        numbers, count = ndimage.label(array == k)
        for number in range(1, count + 1):
            where = np.argwhere(numbers == number)
            world = nibabel.affines.apply_affine(image.affine, where.mean(0))
            theirs[tuple(world.round(3))] = (NAMES[k], where, np.asarray(image.dataobj)[numbers == number].mean())
    assert len(found) == len(theirs) > 10
    for (name, area, x1, y1, x2, y2, x, y), means, (z1, z2, z, volume, *world) in found:
        other, where, mean = theirs.pop(tuple(np.round(world, 3)))
        assert (name, area) == (other, len(where))
        assert volume == pytest.approx(len(where) * 1.25 * 1.5 * 10)
        assert means == [pytest.approx(mean, rel=1e-5)]
        columns_rows_slices = where[:, head.order[::-1]]
        assert [x1, y1, z1] == columns_rows_slices.min(0).tolist()
        assert [x2, y2, z2] == (columns_rows_slices.max(0) + 1).tolist()
        np.testing.assert_allclose([x, y, z], columns_rows_slices.mean(0) + 0.5, atol=0.0051)


def test_one_arch_over_slices_is_one_object_and_corners_join_nothing(tmp_path):
    labels = np.zeros((3, 4, 5), np.uint8)
    labels[0, 0, [0, 2]] = labels[1, 0, [0, 2]] = labels[2, 0, :3] = 1
    labels[1, 1, 3] = labels[2, 2, 4] = 2
    head = stored(tmp_path / "a.nii", labels, 2)
    found = measured(head, labels, labels).table(NAMES)
    assert [fixed[:2] for fixed, _, _ in found] == [["RV", 7], ["Myo", 1], ["Myo", 1]]


def test_lengths_are_millimeters_whatever_the_unit_of_the_head(tmp_path):
    labels = np.ones((2, 3, 4), np.uint8)
    head = stored(tmp_path / "a.nii", labels, 2, (0.002, 0.002, 0.01), "meter")
    ((_, _, (*_, volume, x, y, z)),) = measured(head, labels, labels).table(NAMES)
    assert volume == pytest.approx(24 * 2 * 2 * 10)
    expected = TURN @ (3, 2, 5) + np.array([5000, -7000, 30000])
    np.testing.assert_allclose((x, y, z), expected)


def test_voxels_of_tilted_slices_are_as_large_as_their_affine_says(tmp_path):
    affine = np.diag([1.0, 1.0, 5.0, 1.0])
    affine[1:3, 2] = 3, 4  # slices 5 mm apart along an axis that is tilted: 4 mm between their planes
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 3, 2), np.uint8), affine), tmp_path / "a.nii")
    labels = np.ones((2, 3, 4), np.uint8)
    ((_, _, (_, _, _, volume, *_)),) = measured(VolumeHeader.read(tmp_path / "a.nii"), labels, labels).table(NAMES)
    assert volume == pytest.approx(24 * 4)


def test_images_and_volumes_share_a_table(tmp_path):
    labels = np.ones((2, 3, 4), np.uint8)
    picture = ImageObjects(4)
    picture.add(labels[0], np.full((3, 4, 3), 7, np.uint8))
    table = ObjectTable(NAMES)
    table.add("photo.png", picture)
    head = stored(tmp_path / "a.nii", labels, 2)
    table.add_volume("a.nii", measured(head, labels, 1000.0 * labels), ("intensity",))
    table.write(tmp_path / "objects.csv")
    with (tmp_path / "objects.csv").open(encoding="utf-8", newline="") as stream:
        header, photo, volume = csv.reader(stream)
    assert tuple(header) == (*COLUMNS, "intensity", *VOLUME_COLUMNS)
    assert photo == ["photo.png", "RV", "12", "0", "0", "4", "3", "2.0", "1.5", "7.0", "7.0", "7.0", *[""] * 8]
    same = ["a.nii", "RV", "24", "0", "0", "4", "3", "2.0", "1.5"]
    assert volume[:-3] == [*same, "", "", "", "1000.0", "0", "2", "1.0", "450.0"]
