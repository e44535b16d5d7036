"""A run that SIGTERM ends at any moment goes on from `last.ckpt` as if nothing had happened."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ended_runs import ENDS, Ending, Run, die, run
from lightning.pytorch import Trainer
from small_runs import CoarseNetwork

from weakseg_lightning.callbacks.checkpoints import LastCheckpoint
from weakseg_lightning.data import ScenesDataModule
from weakseg_lightning.modules import RegularizedLossModule


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    runs = {end: run(tmp_path_factory.mktemp(end), end) for end in ENDS}
    return runs.__getitem__


@pytest.mark.parametrize(
    ("end", "hook", "moment"),
    [
        ("steps", "on_train_batch_start", (3,)),  # the last batch of an epoch
        ("steps", "on_train_epoch_end", (4,)),
        ("steps", "on_validation_batch_start", (2,)),
        ("steps", "on_validation_batch_start", (2, 3)),  # the last image of a validation
        ("steps", "on_validation_batch_start", (4,)),
        ("steps", "on_validation_batch_start", (7, 2)),  # the final validation
        ("steps", "on_train_batch_start", (6,)),
        ("epochs", "on_train_batch_start", (3,)),
        ("epochs", "on_validation_batch_start", (6,)),
        ("epochs", "on_validation_batch_start", (8,)),
        ("summed", "on_train_batch_start", (0,)),
        ("summed", "on_validation_batch_start", (0,)),  # within a step, of which the last batch is still to come
        ("summed", "on_train_batch_end", (2, 2)),
        ("summed", "on_validation_batch_start", (2, 4)),  # the same in the second epoch
    ],
)
def test_the_resumed_run_does_what_the_ended_one_left(
    undisturbed: Callable[[str], Run], tmp_path: Path, end: str, hook: str, moment: tuple[int, ...]
) -> None:
    whole, entries = undisturbed(end)
    _, before = run(tmp_path / "ended", end, Ending(hook, *moment))
    resumed, after = run(tmp_path / "resumed", end, resumed=tmp_path / "ended" / "last.ckpt")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert before + after == entries
    assert (tmp_path / "resumed" / "last.ckpt").is_file()


@pytest.mark.parametrize(("end", "step"), [("steps", 2), ("epochs", 6), ("steps", 7)])
def test_a_run_killed_in_a_validation_does_it_when_it_goes_on(
    undisturbed: Callable[[str], Run], tmp_path: Path, end: str, step: int
) -> None:
    """The state before the validation was saved right at the end of its batch."""
    whole, entries = undisturbed(end)
    _, before = run(tmp_path / "killed", end, Ending("on_validation_batch_start", step, 2, die), minutes=0)
    resumed, after = run(tmp_path / "resumed", end, resumed=tmp_path / "killed" / "last.ckpt")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert after == entries[-len(after) :]
    assert {entry for entry in entries if entry[0] == "validation"} <= {*before, *after}


def test_sharded_weights_go_on_with_the_final_validation_that_the_run_was_ended_in(
    tmp_path: Path, run_program: Callable[..., Any]
) -> None:
    run_program("ranks/sharded_end.py", tmp_path)


def test_a_resumed_run_without_validation_ends_where_it_is_to(tmp_path: Path) -> None:
    run(tmp_path / "ended", "steps", Ending("on_validation_batch_start", 7))
    trainer = Trainer(
        accelerator="cpu",
        callbacks=[LastCheckpoint(str(tmp_path / "resumed"))],
        **dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False),
        **ENDS["steps"] | {"limit_val_batches": 0},
    )
    data = ScenesDataModule(num_train=8, num_val=3, size=32, crop_size=32, batch_size=2, num_workers=0)
    module = RegularizedLossModule(CoarseNetwork(), data.num_classes)
    trainer.fit(module, data, ckpt_path=tmp_path / "ended" / "last.ckpt", weights_only=True)
    assert (trainer.global_step, trainer.max_steps) == (7, 7)
