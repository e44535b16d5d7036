"""`weakseg check`: a sound folder passes, and everything broken has its line, here and before training."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from broken_pictures import BROKEN_PICTURES
from broken_tables import BROKEN_TABLES
from PIL import Image

from weakseg_lightning.cli.commands.check import check
from weakseg_lightning.data import FolderDataModule
from weakseg_lightning.data.folder.contents import read_folder

BROKEN = BROKEN_PICTURES | BROKEN_TABLES


def lines(text: str) -> list[str]:
    """Lines with single spaces, accents in one piece."""
    return [" ".join(line.split()) for line in unicodedata.normalize("NFC", text).splitlines()]


def test_a_sound_folder_passes(make_folder, capsys):
    root = make_folder()
    assert check(root) == 0
    out = lines(capsys.readouterr().out)
    assert out[0] == f"{root}: 3 images, 48 x 40 pixels; 3 classes (classes.yaml)"
    assert {"scribbles/ 3", "masks/ 2", "clicks 2 2", "boxes 2 2", "tags 3 6", "sizes 2 4"} <= set(out)
    assert out[-2:] == ["All is well. Next:", f"weakseg init {root}"]
    with Image.open(root / "contact_sheet.jpg") as sheet:
        assert sheet.width > 3 * 200


def test_class_balance_is_counted(make_folder, capsys):
    root = make_folder()
    (root / "points.csv").unlink()
    check(root)
    out = lines(capsys.readouterr().out)
    # By hand: strokes of 3 x 35 background, 3 x 12 cat, 3 x 12 dog; masks of 40 x 48 with 10 x 20 of either.
    assert "0 background 3 0 59.3% 79.2%" in out
    assert "1 cat 3 6 20.3% 10.4%" in out
    assert f"scribbles and clicks label {177 / 1920:.2%} of the pixels of 3 images" in out


def test_accepted_labels_are_counted_apart(make_folder, capsys):
    root = make_folder()
    (root / "points.csv").unlink()
    check(root)
    before = lines(capsys.readouterr().out)
    (root / "accepted").mkdir()
    Image.fromarray(np.repeat(np.uint8([1, 255]), (480, 1440)).reshape(40, 48)).save(root / "accepted" / "b.png")
    assert check(root) == 0
    out = lines(capsys.readouterr().out)
    assert "accepted/ 1" in out
    assert "1 cat 3 6 20.3% 100.0% 10.4%" in out
    assert "accepted labels label 25.00% of the pixels of 1 image" in out
    kept = [line for line in before if "%" not in line and "of scribbles" not in line]
    assert set(kept) <= set(out)
    assert "scribbles/ 3" in kept


def test_images_with_accepted_labels_alone_are_no_bare_ones(make_folder, capsys):
    root = make_folder()
    for path in (*root.glob("scribbles/*"), *root.glob("masks/*"), *root.glob("*.csv")):
        path.unlink()
    (root / "accepted").mkdir()
    Image.fromarray(np.full((40, 48), 1, np.uint8)).save(root / "accepted" / "b.png")
    assert check(root) == 0
    assert "note: 2 images have no annotation, as a: they can be labelled after training" in lines(
        capsys.readouterr().out
    )


def test_the_corpus_is_as_large_as_promised():
    assert len(BROKEN) >= 60


@pytest.mark.parametrize("name", BROKEN)
def test_everything_broken_has_its_line_and_stops_training_before_it_starts(make_folder, capsys, name):
    breaking, file, text = BROKEN[name]
    root = make_folder()
    breaking(root)
    assert check(root) == 1
    printed = capsys.readouterr()
    found = [line for line in lines(printed.out) if line.startswith(f"{file} ") and text in line]
    assert len(found) == 1, printed.out
    assert printed.err == ""
    assert lines(printed.out)[-2:] == ["Fix these, then run:", f"weakseg check {root}"]
    with pytest.raises((ValueError, OSError)) as stopped:
        FolderDataModule(root, num_workers=0).setup("fit")
    assert text in unicodedata.normalize("NFC", str(stopped.value))


def test_each_fault_has_its_own_line(make_folder, capsys):
    root = make_folder()
    for name in ("jpeg cut off", "palette renumbered", "mask of no image", "box inside out", "word as size"):
        BROKEN[name][0](root)
    assert check(root) == 1
    out = lines(capsys.readouterr().out)
    start = out.index("5 problems:")
    assert sorted(line.split()[0] for line in out[start + 1 : start + 6]) == [
        "boxes.csv",
        "images/a.jpg",
        "masks/zebra.png",
        "scribbles/b.png",
        "sizes.csv",
    ]


def test_what_is_no_fault_is_a_note(make_folder, capsys):
    root = make_folder()
    for path in [*(root / "masks").iterdir(), *root.glob("*.csv"), root / "scribbles" / "b.png"]:
        path.unlink()
    (root / "classes.yaml").write_text("classes: [background, cat, dog, bird]\n")
    (root / "scribbles" / "c d é.png").unlink()
    assert check(root) == 0
    notes = [line for line in lines(capsys.readouterr().out) if line.startswith("note: ")]
    assert notes == [
        "note: 2 images have no annotation, as b: they can be labelled after training",
        "note: no annotation has the class bird: nothing can be learned about it",
        "note: no image has a mask: training works, but there will be no validation",
    ]


def test_cases_are_counted(make_folder, capsys):
    root = make_folder()
    (root / "cases.csv").write_text("image,case\na,p1\nb,p2\nc d é,p1\n", "utf-8")
    assert check(root) == 0
    assert "3 images are 2 cases of 1 to 2 slices" in lines(capsys.readouterr().out)
    assert check(root, cases="(.)") == 0
    assert "2 images are 2 cases of 1 slice" in lines(capsys.readouterr().out)
    assert check(root, cases="(a)") == 1
    out = lines(capsys.readouterr().out)
    text = "images `cases` must match all names, and '(a)' does not match those of 1 of 2 images with masks, as 'b'"
    assert any(line.startswith(text) for line in out)
    assert out[-1] == f"weakseg check {root} --cases '(a)'"


def test_a_folder_that_is_not_there_or_empty_is_one_line(run, refused):
    assert run("check", "nowhere")[::2] == (
        2,
        f"weakseg: error: `data`: there is no folder nowhere (working directory: {Path.cwd()})\n",
    )
    Path("empty").mkdir()
    assert "no folder `images` in" in refused("check", "empty")


def test_the_command_takes_the_folder_as_a_word_or_an_option(run, make_folder):
    make_folder("2024")  # a number as far as YAML is concerned
    assert run("check", "2024", "--sheet", "sheet.png")[0] == 0
    assert Path("sheet.png").is_file()
    assert run("check", "--data", "2024")[0] == 0
    status, out, err = run("fit", "--model", "RegularizedLossModule", "--data", "FolderDataModule", "--data.root", "no")
    assert status == 2
    assert "Traceback" not in out + err


# ---- what is told -----------------------------------------------------------------------------------------------


def told(root, capsys, status: int = 0) -> list[str]:
    """The notes of a check that ends so."""
    assert check(root) == status
    return [line for line in lines(capsys.readouterr().out) if line.startswith("note: ")]


@pytest.mark.parametrize("sheet", ["taken.jpg", "file.txt/sheet.jpg", "sheet.unknown", "nowhere/sheet.jpg"])
def test_a_sheet_that_cannot_be_written_does_not_change_the_verdict(make_folder, capsys, tmp_path, sheet):
    root = make_folder()
    (tmp_path / "taken.jpg").mkdir()
    (tmp_path / "file.txt").write_text("")
    assert check(root, tmp_path / sheet) == 0
    out = lines(capsys.readouterr().out)
    assert out[-2] == "All is well. Next:"
    (note,) = [line for line in out if line.startswith("note: no contact sheet, ")]
    assert str(tmp_path / sheet) in note


def test_a_folder_that_cannot_be_written_is_checked_all_the_same(make_folder, capsys):
    root = make_folder()
    (root / "contact_sheet.jpg").mkdir()
    assert told(root, capsys)[-1].startswith(f"note: no contact sheet, {root / 'contact_sheet.jpg'} cannot be written")


def test_masks_that_are_void_all_over_are_told(make_folder, capsys):
    root = make_folder()
    Image.new("L", (48, 40), 255).save(root / "masks" / "b.png")
    assert "note: 1 mask is void all over, as that of b: nothing is learned from or tested there" in told(root, capsys)


def test_data_without_a_single_labelled_pixel_are_refused(make_folder, capsys):
    root = make_folder()
    for path in (*root.glob("scribbles/*"), *root.glob("*.csv")):
        path.unlink()
    for name in ("a", "b", "c d é"):
        Image.new("L", (48, 40), 255).save(root / "masks" / f"{name}.png")
    assert check(root) == 1
    assert "masks no pixel of any image has a class, all are void (255)" in " ".join(lines(capsys.readouterr().out))
    with pytest.raises(ValueError, match="no pixel of any image has a class"):
        FolderDataModule(root, supervision="full", num_workers=0).setup("fit")


def test_what_is_not_read_is_told_once_with_a_count(make_folder, capsys):
    root = make_folder()
    for name in ("mask", "annotations"):
        (root / name).mkdir()
    for name in ("Points.csv", "notes.txt", "annotations/labels.txt", "mask/a.png", ".hidden"):
        (root / name).write_text("x")
    (root / "contact_sheet.jpg").write_text("of an earlier check")
    (note,) = [line for line in told(root, capsys) if "not read" in line]
    assert note == (
        "note: not read (4): Points.csv (did you mean 'points.csv'?), mask (did you mean 'masks'?), notes.txt, ..."
    )


def test_linked_files_and_folders_are_followed(make_folder, capsys, tmp_path):
    root = make_folder()
    elsewhere = tmp_path / "elsewhere" / "inner"
    elsewhere.mkdir(parents=True)
    for name in ("x.png", "inner/y.png"):
        Image.new("RGB", (8, 8)).save(elsewhere.parent / name)
    (root / "images" / "more").symlink_to(elsewhere.parent)
    (root / "images" / "z.png").symlink_to(elsewhere / "y.png")
    (elsewhere / "around").symlink_to(root / "images")
    (root / "images" / "lost").symlink_to(tmp_path / "nowhere")
    assert check(root) == 1
    out = lines(capsys.readouterr().out)
    assert "images/lost is a link to nothing: restore what it links to, or remove it" in out
    assert out[0].startswith(f"{root}: ")
    (root / "images" / "lost").unlink()
    assert check(root) == 0
    names = set(read_folder(root).images)
    assert {"more/x", "more/inner/y", "z"} <= names
    assert not any("around/z" in name for name in names)


def test_a_class_called_background_that_is_not_the_first_is_told(make_folder, capsys):
    root = make_folder()
    for path in (*root.glob("scribbles/*"), *root.glob("*.csv")):
        path.unlink()
    (root / "classes.yaml").write_text("classes: [cat, Background, dog]\n")
    assert (
        "note: the first class is the background, in methods and scores: that is 'cat' here, not 'Background'"
        in told(root, capsys)
    )


def test_one_fault_of_many_files_is_told_with_a_count(make_folder, capsys):
    root = make_folder()
    for number in range(60):
        (root / "images" / f"x{number}.txt").write_text("0 0.5 0.5 0.1 0.1")
    assert check(root) == 1
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if "is no image that is read" in line]
    assert len(lines) == 6
    assert lines[-1][:3] == ["and", "55", "more"]


def test_images_without_any_annotation_are_told(make_folder, capsys):
    root = make_folder()
    for path in (*root.glob("scribbles/*"), *root.glob("masks/*"), *root.glob("*.csv")):
        path.unlink()
    assert check(root) == 1
    assert "no image has an annotation: add scribbles/" in capsys.readouterr().out
