"""`weakseg` on folders of volumes: what is trained and predicted is that of the folder of their slices."""

import csv
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
import yaml
from hearts import AFFINE, PATTERN, stacked, write_hearts, write_small
from PIL import Image
from scipy import ndimage

QUICK = [
    *("--trainer.max_steps=3", "--trainer.val_check_interval=3", "--trainer.log_every_n_steps=1"),
    *("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.accelerator=cpu"),
    *("--data.num_workers=0", "--data.batch_size=2", "--data.crop_size=64"),
    "--model.network.encoder=timm-mobilenetv3_small_minimal_100",
]
ON_CPU = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
HEARTS = ("patient041_frame01", "patient041_frame11")


def weights(name):
    return torch.load(f"runs/{name}/version_0/checkpoints/last.ckpt", weights_only=True)["state_dict"]


def scores_of(name):
    with Path(f"runs/{name}/version_0/metrics.csv").open() as file:
        last = [row for row in csv.DictReader(file) if row["val_miou"]][-1]
    return {key: value for key, value in last.items() if key.startswith("val_")}


def assert_alike(ours, theirs):
    """But for voxels whose two best classes round to one probability."""
    assert ours.shape == theirs.shape
    assert (ours != theirs).mean() < 1e-4
    assert len(np.unique(ours)) > 1


def predict(run, name, folder, *more):
    checkpoint = ["--ckpt_path", f"runs/{name}/version_0/checkpoints/last.ckpt"]
    where = ["--predictions.output_dir", folder]
    status, out, err = run("predict", "--config", f"runs/{name}/version_0/config.yaml", *checkpoint, *where, *more)
    return status, out + err


@pytest.fixture
def hearts(shared, tmp_path):
    return write_hearts(shared / "data/acdc", tmp_path, HEARTS)


def test_a_folder_of_volumes_does_what_the_folder_of_its_slices_does(run, hearts):
    """init, fit, test and predict: weights bit for bit, Dice, and labels voxel by voxel."""
    for name, more in (("slices", ["--cases", PATTERN]), ("volumes", [])):
        assert run("check", f"{name}/heart", *more)[0] == 0
        recipe = ["--output", f"{name}.yaml", "--encoder_weights", "null", "--learns", "network"]
        status, out, err = run("init", f"{name}/heart", *recipe, *more)
        assert (status, err) == (0, "")
        assert "Validation scores 1 case of 6 slices in 3-D, too" in out
        spacing = ["--data.spacing", "[10.0, 1.5, 1.25]"] if more else []
        status, out, err = run("fit", "--config", f"{name}.yaml", *QUICK, *spacing)
        assert status == 0, err
        assert predict(run, name, f"{name}/out", *ON_CPU)[0] == 0
    ours, theirs = weights("volumes"), weights("slices")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())
    scores = [scores_of(name) for name in ("volumes", "slices")]
    assert scores[0] == scores[1]
    assert {"val_dice_mean", "val_dice_RV", "val_hd95_mean"} <= scores[0].keys()
    found = sorted(path.name for path in Path("volumes/out/labels").iterdir())
    assert found == [f"{case}.nii.gz" for case in HEARTS]
    for case in HEARTS:
        image = nibabel.load(f"volumes/out/labels/{case}.nii.gz")
        labels = np.asarray(image.dataobj)
        assert labels.dtype == np.uint8
        assert (labels.transpose(2, 1, 0) == stacked(Path("slices/out/labels"), case)).all()
        assert np.array_equal(image.affine, AFFINE)
    assert len(list(Path("volumes/out/overlays").iterdir())) == len(list(Path("slices/out/overlays").iterdir())) == 12
    _compare_cuts(run)
    _compare_single_files(run, hearts[1])


def _compare_cuts(run):
    """A volume cut as a whole is its case of slices cut as a whole, and both keep the strokes."""
    for name in ("slices", "volumes"):
        options = ["--images.cut", "true", "--images.cut_weight", "0.3"]
        assert predict(run, name, f"{name}/cut", *ON_CPU, f"{name}/heart/images", *options)[0] == 0
    for case in HEARTS:
        labels = np.asarray(nibabel.load(f"volumes/cut/labels/{case}.nii.gz").dataobj).transpose(2, 1, 0)
        assert_alike(labels, stacked(Path("slices/cut/labels"), case))
        strokes = stacked(Path("slices/heart/scribbles"), case)
        assert (labels[strokes != 255] == strokes[strokes != 255]).all()
        assert (labels != stacked(Path("slices/out/labels"), case)).any()


def _compare_single_files(run, folder):
    """IMAGES that are volumes, of other orders of voxels and types of heads."""
    image = nibabel.load(folder / f"images/{HEARTS[0]}.nii.gz")
    values = np.asarray(image.dataobj)
    expected = np.asarray(nibabel.load(f"volumes/out/labels/{HEARTS[0]}.nii.gz").dataobj)
    oblique = AFFINE.copy()
    oblique[:3, :3] = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]]) @ oblique[:3, :3]
    Path("in").mkdir()
    nibabel.save(nibabel.Nifti2Image(values, oblique), "in/oblique.nii")
    nibabel.save(nibabel.Nifti1Image(values.transpose(2, 0, 1)[..., None], AFFINE[:, [2, 0, 1, 3]]), "in/turned.nii.gz")
    Path("in/broken.nii.gz").write_bytes((folder / f"images/{HEARTS[0]}.nii.gz").read_bytes()[:-900])
    options = ["--images.probabilities", "true", "--images.objects", "true"]
    status, said = predict(run, "volumes", "single", *ON_CPU, "in", *options)
    assert status == 1
    assert "left out: " in said
    assert "broken.nii.gz cannot be read (Compressed file ended" in said
    found = nibabel.load("single/labels/oblique.nii.gz")
    assert isinstance(found, nibabel.Nifti2Image)
    assert np.allclose(found.affine, oblique)
    assert_alike(np.asarray(found.dataobj), expected)
    turned = nibabel.load("single/labels/turned.nii.gz")
    assert turned.shape == (6, *values.shape[:2], 1)
    assert np.array_equal(turned.affine, AFFINE[:, [2, 0, 1, 3]])
    assert_alike(np.asarray(turned.dataobj)[..., 0].transpose(1, 2, 0), expected)
    chances = np.load("single/probabilities/oblique.npy")
    assert chances.shape == (4, *expected.shape[::-1])
    _compare_objects("single", "oblique.nii", values)
    with Image.open("single/overlays/oblique_slice_5.jpg") as overlay:
        assert overlay.size == values.shape[:2]
    options = ["--images.polygons", "true", "--images.window", "[0,0,9,9]"]
    status, said = predict(run, "volumes", "more", *ON_CPU, "in/oblique.nii", *options)
    assert status == 1
    assert "oblique.nii is a volume, which --images.polygons, --images.window cannot be used for: leave it out" in said


def _compare_objects(folder, name, values):
    """Those of a file's labels: as many voxels and regions of each class as scipy finds in the array."""
    with Path(folder, "objects.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["image"] == name]
    labels = np.asarray(nibabel.load(f"{folder}/labels/{Path(name).stem}.nii.gz").dataobj)
    for k, label in enumerate(("RV", "Myo", "LV"), 1):
        found = [row for row in rows if row["class"] == label]
        assert len(found) == ndimage.label(labels == k)[1]
        areas = np.array([float(row["area"]) for row in found])
        assert areas.sum() == (labels == k).sum()
        total = sum(float(row["intensity"]) * area for row, area in zip(found, areas, strict=True))
        np.testing.assert_allclose(total, values[labels == k].sum(dtype=float), rtol=1e-4)
        volumes = np.array([float(row["volume_mm3"]) for row in found])  # of six digits
        assert volumes == pytest.approx(areas * 10 * 1.5 * 1.25, rel=1e-5)


def test_neighbors_train_and_predict(run, hearts):
    assert (
        run("init", "volumes/heart", "--output", "near.yaml", "--encoder_weights", "null", "--learns", "network")[0]
        == 0
    )
    status, _, err = run("fit", "--config", "near.yaml", *QUICK, "--data.neighbors=1")
    assert status == 0, err
    assert predict(run, "near", "whole", *ON_CPU)[0] == 0
    status, said = predict(run, "near", "single", *ON_CPU, f"volumes/heart/images/{HEARTS[0]}.nii.gz")
    assert status == 0, said
    whole, single = (nibabel.load(f"{name}/labels/{HEARTS[0]}.nii.gz") for name in ("whole", "single"))
    assert_alike(np.asarray(whole.dataobj), np.asarray(single.dataobj))
    assert np.array_equal(whole.affine, single.affine)
    status, said = predict(run, "near", "other", *ON_CPU, "--data.neighbors", "0", "volumes/heart/images")
    assert status != 0
    assert "trained on slices with their neighbors (slice-1, slice, slice+1)" in said


def test_slices_along_another_axis_by_the_printed_commands(run, tmp_path):
    """From check by init to fit: 12 slices of 14 x 4 voxels, where the spacing says 4 slices of 12 x 14."""
    write_small(tmp_path / "small")
    status, out, err = run("check", "small", "--slice_axis", "0")
    assert (status, err) == (0, "")
    assert "36 images, 14 x 4 pixels" in out
    assert out.endswith("weakseg init small --slice_axis 0\n")
    more = ("--neighbors", "1", "--encoder_weights", "null", "--learns", "network")
    assert run("init", "small", "--slice_axis", "0", *more)[0] == 0
    written = yaml.safe_load(Path("small.yaml").read_text())["data"]["init_args"]
    assert (written["slice_axis"], written["neighbors"]) == (0, 1)
    status, _, err = run("fit", "--config", "small.yaml", *QUICK)
    assert status == 0, err
    saved = Path("runs/small/version_0/checkpoints/last.ckpt")
    assert torch.load(saved, weights_only=True)["channels"]["names"] == ["slice-1", "slice", "slice+1"]


def test_axes_and_neighbors_are_of_volumes_alone(refused, make_folder, tmp_path):
    make_folder("photos")
    write_small(tmp_path / "small")
    assert "`slice_axis` are for volumes" in refused("check", "photos", "--slice_axis", "0")
    assert "`neighbors` and `slice_axis` are for volumes" in refused("init", "photos", "--neighbors", "1")
    assert "`slice_axis` must be one of None, 0, 1, 2, got 3" in refused("check", "small", "--slice_axis", "3")
    assert "`neighbors` must be at least 0, got -1" in refused("init", "small", "--neighbors", "-1")
    assert not Path("small.yaml").exists()
