import pytest
import torch
from small_runs import CoarseNetwork

from weakseg_lightning.hyperparameters import describe
from weakseg_lightning.losses import mil_loss
from weakseg_lightning.modules import MILModule, Optimizer
from weakseg_lightning.networks import LargeFOV


def test_the_loss_is_that_of_the_coarse_map(make_trainer):
    torch.manual_seed(0)
    module = MILModule(CoarseNetwork(), 3, map_stride=8)
    module.trainer = make_trainer(max_steps=1)
    module._phases = lambda: type("Phases", (), {"switch": 0})()
    valid = torch.ones(2, 12, 16, dtype=torch.bool)
    valid[0, :, 8:] = False
    batch = {"image": torch.rand(2, 3, 12, 16), "tags": torch.tensor([[1, 0, 1], [1, 1, 0]]).bool(), "valid": valid}
    logits = module.training_logits(batch)
    assert torch.equal(logits, module.net.coarse_logits(batch["image"], 8))
    cells = torch.tensor([[[True, False]] * 2, [[True, True]] * 2])
    expected = mil_loss(logits, batch["tags"], cells)
    assert torch.equal(module.loss_terms(logits, batch)["mil"], expected)


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
def test_training_lowers_the_loss(fraction, tiny_data, make_trainer):
    module = MILModule(CoarseNetwork(), 3, map_stride=4, optimizer=Optimizer(lr=0.1), pce_fraction=fraction)
    losses = []

    def keep(*_):
        losses.append({name: float(value) for name, value in module.trainer.callback_metrics.items()})

    module.on_train_batch_end = keep
    trainer = make_trainer(max_epochs=10)
    trainer.fit(module, tiny_data)
    kinds = [next(name for name in ("train_pce", "train_mil") if name in loss) for loss in losses[:1]]
    assert kinds == ["train_pce" if fraction else "train_mil"]
    assert losses[-1]["train_loss"] < losses[0]["train_loss"]


def test_strides_that_the_network_has_not_raise():
    with pytest.raises(ValueError, match="`stride` must be a multiple of 8"):
        MILModule(LargeFOV(encoder_weights=None), 3, map_stride=12)
    assert MILModule(CoarseNetwork(), 3, map_stride=None).grid.stride == 4


def test_it_can_be_written_down():
    described = describe(MILModule(CoarseNetwork(), 3, map_stride=4))["init_args"]
    assert described["map_stride"] == 4
    assert described["num_classes"] == 3
