"""A command that ends before its first batch leaves nothing behind, whatever ended it."""

import signal
from pathlib import Path

import pytest
import torch
from PIL import Image

from weakseg_lightning.cli.runs import BatchReached, RunFolder
from weakseg_lightning.data import BadSampleError, SegmentationDataset

PCE = ("fit", "--config", "recipes/baselines/pce.yaml")

CALLBACK = """
from lightning.pytorch import Callback

class Ending{error}{hook}(Callback):
    def {hook}(self, *args, **kwargs):
        raise {error}("on purpose")
"""


def ending(error: str, hook: str) -> str:
    """Write a callback that raises an error in one of its hooks, and give the option that adds it."""
    Path(f"ending_{error}_{hook}.py").write_text(CALLBACK.format(error=error, hook=hook))
    return f"--trainer.callbacks+=ending_{error}_{hook}.Ending{error}{hook}"


@pytest.fixture
def interruptible():
    """Lightning ignores interruptions after the first; later tests must not."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


WRONG = {
    "value": ["--model.gamma=1"],
    "class": ["--trainer.logger=CSVLoger"],
    "accelerator": ["--trainer.accelerator=gpuu"],
    "strategy": ["--trainer.strategy=dpp"],
    "devices": ["--trainer.devices=0"],
    "profiler": ["--trainer.profiler=simpel"],
    "fraction of batches": ["--trainer.limit_train_batches=1.5"],
    "encoder": ["--model.network.encoder=resnet81"],
    "weights": ["--model.start_from=nosuch.ckpt"],
    "checkpoint": ["--ckpt_path=broken.ckpt"],
    "missing data": ["--data=FolderDataModule", "--data.root=nosuch"],
    "number of classes": ["--model.num_classes=3"],
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_wrong_option_leaves_no_folder(run, tiny, wrong):
    Path("broken.ckpt").write_text("no checkpoint")
    status, _, err = run(*PCE, *tiny, *wrong)
    assert (status, err.count("\n")) == (2, 1), err
    assert not Path("runs").exists()


@pytest.mark.parametrize("hook", ["setup", "on_fit_start", "on_train_start"])
@pytest.mark.parametrize("error", ["RuntimeError", "KeyError", "ValueError"])
def test_an_error_before_the_first_batch_leaves_no_folder(run, tiny, error, hook):
    arguments = [*PCE, *tiny, ending(error, hook)]
    if error == "ValueError":
        assert run(*arguments)[0] == 2
    else:
        with pytest.raises((RuntimeError, KeyError), match="on purpose"):
            run(*arguments)
    assert not Path("runs").exists()


@pytest.mark.parametrize("hook", ["setup", "on_train_start"])
def test_an_interruption_before_the_first_batch_leaves_no_folder(run, tiny, hook, interruptible):
    status, _, err = run(*PCE, *tiny, ending("KeyboardInterrupt", hook))
    assert status == 130
    assert "weakseg: interrupted" in err
    assert not Path("runs").exists()


def test_an_interruption_while_the_trainer_is_built_leaves_no_folder(run, tiny, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("weakseg_lightning.cli.runs.ConfigWriter.__init__", interrupt)
    assert run(*PCE, *tiny) == (130, "", "weakseg: interrupted\n")
    assert not Path("runs").exists()


def test_a_bad_image_in_the_first_batch_leaves_no_folder(run, tiny, monkeypatch):
    def broken(self, index):
        raise BadSampleError("images/a.png is broken")

    monkeypatch.setattr(SegmentationDataset, "__getitem__", broken)
    status, _, err = run(*PCE, *tiny)
    assert status == 2
    assert "images/a.png is broken" in err
    assert not Path("runs").exists()


def test_an_error_in_training_keeps_the_folder(run, tiny):
    with pytest.raises(RuntimeError, match="on purpose"):
        run(*PCE, *tiny, ending("RuntimeError", "on_train_batch_start"))
    assert Path("runs/pce-scenes/version_0/config.yaml").is_file()


def test_what_was_there_before_stays(run, tiny):
    Path("runs/pce-scenes/version_0").mkdir(parents=True)
    Path("results").mkdir()
    for root in ([], ["--trainer.default_root_dir=results"]):
        assert run(*PCE, *tiny, "--trainer.devices=0", *root)[0] == 2
    assert sorted(map(str, Path().glob("r*/**/*"))) == ["runs/pce-scenes", "runs/pce-scenes/version_0"]
    assert Path("results").is_dir()


def test_folders_made_on_the_way_go_too(run, tiny):
    where = ["--trainer.default_root_dir=deep/er", "--name=a/b"]
    assert run(*PCE, *tiny, "--trainer.devices=0", *where)[0] == 2
    assert not Path("deep").exists()
    status, _, err = run(*PCE, *tiny, *where)
    assert status == 0, err
    assert Path("deep/er/a/b/version_0/config.yaml").is_file()


@pytest.mark.parametrize("command", ["test", "predict"])
def test_an_evaluation_that_fails_leaves_its_run_as_it_was(run, trained, command):
    def files():
        return sorted(path for path in Path("runs").rglob("*") if "__pycache__" not in path.parts)

    before = files()
    arguments = ("--config", str(trained / "config.yaml"), "--ckpt_path", str(trained / "checkpoints/last.ckpt"))
    quiet = "--trainer.enable_progress_bar=false"
    assert run(command, *arguments, quiet, "--trainer.devices=0")[0] == 2
    with pytest.raises(RuntimeError, match="on purpose"):
        run(command, *arguments, quiet, ending("RuntimeError", "setup"))
    assert files() == before


def test_images_that_cannot_be_predicted_leave_no_folder(run, trained, monkeypatch):
    def fail(*args):
        raise RuntimeError("on purpose")

    Image.new("RGB", (32, 32)).save("a.png")
    (trained / "checkpoints/last.ckpt").rename("elsewhere.ckpt")
    config = trained.rename("elsewhere") / "config.yaml"
    Path("runs/tiny").rmdir()
    Path("runs").rmdir()
    monkeypatch.setattr("weakseg_lightning.cli.commands.predict.command.predict_images", fail)
    with pytest.raises(RuntimeError, match="on purpose"):
        run("predict", "--config", str(config), "--ckpt_path", "elsewhere.ckpt", "a.png")
    assert not Path("runs").exists()


def test_another_run_of_the_same_name_is_left_alone(tmp_path):
    failing = RunFolder.make("fit", tmp_path / "runs", "mine", None)
    other = RunFolder.make("fit", tmp_path / "runs", "mine", None)
    failing.discard()
    assert [path.name for path in (tmp_path / "runs/mine").iterdir()] == ["version_1"]
    other.discard()
    assert (tmp_path / "runs/mine").is_dir()  # it had been there before the second
    assert tmp_path.is_dir()


@pytest.mark.parametrize(
    "hook",
    ["on_train_batch_start", "on_validation_batch_start", "on_test_batch_start", "on_predict_batch_start"],
)
def test_the_first_batch_of_any_loop_is_the_start(tmp_path, hook):
    started = BatchReached()
    started.folder = RunFolder.make("fit", tmp_path, "mine", None)
    getattr(started, hook)(None, None, torch.zeros(1), 0)
    started.undo()
    assert started.folder.path.is_dir()
