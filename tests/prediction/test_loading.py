import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn

from weakseg_lightning import ADMModule, AlphaExpansion, GridPotts, SMPNetwork, WeakSegModule, load_module
from weakseg_lightning.data import ScenesDataModule
from weakseg_lightning.modules import Optimizer

CLASSES = ScenesDataModule().num_classes
ENCODER = "timm-mobilenetv3_small_minimal_100"
LOADS = {"load_module": load_module, "load_from_checkpoint": lambda path: ADMModule.load_from_checkpoint(path).eval()}
either_way = pytest.mark.parametrize("load", LOADS.values(), ids=list(LOADS))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """An ADM module after two steps, and its checkpoint."""
    network = SMPNetwork("unet", ENCODER, encoder_weights=None, dropout=0.1)
    solver = AlphaExpansion(GridPotts(weight=7.0, connectivity=4), max_sweeps=3, num_threads=1)
    module = ADMModule(network, CLASSES, solver, gamma=0.5, labels="tags", optimizer=Optimizer(lr=1e-3))
    folder = tmp_path_factory.mktemp("saved")
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    steps = {"max_steps": 2, "num_sanity_val_steps": 0, "limit_val_batches": 1, "accelerator": "cpu"}
    trainer = Trainer(default_root_dir=folder, **steps, **quiet)
    data = ScenesDataModule(num_train=4, num_val=1, size=40, crop_size=32, batch_size=2, num_workers=0)
    trainer.fit(module, data)
    trainer.save_checkpoint(folder / "saved.ckpt")
    return module.eval(), folder / "saved.ckpt"


@either_way
def test_a_module_is_rebuilt_with_its_settings_and_weights(saved, load):
    module, path = saved
    loaded = load(path)
    assert type(loaded) is ADMModule
    assert not loaded.training
    assert (loaded.num_classes, loaded.gamma, loaded.labels) == (CLASSES, 0.5, "tags")
    assert loaded.optimizer == Optimizer(lr=1e-3)
    assert (loaded.network.architecture, loaded.network.encoder, loaded.network.dropout) == ("unet", ENCODER, 0.1)
    assert loaded.solver.potts == GridPotts(weight=7.0, connectivity=4)
    assert (loaded.solver.max_sweeps, loaded.solver.num_threads) == (3, 1)
    images = torch.rand(1, 3, 40, 50)
    torch.testing.assert_close(loaded(images), module(images), rtol=0, atol=0)


def test_the_checkpoint_holds_plain_values_alone(saved):
    content = torch.load(saved[1], weights_only=True)
    assert content["hyper_parameters"]["_instantiator"] == "lightning.pytorch.cli.instantiate_module"
    assert content["hyper_parameters"]["_class_path"] == "weakseg_lightning.ADMModule"
    assert content["hyper_parameters"]["solver"]["init_args"]["potts"]["weight"] == 7.0


@either_way
def test_encoder_weights_are_not_fetched_again(load, tmp_path, monkeypatch):
    built, build = [], SMPNetwork.build

    def remembered(self: SMPNetwork, num_classes: int) -> nn.Module:
        built.append(self.encoder_weights)
        return build(self, num_classes)

    monkeypatch.setattr(SMPNetwork, "build", remembered)
    pretrained = ADMModule(SMPNetwork("unet", ENCODER, encoder_weights=None), 3)
    pretrained.network = SMPNetwork("unet", ENCODER, encoder_weights="imagenet")  # as if they had been fetched
    content: dict[str, object] = {"pytorch-lightning_version": "2.6.0", "state_dict": pretrained.state_dict()}
    pretrained.on_save_checkpoint(content)
    torch.save(content, tmp_path / "pretrained.ckpt")
    built.clear()
    loaded = load(tmp_path / "pretrained.ckpt")
    assert isinstance(loaded, WeakSegModule)
    assert built == [None]


def test_a_file_that_says_no_class_raises(tmp_path):
    torch.save({"state_dict": {}, "pytorch-lightning_version": "2.6"}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="does not say which module it holds"):
        load_module(tmp_path / "other.ckpt")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nosuch\.ckpt"):
        load_module(tmp_path / "nosuch.ckpt")
