"""What was logged, read back from files written by hand."""

import pytest

from weakseg_lightning.reporting.metrics import (
    best_of,
    case_table,
    class_table,
    curves_figure,
    latest,
    read_metrics,
    solver_table,
)

LOG = """epoch,hook_solve_ms,step,train_loss,val_iou_cat,val_iou_dog,val_miou
0,2.0,9,1.5,,,
0,,9,,0.5,0.25,0.375
1,4.0,19,nan,,,
1,,19,,0.25,,0.25
"""


@pytest.fixture
def metrics(tmp_path):
    (tmp_path / "metrics.csv").write_text(LOG)
    return read_metrics(tmp_path / "metrics.csv")


def test_curves_have_iterations_and_finite_values(metrics):
    assert metrics["train_loss"] == [(10, 1.5)]
    assert metrics["val_miou"] == [(10, 0.375), (20, 0.25)]
    assert "epoch" not in metrics
    assert best_of(metrics) == (10, 0.375)
    assert best_of({}) is None


def test_classes_at_the_best_and_the_last_validation(metrics):
    table = class_table(metrics, {"test_miou": [(1, 0.5)], "test_iou_dog": [(1, 0.75)]})
    assert table is not None
    assert list(table.head) == ["class", "validation, iteration 10 (best)", "validation, iteration 20 (last)", "test"]
    assert [list(row) for row in table.rows] == [
        ["mean", "37.5", "25.0", "50.0"],
        ["cat", "50.0", "25.0", "-"],
        ["dog", "25.0", "-", "75.0"],
    ]
    assert class_table({}, {}) is None


def test_cases_by_class_with_their_spread():
    dice = {"dice_cat": [0.5, 0.7, 0.9], "dice_dog": [0.25], "dice_mean": [0.5, 0.7, 0.9]}
    table = case_table(dice | {"hd95_cat": [2.0, 4.0], "hd95_dog": [], "hd95_mean": [2.0, 4.0, 6.0]})
    assert list(table.head) == ["class", "Dice, %", "HD95"]
    assert table.title.startswith("mean ± standard deviation over 3 cases")
    assert [list(row) for row in table.rows] == [
        ["cat", "70.0 ± 20.0", "3.0 ± 1.4 (2)"],
        ["dog", "25.0 (1)", "-"],
        ["mean", "70.0 ± 20.0", "4.0 ± 2.0"],
    ]


def test_costs_of_the_solver(metrics):
    table = solver_table(metrics)
    assert table is not None
    assert [list(row) for row in table.rows] == [["solver, ms per batch", "3", "4", "4"]]
    assert solver_table({"train_loss": [(1, 1.0)]}) is None


def test_a_plot_for_what_was_logged(metrics):
    figure = curves_figure(metrics)
    assert figure is not None
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "validation, %"]
    assert figure.axes[1].lines[0].get_ydata().tolist() == [37.5, 25.0]
    assert curves_figure({}) is None


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*metrics\.csv"):
        read_metrics(tmp_path / "metrics.csv")
    (tmp_path / "metrics.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="has no column `step`"):
        read_metrics(tmp_path / "metrics.csv")


def test_the_latest_file_is_the_one_written_last(tmp_path):
    import os

    for age, name in ((5, "test"), (1, "test_2"), (3, "test_1")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.csv").touch()
        os.utime(tmp_path / name / "a.csv", (1000 - age, 1000 - age))
    assert latest(tmp_path, "test*/a.csv") == tmp_path / "test_2" / "a.csv"
    assert latest(tmp_path, "none*/a.csv") is None
