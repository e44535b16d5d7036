"""The command in a folder of its own, on scenes so small that a step takes no time."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import lightning.pytorch  # noqa: F401 - its log handler must not get the stream of a single test
import pytest

from weakseg_lightning.cli import main

TINY = [
    *("--config", "recipes/data/scenes.yaml"),
    *("--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"),
    *("--trainer.max_steps=2", "--trainer.log_every_n_steps=1", "--trainer.num_sanity_val_steps=0"),
    *("--model.network.encoder=timm-mobilenetv3_small_minimal_100", "--model.network.encoder_weights=null"),
    *("--data.num_train=4", "--data.num_val=2", "--data.size=32", "--data.crop_size=32", "--data.batch_size=2"),
    *("--data.num_workers=0",),
]

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def tiny() -> list[str]:
    """Arguments that shrink a recipe to two steps on four scenes of 32 x 32 pixels."""
    return list(TINY)


@pytest.fixture(scope="session")
def train(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Call `weakseg fit` in a new folder, which is returned; what is printed goes to its `printed.txt`."""

    def call(*args: str) -> Path:
        before, folder = dict(os.environ), tmp_path_factory.mktemp("trained")
        with pytest.MonkeyPatch.context() as patch, (folder / "printed.txt").open("w", encoding="utf-8") as printed:
            patch.chdir(folder)
            patch.setattr(sys, "path", list(sys.path))
            patch.setattr(sys, "stdout", printed)
            assert main(["fit", *args]) == 0
        os.environ.clear()  # the seed is an environment variable
        os.environ.update(before)
        return folder

    return call


@pytest.fixture(scope="session")
def tiny_run(train: Callable[..., Path]) -> Path:
    """Folder of a run of two steps, trained once for all tests."""
    return train("--config", "recipes/baselines/pce.yaml", *TINY, "--name", "tiny") / "runs/tiny/version_0"


@pytest.fixture
def trained(run: Run, tiny_run: Path) -> Path:
    """The same in the working directory: `runs/tiny/version_0`."""
    copied: Path = shutil.copytree(tiny_run, Path("runs/tiny/version_0"))
    return copied


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Call the command in an empty folder: (status, what it printed, what it printed as errors)."""
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def call(*args: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(args)
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    yield call
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def of_run(trained: Path) -> list[str]:
    """Options that take the configuration and the last checkpoint of that run."""
    return ["--config", str(trained / "config.yaml"), "--ckpt_path", str(trained / "checkpoints/last.ckpt")]


@pytest.fixture
def refused(run: Run) -> Callable[..., str]:
    """Call the command, which must end with status 2 and one line of error: that line, less its beginning."""

    def call(*args: str) -> str:
        status, out, err = run(*args)
        assert (status, out) == (2, "")
        start, error, told = err.partition("weakseg: error: ")
        assert (start, error, told.count("\n"), told[-1:]) == ("", "weakseg: error: ", 1, "\n"), err
        return told[:-1]

    return call
