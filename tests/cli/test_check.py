"""`weakseg check`: a sound folder passes, and everything broken has its line, here and before training."""

import sys
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from weakseg_lightning.cli.check import check
from weakseg_lightning.data import FolderDataModule

sys.path.append(str(Path(__file__).parent))
from broken_pictures import BROKEN_PICTURES
from broken_tables import BROKEN_TABLES

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
    assert lines(printed.out)[-2:] == ["Mend these, then again:", f"weakseg check {root}"]
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
        "note: no annotation has the class bird: nothing can be learnt about it",
        "note: no image has a mask: training works, but there will be no validation",
    ]


def test_a_folder_that_is_not_there_or_empty_is_one_line(run):
    assert run("check", "nowhere")[::2] == (
        2,
        f"weakseg: error: `data`: there is no folder nowhere (working directory: {Path.cwd()})\n",
    )
    Path("empty").mkdir()
    status, _, err = run("check", "empty")
    assert (status, err.count("\n")) == (2, 1)
    assert "no folder `images` in" in err


def test_the_command_takes_the_folder_as_a_word_or_an_option(run, make_folder):
    make_folder("2024")  # a number as far as YAML is concerned
    assert run("check", "2024", "--sheet", "sheet.png")[0] == 0
    assert Path("sheet.png").is_file()
    assert run("check", "--data", "2024")[0] == 0
    status, out, err = run("fit", "--model", "RegularizedLossModule", "--data", "FolderDataModule", "--data.root", "no")
    assert status == 2
    assert "Traceback" not in out + err
