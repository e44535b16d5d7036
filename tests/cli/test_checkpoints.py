"""What is kept of a run, and what a command reads of it."""

import os
import signal
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel
from small_runs import CoarseNetwork
from torch import Tensor

from weakseg_lightning.callbacks import checkpoints
from weakseg_lightning.callbacks.checkpoints import LastCheckpoint, require_room
from weakseg_lightning.cli.checkpoints import find_checkpoint
from weakseg_lightning.data import ScenesDataModule
from weakseg_lightning.modules import RegularizedLossModule

QUIETER = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False)
QUIET = {"limit_val_batches": 0} | QUIETER


def train(folder: Path, every_n_minutes: float, steps: int = 3) -> Path:
    last = LastCheckpoint(str(folder / "checkpoints"), every_n_minutes)
    trainer = Trainer(accelerator="cpu", max_steps=steps, callbacks=[last], **QUIET)
    trainer.fit(BoringModel())
    return folder / "checkpoints"


def steps_of(path: Path) -> int:
    return int(torch.load(path, weights_only=True)["global_step"])


def test_states_within_an_epoch_are_kept_and_the_one_before(tmp_path: Path) -> None:
    kept = train(tmp_path, every_n_minutes=0)
    assert {path.name for path in kept.iterdir()} == {"last.ckpt", "previous.ckpt"}
    assert (steps_of(kept / "previous.ckpt"), steps_of(kept / "last.ckpt")) == (2, 3)


def test_within_the_interval_only_the_end_is_kept(tmp_path: Path) -> None:
    assert {path.name for path in train(tmp_path, every_n_minutes=15).iterdir()} == {"last.ckpt"}


@pytest.mark.parametrize(("seconds", "saved"), [(0.0, [1, 2, 3, 4, 5, 6]), (0.0125, [1, 4, 6]), (50.0, [1, 6])])
def test_short_epochs_are_saved_half_a_percent_of_the_time_and_the_end_always(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, saved: list[int]
) -> None:
    """An epoch of one step takes a second and a save `seconds`."""
    steps = []

    class Clocked(LastCheckpoint):
        now = 1e6

        def on_train_batch_start(self, *args: object) -> None:
            self.now += 1

        def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
            steps.append(trainer.global_step)
            super()._save_checkpoint(trainer, filepath)

    last = Clocked(str(tmp_path))
    writing = ModelCheckpoint._save_checkpoint

    def slow(self: LastCheckpoint, trainer: Trainer, filepath: str) -> None:
        last.now += seconds
        writing(self, trainer, filepath)

    monkeypatch.setattr(ModelCheckpoint, "_save_checkpoint", slow)
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: last.now)
    trainer = Trainer(accelerator="cpu", max_epochs=6, limit_train_batches=1, callbacks=[last], **QUIET)
    trainer.fit(BoringModel())
    assert steps == saved


class Ending(Callback):
    """Sends SIGTERM to its own process in the first call of a hook at a step."""

    def __init__(self, hook: str, step: int) -> None:
        setattr(self, hook, lambda trainer, *_: self.send(trainer.global_step == step))
        self.sent = False

    def send(self, due: bool) -> None:
        if due and not self.sent:
            self.sent = True
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    ("hook", "step", "saved"),
    [
        ("on_train_batch_start", 1, 2),
        ("on_train_batch_start", 3, 4),
        ("on_validation_batch_start", 2, 2),
        ("on_train_epoch_end", 4, 4),
    ],
)
def test_sigterm_saves_the_step_and_the_resumed_run_ends_as_the_undisturbed_one(
    tmp_path: Path, hook: str, step: int, saved: int
) -> None:
    """Epochs of four steps, validated after every two."""

    def run(folder: Path, *callbacks: Callback, resumed: Path | None = None) -> dict[str, Tensor]:
        seed_everything(0, verbose=False)
        data = ScenesDataModule(num_train=8, num_val=4, size=32, crop_size=32, batch_size=2, num_workers=0)
        module = RegularizedLossModule(CoarseNetwork(), data.num_classes)
        loops = {"val_check_interval": 2, "max_epochs": 2, "num_sanity_val_steps": 0, "log_every_n_steps": 1}
        trainer = Trainer(accelerator="cpu", callbacks=[*callbacks, LastCheckpoint(str(folder))], **QUIETER, **loops)
        trainer.fit(module, data, ckpt_path=resumed, weights_only=True)
        return module.state_dict()

    with pytest.raises(SystemExit):
        run(tmp_path / "ended", Ending(hook, step))
    assert steps_of(tmp_path / "ended" / "last.ckpt") == saved
    undisturbed = run(tmp_path / "undisturbed")
    resumed = run(tmp_path / "resumed", resumed=tmp_path / "ended" / "last.ckpt")
    assert all(torch.equal(undisturbed[name], resumed[name]) for name in undisturbed)
    assert steps_of(tmp_path / "resumed" / "last.ckpt") == 8


@pytest.mark.parametrize("damage", ["cut", "empty", "gone", "text"])
def test_a_damaged_last_checkpoint_gives_way_to_the_one_before(damage: str, tmp_path: Path) -> None:
    kept = train(tmp_path, every_n_minutes=0)
    last = kept / "last.ckpt"
    whole = last.read_bytes()
    last.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "gone": whole, "text": b"hello"}[damage])
    if damage == "gone":
        last.unlink()
    with pytest.warns(UserWarning, match=r"last\.ckpt`.*: going on from the checkpoint before it, `.*previous\.ckpt`"):
        assert find_checkpoint("fit", str(last), tmp_path) == str(kept / "previous.ckpt")
    (kept / "previous.ckpt").unlink()
    with pytest.raises((ValueError, FileNotFoundError), match=r"last\.ckpt`"):
        find_checkpoint("fit", str(last), tmp_path)


def test_a_good_checkpoint_is_taken_as_it_is(tmp_path: Path) -> None:
    last = str(train(tmp_path, every_n_minutes=0) / "last.ckpt")
    assert find_checkpoint("fit", last, tmp_path) == last
    assert find_checkpoint("fit", None, tmp_path) is None


def test_a_full_disk_is_found_out_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = torch.nn.Linear(1000, 1000)  # 4.004 MB; three files with two states of Adam each
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda _: usage(36.1e6))
    require_room(tmp_path / "not" / "yet" / "there", module)  # type: ignore[arg-type]
    monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda _: usage(35.9e6))
    with pytest.raises(OSError, match=r"has 36 MB left, the checkpoints of this run take up to 36 MB: free some"):
        require_room(tmp_path, module)  # type: ignore[arg-type]


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="`every_n_minutes` must be at least 0, got -1"):
        LastCheckpoint(every_n_minutes=-1)
