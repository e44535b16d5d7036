"""Training from the page: processes that end, are stopped, fail, and are killed."""

import asyncio
import csv
import math
import os
import random
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from processes import kill, start, wait_for_text

from weakseg_lightning.cli import main as weakseg
from weakseg_lightning.cli import training as process
from weakseg_lightning.data.folder.recipe import is_users_own
from weakseg_lightning.painting.learning import training as module
from weakseg_lightning.painting.learning.training import TrainingRun, TrainingState, _Files, _losses

filelock = pytest.importorskip("filelock", reason="the extra `app` is not installed")

QUICK = (
    *("--trainer.accelerator=cpu", "--trainer.enable_model_summary=false", "--trainer.log_every_n_steps=1"),
    *("--model.network.encoder=test_efficientnet", "--model.network.cache.folder=null", "--data.num_workers=0"),
)
ENDLESS = (*QUICK, "--trainer.max_steps=1000000")
PATIENCE = 90


def training(data: Path, *options: str) -> TrainingRun:
    return TrainingRun(data, data.parent, None, options)


async def until(run: TrainingRun, reached: Callable[[TrainingState], bool]) -> None:
    for _ in range(10 * PATIENCE):
        if reached(run.state):
            return
        await asyncio.sleep(0.1)
    pytest.fail(f"{run.state}: {(run._recipe.parent / 'runs/photos/training.log').read_text()}")


def ended(state: TrainingState) -> bool:
    return state.phase not in ("running", "stopping")


def pid_in(data: Path) -> int:
    return int((data.parent / "runs/photos/training.pid").read_text())


def steps_of(checkpoint: Path) -> int:
    return int(torch.load(checkpoint, weights_only=True)["global_step"])


def off_loop(function: Callable[..., Any], loop: int) -> Callable[..., Any]:
    """The same function, which fails where it is called in the thread of the event loop."""

    def called(*given: Any, **named: Any) -> Any:
        assert threading.get_ident() != loop, f"{function} blocks the event loop"
        return function(*given, **named)

    return called


def recipe_by_init(data: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let the process write the recipe, and train nothing."""
    monkeypatch.chdir(data.parent)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr(os, "nice", lambda _: 0)
    with monkeypatch.context() as patch:
        patch.setattr(process, "_fit", lambda *_: 0)
        assert process.main([str(data), "photos.yaml", "null"]) == 0
    return (data.parent / "photos.yaml").read_text()


@pytest.fixture
def data(make_folder: Callable[..., Path]) -> Iterator[Path]:
    """A folder with strokes on two of three images; without masks, which would be validated with."""
    folder = make_folder()
    for file in ("masks/a.png", "masks/b.png", "scribbles/b.png", "points.csv", "boxes.csv", "tags.csv", "sizes.csv"):
        (folder / file).unlink()
    yield folder
    runs = folder.parent / "runs/photos"
    try:
        if runs.is_dir():
            filelock.FileLock(runs / "training.lock").acquire(timeout=0)
    except filelock.Timeout:  # the test has failed
        os.kill(pid_in(folder), signal.SIGKILL)


def test_killed_at_any_moment_it_says_so_and_the_next_start_trains_on_the_new_strokes_to_the_end(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(0)
    seen: list[TrainingState] = []

    async def killed(step: int) -> TrainingRun:
        run = training(data, *ENDLESS)
        await run.start()
        await until(run, lambda state: step <= state.step and (data.parent / "runs/photos/training.pid").exists())
        await asyncio.sleep(chance.uniform(0, 0.5))
        os.kill(pid_in(data), signal.SIGKILL)
        await until(run, ended)
        assert run.state.phase == "failed"
        assert f"was killed (SIGKILL), as where memory runs out (all that was printed: {data.parent}" in run.state.text
        return run

    async def work() -> None:
        assert (await killed(0)).state.checkpoint is None
        run = await killed(1)
        assert steps_of(run.state.checkpoint) <= run.state.step + 100
        (data / "scribbles/b.png").write_bytes((data / "scribbles/a.png").read_bytes())
        run = training(data, *QUICK, "--trainer.max_steps=6")
        run.watchers.append(lambda: seen.append(run.state))
        await run.start()
        await run.start()
        await until(run, lambda state: state.phase == "done")

    for cls, name in ((subprocess.Popen, "__init__"), (_Files, "of"), (_Files, "look"), (_Files, "outcome")):
        monkeypatch.setattr(cls, name, off_loop(getattr(cls, name), threading.get_ident()))
    asyncio.run(work())

    last = seen[-1]
    assert (last.step, last.steps, len(last.curve)) == (6, 6, 6)
    assert all(math.isfinite(loss) for _, loss in last.curve)
    assert last.text == "by photos.yaml, written by `weakseg init`"
    assert last.checkpoint == data.parent / "runs/photos/version_1/checkpoints/last.ckpt"
    assert steps_of(last.checkpoint) == 6
    printed = (data.parent / "runs/photos/training.log").read_text()
    assert [int(count) for count in re.findall(r"photos: (\d) training images", printed)][-1] == 3
    assert not list(data.parent.rglob("*.tmp"))


def test_stopped_it_leaves_a_checkpoint_that_predicts(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (data.parent / "photos.yaml").write_text((recipe_by_init(data, monkeypatch)).replace("weight: 100 ", "weight: 99 "))
    run = training(data, *ENDLESS)
    curves: list[int] = []
    run.watchers.append(lambda: curves.append(len(run.state.curve)))

    async def work() -> None:
        await run.stop()
        assert run.state.phase == "idle"
        await run.start()
        await until(run, lambda state: state.step > 2)
        monkeypatch.setattr(process, "_WAIT_FOR_LOCK", 0.1)
        monkeypatch.delenv("LOCAL_RANK", raising=False)
        assert process.main([str(data), "photos.yaml", "null"]) == 2
        told = f"photos.yaml is being trained already: wait for its end, or end it with `kill {pid_in(data)}`"
        assert told in capsys.readouterr().err
        await run.close()

    asyncio.run(work())
    assert run.state.phase == "stopped", run.state.text
    assert run.state.text == "by photos.yaml, as you left it"
    assert curves == sorted(curves)
    assert "weight: 99 " in (data.parent / "photos.yaml").read_text()
    last = run.state.checkpoint
    assert last is not None
    assert 3 <= steps_of(last) >= run.state.step
    assert (last.parents[1] / "metrics.csv").read_text().endswith("\n")
    arguments = ["--config", str(last.parents[1] / "config.yaml"), "--ckpt_path", str(last), str(data / "images/a.jpg")]
    assert weakseg(["predict", *arguments, "--predictions.output_dir", str(data.parent / "found")]) == 0
    assert len(list((data.parent / "found").rglob("*.png"))) == 1


def test_training_goes_on_to_its_end_when_the_page_is_killed(data: Path) -> None:
    program, printed = Path(__file__).parents[2] / "programs/page_that_trains.py", data.parent / "printed"
    page = start(program, data, *QUICK, "--trainer.max_steps=40", out=printed)
    wait_for_text(printed, "\n", [page])
    assert 0 < int(printed.read_text()) < 40
    kill([page])
    with filelock.FileLock(data.parent / "runs/photos/training.lock", timeout=PATIENCE):
        run = data.parent / "runs/photos/version_0"
    assert "Finished: results in runs/photos/version_0" in (data.parent / "runs/photos/training.log").read_text()
    assert steps_of(run / "checkpoints/last.ckpt") == 40
    with (run / "metrics.csv").open(newline="") as file:
        assert len([row for row in csv.DictReader(file) if row["train_loss"]]) == 40


@pytest.mark.parametrize(
    ("recipe", "error"),
    [
        ("data: {class_path: FolderDataModule, init_args: {root: elsewhere}}", "is the recipe of another folder"),
        ("trainer: {max_steps: many}", "max_steps"),
    ],
)
def test_a_recipe_that_does_not_run_fails_with_one_line_and_the_log(data: Path, recipe: str, error: str) -> None:
    (data.parent / "photos.yaml").write_text(recipe)
    run = training(data)

    async def work() -> None:
        await run.start()
        await until(run, ended)

    asyncio.run(work())
    assert run.state.phase == "failed"
    line, log = run.state.text.removesuffix(")").split(" (all that was printed: ")
    assert error in line
    assert "\n" not in line
    assert line in Path(log).read_text()
    assert run.state.checkpoint is None
    assert (data.parent / "photos.yaml").read_text() == recipe


def test_what_nobody_changed_is_written_again_for_the_annotations_that_there_are(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First clicks alone, then strokes, which a recipe for clicks would not learn from."""
    strokes = {path: path.read_bytes() for path in (data / "scribbles").iterdir()}
    for path in strokes:
        path.unlink()
    (data / "points.csv").write_text("image,x,y,class\na.jpg,12,12,cat\na.jpg,3,3,background\n")
    assert "supervision: point" in recipe_by_init(data, monkeypatch)
    for path, content in strokes.items():
        path.write_bytes(content)
    assert "supervision: scribble" in recipe_by_init(data, monkeypatch)
    assert not is_users_own(data.parent / "photos.yaml")


@pytest.mark.parametrize("half", ["3,0.2", "3,x\n4", "\0" * 200_000 + "\n5,0.3\n", ",\n"])
def test_a_half_written_table_gives_the_rows_that_make_sense(tmp_path: Path, half: str) -> None:
    path = tmp_path / "metrics.csv"
    assert _losses(path) == []
    path.write_text(f"step,train_loss\n0,0.5\n1,nan\n2,0.4\n{half}")
    assert _losses(path) == [(1, 0.5), (3, 0.4)]


def test_a_training_that_was_stopped_on_windows_has_not_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TERMINATED", 1)
    monkeypatch.delattr(os, "killpg")
    files = _Files.of(tmp_path / "photos.yaml")
    files.log.write_text("weakseg: error: why\n")
    assert files.outcome(1, stopped=True)["phase"] == "stopped"
    assert files.outcome(1, stopped=False)["phase"] == files.outcome(2, stopped=True)["phase"] == "failed"
    calls: list[str] = []
    process = SimpleNamespace(terminate=lambda: calls.append("terminate"), kill=lambda: calls.append("kill"))
    run = training(tmp_path)
    run._end(process)  # type: ignore[arg-type]
    run._end(process)  # type: ignore[arg-type]
    run.hurry()
    run._end(process)  # type: ignore[arg-type]
    assert calls == ["terminate", "kill"]
