"""Tiles under Lightning as it is: resumed, on two ranks."""

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from map_folders import TINY
from two_ranks_maps import Names, record

from weakseg_lightning.data import MapDataModule


class Saving(Callback):
    """Saves a run after a step."""

    def __init__(self, step: int, path: Path) -> None:
        self.step = step
        self.path = path

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: object) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


def test_a_resumed_run_sees_what_the_undisturbed_one_saw(make_maps, tmp_path):
    root = make_maps()
    saving = Saving(step=7, path=tmp_path / "a.ckpt")
    whole = record(root, tmp_path / "whole", max_epochs=3, callbacks=[saving])
    rest = record(root, tmp_path / "rest", ckpt=saving.path, max_epochs=3)
    assert whole.seen[4 * saving.step - 1][0] == whole.seen[4 * saving.step][0] == 1, "saved within an epoch"
    assert rest.seen == whole.seen[4 * saving.step :]


def test_two_ranks_share_the_tiles(make_maps, tmp_path, run_program):
    root = make_maps()
    run_program("ranks/two_ranks_maps.py", root, tmp_path, ranks=2)
    seen = [[line.split() for line in (tmp_path / f"{rank}.txt").read_text().splitlines()] for rank in (0, 1)]
    alone: Names = record(root, tmp_path / "alone", max_epochs=2)
    data = MapDataModule(root, **TINY)
    data.setup("fit")
    ids = {name.split("/")[-1] for name in data._source("train").ids}
    for epoch in ("0", "1"):
        first, second = ({name for number, name in lines if number == epoch} for lines in seen)
        assert first
        assert len(first) == len(second)
        assert not first & second
        assert first | second <= ids
        assert len(ids) - len(first | second) < 2 * TINY["batch_size"]
        drawn = {name for number, name in alone.seen if str(number) == epoch}
        assert len(first | second | drawn) <= len(ids)
    assert seen[0] != seen[1]
