"""Volumes that cannot be used: each is named in one line, before training starts."""

import gzip
import struct
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hearts import AFFINE, small_volume, write_small, write_volume

from weakseg_lightning.cli.commands.check import check
from weakseg_lightning.data import FolderDataModule
from weakseg_lightning.data.folder.contents import read_folder

LABELS = small_volume()


@pytest.fixture
def root(tmp_path):
    return write_small(tmp_path / "small")


def save(values, affine=AFFINE):
    return lambda path: nibabel.save(nibabel.Nifti1Image(values, affine), path)


def labels(values, affine=AFFINE):
    return lambda path: write_volume(path, values, affine)


def head(offset, form, *values):
    """Overwrite a part of the head."""

    def edit(path: Path) -> None:
        content = bytearray(gzip.decompress(path.read_bytes()))
        struct.pack_into(form, content, offset, *values)
        path.write_bytes(gzip.compress(bytes(content)))

    return edit


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-12])


def flip_a_bit(path: Path) -> None:
    """Of a voxel, where what is decompressed is as long as before: the check sum alone tells."""
    content = bytearray(gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=0))
    content[600] ^= 1
    path.write_bytes(bytes(content))


def shorten(path: Path) -> None:
    """End the data before the last voxels, in a file that is compressed soundly."""
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-100]))


def nan(path: Path) -> None:
    values = LABELS.astype(np.float32)
    values[2, 3, 4] = np.nan
    write_volume(path, values)


def rgb(path: Path) -> None:
    save(np.zeros((12, 14, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")]))(path)


IMAGES = {
    "four dimensions": (save(np.zeros((12, 14, 4, 3))), r"has 4 dimensions \(12 x 14 x 4 x 3\), expected 3: save each"),
    "colors": (rgb, "holds colors, expected one number per voxel"),
    "complex": (save(np.zeros((12, 14, 4), np.complex64)), "holds complex64, expected one number per voxel"),
    "no data type": (head(70, "<h", 999), r"cannot be read \(data code 999"),
    "another kind of file": (lambda path: path.write_bytes(gzip.compress(b"no volume" * 99)), "is empty or no NIfTI"),
    "not compressed": (lambda path: path.write_bytes(b"no volume" * 99), r"cannot be read \(Not a gzipped file"),
    "empty": (lambda path: path.write_bytes(b""), "is empty or no NIfTI: export it again"),
    "huge": (head(42, "<3h", 30000, 30000, 30000), "is too short: its header promises 54000000000352 bytes"),
    "negative": (head(42, "<h", -12), r"(has no voxels|cannot be read)"),
    "no spacing": (head(80, "<3f", float("nan"), 1, 1), "has the spacing nan x 1 x 1, expected lengths above 0"),
    "no affine": (head(280, "<4f", 0, 0, 0, 0), "has a header without a usable place in space"),
    "cut": (cut, r"cannot be read \(Compressed file ended"),
    "changed": (flip_a_bit, r"cannot be read \(CRC check failed"),
    "short": (shorten, r"cannot be read \(it ends after 1244 of 1344 bytes of voxels"),
    "no numbers": (nan, r"holds 1 voxel that are no numbers \(NaN\)"),
}
MAPS = {
    "another shape": (labels(LABELS[:3]), "has 12 x 14 x 3 voxels, its image 12 x 14 x 4"),
    "mirrored": (labels(LABELS, AFFINE @ np.diag([-1, 1, 1, 1])), "lies elsewhere in space than its image, by up to"),
    "without a place": (labels(LABELS, np.eye(4)), "lies elsewhere in space than its image"),
    "fractions": (labels(LABELS * 0.5), "holds the value 0.5, expected class indices"),
    "negative": (labels(LABELS.astype(np.int16) - 1), "holds the value -1, expected class indices"),
    "large": (labels(LABELS.astype(np.int16) * 300), "holds the value 300, expected class indices"),
    "unknown classes": (labels(LABELS * 7), "holds the values 7, expected 0 to 1, or 255"),
    "cut": (cut, r"cannot be read \(Compressed file ended"),
    "four dimensions": (save(np.zeros((12, 14, 4, 3))), "has 4 dimensions"),
}
SCRIBBLES = {
    "nothing": (labels(np.full_like(LABELS, 255)), "has no labelled voxel: draw a stroke, or remove the file"),
    "all": (labels(LABELS), "labels every voxel: if 0, the value of most, means no label, write `unlabelled: 0`"),
}
CASES = [
    *((f"images/b.nii.gz: {name}", "images/b.nii.gz", *case) for name, case in IMAGES.items()),
    *((f"masks/b.nii.gz: {name}", "masks/b.nii.gz", *case) for name, case in MAPS.items()),
    *((f"scribbles/b.nii.gz: {name}", "scribbles/b.nii.gz", *case) for name, case in (MAPS | SCRIBBLES).items()),
]


@pytest.mark.parametrize(("file", "spoil", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_each_is_named_in_one_line_before_training(root, file, spoil, expected, capsys):
    spoil(root / file)
    data = FolderDataModule(root, crop_size=12, num_workers=0, val_fraction=0.5)
    with pytest.raises(ValueError, match=f"{file}: {expected}") as raised:
        data.setup("fit")
    assert str(raised.value).count(file) == 1
    assert check(root) == 1
    lines = [line for line in capsys.readouterr().out.splitlines() if line.strip().startswith(file)]
    assert len(lines) == 1, lines


def test_files_that_are_not_expected_are_named(root):
    (root / "images/photo.png").write_bytes(b"")
    (root / "masks/d.nii.gz").write_bytes((root / "masks/a.nii.gz").read_bytes())
    (root / "images/a.nii").write_bytes(b"")
    (root / "cases.csv").write_text("image,case\n")
    problems = "\n".join(map(str, read_folder(root).problems))
    assert "images/photo.png: is no volume that is read (.nii, .nii.gz), as others here are" in problems
    assert "masks/d.nii.gz: belongs to no image: there is no images/d.*" in problems
    assert "images/a.nii.gz: has the name of images/a.nii" in problems
    assert "cases.csv: is for images: each volume is a case" in problems


def test_several_orientations_are_a_note(root):
    assert not read_folder(root).notes
    for kind, values in (("images", LABELS.astype(np.int16)), ("masks", LABELS), ("scribbles", LABELS)):
        write_volume(root / kind / "b.nii.gz", values, AFFINE @ np.diag([-1, 1, 1, 1]))
    assert any("in several orientations, LPS (2), RPS (1)" in note for note in read_folder(root).notes)


def test_a_slice_may_be_labelled_whole_but_no_volume(root):
    strokes = np.full_like(LABELS, 255)
    strokes[2] = LABELS[2]
    write_volume(root / "scribbles/a.nii.gz", strokes)
    write_volume(root / "scribbles/b.nii.gz", LABELS)
    data = FolderDataModule(root, crop_size=12, num_workers=0, val_fraction=0, on_bad_sample="skip")
    with pytest.warns(UserWarning, match=r"skipping in .*scribbles/b.nii.gz: labels every voxel"):
        source = data.train_source()
    assert list(source.ids) == ["a_slice_2", "c_slice_1", "c_slice_2", "c_slice_3"]
    assert (source[0].seeds.numpy() == LABELS[2]).all()


def test_zero_may_mean_that_nothing_is_drawn(root):
    """As ITK-SNAP writes it: background needs a value of its own then."""
    drawn = np.zeros_like(LABELS)
    drawn[1:, 7], drawn[1:, 2] = LABELS[1:, 7], 2
    for name in "abc":
        write_volume(root / f"scribbles/{name}.nii.gz", drawn)
    classes = (root / "classes.yaml").read_text() + "unlabelled: 0\n"
    (root / "classes.yaml").write_text(classes)
    contents = read_folder(root)
    told = "scribbles have no value for background, as `unlabelled` is 0: draw it as 2, and write `background: 2`"
    assert any(told in note for note in contents.notes)
    (root / "classes.yaml").write_text(classes + "background: 2\n")
    assert not read_folder(root).notes
    source = FolderDataModule(root, crop_size=12, num_workers=0, val_fraction=0).train_source()
    assert list(source.ids)[:3] == ["a_slice_1", "a_slice_2", "a_slice_3"]
    assert (source[0].seeds.numpy() == np.select([drawn[1] == 2, drawn[1] == 1], [0, 1], 255)).all()
    assert (source[0].mask.numpy() == LABELS[1]).all()
    assert check(root) == 0


def test_what_is_skipped_leaves_the_others(root):
    cut(root / "images/b.nii.gz")
    data = FolderDataModule(root, crop_size=12, num_workers=0, val_fraction=0.5, on_bad_sample="skip")
    with pytest.warns(UserWarning, match="skipping") as told:
        data.setup("predict")
    assert len(data.predict_dataloader()) == 8
    assert sum(str(one.message).count("b.nii.gz") for one in told) == 1


def test_without_nibabel_the_extra_is_named(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(ValueError, match=r"is a volume, which nibabel reads: pip install '\.\[volumes\]'"):
        FolderDataModule(root, crop_size=12, num_workers=0).setup("fit")
