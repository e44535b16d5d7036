"""Scores of cases: their file, written and read, and the box plots."""

import doctest
from pathlib import Path

import pytest

from weakseg_lightning.metrics import CaseScore
from weakseg_lightning.visualization import cases
from weakseg_lightning.visualization.cases import cases_figure, read_cases, write_cases

NAN = float("nan")
FOUND = [CaseScore("heart 1", 9, [0.5, 1.0], [2.5, NAN]), CaseScore("heart,2", 10, [0.25, 0.0], [NAN, NAN])]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_cases(tmp_path / "cases.csv", FOUND, ["RV", "LV_wall"])
    return tmp_path / "cases.csv"


def test_file_by_hand(path: Path) -> None:
    assert path.read_text().splitlines() == [
        "case,slices,dice_RV,dice_LV_wall,dice_mean,hd95_RV,hd95_LV_wall,hd95_mean",
        "heart 1,9,0.500000,1.000000,0.750000,2.500000,,2.500000",
        '"heart,2",10,0.250000,0.000000,0.125000,,,',
    ]


def test_what_is_written_is_read(path: Path) -> None:
    dice = {"dice_RV": [0.5, 0.25], "dice_LV_wall": [1.0, 0.0], "dice_mean": [0.75, 0.125]}
    assert read_cases(path) == dice | {"hd95_RV": [2.5], "hd95_LV_wall": [], "hd95_mean": [2.5]}


def test_box_plots_show_what_is_known(path: Path) -> None:
    dice, hd95 = cases_figure(read_cases(path)).axes
    assert [text.get_text() for text in dice.get_xticklabels()] == ["RV", "LV_wall", "mean"]
    assert [text.get_text() for text in hd95.get_xticklabels()] == ["RV", "mean"]
    medians = [line.get_ydata()[0] for line in dice.lines if len(set(line.get_ydata())) == 1]
    assert {37.5, 50.0, 43.75} <= set(medians)
    results = doctest.testmod(cases)
    assert (results.attempted, results.failed) == (2, 0)


@pytest.mark.parametrize("text", ["epoch,step\n0,1\n", "", "case,slices,miou\na,1,0\n"])
def test_other_files_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(ValueError, match=r"metrics\.csv must have the columns case, slices, dice_<class>"):
        read_cases(tmp_path / "metrics.csv")
