from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from weakseg_lightning.metrics import TrimapScores
from weakseg_lightning.visualization.trimap import read_trimap, trimap_figure, write_trimap

VOID = {"trimap_void_miou": [0.1, 0.2, 0.3], "trimap_void_pixel_accuracy": [0.4, float("nan"), 0.6]}
BOUNDARY = {"trimap_boundary_miou": [0.7, 0.8], "trimap_boundary_pixel_accuracy": [0.9, 1.0]}


def test_file_by_hand(tmp_path: Path) -> None:
    write_trimap(tmp_path / "trimap.csv", {**BOUNDARY, **VOID})
    assert (tmp_path / "trimap.csv").read_text().splitlines() == [
        "width,definition,miou,pixel_accuracy",
        *("1,void,0.100000,0.400000", "2,void,0.200000,nan", "3,void,0.300000,0.600000"),
        *("1,boundary,0.700000,0.900000", "2,boundary,0.800000,1.000000"),
    ]


@pytest.mark.parametrize("written", [VOID, BOUNDARY, {**VOID, **BOUNDARY}])
def test_what_is_written_is_read(tmp_path: Path, written: dict[str, list[float]]) -> None:
    write_trimap(tmp_path / "trimap.csv", {name: torch.tensor(curve) for name, curve in written.items()})
    found = read_trimap(tmp_path / "trimap.csv")
    assert found.keys() == written.keys()
    assert all(found[name].tolist() == pytest.approx(curve, abs=1e-6, nan_ok=True) for name, curve in written.items())


def test_wrong_files(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    with pytest.raises(FileNotFoundError):
        read_trimap(path)
    path.write_text("epoch,step,test_miou\n0,0,0.5\n")
    with pytest.raises(ValueError, match=r"metrics.csv must have the columns width, .*, got \['epoch', 'step'"):
        read_trimap(path)
    path.write_text("width,definition,miou,pixel_accuracy\n1,void,0.5,0.5\n3,void,0.5,0.5\n")
    with pytest.raises(ValueError, match=r"metrics.csv, line 3: widths must be 1, 2, 3 \.\.\., got 3"):
        read_trimap(path)


def test_figure_has_a_line_per_run(tmp_path: Path) -> None:
    figure = trimap_figure({"ADM": {**VOID, **BOUNDARY}, "pCE": BOUNDARY})
    assert [axes.get_title() for axes in figure.axes] == ["near void", "near boundaries", "", ""]
    void_miou, boundary_miou, void_accuracy, boundary_accuracy = (
        {line.get_label(): line for line in axes.lines} for axes in figure.axes
    )
    assert list(void_miou) == list(void_accuracy) == ["ADM"]
    assert list(boundary_miou) == list(boundary_accuracy) == ["ADM", "pCE"]
    assert void_miou["ADM"].get_xdata().tolist() == [1, 2, 3]
    assert void_miou["ADM"].get_ydata().tolist() == pytest.approx([10, 20, 30])
    assert boundary_accuracy["pCE"].get_ydata().tolist() == pytest.approx([90, 100])
    assert void_miou["ADM"].get_color() == boundary_miou["ADM"].get_color() != boundary_miou["pCE"].get_color()
    figure.savefig(tmp_path / "trimaps.png")
    assert np.asarray(Image.open(tmp_path / "trimaps.png")).std() > 5


def test_figure_of_a_metric(tmp_path: Path) -> None:
    metric = TrimapScores(2, "boundary", max_width=1)
    metric.update(torch.tensor([[[0, 1]]]), torch.tensor([[[0, 1]]]))
    figure = trimap_figure({"mine": metric.compute()})
    assert [axes.lines[0].get_ydata().tolist() for axes in figure.axes] == [[100], [100]]
    assert figure.axes[-1].get_legend() is None  # of one run


def test_wrong_curves(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`curves` must hold at least one run with curves, got \['ADM'\]"):
        trimap_figure({"ADM": {}})
    for call in (lambda bad: trimap_figure({"ADM": bad}), lambda bad: write_trimap(tmp_path / "x.csv", bad)):
        with pytest.raises(ValueError, match=r"a curve must be named trimap_<void\|boundary>_.*, got 'miou'"):
            call({"miou": [0.5]})
