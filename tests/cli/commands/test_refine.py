"""`--refine` and `weakseg crf-search`, on scenes and a network of two steps."""

import csv
import sys
from pathlib import Path

import pytest
import torch
import yaml

from weakseg_lightning.cli.commands.crf import search
from weakseg_lightning.cli.commands.crf.trials import NAMES, PUBLISHED, Trials, by_coordinates
from weakseg_lightning.cli.recipes import recipes_folder
from weakseg_lightning.solvers.dense_crf import pydensecrf

QUIET = ("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false")
SINGLE = [part for name, value in zip(NAMES, (2, 3, 8, 10, 5), strict=True) for part in (f"--{name}", str(value))]


@pytest.fixture(scope="module")
def trained(train, tiny) -> Path:
    """Folder of a run of two steps, with three scenes for validation."""
    return train("--config", "pce", *tiny, "--data.num_val=3", "--name=tiny") / "runs/tiny/version_0"


@pytest.fixture
def files(of_run) -> list[str]:
    return [*of_run, *QUIET]


@pytest.fixture
def searched(trained) -> list[str]:
    found = ["--run", str(trained), "--ckpt_path", str(trained / "checkpoints" / "last.ckpt"), "--output", "found"]
    return ["crf-search", *found]


def scores_of(out: str, stage: str) -> dict[str, float]:
    """Read the scores from Lightning's table."""
    cells = [[cell.strip() for cell in line.split("│")[1:3]] for line in out.splitlines() if line.startswith("│")]
    return {name: float(value) for name, value in cells if name.startswith(stage)}


# ---- test, validate, predict ----------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["test", "validate"])
def test_the_scores_of_a_command_are_of_refined_labels(run, files, command):
    stage = {"test": "test", "validate": "val"}[command]
    _, plain, _ = run(command, *files)
    status, same, err = run(command, *files, "--refine", "MeanField", "--refine.iterations", "0")
    assert status == 0, err
    assert scores_of(same, stage) == scores_of(plain, stage)
    status, smooth, err = run(command, *files, "--refine", "MeanField", "--refine.spatial_weight", "100")
    assert status == 0, err
    assert scores_of(smooth, stage)[f"{stage}_grid_energy"] < scores_of(plain, stage)[f"{stage}_grid_energy"]


def test_predictions_are_of_refined_labels(run, files):
    for name, options in (("plain", []), ("refined", ["--refine=MeanField", "--refine.spatial_weight=100"])):
        assert run("predict", *files, *options, f"--predictions.output_dir={name}")[0] == 0
    pairs = [(path, Path("refined/labels") / path.name) for path in Path("plain/labels").iterdir()]
    assert len(pairs) == 3
    assert any(one.read_bytes() != other.read_bytes() for one, other in pairs)


@pytest.mark.parametrize(("name", "published"), [("ccnn_untuned", PUBLISHED[0]), ("ccnn_tuned", PUBLISHED[1])])
def test_the_overlays_have_the_published_numbers_and_options_override_them(run, files, capsys, name, published):
    with pytest.raises(SystemExit):
        run("test", *files, "--config", f"recipes/refine/{name}.yaml", "--refine.iterations=3", "--print_config")
    refine = yaml.safe_load(capsys.readouterr().out)["refine"]
    assert refine["class_path"].rpartition(".")[2] == "MeanField"
    assert tuple(refine["init_args"][argument] for argument in NAMES) == published
    assert refine["init_args"]["iterations"] == 3
    assert refine["init_args"]["normalization"] == "symmetric"


def test_an_overlay_given_to_fit_refines_its_validation_alone(run, tiny, trained, caplog):
    caplog.set_level("INFO")
    overlay = ["--config", "recipes/refine/ccnn_untuned.yaml", "--refine.spatial_weight=100"]
    status, _, err = run("fit", "--config", "pce", *tiny, *overlay, "--data.num_val=3", "--name=refined")
    assert status == 0, err
    assert "labels are refined by MeanField(" in caplog.text
    rows = [
        next(row for row in csv.DictReader((folder / "metrics.csv").read_text().splitlines()) if row[column])[column]
        for folder in (trained, Path("runs/refined/version_0"))
        for column in ("train_loss", "val_grid_energy")
    ]
    assert rows[0] == rows[2]
    assert float(rows[3]) < float(rows[1])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--refine", "MeanFeld"], "`refine`: `MeanFeld` is no Refinement; did you mean `MeanField`?"),
        (["--refine", "MeanField", "--refine.iteration=3"], "`iteration` is not an option; did you mean `iterations`"),
        (["--refine.iterations=3"], "`refine` needs a `class_path:`, one of "),
    ],
)
def test_a_wrong_option_is_named(refused, files, options, words):
    assert words in refused("test", *files, *options)


def test_without_the_package_the_command_says_what_to_install(run, files, monkeypatch):
    pydensecrf.load_pydensecrf.cache_clear()
    monkeypatch.setitem(sys.modules, "pydensecrf", None)  # what Python takes for "not installed"
    monkeypatch.delitem(sys.modules, "pydensecrf.densecrf", raising=False)
    status, _, err = run("test", *files, "--refine", "PyDenseCRF")
    assert status == 2
    assert err.endswith(
        "weakseg: error: PyDenseCRF: the refinement `PyDenseCRF` needs pydensecrf2, not installed here: "
        'pip install ".[crf]" in the checkout\n'
    )


# ---- the search -----------------------------------------------------------------------------------------------


def rows_of(folder: str = "found") -> list[dict[str, str]]:
    with Path(folder, "search.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_search_scores_as_the_test_does(run, files, searched):
    status, out, err = run(*searched, *SINGLE, "--search", "grid", "--bilateral_weight", "5", "30")
    assert status == 0, err
    plain, *tried = rows_of()
    assert [row["bilateral_weight"] for row in tried] == ["5.0", "30.0"]
    assert plain["spatial_sigma"] == ""
    best = max(tried, key=lambda row: float(row["miou"]))
    overlay = yaml.safe_load(Path("found/best.yaml").read_text())["refine"]
    assert overlay["class_path"] == "MeanField"
    assert overlay["init_args"]["bilateral_weight"] == float(best["bilateral_weight"])
    assert {path.name for path in Path("found").iterdir()} == {"best.yaml", "search.csv"}
    command = out.strip().splitlines()[-1].split()[1:]
    assert command[0] == "test"
    for words, row in ((["test", *files], plain), ([*command, *QUIET], best)):
        status, out, err = run(*words)
        assert status == 0, err
        assert scores_of(out, "test")["test_miou"] == pytest.approx(float(row["miou"]), abs=1e-6)


def test_the_search_is_the_same_on_two_processes_and_puts_no_file_on_another(run, searched):
    grid = [*SINGLE, "--search=grid", "--bilateral_sigma_rgb", "5", "40", "--images=2", "--seed=1"]
    for processes in ("1", "2"):
        status, out, err = run(*searched, *grid, f"--processes={processes}")
        assert status == 0, err
        assert "2 validation images, seed 1" in out
    assert rows_of("found") == rows_of("found_1")


def test_a_search_without_masks_does_not_begin(run, searched, monkeypatch):
    decode = search.decode_batch
    monkeypatch.setattr(
        search, "decode_batch", lambda batch: {**(found := decode(batch)), "mask": torch.full_like(found["mask"], 255)}
    )
    status, _, err = run(*searched, *SINGLE)
    assert status == 2
    assert "none of the 3 validation images has a mask" in err
    assert not Path("found").exists()


def test_an_interrupted_search_keeps_what_it_tried(run, searched, monkeypatch):
    tried = Trials.best

    def stop_at_the_second_round(self, candidates):
        if self.scores:
            raise KeyboardInterrupt
        return tried(self, candidates)

    monkeypatch.setattr(Trials, "best", stop_at_the_second_round)
    assert run(*searched, *SINGLE)[0] == 130
    assert [row["spatial_sigma"] for row in rows_of()] == ["", "2.0"]
    assert [path.name for path in Path("found").iterdir()] == ["search.csv"]


def test_coordinates_reach_the_best_of_a_hill_and_stop():
    goal = (6.0, 3.0, 80.0, 10.0, 3.0)

    class Hill(Trials):
        def __init__(self) -> None:
            self.scores = {}

        def _scores(self, tried):
            return [{"miou": -sum(abs(a / b - 1) for a, b in zip(one, goal, strict=True))} for one in tried]

    hill = Hill()
    by_coordinates(hill, [[3.0, 6.0, 19.0], [3.0, 6.0, 15.0], [30.0, 50.0, 80.0], [3.0, 4.0, 10.0], [3.0, 5.0, 35.0]])
    assert max(hill.scores, key=lambda one: hill.scores[one]["miou"]) == goal
    assert list(hill.scores)[:2] == [PUBLISHED[0], (19.0, 15.0, 50.0, 10.0, 35.0)]  # moved to what may be tried
    assert len(hill.scores) < 3**5 / 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--spatial_sigma", "0", "3"], "`spatial_sigma` must be finite and above 0, got 0.0"),
        (["--images", "0"], "`images` must be at least 1, got 0"),
        (["--device", "gpu"], "`device` must be auto, cpu or cuda, got 'gpu'"),
        (["--processes", "0"], "`processes` must be at least 1, got 0"),
        (["--bilateral_weight=[]"], "`bilateral_weight` must be one value or several, got none"),
        (["--refinement", "MeanFeld"], "`MeanFeld` is no Refinement; did you mean `MeanField`?"),
        (["--refinement", "GCO"], "`GCO` is no Refinement"),
        (["--refinement", "mine.Smooth"], "does not take bilateral_sigma_rgb, bilateral_sigma_xy, "),
        (["--run", "nowhere"], "`run`: no file nowhere"),
        (["--run", str(recipes_folder() / "hardware" / "cpu.yaml")], "does not say what the data are"),
        (["--ckpt_path", "nowhere.ckpt"], "nowhere.ckpt"),
    ],
)
def test_what_the_search_cannot_use_is_named(run, searched, options, words):
    Path("mine.py").write_text(
        "from weakseg_lightning.solvers import Refinement\n\n\nclass Smooth(Refinement):\n"
        "    def _refine(self, scores, image, valid):\n        return scores.softmax(1)\n"
    )
    status, _, err = run(*searched, *options)
    sys.modules.pop("mine", None)
    assert status == 2
    assert words in err
    assert not Path("found").exists()
