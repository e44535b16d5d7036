import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.loggers import CSVLogger
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

sys.path.append(str(Path(__file__).parent))
from tiny_runs import files_in, make_trainer, on_two_ranks

from weakseg_lightning.callbacks import TrimapCurve
from weakseg_lightning.hyperparameters import describe
from weakseg_lightning.metrics import TrimapScores

SIZE, CUT = (20, 28), (slice(0, 16), slice(0, 24))  # the rest of an image is padding
KEYS = ("image", "mask", "valid")


class Maps(Dataset):
    """Three classes with a border of void; what a network predicts there stands in the image itself."""

    def __init__(self, void: bool = True) -> None:
        self.void = void

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng(index)
        mask = np.full(SIZE, 255)
        mask[CUT] = np.repeat(np.repeat(rng.integers(0, 3, (4, 6)), 4, 0), 4, 1)
        if self.void:
            mask[7:9, :20] = 255
        valid = np.zeros(SIZE, bool)
        valid[CUT] = True
        labels = np.where(rng.random(SIZE) < 0.7, mask, rng.integers(0, 3, SIZE)) % 255
        image = np.repeat(labels[None].astype(np.float32), 3, 0)
        return {name: torch.from_numpy(map_) for name, map_ in zip(KEYS, (image, mask, valid), strict=True)}


class Data(LightningDataModule):
    num_classes = 3

    def __init__(self, void: bool = True, batch_size: int = 2) -> None:
        super().__init__()
        self.void = void
        self.batch_size = batch_size

    def test_dataloader(self) -> DataLoader:
        return DataLoader(Maps(self.void), batch_size=self.batch_size)


class Reads(LightningModule):
    """Predicts what stands in the image."""

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return {"labels": batch["image"][:, 0].to(torch.uint8)}


def rows_of(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def expected_rows(definition: str, max_width: int, void: bool = True) -> list[list[str]]:
    """Counted image by image, without padding."""
    metric = TrimapScores(3, definition, max_width)  # type: ignore[arg-type]
    for one in DataLoader(Maps(void)):
        metric.update(one["image"][:, 0, *CUT].long(), one["mask"][:, *CUT])
    pairs = zip(*(curve.reshape(-1) for curve in metric.compute().values()), strict=True)
    return [[str(w), definition, *(f"{float(value):.6f}" for value in pair)] for w, pair in enumerate(pairs, 1)]


def test_a_test_leaves_the_curves_of_its_data_without_padding(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, TrimapCurve())
    for _ in range(2):  # a second test begins at zero
        (logged,) = trainer.test(Reads(), Data())
        assert files_in(tmp_path) == ["trimap.csv", "trimap.png"]
        header, *rows = rows_of(tmp_path / "trimap.csv")
        assert header == ["width", "definition", "miou", "pixel_accuracy"]
        assert rows == expected_rows("void", 40) + expected_rows("boundary", 40)
        assert logged == {
            "test_trimap_void_miou_5": pytest.approx(float(rows[4][2]), abs=1e-6),
            "test_trimap_boundary_miou_5": pytest.approx(float(rows[44][2]), abs=1e-6),
        }
    with Image.open(tmp_path / "trimap.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 5


@pytest.mark.parametrize(("definition", "max_width"), [("void", 3), ("boundary", 2), ("boundary", 1)])
def test_one_definition_and_a_smaller_width(tmp_path: Path, definition: Any, max_width: int) -> None:
    (logged,) = make_trainer(tmp_path, TrimapCurve(definition, max_width)).test(Reads(), Data())
    assert rows_of(tmp_path / "trimap.csv")[1:] == expected_rows(definition, max_width)
    assert list(logged) == [f"test_trimap_{definition}_miou_{max_width}"]


def test_data_without_void_have_one_curve_or_none(tmp_path: Path) -> None:
    (logged,) = make_trainer(tmp_path / "both", TrimapCurve("both", 6)).test(Reads(), Data(void=False))
    assert rows_of(tmp_path / "both/trimap.csv")[1:] == expected_rows("boundary", 6, void=False)
    assert list(logged) == ["test_trimap_boundary_miou_5"]
    assert make_trainer(tmp_path / "void", TrimapCurve("void")).test(Reads(), Data(void=False)) == [{}]
    assert files_in(tmp_path / "void") == []


def test_curves_go_to_the_folder_of_the_logger(tmp_path: Path) -> None:
    make_trainer(tmp_path, TrimapCurve(), logger=CSVLogger(tmp_path, "run", "v0")).test(Reads(), Data())
    assert {"run/v0/trimap.csv", "run/v0/trimap.png"} <= set(files_in(tmp_path))


def test_a_trial_run_leaves_nothing(tmp_path: Path) -> None:
    make_trainer(tmp_path, TrimapCurve(), fast_dev_run=True).test(Reads(), Data())
    assert files_in(tmp_path) == []


def test_a_module_that_returns_no_labels_is_told_so_once(tmp_path: Path) -> None:
    class Silent(Reads):
        def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
            self.log("test_miou", 0.5)

    with pytest.warns(UserWarning, match=r"no trimap scores, as `test_step` returned no labels; return") as warned:
        assert make_trainer(tmp_path, TrimapCurve()).test(Silent(), Data()) == [{"test_miou": 0.5}]
    assert sum("no trimap scores" in str(warning.message) for warning in warned) == 1
    assert files_in(tmp_path) == []


def test_curves_that_cannot_be_written_do_not_end_the_test(tmp_path: Path) -> None:
    (tmp_path / "trimap.csv").mkdir()
    with pytest.warns(UserWarning, match=r"cannot write .*trimap.csv: .*; the test goes on without its trimap curves"):
        (logged,) = make_trainer(tmp_path, TrimapCurve("void")).test(Reads(), Data())
    assert list(logged) == ["test_trimap_void_miou_5"]
    assert files_in(tmp_path) == []


def test_unknown_number_of_classes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="TrimapCurve found no `num_classes`: give the module"):
        make_trainer(tmp_path, TrimapCurve()).test(Reads(), DataLoader(Maps()))
    module = Reads()
    module.num_classes = 3  # type: ignore[assignment]
    make_trainer(tmp_path, TrimapCurve()).test(module, DataLoader(Maps()))
    assert rows_of(tmp_path / "trimap.csv")[1:] == expected_rows("void", 40) + expected_rows("boundary", 40)


def test_arguments_are_checked_and_kept() -> None:
    with pytest.raises(ValueError, match="`max_width` must be between 1 and 254, got 0"):
        TrimapCurve(max_width=0)
    with pytest.raises(ValueError, match=r"`definition` must be .*, got 'edge'"):
        TrimapCurve("edge")  # type: ignore[arg-type]
    assert describe(TrimapCurve("void", 7))["init_args"] == {"definition": "void", "max_width": 7}


def test_two_ranks_write_the_curves_of_one(tmp_path: Path) -> None:
    assert on_two_ranks("two_ranks_trimap.py", tmp_path) == ["trimap.csv", "trimap.png"]
    assert rows_of(tmp_path / "trimap.csv")[1:] == expected_rows("void", 40) + expected_rows("boundary", 40)
