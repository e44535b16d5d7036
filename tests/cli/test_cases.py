"""Cases from the check to the report: runs select by them, resume, and write each into a file; the page shows them."""

import csv
import re
import shlex
from pathlib import Path

import pytest
import torch
import yaml
from slices import CASES, PATTERN, write_slices

OPTIONS = [
    *("--model", "RegularizedLossModule", "--model.supervision", "seeds", "--model.network", "SMPNetwork"),
    *("--model.network.architecture", "unet", "--model.network.encoder", "tu-test_efficientnet"),
    *("--model.network.encoder_weights", "null", "--data", "FolderDataModule", "--data.root", "heart"),
    *("--data.cases", PATTERN, "--data.spacing", "[8, 1.5, 1.25]", "--data.val_fraction", "0.6"),
    *("--data.crop_size", "32", "--data.batch_size", "2", "--data.num_workers", "0", "--trainer.accelerator", "cpu"),
    *("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
    *("--checkpoint.monitor", "val_dice_mean", "--checkpoint.filename", "{epoch}-{val_dice_mean:.4f}"),
]
RUN = Path("runs/cases/version_0")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def call(run):
    def call(*words: object) -> str:
        status, out, err = run(*map(str, words))
        assert status == 0, err
        return out

    return call


def test_cases_from_the_check_to_the_report(call):
    write_slices(Path("heart"))
    out = call("check", "heart", "--cases", PATTERN)
    assert "18 images are 3 cases of 3 to 11 slices" in out
    assert "distances within cases (HD95, `predict --images.cut`) count voxels, as no spacing is known" in out
    call("fit", *OPTIONS, "--trainer.max_epochs", 2, "--name", "cases")
    validated = [row for row in rows(RUN / "metrics.csv") if row["val_dice_mean"]]
    assert len(validated) == 2
    assert all(row["val_dice_core"] and row["val_iou_core"] for row in validated)
    best = max(float(row["val_dice_mean"]) for row in validated)
    assert [path.name.partition("val_dice_mean=")[2] for path in RUN.glob("checkpoints/epoch*")] == [f"{best:.4f}.ckpt"]
    assert not (RUN / "cases.csv").exists()

    last = RUN / "checkpoints/last.ckpt"
    call("fit", "--config", RUN / "config.yaml", "--ckpt_path", last, "--trainer.max_epochs", 3)
    resumed = torch.load(RUN.with_name("version_1") / "checkpoints/last.ckpt", weights_only=True)
    (kept,) = (state for name, state in resumed["callbacks"].items() if "BestCheckpoint" in name)
    assert kept["best_model_score"] >= best - 1e-6

    given = ["--config", RUN / "config.yaml", "--ckpt_path", last]
    out = call("test", *given)
    assert {"test_dice_ring", "test_dice_core", "test_dice_mean"} <= set(re.findall(r"test_\w+", out))
    found = rows(RUN / "test/cases.csv")
    assert {row["case"]: int(row["slices"]) for row in found}.items() <= CASES.items()
    assert len(found) == 2
    (logged,) = rows(RUN / "test/metrics.csv")
    for name in ("dice_ring", "dice_core", "dice_mean"):
        assert float(logged[f"test_{name}"]) == pytest.approx(sum(float(row[name]) for row in found) / 2, abs=1e-5)
    call("validate", *given, "--model.largest_component", "true")
    assert [row["case"] for row in rows(RUN / "validate/cases.csv")] == [row["case"] for row in found]

    call("report", RUN, "--images", 0)
    page = (RUN / "report.html").read_text()
    assert "<h2>Cases</h2>" in page
    assert "over 2 cases" in page
    assert page.count('<th scope="row">core</th>') == 2
    assert "Scores of the cases of test" in page
    assert "best validation Dice per case" in page


def test_the_printed_commands_keep_the_pattern_and_the_recipe_holds_out_cases(call):
    write_slices(Path("heart"))
    (line,) = [line for line in call("check", "heart", "--cases", PATTERN).splitlines() if "weakseg init" in line]
    out = call(*shlex.split(line)[1:])
    assert "Validation scores 1 case of " in out
    assert "in 3-D, too: val_dice_mean, val_hd95_mean" in out
    settings = yaml.safe_load(Path("heart.yaml").read_text())["data"]["init_args"]
    assert (settings["cases"], settings["spacing"]) == (PATTERN, [1, 1, 1])
    assert "# of the cases, held out for validation: 1\n" in Path("heart.yaml").read_text()


def test_init_finds_the_table_of_cases(call):
    names = sorted(path.stem for path in (write_slices(Path("heart")) / "images").iterdir())
    Path("heart/cases.csv").write_text("image,case\n" + "".join(f"{name},{name[:5]}\n" for name in names))
    assert "Validation scores 1 case of " in call("init", "heart")
    assert "cases" not in yaml.safe_load(Path("heart.yaml").read_text())["data"]["init_args"]


def test_names_that_do_not_match_are_told_in_one_line(refused):
    write_slices(Path("heart"), {"p1": 2})
    told = refused("fit", *OPTIONS, "--data.cases", "(.+)_frame.*")
    assert "2 of 2 images with masks, as 'p1_slice_0'" in told
