import errno
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

sys.path.append(str(Path(__file__).parent))
from tiny_runs import Scenes, Tiny, TwoClasses, files_in, make_trainer, on_two_ranks

from weakseg_lightning.callbacks import PredictionWriter, pictures
from weakseg_lightning.hyperparameters import describe
from weakseg_lightning.visualization import colorize, voc_palette

KINDS = {"labels": "png", "overlays": "jpg"}


def predict(folder: Path, writer: PredictionWriter, ids: list[str] | None = None) -> tuple[Tiny, TwoClasses]:
    module, data = Tiny(), TwoClasses(ids)
    make_trainer(folder, writer).predict(module, data, return_predictions=False)
    return module.eval(), data


def test_predictions_are_palette_pngs_and_overlays_without_padding(tmp_path: Path) -> None:
    module, data = predict(tmp_path, PredictionWriter())
    folder = tmp_path / "predictions"
    assert files_in(folder) == sorted(f"{kind}/im{i}.{end}" for i in range(6) for kind, end in KINDS.items())
    for batch in data.predict_dataloader():
        with torch.no_grad():
            expected = module(batch["image"]).argmax(1)[0, :16, :24]
        with Image.open(folder / "labels" / f"{batch['id'][0]}.png") as labels:
            assert labels.mode == "P"
            assert np.array_equal(np.asarray(labels), expected.numpy())
            assert np.array_equal(np.asarray(labels.convert("RGB")), np.asarray(colorize(expected, data.palette)))
        with Image.open(folder / "overlays" / f"{batch['id'][0]}.jpg") as over:
            assert over.size == (24, 16)


def test_predictions_without_data_module_have_the_colors_of_voc(tmp_path: Path) -> None:
    loader = DataLoader(Scenes(["a"]), batch_size=1)
    make_trainer(tmp_path, PredictionWriter(overlays=False)).predict(Tiny(), loader)
    assert files_in(tmp_path) == ["predictions/labels/a.png"]
    with Image.open(tmp_path / "predictions/labels/a.png") as labels:
        assert (labels.getpalette() or [])[:6] == voc_palette(2).flatten().tolist()


def test_output_folder(tmp_path: Path) -> None:
    predict(tmp_path / "run", PredictionWriter(str(tmp_path / "a" / "b"), overlays=False), ["x"])
    assert files_in(tmp_path) == ["a/b/labels/x.png"]


def test_ids_cannot_leave_the_folder_or_meet(tmp_path: Path) -> None:
    ids = ["../up", "a/b", "a%2Fb", "a_b", "..", "", "/etc/x", "c:\\d", "größe", "nul\0", "2007_000032"]
    predict(tmp_path, PredictionWriter(overlays=False), ids)
    names = [path.removeprefix("predictions/labels/") for path in files_in(tmp_path)]
    assert len(names) == len(ids) == len(set(names))
    assert {"a%2Fb.png", "a%252Fb.png", "größe.png", "2007_000032.png", "%2E%2E.png"} <= set(names)


def test_two_images_of_one_id(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="two images have the id 'x': the prediction of the first was replaced"):
        predict(tmp_path, PredictionWriter(overlays=False), ["x", "y", "x"])
    writer = PredictionWriter(str(tmp_path))
    for _ in range(2):  # a second run may replace the first one's files
        predict(tmp_path, writer, ["x"])


def full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_folder_that_cannot_be_made_is_found_before_the_first_prediction(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    module = Tiny()
    trainer = make_trainer(tmp_path, PredictionWriter(str(tmp_path / "file" / "out")))
    with pytest.raises(OSError, match=r"predictions to .*file/out.labels: Not a directory; .*`output_dir`"):
        trainer.predict(module, TwoClasses())
    assert module.modes == []


def test_full_disk_is_found_before_the_first_prediction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures.os, "fsync", full)
    module = Tiny()
    with pytest.raises(OSError, match=r"cannot write predictions to .*: No space left on device; make room"):
        make_trainer(tmp_path, PredictionWriter()).predict(module, TwoClasses())
    assert module.modes == []
    assert files_in(tmp_path) == []


def test_disk_that_fills_up_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(path: Path, *_: Any) -> None:
        full(Path(path).write_bytes(b"half"))

    monkeypatch.setattr(pictures, "save_palette_png", half)
    with pytest.raises(OSError, match=r"cannot write .*im0.png: No space left on device"):
        predict(tmp_path, PredictionWriter())
    assert files_in(tmp_path) == []


def test_fitting_makes_no_folder_for_predictions(tmp_path: Path) -> None:
    make_trainer(tmp_path, PredictionWriter()).fit(Tiny(), TwoClasses())
    assert files_in(tmp_path) == []
    assert not (tmp_path / "predictions").exists()


def test_arguments_are_kept_for_checkpoints() -> None:
    assert describe(PredictionWriter("x", False))["init_args"] == {"output_dir": "x", "overlays": False}


def test_two_ranks_draw_one_panel_and_write_every_prediction(tmp_path: Path) -> None:
    expected = [f"panels/epoch_{i:04d}.png" for i in range(2)]
    expected += [f"predictions/{kind}/im{i}.{end}" for kind, end in KINDS.items() for i in range(5)]
    assert on_two_ranks("two_ranks_draw.py", tmp_path) == expected
