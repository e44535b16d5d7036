import copy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import LambdaCallback
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.loggers.logger import DummyLogger
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

sys.path.append(str(Path(__file__).parent))
from tiny_runs import Scenes, Tiny, TwoClasses, files_in, make_trainer

from weakseg_lightning.callbacks import GradientPanels, ImageletPanels, PanelWriter, pictures
from weakseg_lightning.callbacks.drawing import PanelCallback
from weakseg_lightning.hyperparameters import describe

pytestmark = pytest.mark.filterwarnings("ignore:.*`tensorboardX` has been removed")


def panels_of(*epochs: int) -> list[str]:
    return [f"panels/epoch_{epoch:04d}.png" for epoch in epochs]


def size_of(folder: Path) -> tuple[int, int]:
    """Width and height of the first panel."""
    with Image.open(folder / "panels/epoch_0000.png") as picture:
        return picture.size


def width_of(columns: int) -> int:
    return columns * 250 + 10


def steps(count: int, accumulated: int = 1) -> dict[str, int]:
    """Options of a run that is counted in steps; an epoch has two batches."""
    return {"max_epochs": -1, "max_steps": count, "accumulate_grad_batches": accumulated}


BY_EPOCHS = [(1, 3, [0, 1, 2]), (2, 5, [0, 2, 4]), (3, 5, [0, 3, 4]), (9, 2, [0, 1])]
BY_STEPS = [(steps(6), [0, 2]), (steps(5), [0, 2]), (steps(4), [0, 1]), (steps(2, 2), [0, 1]), (steps(1), [0])]


@pytest.mark.parametrize(
    ("every", "run", "drawn"),
    [(every, {"max_epochs": epochs}, drawn) for every, epochs, drawn in BY_EPOCHS]
    + [(9, run, drawn) for run, drawn in BY_STEPS],
)
def test_panels_every_n_epochs_and_in_the_last(tmp_path: Path, every: int, run: Any, drawn: list[int]) -> None:
    make_trainer(tmp_path, PanelWriter(every, time_fraction=1), **run).fit(Tiny(), TwoClasses())
    assert files_in(tmp_path) == panels_of(*drawn)


@pytest.mark.parametrize(("seconds", "drawn"), [(0.0, [0, 1, 2, 3, 4, 5]), (3.0, [0, 2, 5]), (1e9, [0, 5])])
def test_panels_of_short_epochs_take_a_fraction_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, drawn: list[int]
) -> None:
    """An epoch takes a second and a picture `seconds`: half of the time may go to pictures."""

    class Clocked(PanelWriter):
        now = 0.0

        def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            self.now += 1

        def draw(self, *args: Any) -> Image.Image:
            self.now += seconds
            return super().draw(*args)

    panels = Clocked(time_fraction=0.5)
    monkeypatch.setattr("weakseg_lightning.callbacks.drawing.time.monotonic", lambda: panels.now)
    make_trainer(tmp_path, panels, max_epochs=6).fit(Tiny(), TwoClasses())
    assert files_in(tmp_path) == panels_of(*drawn)


@pytest.mark.parametrize(("latent", "columns"), [(True, 5), (False, 4)])
def test_panel_leaves_the_latent_column_out_where_there_is_none(tmp_path: Path, latent: bool, columns: int) -> None:
    make_trainer(tmp_path, PanelWriter()).fit(Tiny(latent), TwoClasses())
    assert size_of(tmp_path)[0] == width_of(columns)


def test_panel_without_any_truth_has_no_such_column(tmp_path: Path) -> None:
    class NoMasks(TwoClasses):
        def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
            return batch | {"mask": torch.full_like(batch["mask"], 255)}

    class FromSeeds(Tiny):
        def training_step(self, batch: dict[str, Any], batch_idx: int) -> Tensor:
            return super().training_step(batch | {"mask": batch["seeds"].clamp(max=1)}, batch_idx)

    make_trainer(tmp_path, PanelWriter()).fit(FromSeeds(latent=False), NoMasks())
    assert size_of(tmp_path)[0] == width_of(3)


def test_number_of_images_and_no_padding(tmp_path: Path) -> None:
    heights = []
    for count in (1, 2, 9):  # 9: more than the batch has
        make_trainer(tmp_path / str(count), PanelWriter(num_images=count)).fit(Tiny(), TwoClasses())
        heights.append(size_of(tmp_path / str(count))[1])
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

    def modes_of(trainer: Trainer, module: LightningModule, *batch: Any) -> None:
        modes[-1].append({name: part.training for name, part in module.named_modules()})

    results, states, modes = [], [], []
    for writers in ([], [PanelWriter()]):
        seed_everything(3)
        module = Tiny()
        modes.append([])
        watch = LambdaCallback(on_train_batch_start=modes_of)
        make_trainer(tmp_path, *writers, watch, max_epochs=3).fit(module, TwoClasses())
        results.append(copy.deepcopy(module.state_dict()))
        states.append((torch.get_rng_state(), np.random.get_state()[1]))  # noqa: NPY002 - the global one
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
    logged: list[tuple[str, int, int]] = []

    class Board(DummyLogger):
        def log_image(self, key: str, images: list[Any], step: int) -> None:
            logged.append((key, len(images), step))

    make_trainer(tmp_path, PanelWriter(), logger=Board()).fit(Tiny(), TwoClasses())
    assert logged == [("panels", 1, 1)]
    assert files_in(tmp_path) == panels_of(0)


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


@pytest.mark.parametrize("callback", [PanelWriter, GradientPanels, ImageletPanels])
@pytest.mark.parametrize(("name", "value"), [("every_n_epochs", 0), ("num_images", -1), ("num_images", 0)])
def test_arguments_of_all_panels_are_checked_and_kept(callback: type[PanelCallback], name: str, value: int) -> None:
    message = f"`{name}` must be at least 1, got {value}; to draw nothing, leave {callback.__name__} out"
    with pytest.raises(ValueError, match=message):
        callback(**{name: value})
    kept = {"every_n_epochs": 3, "num_images": 2}
    assert kept.items() <= describe(callback(**kept))["init_args"].items()
