"""Folders of volumes: their slices are samples as those of a folder of images, bit for bit."""

import gzip
import pickle

import nibabel
import numpy as np
import pytest
import torch
from hearts import AFFINE, KINDS, PATTERN, SPACING, small_volume, write_hearts, write_small, write_volume
from PIL import Image

from weakseg_lightning.cli.commands.superpixels import superpixels
from weakseg_lightning.data import CaseSlice, FolderDataModule
from weakseg_lightning.data.folder.contents import read_folder
from weakseg_lightning.data.images import volumes
from weakseg_lightning.data.images.channels import ChannelFiles
from weakseg_lightning.data.images.nifti import read_voxels
from weakseg_lightning.data.images.volumes import VolumeReader

HEARTS = ("patient001_frame01", "patient041_frame01", "patient042_frame16")


@pytest.fixture(scope="module")
def hearts(shared, tmp_path_factory):
    return write_hearts(shared / "data/acdc", tmp_path_factory.mktemp("hearts"), HEARTS)


@pytest.fixture
def root(tmp_path):
    return write_small(tmp_path / "small")


def data_of(root, **options):
    settings = {"crop_size": 96, "batch_size": 4, "num_workers": 0, "val_fraction": 0.3, "seed": 7}
    return FolderDataModule(root, **settings | options)


def batches(data):
    data.setup("fit")
    return [*data.train_dataloader(), *data.val_dataloader()]


def assert_equal(ours, theirs):
    assert len(ours) == len(theirs) > 1
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert torch.equal(value, other[name]) if isinstance(value, torch.Tensor) else value == other[name], name


# ---- as a folder of images --------------------------------------------------------------------------------------


def test_slices_of_volumes_are_the_samples_of_a_folder_of_slices(hearts):
    slices, stacks = hearts
    expected = batches(data_of(slices, cases=PATTERN, spacing=SPACING))
    found = batches(data_of(stacks))
    assert_equal(found, expected)
    assert found[-1]["case"][0].spacing == SPACING


def test_volumes_of_other_orders_of_voxels_give_the_same_slices(hearts, tmp_path):
    """Slices along the first axis, which runs downwards, and rows from the back."""
    turned = tmp_path / "heart"
    turned.mkdir()
    (turned / "classes.yaml").write_bytes((hearts[1] / "classes.yaml").read_bytes())
    for kind in KINDS:
        (turned / kind).mkdir()
        for path in (hearts[1] / kind).iterdir():
            image = nibabel.load(path)
            values = np.asarray(image.dataobj)  # columns, rows, slices
            affine = image.affine[:, [2, 0, 1, 3]]
            nibabel.save(nibabel.Nifti1Image(values.transpose(2, 0, 1), affine), turned / kind / path.name)
    contents = read_folder(turned)
    assert contents.volumes.header(turned / f"images/{HEARTS[0]}.nii.gz").axis == 0
    assert_equal(batches(data_of(turned)), batches(data_of(hearts[1])))


def test_workers_read_the_same(root):
    assert_equal(batches(data_of(root, num_workers=1, crop_size=12)), batches(data_of(root, crop_size=12)))


# ---- samples ----------------------------------------------------------------------------------------------------


def test_a_volume_is_a_case_on_one_side_and_slices_without_strokes_do_not_train(root):
    data = data_of(root)
    train, val = data.train_source(), data.val_source()
    assert {name[0] for name in train.ids}.isdisjoint({name[0] for name in val.ids})
    assert len(val.ids) == 4
    assert len(train.ids) == 6
    assert not any(name.endswith("_slice_0") for name in train.ids)
    assert val[1].case == CaseSlice(val.ids[0][0], 1, SPACING)
    assert data.has_cases
    assert len(data.predict_source()) == 12


def test_strokes_may_be_pngs_and_clicks_of_slices(root):
    (root / "scribbles/a.nii.gz").unlink()
    stroke = np.full((14, 12), 255, np.uint8)
    stroke[3] = 0
    Image.fromarray(stroke).save(root / "scribbles/a_slice_2.png")
    (root / "points.csv").write_text("image,x,y,class\na_slice_0,4,7,heart\n")
    contents = read_folder(root)
    assert contents.problems == []
    assert [name for name in contents.of("scribble") if name[0] == "a"] == ["a_slice_0", "a_slice_2"]


def test_superpixels_of_slices_are_guides(root):
    assert superpixels(root, side=4) == 0
    data = data_of(root, guides="superpixels", crop_size=12)
    data.setup("fit")
    assert next(iter(data.train_dataloader()))["guide"].max() > 3
    assert read_folder(root, root / "superpixels").problems == []


def test_lists_name_volumes_or_slices(root, tmp_path):
    (tmp_path / "train.txt").write_text("a.nii.gz\nb_slice_2\n")
    (tmp_path / "val.txt").write_text("images/c\n")
    data = data_of(root, train_list=tmp_path / "train.txt", val_list=tmp_path / "val.txt")
    assert data.train_source().ids == [*(f"a_slice_{number}" for number in (1, 2, 3)), "b_slice_2"]
    assert data.val_source().ids == [f"c_slice_{number}" for number in range(4)]
    (tmp_path / "val.txt").write_text("a\n")
    with pytest.raises(ValueError, match="`train_list` and `val_list` both name 'a'"):
        data_of(root, train_list=tmp_path / "train.txt", val_list=tmp_path / "val.txt").setup("fit")


def test_deep_volumes_are_stretched_as_wholes(root):
    image = root / "images/a.nii.gz"
    stored = np.asarray(nibabel.load(image).dataobj).transpose(2, 1, 0).astype(float)
    low, high = np.percentile(stored, (0.1, 99.9))
    expected = (255 * np.clip((stored - low) / (high - low), 0, 1)).round()
    source = data_of(root).predict_source()
    for number in range(4):
        assert (source[number].image.numpy() == expected[number]).all()


@pytest.mark.parametrize("dtype", ["int16", "uint8", "float32", "uint16"])
@pytest.mark.parametrize(("slope", "inter"), [(1, 0), (2.5, -1000), (0, 5)])
def test_types_and_scales_are_those_of_the_head(root, dtype, slope, inter):
    image, values = root / "images/a.nii.gz", (small_volume() * 100 + np.arange(12)).astype(dtype)
    header = nibabel.Nifti1Header()
    header.set_data_dtype(dtype)
    header.set_slope_inter(1, 0)  # or nibabel chooses them
    content = bytearray(nibabel.Nifti1Image(values.transpose(2, 1, 0), AFFINE, header).to_bytes())
    content[112:120] = np.array([slope, inter], "<f4").tobytes()
    image.write_bytes(gzip.compress(bytes(content)))
    expected = values * slope + inter if slope else values  # a slope of 0 means none
    reader = VolumeReader(channels=ChannelFiles(["mr"]))
    assert all((reader.planes(image, number)[0] == expected[number]).all() for number in range(4))
    low, high = (0, 255) if dtype == "uint8" and slope != 2.5 else np.percentile(expected, (0.1, 99.9))
    gray = (255 * np.clip((expected[2].astype(float) - low) / (high - low), 0, 1)).round()
    assert (VolumeReader().gray(image, 2) == gray).all()


# ---- channels ---------------------------------------------------------------------------------------------------


def test_neighbors_are_channels(root):
    data = data_of(root, neighbors=1, crop_size=12)
    data.setup("fit")
    channels = data.channels
    assert channels.names == ("slice-1", "slice", "slice+1")
    assert channels.colors == (1, 1, 1)
    assert len(set(channels.mean)) == len(set(channels.low)) == 1
    source = data.predict_source()
    images = [source[number].image for number in range(4)]
    assert {image.shape for image in images} == {(3, 14, 12)}
    for number, image in enumerate(images):
        for channel, place in enumerate((max(number - 1, 0), number, min(number + 1, 3))):
            assert torch.equal(image[channel], images[place][1])
    assert next(iter(data.train_dataloader()))["image"].shape[1] == 3


def test_named_channels_keep_the_values_of_the_files(root):
    data = data_of(root, channels=["ct"])
    channels, stored = data.channels, np.asarray(nibabel.load(root / "images/b.nii.gz").dataobj)
    image = data.predict_source()[4].image
    expected = (stored[..., 0].T.astype(float) - channels.low[0]) / (channels.high[0] - channels.low[0])
    assert torch.equal(image, torch.from_numpy(expected).float()[None])


def test_channels_are_several_volumes_of_a_patient(root):
    for name in "abc":
        first = root / f"images/{name}.nii.gz"
        stored = np.asarray(nibabel.load(first).dataobj).transpose(2, 1, 0)
        first.rename(root / f"images/{name}_t1.nii.gz")
        write_volume(root / f"images/{name}_t2.nii.gz", 3000 - stored)
    given = {"t1": "NAME_t1.nii.gz", "t2": "NAME_t2.nii.gz"}
    data = data_of(root, channels=given, neighbors=1)
    assert data.channels.names == ("t1-1", "t2-1", "t1", "t2", "t1+1", "t2+1")
    assert data.channels.colors == (2, 2, 2)
    image = data.predict_source()[1].image
    assert image.shape == (6, 14, 12)
    assert (image[::2] + image[1::2] - 1).abs().max() < 0.3  # of each, about 0 to 1
    assert len(batches(data_of(root, channels=given, crop_size=12))) == 5
    (root / "images/b_t2.nii.gz").unlink()
    with pytest.raises(ValueError, match=r"b_t1.nii.gz: lacks the file of its channel 't2', b_t2.nii.gz"):
        data_of(root, channels=given).setup("fit")


def test_neighbors_of_images_are_an_error(make_data):
    with pytest.raises(ValueError, match="`neighbors` and `slice_axis` are for volumes"):
        make_data(neighbors=1).setup("fit")


# ---- memory -----------------------------------------------------------------------------------------------------


def test_each_volume_is_decoded_once(root, monkeypatch):
    decoded = []
    monkeypatch.setattr(volumes, "read_voxels", lambda head: decoded.append(head.path) or read_voxels(head))
    data = data_of(root, crop_size=12)
    for _ in range(2):
        batches(data)
    assert len(decoded) == len(set(decoded)) == 9


def test_decoded_slices_leave_memory_and_travel_to_no_other_process(root):
    reader = read_folder(root).volumes
    path = root / "images/a.nii.gz"
    found = reader.gray(path, 2)
    copied = pickle.loads(pickle.dumps(reader))
    assert len(pickle.dumps(reader)) < 3000
    assert (copied.gray(path, 2) == found).all()
    found[:] = 0  # a copy
    assert reader.gray(path, 2).any()


# ---- predictions ------------------------------------------------------------------------------------------------


def test_two_ranks_predict_slices_of_the_same_volumes(root, tmp_path, run_program):
    run_program("ranks/two_ranks_volumes.py", root, tmp_path, ranks=2)
    first, second = (sorted((tmp_path / f"{rank}.txt").read_text().split()) for rank in (0, 1))
    assert {name[0] for name in first} == {name[0] for name in second} == set("abc")
    assert sorted(first + second) == sorted(f"{name}_slice_{number}" for name in "abc" for number in range(4))
    assert sorted(path.name for path in (tmp_path / "out/labels").iterdir()) == [f"{name}.nii.gz" for name in "abc"]
    assert len(list((tmp_path / "out/overlays").iterdir())) == 12
    reader = VolumeReader()
    for name in "abc":
        labels = np.asarray(nibabel.load(tmp_path / f"out/labels/{name}.nii.gz").dataobj).transpose(2, 1, 0)
        gray = np.stack([reader.gray(root / f"images/{name}.nii.gz", number) for number in range(4)])
        assert (labels == (gray > 127)).all()
        assert 0 < labels.mean() < 1
