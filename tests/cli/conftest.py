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
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run of two steps, trained once for all tests."""
    before, folder = dict(os.environ), tmp_path_factory.mktemp("tiny_run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", list(sys.path))
        assert main(["fit", "--config", "recipes/pce.yaml", *TINY, "--name", "tiny"]) == 0
    os.environ.clear()
    os.environ.update(before)
    return folder / "runs/tiny/version_0"


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
    os.environ.clear()  # the seed is an environment variable
    os.environ.update(before)
