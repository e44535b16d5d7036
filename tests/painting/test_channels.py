"""Folders of images with channels: what the page shows of them, and what it learns from."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from lightning.pytorch import Trainer
from PIL import Image

from weakseg_lightning import FrozenFeatures, RegularizedLossModule, Segmenter
from weakseg_lightning.channels import Channels
from weakseg_lightning.painting.document import ImageAnnotation, Stroke
from weakseg_lightning.painting.folder import PaintFolder
from weakseg_lightning.painting.image_reader import ImageReader
from weakseg_lightning.painting.learning.learner import Learner
from weakseg_lightning.painting.learning.messages import LearningSettings, reduced_seeds
from weakseg_lightning.painting.learning.network import TrainedNetwork
from weakseg_lightning.painting.learning.training import TrainingRun
from weakseg_lightning.painting.open_image import read_open_image
from weakseg_lightning.painting.session import Session

NAMES = ["red", "green", "blue", "edge", "swir"]
HEIGHT, WIDTH = 60, 90


@pytest.fixture
def fields(tmp_path) -> Path:
    """Images of 16 bits whose halves differ in the fifth band alone."""
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        values = rng.normal(0.4, 0.05, (5, HEIGHT, WIDTH))
        values[4, :, WIDTH // 2 :] += 0.5
        tifffile.imwrite(tmp_path / f"images/{name}.tif", (values * 9000).astype("u2"), photometric="minisblack")
    return tmp_path


def opened(root: Path, guide: list[str] | None = None, channels=NAMES) -> PaintFolder:
    return PaintFolder(root, ["background", "wet"], ImageReader(channels, guide))


def strokes() -> ImageAnnotation:
    drawn = ImageAnnotation.empty(HEIGHT, WIDTH)
    drawn = Stroke(((10.0, 10.0), (12.0, 50.0)), 4, 0).applied_to(drawn)
    return Stroke(((70.0, 10.0), (75.0, 50.0)), 4, 1).applied_to(drawn)


def test_chosen_channels_are_shown_with_a_stretch(fields):
    folder = opened(fields, ["swir", "edge", "red"])
    shown = folder.read_image("a").numpy()
    stored = tifffile.imread(fields / "images/a.tif")[[4, 3, 0]].astype(float)
    low, high = np.percentile(stored, (1, 99), axis=(1, 2))[:, :, None, None]
    assert np.abs(shown - 255 * ((stored - low) / (high - low)).clip(0, 1)).max() <= 0.5
    alone = opened(fields, ["swir"]).read_image("a")
    assert torch.equal(alone, torch.from_numpy(shown[:1]).expand(3, -1, -1))


def test_strokes_are_saved_and_previewed_by_the_guide(fields):
    async def paint(guide):
        session = Session(opened(fields, guide))
        image = await session.open("a")
        for stroke in ((((10.0, 10.0), (12.0, 50.0)), 0), (((70.0, 10.0), (75.0, 50.0)), 1)):
            session.change(image, Stroke(stroke[0], 4, stroke[1]))
        await session.save_all()
        while image.labeling_version != image.document.version:
            await asyncio.sleep(0.01)
        return image.labeling.labels

    seen, unseen = (asyncio.run(paint(guide)) for guide in (["swir"], ["red"]))
    truth = np.zeros((HEIGHT, WIDTH), np.uint8)
    truth[:, WIDTH // 2 :] = 1
    assert (seen == truth).mean() > 0.98
    assert (unseen == truth).mean() < 0.95
    saved = np.array(Image.open(fields / "scribbles/a.png"))
    assert np.array_equal(saved, strokes().labels)


def test_the_head_learns_from_all_channels(fields):
    reader = ImageReader(NAMES, ["red", "green", "blue"])
    images = {name: fields / f"images/{name}.tif" for name in "abc"}
    learner = Learner(LearningSettings("test_efficientnet", None, reader=reader), images, 2)
    assert learner.features.net.in_channels == 5
    learner.annotate(reduced_seeds("a", 1, strokes()))
    learner.take("a")
    while learner.settle():
        pass
    found = learner.scores("b").values.argmax(0)
    truth = np.zeros(found.shape, int)
    truth[:, found.shape[1] // 2 :] = 1
    assert (found == truth).mean() > 0.9


def test_a_network_of_channels_gives_scores(fields, tmp_path):
    channels = Channels(tuple(NAMES), NAMES, (3000.0,) * 5, (8000.0,) * 5, (4000.0,) * 5, (900.0,) * 5, (0, 1, 2))
    torch.manual_seed(0)
    network = FrozenFeatures("test_efficientnet", None).for_channels(*channels.normalization)
    module = RegularizedLossModule(network, 2).eval()
    module.channels = channels
    trainer = Trainer(logger=False, enable_progress_bar=False, accelerator="cpu")
    trainer.strategy.connect(module)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    found = np.exp(TrainedNetwork(tmp_path / "last.ckpt", 2).scores(fields / "images/a.tif").astype(np.float32))
    stored = np.moveaxis(tifffile.imread(fields / "images/a.tif"), 0, -1)
    assert np.abs(found - Segmenter(module, "cpu").probabilities(stored)).max() < 0.01


def test_what_cannot_be_read_is_named_in_the_list(fields):
    tifffile.imwrite(fields / "images/b.tif", np.zeros((4, HEIGHT, WIDTH), "u2"), photometric="minisblack")
    folder = opened(fields)
    with pytest.raises(ValueError, match=r"b\.tif has 4 bands, `channels` names 5"):
        read_open_image(folder, "b", {})
    assert "has 4 bands" in folder.entries["b"].problem
    beside = opened(fields, channels={"red": 1, "nir": "NAME_nir.tif"})
    with pytest.raises(ValueError, match=r"a\.tif lacks the file of its channel 'nir', a_nir\.tif"):
        read_open_image(beside, "a", {})
    with pytest.raises(ValueError, match="`guide`: no channel is called 'depth'"):
        ImageReader(NAMES, ["depth"])


def test_volumes_are_named(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    (tmp_path / "images").mkdir()
    nibabel.Nifti1Image(np.zeros((8, 8, 3), np.uint8), np.eye(4)).to_filename(tmp_path / "images/a.nii.gz")
    with pytest.raises(ValueError, match="holds volumes, which the page does not show: save their slices as images"):
        opened(tmp_path, channels=None)


def test_training_is_told_the_channels_of_the_page(fields, tmp_path, monkeypatch):
    from weakseg_lightning.cli import training as process

    called = []
    monkeypatch.setattr(process, "weakseg", lambda words: called.append(words) or 0)
    monkeypatch.setattr(process, "remember_as_written", lambda _: None)
    monkeypatch.chdir(tmp_path)
    command = TrainingRun(fields, tmp_path, None, ["--seed_everything=3"], ImageReader(NAMES, ["swir"]))._command
    assert process.main(command[command.index("weakseg_lightning.cli.training") + 1 :]) == 0
    assert called[0][0] == "init"
    assert called[0][-2:] == ['--channels=["red", "green", "blue", "edge", "swir"]', '--guide=["swir"]']
    assert called[1][0] == "fit"
    assert called[1][-1] == "--seed_everything=3"
    assert not [word for word in called[1] if word.startswith(("--channels", "--guide"))]
