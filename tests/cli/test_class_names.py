"""The names of the classes belong to the weights: every command refuses others, prints both lists, takes one option."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from weakseg_lightning import Segmenter, load_module

NAMES = ["background", "cat", "dog"]
OTHERS = {
    "two exchanged": ["background", "dog", "cat"],
    "one renamed": ["background", "cat", "cow"],
    "the background renamed": ["nothing", "cat", "dog"],
    "one put in between": ["background", "bird", "cat", "dog"],
    "one less": ["background", "dog"],
    "numbers": ["0", "1", "2"],
}
TINY = [
    *("--model.network", "SMPNetwork", "--model.network.architecture", "unet"),
    *("--model.network.encoder", "tu-test_efficientnet", "--model.network.encoder_weights", "null"),
    *("--data.crop_size", "32", "--data.batch_size", "2", "--data.num_workers", "0", "--trainer.accelerator", "cpu"),
    *("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
    *("--trainer.num_sanity_val_steps", "0"),
]


def make_folder(root: Path, names: list[str]) -> Path:
    """Four images of noise with masks of two classes."""
    for index in range(4):
        for folder in ("images", "masks"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(index).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(noise).save(root / "images" / f"{index}.png")
        Image.fromarray(np.eye(32, dtype=np.uint8)).save(root / "masks" / f"{index}.png")
    (root / "classes.yaml").write_text(json.dumps({"classes": names}))
    return root


def options(data: Path) -> list[str]:
    module = ["--model", "RegularizedLossModule", "--model.supervision", "seeds"]
    return [*module, "--data", "FolderDataModule", "--data.root", str(data), "--data.supervision", "full", *TINY]


@pytest.fixture(scope="module")
def checkpoint(train, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of two steps on classes of these names."""
    data = make_folder(tmp_path_factory.mktemp("data"), NAMES)
    folder = train(*options(data), "--trainer.max_steps", "2", "--name", "trained")
    return folder / "runs/trained/version_0/checkpoints/last.ckpt"


def commands(checkpoint: Path, data: Path) -> dict[str, list[str]]:
    given = ["--ckpt_path", str(checkpoint)]
    steps = ["--trainer.max_steps", "3"]
    return {
        "fit": ["fit", *options(data), *steps, *given],
        "start_from": ["fit", *options(data), *steps, "--model.start_from", str(checkpoint)],
        "validate": ["validate", *options(data), *given],
        "test": ["test", *options(data), *given],
        "predict": ["predict", *options(data), *given],
        "predict images": ["predict", *options(data), *given, str(data / "images")],
    }


@pytest.mark.parametrize("command", ["fit", "start_from", "validate", "test", "predict", "predict images"])
def test_another_order_is_refused_unless_one_option_says_otherwise(run, checkpoint, tmp_path, command):
    data = make_folder(tmp_path / "other", OTHERS["two exchanged"])
    args = commands(checkpoint, data)[command]
    status, out, err = run(*args)
    assert status == 2
    assert "was trained on the classes background, cat, dog; the data here have background, dog, cat" in err
    assert "--allow_other_classes true" in err
    assert "Traceback" not in out + err
    assert not list(Path().glob("runs/*/*")), "nothing is left behind"
    with pytest.warns(UserWarning, match=r"background, cat, dog; .* background, dog, cat: going on") as warned:
        status, out, err = run(*args, "--allow_other_classes", "true")
    assert status == 0, err
    assert sum("was trained on" in str(warning.message) for warning in warned) == 1


@pytest.mark.parametrize("command", ["fit", "test", "predict images"])
def test_the_same_names_pass(run, checkpoint, tmp_path, command):
    status, _, err = run(*commands(checkpoint, make_folder(tmp_path / "same", NAMES))[command])
    assert (status, "names of its classes" in err) == (0, False)


@pytest.mark.parametrize("kind", OTHERS)
def test_all_kinds_of_other_names_are_refused(refused, checkpoint, tmp_path, kind):
    data = make_folder(tmp_path / "other", OTHERS[kind])
    told = refused(*commands(checkpoint, data)["test"])
    assert ", ".join(NAMES) in told
    assert ", ".join(OTHERS[kind]) in told


def test_the_option_is_about_one_command_and_is_not_kept_with_the_run(run, checkpoint, tmp_path):
    data = make_folder(tmp_path / "other", OTHERS["two exchanged"])
    started = [*commands(checkpoint, data)["start_from"], "--name", "other", "--allow_other_classes", "true"]
    with pytest.warns(UserWarning, match="going on"):
        assert run(*started)[0] == 0
    folder = Path("runs/other/version_0")
    last = folder / "checkpoints/last.ckpt"
    assert load_module(last).class_names == OTHERS["two exchanged"]
    again = ["test", "--config", str(folder / "config.yaml"), "--ckpt_path"]
    assert run(*again, str(last))[0] == 0
    assert run(*again, str(checkpoint))[0] == 2


@pytest.mark.parametrize("command", ["fit", "test", "predict", "report", "crf-search", "experiment grid-energy"])
def test_the_option_is_in_the_help(run, capsys, command):
    with pytest.raises(SystemExit, match="0"):
        run(*command.split(), "--help")
    assert "--allow_other_classes" in capsys.readouterr().out


def test_every_checkpoint_of_a_run_has_the_names(checkpoint):
    written = sorted(checkpoint.parent.glob("*.ckpt"))
    assert {"last.ckpt", "previous.ckpt"} < {path.name for path in written}, "and the best one"
    assert all(torch.load(path, weights_only=True)["class_names"] == NAMES for path in written)


@pytest.fixture
def old(checkpoint: Path, tmp_path: Path) -> Path:
    """The same checkpoint as an earlier version wrote it: without names, with paths of files that have moved."""
    content = torch.load(checkpoint, weights_only=True)
    del content["class_names"]
    saved = content["hyper_parameters"]
    saved["_class_path"] = "weakseg_lightning.modules.regularized.RegularizedLossModule"
    saved["network"]["class_path"] = "weakseg_lightning.networks.smp.SMPNetwork"
    path: Path = tmp_path / "runs/old/version_0/checkpoints/last.ckpt"
    path.parent.mkdir(parents=True)
    torch.save(content, path)
    return path


@pytest.mark.parametrize("command", ["fit", "start_from", "test", "predict images"])
def test_old_checkpoints_work_with_a_warning(run, old, tmp_path, command):
    data = make_folder(tmp_path / "other", OTHERS["two exchanged"])
    with pytest.warns(UserWarning, match=r"does not say the names of its classes.* taken for background, dog, cat"):
        status, _, err = run(*commands(old, data)[command])
    assert status == 0, err


def test_names_come_with_the_weights_in_python(checkpoint, old):
    assert load_module(checkpoint).class_names == NAMES
    assert Segmenter(checkpoint).class_names == NAMES
    again = type(load_module(checkpoint)).load_from_checkpoint(checkpoint)
    assert again.class_names == NAMES
    assert Segmenter(old).class_names == ["0", "1", "2"]
    assert type(again).load_from_checkpoint(old).class_names is None


def test_names_are_exported(run, checkpoint, tmp_path):
    onnx = pytest.importorskip("onnx", reason="the extra `export` is not installed")
    assert run("export", str(checkpoint), "--output", str(tmp_path / "net"))[0] == 0
    properties = {entry.key: entry.value for entry in onnx.load(tmp_path / "net.onnx").metadata_props}
    assert json.loads(properties["class_names"]) == NAMES
    assert json.loads(extra_file(tmp_path / "net.pt2")) == NAMES


def extra_file(path: Path) -> str:
    extra = {"class_names": ""}
    torch.export.load(path, extra_files=extra)
    return extra["class_names"]


def test_an_old_checkpoint_is_exported_without_names(run, old, tmp_path):
    status, out, _ = run("export", str(old), "--format", "torch", "--output", str(tmp_path / "net"))
    assert (status, "does not say the names of its classes" in out) == (0, True)
    assert not extra_file(tmp_path / "net.pt2")


def test_classes_that_were_renamed_since_are_noticed_by_the_commands_that_read_a_run(run, checkpoint, tmp_path):
    copied = shutil.copytree(checkpoint.parents[1], tmp_path / "run")
    data = make_folder(tmp_path / "other", OTHERS["two exchanged"])
    root, few = ("--root", str(data)), ("--images", "2")
    for command in (
        ["crf-search", "--run", str(copied), "--ckpt_path", str(checkpoint)],
        ["experiment", "sample-grid", "--run", str(copied)],
        ["experiment", "grid-energy", "--runs", str(copied)],
    ):
        status, _, err = run(*command, *root, *few, "--output", "results")
        assert (status, "was trained on the classes background, cat, dog" in err) == (2, True)
        assert not Path("results").exists()
        if command[0] == "experiment":
            with pytest.warns(UserWarning, match="was trained on the classes background, cat, dog; .* going on"):
                assert run(*command, *root, *few, "--output", "results", "--allow_other_classes", "true")[0] == 0
            shutil.rmtree("results")
    assert run("report", str(copied), *root, "--output", "page.html")[0] == 0
    assert "was trained on the classes background, cat, dog" in Path("page.html").read_text()
    with pytest.warns(UserWarning, match="going on"):
        assert run("report", str(copied), *root, *few, "--output", "page.html", "--allow_other_classes", "true")[0] == 0
    assert "was trained on the classes" not in Path("page.html").read_text()
