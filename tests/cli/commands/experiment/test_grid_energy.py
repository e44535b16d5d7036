import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from weakseg_lightning import load_module
from weakseg_lightning.cli.commands.evaluation import load_data, read_config
from weakseg_lightning.cli.commands.experiment.grid_energy import energy_figure, grid_energy, read_curve
from weakseg_lightning.energies import GridPotts
from weakseg_lightning.metrics.energy import grid_energy as energy_of

ALWAYS = ("--trainer.check_val_every_n_epoch=1",)


def test_runs_are_compared(run, tiny, refused):
    for recipe in ("pce", "adm_grid"):
        status, _, errors = run("fit", "--config", f"recipes/{recipe}.yaml", *tiny, *ALWAYS, "--name", recipe)
        assert status == 0, errors
    folders = ["runs/pce/version_0", "runs/adm_grid/version_0"]
    status, said, errors = run(
        "experiment", "grid-energy", "--runs", *folders, "--names", "pCE", "ADM", "--images", "2"
    )
    assert status == 0, errors
    with Path("grid_energy/table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["run"] for row in rows] == ["pCE", "ADM"]
    lines = [line for line in said.splitlines() if line.startswith("| ")]
    assert lines[0] == "| run | energy, training | energy, validation | mIoU, training | mIoU, validation |"
    for row, line, folder in zip(rows, lines[1:], folders, strict=True):
        assert line.startswith(f"| {row['run']} | {float(row['train_grid_energy']):.3f} | ")
        # both validation images, whole: what the run itself logged for its last weights
        logged = read_curve(Path(folder) / "metrics.csv")[-1]
        assert float(row["val_grid_energy"]) == pytest.approx(logged[1], abs=1e-5)
        assert float(row["train_grid_energy"]) == pytest.approx(by_hand(Path(folder), 2, 0), abs=1e-6)
    with Image.open("grid_energy/energy.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 5
    assert "`names` must be as many as `runs` (2, at least 1), all different" in refused(
        "experiment", "grid-energy", "--runs", *folders, "--names", "one"
    )
    assert "`runs`: no file runs/nothing/metrics.csv" in refused("experiment", "grid-energy", "--runs", "runs/nothing")


def by_hand(folder: Path, images: int, seed: int) -> float:
    """Mean energy of the labels of some whole training images."""
    module = load_module(folder / "checkpoints/last.ckpt")
    source = load_data(read_config(folder), None, "fit").train_source()
    order = torch.randperm(len(source.ids), generator=torch.Generator().manual_seed(seed))[:images]
    energies = []
    for index in order.tolist():
        image = source[index].image[None].float() / 255
        with torch.no_grad():
            energies.append(energy_of(module(image).argmax(1), image, GridPotts(80.0)))
    return float(torch.cat(energies).mean())


def test_curve_of_a_run(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,train_loss,val_grid_energy\n9,0.5,\n9,,1.25\n19,,0.75\n")
    assert read_curve(path) == [(10, 1.25), (20, 0.75)]
    path.write_text("step,train_loss\n9,0.5\n")
    with pytest.raises(ValueError, match=r"metrics.csv has no `val_grid_energy`: the run was not validated"):
        read_curve(path)


def test_figure_has_a_line_a_run():
    (axes,) = energy_figure({"GD": [(10, 2.5), (20, 2.4)], "ADM": [(10, 2.1)]}).axes
    assert [(line.get_label(), line.get_xdata().tolist()) for line in axes.lines] == [("GD", [10, 20]), ("ADM", [10])]
    assert axes.lines[0].get_ydata().tolist() == [2.5, 2.4]


def test_arguments_are_checked(tmp_path):
    with pytest.raises(ValueError, match=r"`names` must be as many as `runs` \(0, at least 1\)"):
        grid_energy([])
    with pytest.raises(ValueError, match="`images` must be at least 1, got 0"):
        grid_energy([tmp_path], images=0)
