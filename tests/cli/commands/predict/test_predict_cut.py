"""`weakseg predict ... IMAGES --images.cut`: labels of images and volumes by graph cuts that keep what is drawn."""

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from hearts import write_volume
from PIL import Image

from weakseg_lightning import FolderDataModule, RegularizedLossModule, Segmenter, SMPNetwork
from weakseg_lightning.channels import Channels
from weakseg_lightning.cli.commands.predict.images import predict_images
from weakseg_lightning.cli.commands.predict.options import ImageOptions
from weakseg_lightning.energies import GridPotts, VolumePotts
from weakseg_lightning.errors import UserError
from weakseg_lightning.prediction.cut import SlicesToCut
from weakseg_lightning.solvers import AlphaExpansion, SolverResult, VolumeExpansion

SPACING = (4.0, 1.0, 1.0)
CASES = "(.+)_slice_[0-9]+"
CUT = ImageOptions(cut=True, cut_weight=0.5, cut_between=3.0)


@pytest.fixture(scope="module")
def module() -> RegularizedLossModule:
    torch.manual_seed(2)
    return RegularizedLossModule(SMPNetwork("linknet", "tu-test_resnet", None), 3).eval()


@pytest.fixture
def root(tmp_path) -> Path:
    """Two volumes of four slices, the first with strokes on two of them, and a picture."""
    folder = tmp_path / "data"
    for name in ("images", "scribbles", "masks"):
        (folder / name).mkdir(parents=True)
    (folder / "classes.yaml").write_text("classes: [background, heart, lung]\n")
    rng = np.random.default_rng(0)
    for case in ("p1", "p2"):
        for place in range(4):
            pixels = rng.integers(0, 256, (32, 40), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"images/{case}_slice_{place}.png")
            Image.fromarray(pixels % 3).save(folder / f"masks/{case}_slice_{place}.png")
    for place in (0, 2):
        Image.fromarray(strokes(place)).save(folder / f"scribbles/p1_slice_{place}.png")
    return folder


def strokes(place: int) -> np.ndarray:
    drawn = np.full((32, 40), 255, dtype=np.uint8)
    if place in (0, 2):
        drawn[4:8, 3:30], drawn[20:23, 10:35], drawn[28, :] = 1, 2, 0
    return drawn


def predict(images, module, out, options=CUT, data=None, **others):
    drawn = None if data is None else data.drawn()
    return predict_images(images, module, out, options, accelerator="cpu", drawn=drawn, **others)


def files(root, *names):
    return {name: root / f"images/{name}.png" for name in names}


def labels_of(out, name):
    return np.array(Image.open(out / f"labels/{name}.png"))


def expected(module, root, case, places, spacing=SPACING, gaps=()):
    """The labels of a case by the solver, from the probabilities of its slices; those in ``gaps`` are no voxels."""
    segmenter = Segmenter(module, "cpu")
    images = [np.array(Image.open(root / f"images/{case}_slice_{place}.png").convert("RGB")) for place in places]
    scores = np.stack([segmenter.probabilities(image) for image in images])
    seeds = np.stack([strokes(place) if case == "p1" else np.full((32, 40), 255, np.uint8) for place in places])
    solver = VolumeExpansion(VolumePotts(GridPotts(0.5), 3.0))
    valid = torch.ones(len(places), 32, 40, dtype=torch.bool)
    valid[[places.index(gap) for gap in gaps]] = False
    image = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    known = torch.from_numpy(seeds).masked_fill(~valid, 255)
    return solver.solve(torch.from_numpy(scores).log(), image, spacing, seeds=known, valid=valid).labels.numpy()


def data_of(root, **options):
    return FolderDataModule(root, cases=CASES, spacing=SPACING, num_workers=0, **options)


def test_slices_of_a_case_are_cut_as_a_whole_and_strokes_are_kept(module, root, tmp_path):
    names = [f"{case}_slice_{place}" for place in (3, 0, 2, 1) for case in ("p2", "p1")]
    assert predict(files(root, *names), module, tmp_path / "out", data=data_of(root)) == 0
    for case in ("p1", "p2"):
        wanted = expected(module, root, case, [0, 1, 2, 3])
        found = np.stack([labels_of(tmp_path / "out", f"{case}_slice_{place}") for place in range(4)])
        np.testing.assert_array_equal(found, wanted)
    for place in (0, 2):
        drawn = strokes(place)
        assert (labels_of(tmp_path / "out", f"p1_slice_{place}")[drawn != 255] == drawn[drawn != 255]).all()
    predict(files(root, *names), module, tmp_path / "plain", ImageOptions())
    assert any((labels_of(tmp_path / "out", name) != labels_of(tmp_path / "plain", name)).any() for name in names)


def test_slices_that_are_not_named_leave_a_gap(module, root, tmp_path):
    predict(files(root, "p1_slice_3", "p1_slice_0", "p1_slice_1"), module, tmp_path / "out", data=data_of(root))
    wanted = expected(module, root, "p1", [0, 1, 2, 3], gaps=[2])
    for place in (0, 1, 3):
        np.testing.assert_array_equal(labels_of(tmp_path / "out", f"p1_slice_{place}"), wanted[place])


def test_it_is_known_where_nobody_has_said_how_far_slices_are_apart(root):
    assert not data_of(root).drawn().lacks_spacing
    assert FolderDataModule(root, cases=CASES, num_workers=0).drawn().lacks_spacing
    assert not FolderDataModule(root, num_workers=0).drawn().lacks_spacing, "there are no cases"


def test_images_of_no_case_are_cut_alone(module, root, tmp_path):
    data = FolderDataModule(root, num_workers=0)
    predict(files(root, "p1_slice_0", "p2_slice_1"), module, tmp_path / "out", data=data)
    for name in ("p1_slice_0", "p2_slice_1"):
        case, place = name[:2], int(name[-1])
        wanted = expected(module, root, case, [place])[0]
        np.testing.assert_array_equal(labels_of(tmp_path / "out", name), wanted)
    image = torch.from_numpy(np.array(Image.open(root / "images/p2_slice_1.png").convert("RGB")))
    scores = torch.from_numpy(Segmenter(module, "cpu").probabilities(image.numpy()))[None].log()
    alone = AlphaExpansion(GridPotts(0.5)).solve(scores, image.permute(2, 0, 1)[None].float() / 255)
    np.testing.assert_array_equal(labels_of(tmp_path / "out", "p2_slice_1"), alone.labels[0])


def test_images_outside_of_the_data_have_no_strokes(module, root, tmp_path):
    elsewhere = tmp_path / "p1_slice_0.png"
    elsewhere.write_bytes((root / "images/p1_slice_0.png").read_bytes())
    predict({"p1_slice_0": elsewhere}, module, tmp_path / "out", data=data_of(root))
    drawn = strokes(0)
    assert (labels_of(tmp_path / "out", "p1_slice_0")[drawn != 255] != drawn[drawn != 255]).any()


def test_a_link_to_an_image_of_the_data_is_that_image(module, root, tmp_path):
    link = tmp_path / "link.png"
    link.symlink_to(root / "images/p1_slice_0.png")
    predict({"link": link}, module, tmp_path / "out", data=FolderDataModule(root, num_workers=0))
    np.testing.assert_array_equal(labels_of(tmp_path / "out", "link"), expected(module, root, "p1", [0])[0])


def test_all_that_is_written_belongs_to_the_labels(module, root, tmp_path):
    options = ImageOptions(cut=True, cut_weight=0.5, cut_between=3.0, probabilities=True, objects=True)
    predict(files(root, "p1_slice_0"), module, tmp_path / "out", options, data_of(root))
    labels = labels_of(tmp_path / "out", "p1_slice_0")
    chances = np.load(tmp_path / "out/probabilities/p1_slice_0.npy")
    image = np.array(Image.open(root / "images/p1_slice_0.png").convert("RGB"))
    np.testing.assert_allclose(chances, Segmenter(module, "cpu").probabilities(image), atol=1e-3)
    rows = (tmp_path / "out/objects.csv").read_text().splitlines()[1:]
    assert sum(int(row.split(",")[2]) for row in rows) == (labels > 0).sum()
    assert (tmp_path / "out/overlays/p1_slice_0.jpg").is_file()


@pytest.mark.parametrize("probabilities", [False, True])
def test_volumes_are_cut_as_wholes(module, root, tmp_path, probabilities):
    """As the slices of a case are, where a stack of them is one file."""
    stacks = tmp_path / "stacks"
    for kind in ("images", "scribbles"):
        (stacks / kind).mkdir(parents=True)
    (stacks / "classes.yaml").write_text("classes: [background, heart, lung]\n")
    images = np.stack([np.array(Image.open(root / f"images/p1_slice_{place}.png")) for place in range(4)])
    write_volume(stacks / "images/p1.nii.gz", images)
    write_volume(stacks / "scribbles/p1.nii.gz", np.stack([strokes(place) for place in range(4)]))
    data = FolderDataModule(stacks, val_fraction=0, num_workers=0)
    options = ImageOptions(cut=True, cut_weight=0.5, cut_between=3.0, probabilities=probabilities)
    volume = {"p1": stacks / "images/p1.nii.gz"}
    assert predict(volume, module, tmp_path / "out", options, data, volumes=data.volumes) == 0
    spacing = data.volumes.header(volume["p1"]).distances
    found = nibabel.load(tmp_path / "out/labels/p1.nii.gz")
    slices = tmp_path / "again.nii.gz"
    nibabel.save(found, slices)
    wanted = expected(module, root, "p1", [0, 1, 2, 3], spacing)
    again = np.stack([data.volumes.labels(slices, place, volume["p1"]) for place in range(4)])
    np.testing.assert_array_equal(again, wanted)
    assert probabilities == (tmp_path / "out/probabilities/p1.npy").is_file()


def test_a_file_that_cannot_be_read_is_a_gap_and_is_named_once(module, root, tmp_path, capsys):
    (root / "images/p2_slice_1.png").write_bytes(b"no image")
    names = [f"p2_slice_{place}" for place in range(4)]
    assert predict(files(root, *names), module, tmp_path / "out", data=data_of(root)) == 1
    told = capsys.readouterr()
    assert told.err.count("left out") == 1
    assert "p2_slice_1.png" in told.err
    assert {path.stem for path in (tmp_path / "out/labels").iterdir()} == {"p2_slice_0", "p2_slice_2", "p2_slice_3"}
    Image.new("L", (40, 32)).save(root / "images/p2_slice_1.png")
    wanted = expected(module, root, "p2", [0, 1, 2, 3], gaps=[1])
    for place in (0, 2, 3):
        np.testing.assert_array_equal(labels_of(tmp_path / "out", f"p2_slice_{place}"), wanted[place])


def test_slices_of_several_sizes_are_no_volume(module, root, tmp_path, capsys):
    Image.new("L", (24, 32)).save(root / "images/p2_slice_1.png")
    Image.new("L", (24, 32)).save(root / "masks/p2_slice_1.png")
    names = [f"p2_slice_{place}" for place in range(4)]
    assert predict(files(root, *names, "p1_slice_0"), module, tmp_path / "out", data=data_of(root)) == 1
    assert "the case 'p2' of 4 slices has several sizes, 24 x 32 and 40 x 32" in capsys.readouterr().err
    assert [path.stem for path in (tmp_path / "out/labels").iterdir()] == ["p1_slice_0"]


def test_what_is_too_large_is_named(module, root, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("weakseg_lightning.prediction.cut._MOST_BYTES", 32 * 40 * 2 * 250)
    names = [f"p2_slice_{place}" for place in range(4)]
    assert predict(files(root, *names, "p1_slice_0"), module, tmp_path / "out", data=data_of(root)) == 1
    told = capsys.readouterr().err
    assert told.count("the case 'p2' of 4 slices: cutting its 5120 pixels as a whole would take 0 GB of memory") == 1
    assert [path.stem for path in (tmp_path / "out/labels").iterdir()] == ["p1_slice_0"]


def test_far_slices_take_no_memory_between_them():
    together = SlicesToCut()
    for place in (0, 1, 100000, 200000):
        together.add(np.full((3, 4, 5), 1 / 3, np.float32), np.zeros((4, 5, 3), np.uint8), place=place)
    arguments, at = together.arguments()
    assert at == [0, 1, 3, 5]
    assert arguments["valid"].flatten(1).all(1).tolist() == [True, True, False, True, False, True]


@pytest.mark.parametrize("tile", [64, 1024])
def test_maps_keep_their_place_and_have_no_labels_without_data(module, tmp_path, tile):
    rasterio = pytest.importorskip("rasterio")
    pixels = np.random.default_rng(0).integers(0, 50, (3, 200, 96), dtype=np.uint8)
    pixels[:, 60:120] += 150
    pixels[:, 120:] *= 4
    pixels[:, :30, :40] = 255
    where = {"crs": "EPSG:32632", "transform": rasterio.Affine(2, 0, 500000, 0, -2, 5000000), "nodata": 255}
    path = tmp_path / "map.tif"
    with rasterio.open(path, "w", "GTiff", 96, 200, 3, dtype="uint8", **where) as file:
        file.write(pixels)
    options = ImageOptions(tile=tile, overlap=32, cut=True, cut_weight=0.02)
    assert predict({"map": path}, module, tmp_path / "out", options) == 0
    with rasterio.open(tmp_path / "out/labels/map.tif") as file:
        labels = file.read(1)
        assert file.transform == where["transform"]
    empty = np.zeros((200, 96), dtype=bool)
    empty[:30, :40] = True
    np.testing.assert_array_equal(labels == 255, empty)
    assert len(np.unique(labels[~empty])) > 1


def test_strokes_have_no_place_on_maps_that_exif_data_turn(module, root, tmp_path, capsys):
    pytest.importorskip("rasterio")
    path, exif = root / "images/p1_slice_0.png", Image.Exif()
    exif[0x0112] = 3
    with Image.open(path) as image:
        image.save(path, exif=exif)
    data = FolderDataModule(root, num_workers=0)
    assert predict({"a": path}, module, tmp_path / "out", data=data) == 0
    drawn = strokes(0)
    assert (labels_of(tmp_path / "out", "a")[drawn != 255] == drawn[drawn != 255]).all()
    path.with_suffix(".pgw").write_text("1\n0\n0\n-1\n500000\n5000000\n")
    assert predict({"a": path}, module, tmp_path / "out", data=data) == 1
    assert "p1_slice_0.png lies on a map, and its EXIF data turn it" in capsys.readouterr().err
    assert predict({"a": path}, module, tmp_path / "out") == 0, "nothing is drawn on it"


def test_several_channels_are_cut_by_those_that_are_shown(tmp_path):
    torch.manual_seed(0)
    names, low, high = ("a", "b"), (0.0, 0.0), (100.0, 4.0)
    channels = Channels(names, {"a": 1, "b": "NAME_b.npy"}, low, high, (50.0, 2.0), (20.0, 1.0), (1, 1, 1))
    found = RegularizedLossModule(
        SMPNetwork("linknet", "tu-test_resnet", None).for_channels(*channels.normalization), 3
    )
    found.channels = channels
    rng = np.random.default_rng(0)
    values = np.stack([rng.integers(0, 100, (64, 96)).astype(np.uint8), rng.uniform(0, 4, (64, 96))], -1)
    Image.fromarray(values[..., 0].astype(np.uint8)).save(tmp_path / "x.png")
    np.save(tmp_path / "x_b.npy", values[..., 1])
    predict({"x": tmp_path / "x.png"}, found.eval(), tmp_path / "out", ImageOptions(cut=True, cut_weight=0.5))
    scores = torch.from_numpy(Segmenter(found, "cpu").probabilities(values))[None].log()
    shown = torch.from_numpy((values[..., 1] / 4 * 255).round()).float()[None, None].expand(1, 3, 64, 96) / 255
    wanted = AlphaExpansion(GridPotts(0.5)).solve(scores, shown).labels[0]
    assert (torch.from_numpy(labels_of(tmp_path / "out", "x")) != wanted).float().mean() < 1e-3


def test_clicks_and_accepted_labels_are_kept(module, root, tmp_path):
    (root / "points.csv").write_text("image,x,y,label\np2_slice_1,10,20,lung\n")
    (root / "accepted").mkdir()
    accepted = np.full((32, 40), 255, dtype=np.uint8)
    accepted[25:30, 2:9] = 1
    Image.fromarray(accepted).save(root / "accepted/p2_slice_2.png")
    names = [f"p2_slice_{place}" for place in range(4)]
    predict(files(root, *names), module, tmp_path / "out", data=data_of(root))
    assert (labels_of(tmp_path / "out", "p2_slice_2")[25:30, 2:9] == 1).all()
    assert labels_of(tmp_path / "out", "p2_slice_1")[20, 10] == 2


def test_one_file_under_two_names_is_written_twice(module, root, tmp_path):
    path = root / "images/p2_slice_1.png"
    for options in (ImageOptions(), CUT):
        assert predict({"a": path, "b": path}, module, tmp_path / "out", options) == 0
        np.testing.assert_array_equal(labels_of(tmp_path / "out", "a"), labels_of(tmp_path / "out", "b"))


def test_what_the_solver_cannot_do_is_named(module, root, tmp_path, capsys, monkeypatch):
    failed = SolverResult.from_labels(torch.full((1, 32, 40), 255, dtype=torch.uint8))
    monkeypatch.setattr(VolumeExpansion, "solve", lambda *_, **__: replace(failed, message=("no luck",)))
    assert predict(files(root, "p1_slice_0"), module, tmp_path / "out") == 1
    assert "p1_slice_0.png cannot be cut: no luck" in capsys.readouterr().err


def test_a_window_is_no_whole():
    with pytest.raises(UserError, match=r"`images\.cut` labels images as wholes"):
        ImageOptions(cut=True, window=(0, 0, 8, 8))
    for name in ("cut_weight", "cut_between"):
        with pytest.raises(ValueError, match=f"`{name}`"):
            ImageOptions(cut=True, **{name: -1.0})
        with pytest.raises(UserError, match=rf"`images\.{name}` does nothing without the cut: add `--images.cut true`"):
            ImageOptions(**{name: 2.0})
