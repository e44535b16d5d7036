"""`weakseg report`: the page of a run that was trained and tested."""

import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from weakseg_lightning.cli.commands.report import _extremes


@pytest.mark.parametrize(
    ("count", "panels", "expected"),
    [
        (1, 3, {"best": 1, "median": 0, "worst": 0}),
        (4, 3, {"best": 3, "median": 0, "worst": 1}),
        (9, 3, {"best": 3, "median": 3, "worst": 3}),
        (100, 2, {"best": 2, "median": 2, "worst": 2}),
    ],
)
def test_extremes_are_different_images(count, panels, expected):
    found = list(_extremes(list(range(count)), panels))
    assert len({index for _, index in found}) == len(found)
    assert {kind: sum(name == kind for name, _ in found) for kind in expected} == expected
    assert ("best", 0) in found
    if count > 2 * panels:
        medians = [index for kind, index in found if kind == "median"]
        assert min(medians) <= count / 2 <= max(medians) + 1


def test_a_run_becomes_a_page(run, tiny):
    tested = [*tiny, "--data.num_val=7"]
    assert run("fit", "--config", "adm_grid", *tested, "--name", "<b>tiny", "--model.pce_fraction=0")[0] == 0
    folder = Path("runs/<b>tiny/version_0")
    status, out, _ = run("report", str(folder), "--panels", "1")
    assert (status, out) == (0, f"Wrote {folder}/report.html: open it in a browser\n")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "<title>&lt;b&gt;tiny / version_0</title>" in page
    assert "No trimap curve" in page
    assert "solver, ms per batch" in page
    assert "encoder: timm-mobilenetv3_small_minimal_100" in page, "the configuration"
    kinds = re.findall(r"<figcaption>\S+: (best|median|worst), mIoU ([\d.]+) %</figcaption>", page)
    assert [kind for kind, _ in kinds] == ["best", "median", "worst"]
    scores = [float(score) for _, score in kinds]
    assert scores == sorted(scores, reverse=True)
    last = str(folder / "checkpoints/last.ckpt")
    assert (
        run("test", "--config", str(folder / "config.yaml"), "--ckpt_path", last, "--trainer.accelerator=cpu")[0] == 0
    )
    assert run("report", "--run", str(folder), "--images", "0", "--output", "out/page.html")[0] == 0
    page = Path("out/page.html").read_text(encoding="utf-8")
    assert "Scores of the test against the width of the trimap" in page
    assert "test mIoU" in page
    assert "<img" not in page


def test_without_its_data_a_run_still_has_a_page(run):
    folder = Path("version_0")
    folder.mkdir()
    (folder / "metrics.csv").write_text("epoch,step,val_miou\n0,9,0.5\n")
    data = "data:\n  class_path: weakseg_lightning.data.VOCDataModule\n  init_args: {root: nowhere}\n"
    (folder / "config.yaml").write_text(data)
    assert run("report", "version_0")[0] == 0
    assert "No pictures: there is no checkpoint in version_0/checkpoints" in (folder / "report.html").read_text()


def test_a_run_whose_data_cannot_be_made_still_has_a_page(run, tiny):
    assert run("fit", "--config", "pce", *tiny, "--name=tiny")[0] == 0
    config = Path("runs/tiny/version_0/config.yaml")
    text = config.read_text()
    config.write_text(changed := text.replace("weakseg_lightning.ScenesDataModule", "mypackage.MyData"))
    assert changed != text
    assert run("report", "runs/tiny/version_0")[0] == 0
    assert "No pictures: " in (page := (config.parent / "report.html").read_text())
    assert "mypackage" in page


def test_a_run_without_masks_shows_training_images(run, tiny):
    Path("data/images").mkdir(parents=True)
    for name in ("a", "b<i>"):
        Image.effect_noise((40, 36), 50).convert("RGB").save(f"data/images/{name}.png")
    Path("data/classes.yaml").write_text("classes: [background, leaf]\n")
    Path("data/points.csv").write_text("image,x,y,class\na,2,2,0\na,30,30,1\nb<i>,5,5,0\nb<i>,9,30,1\n")
    of_folder = [
        word for word in tiny[2:] if not word.startswith(("--data.num_train", "--data.num_val", "--data.size"))
    ]
    data = ["--data=FolderDataModule", "--data.root=data", "--model.network=SMPNetwork", *of_folder]
    status, _, err = run("fit", "--config", "pce", *data, "--name=strokes")
    assert status == 0, err
    assert run("report", "runs/strokes/version_0")[0] == 0
    page = Path("runs/strokes/version_0/report.html").read_text()
    assert "No validation image has a mask: 2 training images by last.ckpt." in page
    assert re.findall(r"<figcaption>(a|b&lt;i&gt;)</figcaption>", page) == ["a", "b&lt;i&gt;"]


def test_the_best_of_a_resumed_run_may_be_of_the_run_before(run, tiny):
    assert run("fit", "--config", "pce", *tiny, "--name=tiny")[0] == 0
    first, second = (Path(f"runs/tiny/version_{number}") for number in range(2))
    last = first / "checkpoints" / "last.ckpt"
    content = torch.load(last, weights_only=True)
    (best,) = (state for name, state in content["callbacks"].items() if name.startswith("BestCheckpoint"))
    score = torch.tensor(0.9876)  # which the next steps do not reach
    best |= {"best_model_score": score, "best_k_models": {best["best_model_path"]: score}}
    torch.save(content, last)
    again = ["--ckpt_path", str(last), "--trainer.max_steps=3", "--trainer.max_epochs=-1"]
    assert run("fit", "--config", "pce", *tiny, "--name=tiny", *again)[0] == 0
    assert run("report", str(second))[0] == 0
    page = (second / "report.html").read_text()
    name = Path(best["best_model_path"]).name
    assert "best val_miou, before this run was resumed" in page
    assert "98.8 %" in page
    assert f"By {name}, of" in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing"], "`run`: no file nothing/metrics.csv"),
        (["nothing", "--panels", "0"], "`panels` must be at least 1"),
        ([], "`run` must be given"),
    ],
)
def test_mistakes_are_told_in_one_line(refused, words, message):
    assert message in refused("report", *words)
