"""Exported networks of five channels, of two decoders and of averaged weights compute what the checkpoint computes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from weakseg_lightning import FrozenFeatures, Segmenter, SMPNetwork, load_module
from weakseg_lightning.callbacks import AveragedWeights
from weakseg_lightning.channels import Channels
from weakseg_lightning.cli.commands.export import export
from weakseg_lightning.data import ScenesDataModule
from weakseg_lightning.modules import DMPLSModule, RegularizedLossModule
from weakseg_lightning.networks import SMPDualBranch, UNet2DDualBranch

QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
NAMES = ("red", "green", "blue", "nir", "heat")
LOW, HIGH = (0.0, 0.0, 0.0, 1000.0, 0.001), (200.0, 200.0, 200.0, 9000.0, 0.002)
FIVE = Channels(
    NAMES, list(NAMES), LOW, HIGH, (90.0, 80.0, 70.0, 4000.0, 0.0014), (9.0, 8.0, 7.0, 900.0, 3e-4), (3, 4, 0)
)


def saved(module, path: Path, channels: Channels | None = None) -> Path:
    module.eval().channels = channels
    trainer = Trainer(**QUIET)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path)
    return path


def values(*size: int) -> np.ndarray:
    fractions = np.random.default_rng(0).random((*size, 5)).repeat(4, 0)[: size[0]]
    return fractions * (np.array(HIGH) - LOW) + LOW


@pytest.mark.parametrize("kind", ["frozen", "whole"])
def test_five_channels_in_the_values_of_the_files(kind, tmp_path, capsys):
    torch.manual_seed(0)
    frozen = FrozenFeatures("test_efficientnet", None)
    network = frozen if kind == "frozen" else SMPNetwork("linknet", "tu-test_resnet", encoder_weights=None)
    module = RegularizedLossModule(network.for_channels(*FIVE.normalization), 3)
    path = saved(module, tmp_path / "a.ckpt", FIVE)
    assert export(path, "torch") == 0, capsys.readouterr().out
    assert "Images of every height and width 32 n, 64 or more\n" in capsys.readouterr().out
    image = values(64, 96)
    expected = Segmenter(path, "cpu")
    extra = {"channels": "", "class_names": ""}
    program = torch.export.load(tmp_path / "a.pt2", extra_files=extra).module()
    assert Channels.of_plain(json.loads(extra["channels"])) == FIVE
    chances = program(scaled(image, extra["channels"])).softmax(1)[0].detach().numpy()
    np.testing.assert_allclose(chances, expected.probabilities(image), atol=1e-5)
    assert np.array_equal(chances.argmax(0), expected(image))


def scaled(image: np.ndarray, channels: str) -> torch.Tensor:
    """An image as the file takes it, by what the file says of its channels."""
    low, high = (np.array(json.loads(channels)[name]) for name in ("low", "high"))
    return torch.from_numpy(((image - low) / (high - low)).transpose(2, 0, 1)[None].astype(np.float32))


def test_onnx_of_five_channels(tmp_path, capsys):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    network = FrozenFeatures("test_efficientnet", None).for_channels(*FIVE.normalization)
    path = saved(RegularizedLossModule(network, 3), tmp_path / "a.ckpt", FIVE)
    assert export(path, "onnx", size=[64, 96]) == 0, capsys.readouterr().out
    session = runtime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    image = values(64, 96)
    given = scaled(image, session.get_modelmeta().custom_metadata_map["channels"])
    (scores,) = session.run(["scores"], {"image": given.numpy()})
    assert np.array_equal(scores[0].argmax(0), Segmenter(path, "cpu")(image))


@pytest.mark.parametrize("kind", ["smp", "unet2d"])
def test_of_two_decoders_the_first_is_exported(kind, tmp_path, capsys):
    torch.manual_seed(0)
    described = SMPDualBranch("linknet", "tu-test_resnet", encoder_weights=None).for_channels(*FIVE.normalization)
    network = UNet2DDualBranch(widths=(6, 8), dropout=(0.0, 0.0)) if kind == "unet2d" else described
    path = saved(DMPLSModule(network, 3), tmp_path / "a.ckpt", FIVE if kind == "smp" else None)
    assert export(path, "torch", size=[32, 64]) == 0, capsys.readouterr().out
    image = torch.rand(1, 5 if kind == "smp" else 3, 32, 64)
    loaded = load_module(path)
    with torch.no_grad():
        expected = loaded(image)
        first, second = loaded.net.branches(image)
    torch.testing.assert_close(torch.export.load(tmp_path / "a.pt2").module()(image), expected, rtol=0, atol=1e-4)
    assert torch.equal(first, expected)
    assert not torch.allclose(second, expected, atol=1e-3)


def test_averaged_weights_are_exported(tmp_path, capsys):
    torch.manual_seed(0)
    data = ScenesDataModule(num_train=4, num_val=2, size=32, crop_size=32, batch_size=2, num_workers=0)
    module = RegularizedLossModule(SMPNetwork("linknet", "tu-test_resnet", encoder_weights=None), data.num_classes)
    options = QUIET | {"enable_model_summary": False, "num_sanity_val_steps": 0, "limit_val_batches": 0}
    trainer = Trainer(max_steps=3, callbacks=[AveragedWeights(0.5)], **options)
    trainer.fit(module, data)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    assert export(tmp_path / "a.ckpt", "torch", size=[32, 64]) == 0, capsys.readouterr().out
    loaded = load_module(tmp_path / "a.ckpt")
    image = torch.rand(1, 3, 32, 64)
    with torch.no_grad():
        found = torch.export.load(tmp_path / "a.pt2").module()(image)
        torch.testing.assert_close(found, loaded(image), rtol=0, atol=1e-4)
    average = trainer.callbacks[0]._average_model.module
    for name, value in average.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
