"""The file of the scores of single cases, and these scores on one and two ranks and of real hearts."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from slices import PATTERN, write_slices
from small_runs import CoarseNetwork, quiet_trainer
from two_ranks_cases import Shifted, score

from weakseg_lightning.callbacks import CaseWriter
from weakseg_lightning.data import FolderDataModule
from weakseg_lightning.metrics import volume_scores
from weakseg_lightning.modules import RegularizedLossModule
from weakseg_lightning.visualization.cases import read_cases


class Speckled(RegularizedLossModule):
    """Predicts the ground truth, and a corner of the last class besides."""

    def _predict(self, batch):
        labels = batch["mask"].clone()
        labels[:, :2, :2] = 2
        return labels


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_slices(tmp_path / "heart", {"p1": 4, "p2": 3, "p3": 2, "p4": 1})


def test_two_ranks_leave_the_file_and_the_scores_of_one(root: Path, tmp_path: Path, run_program) -> None:
    logged = score(str(root), str(tmp_path / "one"))
    found = read_cases(tmp_path / "one/cases.csv")
    assert len(found["dice_mean"]) == 3  # one is left to train
    assert 0.3 < logged["val_dice_mean"] < 0.9
    assert logged["val_dice_mean"] == pytest.approx(np.mean(found["dice_mean"]), abs=1e-6)
    assert logged["val_hd95_ring"] == pytest.approx(np.mean(found["hd95_ring"]), abs=1e-5)
    run_program("ranks/two_ranks_cases.py", root, tmp_path / "two", ranks=2)
    assert (tmp_path / "two/cases.csv").read_text() == (tmp_path / "one/cases.csv").read_text()


@pytest.mark.parametrize(("largest", "dice"), [(True, 1.0), (False, 0.9)])
def test_a_module_scores_the_largest_components_alone_where_it_is_told_to(root: Path, tmp_path: Path, largest, dice):
    data = FolderDataModule(root, cases=PATTERN, num_workers=0)
    module = Speckled(CoarseNetwork(), 3, largest_component=largest)
    (logged,) = quiet_trainer(str(tmp_path), limit_val_batches=1.0).validate(module, data, verbose=False)
    assert logged["val_dice_ring"] == 1.0
    assert dice - 0.1 < logged["val_dice_core"] <= dice
    assert logged["val_iou_core"] < 1  # of all that is predicted


def test_data_without_cases_leave_no_file(root: Path, tmp_path: Path) -> None:
    data = FolderDataModule(root, num_workers=0)
    trainer = quiet_trainer(str(tmp_path / "run"), limit_val_batches=1.0, callbacks=[CaseWriter()])
    module = RegularizedLossModule(CoarseNetwork(), 3)
    (logged,) = trainer.validate(module, data, verbose=False)
    assert not [name for name in logged if "dice" in name or "hd95" in name]
    assert module.case_scores == []
    assert not (tmp_path / "run/cases.csv").exists()


@pytest.mark.parametrize("stage", ["fit", "validate"])
def test_without_monai_nothing_begins(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    monkeypatch.setitem(sys.modules, "monai.metrics", None)
    for step in ("training_step", "validation_step"):
        monkeypatch.setattr(Shifted, step, lambda *_: pytest.fail("it has begun"))
    trainer = quiet_trainer(str(tmp_path), limit_val_batches=1.0, num_sanity_val_steps=0, max_epochs=1)
    with pytest.raises(ValueError, match="scores per case need MONAI"):
        getattr(trainer, stage)(Shifted(CoarseNetwork(), 3), FolderDataModule(root, cases=PATTERN, num_workers=0))


def test_training_without_validation_needs_no_monai(root: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "monai.metrics", None)
    trainer = quiet_trainer(
        str(tmp_path), limit_val_batches=0, max_epochs=1, limit_train_batches=1, log_every_n_steps=1
    )
    data = FolderDataModule(root, cases=PATTERN, num_workers=0, batch_size=2, crop_size=16)
    trainer.fit(Shifted(CoarseNetwork(), 3), data)
    assert trainer.global_step == 1


def test_a_file_that_cannot_be_written_is_a_warning(root: Path, tmp_path: Path) -> None:
    (tmp_path / "run/cases.csv").mkdir(parents=True)
    with pytest.warns(UserWarning, match=r"cases.csv.*; the run goes on without the scores of its cases"):
        score(str(root), str(tmp_path / "run"))


def test_real_hearts_score_as_their_stacked_masks(shared: Path, tmp_path: Path) -> None:
    folder = shared / "data/acdc"
    names = sorted(path.stem for path in (folder / "masks").glob("patient04[1-2]_frame*.png"))
    (tmp_path / "val.txt").write_text("\n".join(names))
    data = FolderDataModule(folder, cases=PATTERN, val_list=tmp_path / "val.txt", num_workers=0)
    module = Shifted(CoarseNetwork(), 4)
    (logged,) = quiet_trainer(str(tmp_path), limit_val_batches=1.0).validate(module, data, verbose=False)
    assert [one.case[:10] for one in module.case_scores] == ["patient041", "patient041", "patient042", "patient042"]
    for one in module.case_scores:
        files = [folder / "masks" / f"{one.case}_slice_{number}.png" for number in range(one.slices)]
        target = torch.from_numpy(np.stack([np.array(Image.open(file)) for file in files]))
        assert (one.dice, one.hd95) == volume_scores(target.roll(2, 1), target, 4)
        assert 1 <= min(one.hd95) <= max(one.hd95) <= 2  # rows
    assert sum(one.slices for one in module.case_scores) == len(names)
    assert logged["val_dice_LV"] == pytest.approx(np.mean([one.dice[2] for one in module.case_scores]), abs=1e-6)
