from argparse import Namespace
from pathlib import Path

import pytest
from methods import near_boundaries, parse, table

from weakseg_lightning.visualization.trimap import write_trimap

SCORES = {"val_miou": 0.5, "val_pixel_accuracy": 0.9, "val_grid_energy": 0.25, "seconds": 60.0}


def test_table_has_a_column_a_width() -> None:
    options, rest = parse(["--recipes", "pce", "full", "--seeds", "0", "1", "--trimap", "16", "8", "--", "--x", "1"])
    assert rest == ["--x", "1"]
    runs = {
        (name, seed): SCORES | {"val_miou": miou + seed / 10, "within_16": 0.8, "within_8": miou}
        for name, miou in (("pce", 0.5), ("full", 0.6))
        for seed in (0, 1)
    }
    header, line, *rows = table(runs, options).splitlines()
    assert header.split("|")[-6:-1] == [
        " pixel accuracy ",
        " within 16 px ",
        " within 8 px ",
        " grid energy ",
        " seconds ",
    ]
    assert line.count("---") == header.count("|") - 1
    assert rows[0] == "| pce | 50.0, 60.0 | 55.0 | 85 % | 55.0 | 90.0 | 80.0 | 50.0 | 0.250 | 60 |"
    narrow = table(runs, parse(["--recipes", "pce", "full", "--seeds", "0", "1"])[0]).splitlines()
    assert "within" not in narrow[0]
    assert narrow[2] == "| pce | 50.0, 60.0 | 55.0 | 85 % | 55.0 | 90.0 | 0.250 | 60 |"


def test_table_has_dice_where_cases_are_scored() -> None:
    options = parse(["--recipes", "full", "--seeds", "0", "1"])[0]
    runs = {("full", seed): SCORES | {"val_dice_LV": 0.9 + seed / 100, "val_dice_mean": 0.8} for seed in (0, 1)}
    header, _, row = table(runs, options).splitlines()
    assert header.endswith("| seconds | Dice LV | Dice mean |")
    assert row.endswith("| 60 | 90.0, 91.0 | 80.0, 80.0 |")


def test_accuracy_near_boundaries_is_read_of_a_finished_test(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    curves = {"trimap_boundary_miou": [0.1] * 40, "trimap_boundary_pixel_accuracy": [w / 100 for w in range(1, 41)]}
    write_trimap(tmp_path / "test/trimap.csv", curves)
    found = near_boundaries(tmp_path / "checkpoints/last.ckpt", Namespace(trimap=[16, 8], jobs=1))
    assert found == {"within_16": pytest.approx(0.16), "within_8": pytest.approx(0.08)}
