import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "modules")]
from discs import CLASSES, DiscData, Discs, TinyDecomposition, TinyTags
from tiny_runs import make_trainer
from torch.utils.data import default_collate

from weakseg_lightning.callbacks import ImageletPanels, imagelets
from weakseg_lightning.callbacks.imagelets import imagelet_picture
from weakseg_lightning.modules import DecomposeReconstructModule, TagClassifierModule


def train(folder: Path, *callbacks: Any) -> DecomposeReconstructModule:
    trainer = make_trainer(folder, max_epochs=None, max_steps=1, limit_val_batches=0)
    trainer.fit(TagClassifierModule(TinyTags("tiny", None), CLASSES), DiscData())
    trainer.save_checkpoint(folder / "g.ckpt")
    module = DecomposeReconstructModule(TinyDecomposition(), CLASSES, TinyTags("tiny", None), str(folder / "g.ckpt"))
    torch.manual_seed(3)
    make_trainer(folder, *callbacks, max_epochs=4, limit_val_batches=0).fit(module, DiscData())
    return module


def test_pictures_of_a_run_that_goes_on_as_if_nothing_had_been_drawn(tmp_path: Path) -> None:
    drawn = train(tmp_path, ImageletPanels(every_n_epochs=2, num_images=3, time_fraction=1))
    names = sorted(path.name for path in (tmp_path / "imagelets").iterdir())
    assert names == ["epoch_0000.png", "epoch_0002.png", "epoch_0003.png"]
    with Image.open(tmp_path / "imagelets/epoch_0002.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 5
    plain = train(tmp_path / "plain")
    assert all(torch.equal(v, plain.state_dict()[name]) for name, v in drawn.state_dict().items())


def test_a_row_has_the_parts_of_the_classes_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []
    monkeypatch.setattr(imagelets, "_drawn", kept.extend)
    batch = default_collate([Discs(8)[index] for index in (0, 2)])
    batch["valid"][1, :, 20:] = False
    masks = torch.full((2, CLASSES, 32, 32), 0.25)
    painted = torch.full((2, CLASSES, 3, 32, 32), 0.4)
    imagelet_picture(batch, masks, painted, ["background", "disc", "square"])
    nothing, square = kept
    assert list(nothing) == ["image", "recomposed", "mask: background", "part: background"]
    assert list(square)[4:] == ["mask: square", "part: square"]
    assert square["mask: square"].shape == (32, 20, 3), "padding is cut off"
    assert (square["mask: square"] == 64).all()
    assert (square["part: square"] == 26).all(), "a quarter of 0.4"
    assert (square["recomposed"] == 76).all(), "three quarters"


def test_modules_are_checked(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, ImageletPanels())
    with pytest.raises(TypeError, match="needs a DecomposeReconstructModule, got TagClassifierModule"):
        trainer.fit(TagClassifierModule(TinyTags("tiny", None), CLASSES), DiscData())
