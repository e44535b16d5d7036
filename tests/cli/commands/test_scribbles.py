"""`weakseg scribbles` as a user calls it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from weakseg_lightning.data import VOCDataModule
from weakseg_lightning.data.images.reading import read_labels
from weakseg_lightning.data.scribbles.simulate import simulate_scribbles
from weakseg_lightning.data.scribbles.strokes import Stroke, draw_strokes, shorten_labels


def write_xml(path: Path, *scribbles, size=(60, 40)) -> None:
    parts = [
        f"<polygon><tag>{tag}</tag>" + "".join(f"<point><X>{x}</X><Y>{y}</Y></point>" for x, y in points) + "</polygon>"
        for tag, points in scribbles
    ]
    stated = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>" if size else ""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"<annotation>{stated}{''.join(parts)}</annotation>")


def write_png(path: Path, labels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels.astype(np.uint8)).save(path)


def whole(label: int) -> np.ndarray:
    line, click = np.array([[5.0, 10.0], [50.0, 10.0]]), np.array([[30.0, 30.0]])
    return draw_strokes([Stroke(line, label), Stroke(click, 0)], 40, 60)


@pytest.fixture
def pngs(run):
    """Three scribbles as PNG in `VOC2012/pascal_2012_scribble`."""
    folder = Path("VOC2012/pascal_2012_scribble")
    for number in (1, 2, 3):
        write_png(folder / f"a_{number}.png", whole(number))
    return folder


def labels(path) -> np.ndarray:
    return read_labels(Path(path)).numpy()


# ---- shorten ------------------------------------------------------------------------------------------------


def test_png_scribbles_are_shortened_beside_the_whole_ones(run, pngs):
    status, out, err = run("scribbles", "shorten", "--source", str(pngs), "--lengths", "0.5", "0")
    assert (status, err) == (0, "")
    assert out.startswith("Wrote 6 files with 12 strokes, ")
    assert sorted(path.name for path in Path("VOC2012").iterdir()) == [
        "pascal_2012_scribble",
        "pascal_2012_scribble0",
        "pascal_2012_scribble0.5",
    ]
    for length in ("0.5", "0"):
        found = sorted(Path(f"VOC2012/pascal_2012_scribble{length}").iterdir())
        assert [path.name for path in found] == ["a_1.png", "a_2.png", "a_3.png"]
        for number, path in enumerate(found, start=1):
            assert (labels(path) == shorten_labels(whole(number), float(length))).all()


def test_the_summary_counts_what_is_written(run, pngs):
    out = run("scribbles", "shorten", "--source", str(pngs), "--lengths", "0.5")[1]
    written = [labels(path) for path in Path("VOC2012/pascal_2012_scribble0.5").iterdir()]
    assert f" {np.mean([picture != 255 for picture in written]):.2%} of the pixels" in out


def test_several_processes_write_the_same(run, pngs):
    run("scribbles", "shorten", "--source", str(pngs), "--lengths", "0.5")
    options = ["--lengths", "0.5", "--output", "other", "--processes", "2"]
    assert run("scribbles", "shorten", "--source", str(pngs), *options)[0] == 0
    for path in Path("VOC2012/pascal_2012_scribble0.5").iterdir():
        assert path.read_bytes() == (Path("other/pascal_2012_scribble0.5") / path.name).read_bytes()


def test_nothing_is_replaced_unless_told(run, pngs):
    command = ["scribbles", "shorten", "--source", str(pngs), "--lengths", "0.5"]
    ready = Path("VOC2012/pascal_2012_scribble0.5/a_2.png")
    write_png(ready, whole(9))
    status, _, err = run(*command)
    assert status == 2
    assert "has scribbles of 1 of the 3 images already, as a_2.png: choose another `output`" in err
    assert [path.name for path in ready.parent.iterdir()] == ["a_2.png"]
    assert (labels(ready) == whole(9)).all()
    assert run(*command, "--overwrite")[0] == 0
    assert (labels(ready) == shorten_labels(whole(2), 0.5)).all()


def test_the_source_is_never_its_own_output(refused, pngs):
    assert "pascal_2012_scribble is the source itself: choose another `output`" in refused(
        "scribbles", "shorten", "--source", str(pngs), "--lengths", "1", "--overwrite"
    )


def test_bad_files_are_named_and_the_others_written(run, pngs):
    (pngs / "a_2.png").write_bytes(b"garbage")
    write_png(pngs / "a_4.png", np.full((5, 5), 255))
    status, out, err = run("scribbles", "shorten", "--source", str(pngs), "--lengths", "0.5")
    assert status == 1
    assert out.startswith("Wrote 2 files with 4 strokes")
    first, second, last = err.splitlines()
    assert first.startswith("weakseg: skipped: VOC2012/pascal_2012_scribble/a_2.png is not an image that can be read")
    assert second.startswith("weakseg: skipped: VOC2012/pascal_2012_scribble/a_4.png has no labelled pixel")
    assert last == "weakseg: 2 of 4 images were skipped, see above"
    assert sorted(path.name for path in Path("VOC2012/pascal_2012_scribble0.5").iterdir()) == ["a_1.png", "a_3.png"]


WRONG = [
    (["--source", "nowhere", "--lengths", "0.5"], "`source`: there is no folder nowhere (working directory: "),
    (["--source", "VOC2012", "--lengths", "0.5"], "`source`: VOC2012 holds no *.png"),
    (["--source", "VOC2012/pascal_2012_scribble", "--lengths", "1.5"], "`lengths` must be numbers between 0 and 1"),
    (["--source", "VOC2012/pascal_2012_scribble", "--lengths", "0.5", "--processes=0"], "`processes` must be at least"),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_a_wrong_argument_is_told_before_anything_is_written(run, pngs, options, message):
    status, out, err = run("scribbles", "shorten", *options)
    assert (status, out) == (2, "")
    assert err.startswith(f"weakseg: error: {message}"), err
    assert [path.name for path in Path("VOC2012").iterdir()] == ["pascal_2012_scribble"]


def test_a_write_that_fails_leaves_no_half_file(run, pngs, monkeypatch):
    def fail(self, path, format=None):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    status, _, err = run("scribbles", "shorten", "--source", str(pngs), "--lengths", "0.5")
    assert status == 2
    assert "No space left on device" in err
    assert list(Path("VOC2012/pascal_2012_scribble0.5").iterdir()) == []


# ---- convert ------------------------------------------------------------------------------------------------


def test_xml_scribbles_become_png(run):
    write_xml(Path("xml/a.xml"), ("cat", [(5, 10), (50, 10)]), ("background", [(30, 30)]))
    assert run("scribbles", "convert", "--source", "xml", "--output", "VOC2012")[0] == 0
    assert (labels("VOC2012/pascal_2012_scribble/a.png") == whole(8)).all()
    assert run("scribbles", "shorten", "--source", "xml", "--output", "VOC2012", "--lengths", "0.5")[0] == 0
    shorter = labels("VOC2012/pascal_2012_scribble0.5/a.png")
    assert (shorter == 8).sum() == pytest.approx((22.5 + 3) * 3, abs=3)
    assert (shorter == 0).sum() == 9


def test_classes_of_ones_own(run):
    write_xml(Path("xml/a.xml"), ("Sea Star", [(5, 10), (50, 10)]), ("ground", [(30, 30)]))
    Path("names.txt").write_text("ground\nfish\nSea Star\n")
    command = ["scribbles", "convert", "--source", "xml", "--output"]
    assert run(*command, "one", "--class_names", "names.txt")[0] == 0
    assert run(*command, "two", "--class_names", "ground", "fish", "sea star")[0] == 0
    for output in ("one", "two"):
        assert (labels(f"{output}/pascal_2012_scribble/a.png") == whole(2)).all()
    status, _, err = run(*command, "three")
    assert status == 1
    assert "xml/a.xml has a scribble of the class 'sea star', expected one of background, aeroplane" in err


def test_an_xml_file_without_a_size_needs_the_photograph(run):
    write_xml(Path("xml/a.xml"), ("cat", [(5, 10), (50, 10)]), ("background", [(30, 30)]), size=None)
    command = ["scribbles", "convert", "--source", "xml", "--output", "VOC2012"]
    status, _, err = run(*command)
    assert status == 1
    assert "a.xml does not state the size of its image: give `images`" in err
    Path("photographs").mkdir()
    assert "photographs has no image a.jpg or a.png" in run(*command, "--images", "photographs")[2]
    Image.new("RGB", (60, 40)).save("photographs/a.jpg")
    assert run(*command, "--images", "photographs")[0] == 0
    assert (labels("VOC2012/pascal_2012_scribble/a.png") == whole(8)).all()


def test_xml_does_not_say_where_to_write(run):
    write_xml(Path("xml/a.xml"), ("cat", [(5, 10)]))
    assert (
        "`output` must be given with XML scribbles" in run("scribbles", "shorten", "--source=xml", "--lengths=[0]")[2]
    )


# ---- simulate -----------------------------------------------------------------------------------------------


def mask(label: int) -> np.ndarray:
    picture = np.zeros((60, 80))
    picture[10:50, 10:50] = label
    return picture


def test_masks_of_two_folders_become_scribbles(run):
    write_png(Path("VOC2012/SegmentationClass/a.png"), mask(3))
    write_png(Path("VOC2012/SegmentationClassAug/a.png"), mask(4))
    write_png(Path("VOC2012/SegmentationClassAug/b.png"), mask(5))
    folders = ["VOC2012/SegmentationClass", "VOC2012/SegmentationClassAug"]
    status, out, _ = run("scribbles", "simulate", "--masks", *folders, "--seed", "7")
    assert status == 0
    assert out.startswith("Wrote 2 files with 4 strokes")
    for name, label in (("a", 3), ("b", 5)):
        drawn = labels(f"VOC2012/pascal_2012_scribble/{name}.png")
        assert (drawn == simulate_scribbles(mask(label).astype(np.uint8), name, 7)).all()


def test_scribbles_for_a_folder_of_ones_own_are_renamed_as_the_command_says(run):
    write_png(Path("own/masks/a.png"), mask(1))
    write_png(Path("own/images/a.png"), mask(200))
    status, out, _ = run("scribbles", "simulate", "--masks", "own/masks")
    assert status == 0
    assert out.endswith("scribbles in scribbles/: rename pascal_2012_scribble to that\n")
    Path("own/pascal_2012_scribble").rename("own/scribbles")
    _, out, _ = run("check", "own")
    assert "scribbles and clicks label" in out
    assert "problem" not in out


def test_the_module_reads_what_the_command_writes(run, shared):
    voc = shared / "data" / "VOCdevkit" / "VOC2012"
    target = Path("VOCdevkit/VOC2012")
    target.mkdir(parents=True)
    for name in ("JPEGImages", "SegmentationClass", "ImageSets"):
        (target / name).symlink_to(voc / name)
    names = VOCDataModule(".", train_split="train", supervision="tags").files.names("train")[:3]
    for name in names:
        (Path("masks") / f"{name}.png").parent.mkdir(exist_ok=True)
        (Path("masks") / f"{name}.png").symlink_to(voc / "SegmentationClass" / f"{name}.png")
    assert run("scribbles", "simulate", "--masks", "masks", "--output", str(target))[0] == 0
    source = VOCDataModule(".", train_split="train", scribble_length=0.6).train_source()
    for index in range(3):
        sample = source[index]
        labelled = sample.seeds != 255
        assert labelled.any()
        assert (sample.seeds == sample.mask)[labelled].all()
