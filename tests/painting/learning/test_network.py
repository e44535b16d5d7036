"""Scores by a trained network, at the scale it was trained at."""

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from photographs import NAMES
from torch.nn import functional as F

from weakseg_lightning import RegularizedLossModule
from weakseg_lightning.networks import FrozenFeatures
from weakseg_lightning.painting.learning.messages import Scores, Shown, UseNetwork
from weakseg_lightning.painting.learning.network import TrainedNetwork
from weakseg_lightning.painting.learning.worker import Desk


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A module and its checkpoint."""
    torch.manual_seed(0)
    network = FrozenFeatures("test_efficientnet", None, input_scale=0.5)
    module = RegularizedLossModule(network, 3).eval()
    trainer = Trainer(logger=False, enable_progress_bar=False, accelerator="cpu")
    trainer.strategy.connect(module)
    path = tmp_path_factory.mktemp("saved") / "last.ckpt"
    trainer.save_checkpoint(path)
    return module, path


def test_scores_are_the_networks_own(saved, photographs):
    from weakseg_lightning.data.images.reading import read_image

    module, path = saved
    found = TrainedNetwork(path, 3).scores(photographs.images[NAMES[0]])
    assert (found.shape, found.dtype) == ((3, 188, 250), np.float16)
    with torch.no_grad():
        expected = module(read_image(photographs.images[NAMES[0]])[None].float() / 255).softmax(1)
    small = F.interpolate(expected, size=found.shape[1:], mode="bilinear", antialias=True)[0]
    assert np.abs(np.exp(found.astype(np.float32)) - small.numpy()).max() < 0.02


def test_another_number_of_classes_is_an_error(saved):
    with pytest.raises(ValueError, match=r"last\.ckpt has 3 classes, this folder 4: train a network on it"):
        TrainedNetwork(saved[1], 4)


def test_images_that_are_shown_are_scored_by_it_without_any_stroke(saved, photographs):
    desk = Desk(photographs.learner())
    desk.hear(Shown((NAMES[0], "unknown")))
    desk.hear(UseNetwork(saved[1]))
    answers = [answer for answer in desk.tasks() if isinstance(answer, Scores)]
    assert [(answer.name, answer.source, answer.version) for answer in answers] == [(NAMES[0], "network", -1)]
    assert not [answer for answer in desk.tasks() if isinstance(answer, Scores)]
