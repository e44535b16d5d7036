import copy
import doctest
import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import weakseg_lightning
from weakseg_lightning.callbacks import PanelWriter, PredictionWriter, pictures
from weakseg_lightning.hyperparameters import describe
from weakseg_lightning.visualization import colorize, voc_palette

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:.*`tensorboardX` has been removed"
)

SIZE = (20, 28)


class Scenes(Dataset):
    """Random photographs of two classes, padded below and on the right."""

    def __init__(self, ids: list[str]) -> None:
        self.ids = ids

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(index)
        mask = torch.randint(0, 2, SIZE, generator=generator)
        seeds = torch.full(SIZE, 255)
        seeds[4:9, 5] = mask[4:9, 5]
        valid = torch.ones(SIZE, dtype=torch.bool)
        valid[16:], valid[:, 24:] = False, False
        image = torch.rand(3, *SIZE, generator=generator) * valid
        return {"image": image, "seeds": seeds, "mask": mask, "valid": valid, "id": self.ids[index]}


class TwoClasses(LightningDataModule):
    class_names = ("ground", "thing")
    palette = ((10, 20, 30), (200, 100, 0))

    def __init__(self, ids: list[str] | None = None) -> None:
        super().__init__()
        self.ids = ids or [f"im{i}" for i in range(6)]

    def train_dataloader(self) -> DataLoader:
        return DataLoader(Scenes(self.ids), batch_size=3, shuffle=True)

    def predict_dataloader(self) -> DataLoader:
        return DataLoader(Scenes(self.ids), batch_size=1)


class Tiny(LightningModule):
    """Batch norm, dropout, and a part that is frozen in evaluation mode: whatever a picture could disturb."""

    def __init__(self, latent: bool = True) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Conv2d(4, 2, 1))
        self.frozen = nn.BatchNorm2d(3)
        self.latent = latent
        self.latent_labels: Tensor | None = None
        self.modes: list[bool] = []

    def forward(self, images: Tensor) -> Tensor:
        self.modes.append(self.net.training)
        return self.net(self.frozen(images))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
        self.frozen.eval()
        if self.latent:
            self.latent_labels = batch["mask"].to(torch.uint8)
        return nn.functional.cross_entropy(self(batch["image"]), batch["mask"])

    def predict_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Any]:
        return {"id": batch["id"], "labels": self(batch["image"]).argmax(1).to(torch.uint8)}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1, momentum=0.9)


def make_trainer(folder: Path, writer: Callback | list[Callback], **options: Any) -> Trainer:
    settings: dict[str, Any] = {
        "default_root_dir": folder,
        "accelerator": "cpu",
        "callbacks": writer,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "log_every_n_steps": 1,
        "max_epochs": 1,
    }
    return Trainer(**settings | options)


def test_docstring_examples() -> None:
    results = doctest.testmod(pictures)
    assert results.attempted > 3
    assert results.failed == 0


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def width_of(columns: int) -> int:
    return columns * 250 + 10


# ---- panels ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("every", "epochs", "drawn"), [(1, 3, [0, 1, 2]), (2, 5, [0, 2, 4]), (3, 5, [0, 3, 4]), (9, 2, [0, 1])]
)
def test_panels_every_n_epochs_and_in_the_last(tmp_path: Path, every: int, epochs: int, drawn: list[int]) -> None:
    make_trainer(tmp_path, PanelWriter(every), max_epochs=epochs).fit(Tiny(), TwoClasses())
    assert files_in(tmp_path) == [f"panels/epoch_{epoch:04d}.png" for epoch in drawn]


@pytest.mark.parametrize(
    ("steps", "accumulate", "drawn"), [(6, 1, [0, 2]), (5, 1, [0, 2]), (4, 1, [0, 1]), (2, 2, [0, 1]), (1, 1, [0])]
)
def test_panels_in_the_last_epoch_of_a_run_counted_in_steps(
    tmp_path: Path, steps: int, accumulate: int, drawn: list[int]
) -> None:
    options = {"max_epochs": -1, "max_steps": steps, "accumulate_grad_batches": accumulate}  # 2 batches an epoch
    make_trainer(tmp_path, PanelWriter(9), **options).fit(Tiny(), TwoClasses())
    assert files_in(tmp_path) == [f"panels/epoch_{epoch:04d}.png" for epoch in drawn]


@pytest.mark.parametrize(("latent", "columns"), [(True, 5), (False, 4)])
def test_panel_leaves_the_latent_column_out_where_there_is_none(tmp_path: Path, latent: bool, columns: int) -> None:
    make_trainer(tmp_path, PanelWriter()).fit(Tiny(latent), TwoClasses())
    with Image.open(tmp_path / "panels/epoch_0000.png") as picture:
        assert picture.width == width_of(columns)


def test_panel_without_any_truth_has_no_such_column(tmp_path: Path) -> None:
    class NoMasks(TwoClasses):
        def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
            return batch | {"mask": torch.full_like(batch["mask"], 255)}

    class FromSeeds(Tiny):
        def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
            return super().training_step(batch | {"mask": batch["seeds"].clamp(max=1)}, batch_idx)

    make_trainer(tmp_path, PanelWriter()).fit(FromSeeds(latent=False), NoMasks())
    with Image.open(tmp_path / "panels/epoch_0000.png") as picture:
        assert picture.width == width_of(3)


def test_number_of_images_and_no_padding(tmp_path: Path) -> None:
    heights = []
    for count in (1, 2, 9):  # 9: more than the batch has
        make_trainer(tmp_path / str(count), PanelWriter(num_images=count)).fit(Tiny(), TwoClasses())
        with Image.open(tmp_path / str(count) / "panels/epoch_0000.png") as picture:
            heights.append(picture.height)
    row = 240 * 16 // 24 + 10  # the images are 16 x 24 without their padding
    assert np.diff(heights).tolist() == [row, row]


def test_panel_shows_the_prediction_in_evaluation_mode_in_the_colors_of_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[str, Any] = {}

    def keep(rows: Any, names: Any, palette: Any, title: str) -> Image.Image:
        drawn.update(rows=rows, names=names, palette=palette, title=title)
        return Image.new("RGB", (4, 4))

    class OneStep(TwoClasses):
        def train_dataloader(self) -> DataLoader:
            return DataLoader(Scenes(self.ids), batch_size=6)

    monkeypatch.setattr(pictures, "draw_panels", keep)
    module = Tiny()
    make_trainer(tmp_path, PanelWriter(num_images=6)).fit(module, OneStep())
    assert (drawn["names"], drawn["palette"]) == (TwoClasses.class_names, TwoClasses.palette)
    assert drawn["title"] == "epoch 0, step 1"
    batch = next(iter(OneStep().train_dataloader()))
    with torch.no_grad():
        expected = module.eval()(batch["image"]).argmax(1)
    for i, row in enumerate(drawn["rows"]):
        assert torch.equal(row.prediction, expected[i, :16, :24])
        assert torch.equal(row.image, batch["image"][i, :, :16, :24])
        assert torch.equal(row.seeds, batch["seeds"][i, :16, :24])
        assert torch.equal(row.truth, batch["mask"][i, :16, :24])
        assert torch.equal(row.latent, batch["mask"][i, :16, :24].to(torch.uint8))


def test_training_goes_on_as_if_nothing_had_been_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(variable, "0")  # so that they are taken back

    class Modes(Callback):
        seen: list[dict[str, bool]]

        def __init__(self) -> None:
            self.seen = []

        def on_train_batch_start(
            self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
        ) -> None:
            self.seen.append({name: part.training for name, part in pl_module.named_modules()})

    results, states, modes = [], [], []
    for writers in ([], [PanelWriter()]):
        seed_everything(3)
        module, watch = Tiny(), Modes()
        make_trainer(tmp_path, [*writers, watch], max_epochs=3).fit(module, TwoClasses())
        results.append(copy.deepcopy(module.state_dict()))
        states.append((torch.get_rng_state(), np.random.get_state()[1]))  # noqa: NPY002 - the global one
        modes.append(watch.seen)
    assert False in module.modes
    assert results[0].keys() == results[1].keys()
    assert all(torch.equal(value, results[1][name]) for name, value in results[0].items())
    assert torch.equal(states[0][0], states[1][0])
    assert np.array_equal(states[0][1], states[1][1])
    assert modes[0] == modes[1]
    assert modes[1][-1]["net"]
    assert not modes[1][-1]["frozen"]


def test_modes_come_back_after_an_error(tmp_path: Path) -> None:
    class Fails(Tiny):
        def forward(self, images: Tensor) -> Tensor:
            if not self.net.training:
                raise ArithmeticError("in evaluation mode")
            return super().forward(images)

    module = Fails()
    with pytest.raises(ArithmeticError, match="in evaluation mode"):
        make_trainer(tmp_path, PanelWriter()).fit(module, TwoClasses())
    assert module.net[2].training
    assert not module.frozen.training


def test_panels_go_to_the_run_folder_and_to_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    csv, board = CSVLogger(tmp_path, "run", "v0"), TensorBoardLogger(tmp_path, "run", "v0", sub_dir="tb")
    make_trainer(tmp_path, PanelWriter(), logger=[csv, board], max_epochs=2).fit(Tiny(), TwoClasses())
    assert len(list((tmp_path / "run/v0/panels").glob("*.png"))) == 2
    events = EventAccumulator(str(tmp_path / "run/v0/tb")).Reload()
    assert [event.step for event in events.Images("panels")] == [1, 3]
    with Image.open(tmp_path / "run/v0/panels/epoch_0001.png") as picture:
        assert (events.Images("panels")[1].width, events.Images("panels")[1].height) == picture.size


def test_panels_go_to_loggers_that_take_images(tmp_path: Path) -> None:
    class Board(Logger):
        name, version = "board", "0"

        def __init__(self) -> None:
            super().__init__()
            self.images: list[tuple[str, int, int]] = []

        def log_metrics(self, metrics: Any, step: int | None = None) -> None: ...

        def log_hyperparams(self, params: Any) -> None: ...

        def log_image(self, key: str, images: list[Any], step: int) -> None:
            self.images.append((key, len(images), step))

    board = Board()
    make_trainer(tmp_path, PanelWriter(), logger=board).fit(Tiny(), TwoClasses())
    assert board.images == [("panels", 1, 1)]
    assert files_in(tmp_path) == ["panels/epoch_0000.png"]


def test_a_panel_that_cannot_be_written_does_not_end_training(tmp_path: Path) -> None:
    (tmp_path / "panels").write_text("a file where the folder should be")
    trainer = make_trainer(tmp_path, PanelWriter())
    with pytest.warns(UserWarning, match=r"panels.*; training goes on without this panel"):
        trainer.fit(Tiny(), TwoClasses())
    assert trainer.global_step == 2


def test_a_trial_run_leaves_no_picture(tmp_path: Path) -> None:
    module = Tiny()
    make_trainer(tmp_path, PanelWriter(), fast_dev_run=True).fit(module, TwoClasses())
    assert files_in(tmp_path) == []
    assert module.modes == [True, False]


@pytest.mark.parametrize("options", [{"every_n_epochs": 0}, {"num_images": -1}])
def test_wrong_panel_arguments(options: dict[str, int]) -> None:
    (name, value), *_ = options.items()
    with pytest.raises(ValueError, match=f"`{name}` must be at least 1, got {value}"):
        PanelWriter(**options)


# ---- predictions ----------------------------------------------------------------------------------------------


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


KINDS = {"labels": "png", "overlays": "jpg"}


def test_predictions_without_data_module_have_the_colors_of_voc(tmp_path: Path) -> None:
    loader = DataLoader(Scenes(["a"]), batch_size=1)
    make_trainer(tmp_path, PredictionWriter(overlays=False)).predict(Tiny(), loader)
    assert files_in(tmp_path) == ["predictions/labels/a.png"]
    with Image.open(tmp_path / "predictions/labels/a.png") as labels:
        assert (labels.getpalette() or [])[:6] == voc_palette(2).flatten().tolist()


def test_output_folder(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
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


def test_folder_that_cannot_be_made_is_found_before_the_first_prediction(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    module = Tiny()
    trainer = make_trainer(tmp_path, PredictionWriter(str(tmp_path / "file" / "out")))
    with pytest.raises(
        OSError, match=r"cannot write predictions to .*file/out.labels: Not a directory; .*`output_dir`"
    ):
        trainer.predict(module, TwoClasses())
    assert module.modes == []


def test_full_disk_is_found_before_the_first_prediction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pictures.os, "fsync", full)
    module = Tiny()
    with pytest.raises(OSError, match=r"cannot write predictions to .*: No space left on device; make room"):
        make_trainer(tmp_path, PredictionWriter()).predict(module, TwoClasses())
    assert module.modes == []
    assert files_in(tmp_path) == []


def test_disk_that_fills_up_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(path: Path, *_: Any) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pictures, "save_palette_png", half)
    with pytest.raises(OSError, match=r"cannot write .*im0.png: No space left on device"):
        predict(tmp_path, PredictionWriter())
    assert files_in(tmp_path) == []


def test_fitting_makes_no_folder_for_predictions(tmp_path: Path) -> None:
    make_trainer(tmp_path, PredictionWriter()).fit(Tiny(), TwoClasses())
    assert files_in(tmp_path) == []
    assert not (tmp_path / "predictions").exists()


def test_arguments_are_kept_for_checkpoints() -> None:
    assert describe(PanelWriter(3, 2))["init_args"] == {"every_n_epochs": 3, "num_images": 2}
    assert describe(PredictionWriter("x", False))["init_args"] == {"output_dir": "x", "overlays": False}


# ---- two processes --------------------------------------------------------------------------------------------

WORKER = """
import importlib.util, sys, warnings
from pathlib import Path

warnings.filterwarnings("ignore")
spec = importlib.util.spec_from_file_location("helpers", sys.argv[1])
helpers = importlib.util.module_from_spec(spec)
spec.loader.exec_module(helpers)
folder = Path(sys.argv[2])
options = {"strategy": "ddp", "devices": 2, "max_epochs": 2}
helpers.make_trainer(folder, helpers.PanelWriter(), **options).fit(helpers.Tiny(), helpers.TwoClasses())
ids = [f"im{i}" for i in range(5)]
data = helpers.TwoClasses(ids)
trainer = helpers.make_trainer(folder, helpers.PredictionWriter(), **options)
trainer.predict(helpers.Tiny(), data, return_predictions=False)
"""


def test_two_ranks_draw_one_panel_and_write_every_prediction(tmp_path: Path) -> None:
    script, out = tmp_path / "worker.py", tmp_path / "out"
    script.write_text(WORKER)
    where = os.pathsep.join([str(Path(weakseg_lightning.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": where, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), __file__, str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    expected = [f"panels/epoch_{i:04d}.png" for i in range(2)]
    expected += [f"predictions/{kind}/im{i}.{end}" for i in range(5) for kind, end in KINDS.items()]
    assert files_in(out) == sorted(expected)
