from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from weakseg_lightning.hyperparameters import describe
from weakseg_lightning.losses import mil_loss
from weakseg_lightning.modules import MILModule, Optimizer
from weakseg_lightning.networks import LargeFOV, Network, SegmentationNet


class CoarseNet(SegmentationNet):
    """A convolution at stride 4 and its upsampling."""

    def __init__(self, num_classes: int) -> None:
        super().__init__((0.5,) * 3, (0.5,) * 3, stride=4, map_stride=4)
        self.convolution = nn.Conv2d(3, num_classes, 4, stride=4)

    @override
    def compute_map(self, x: Tensor) -> Tensor:
        return self.convolution(x)

    @override
    def compute_logits(self, x: Tensor) -> Tensor:
        return functional.interpolate(self.compute_map(x), size=x.shape[-2:], mode="bilinear")

    @override
    def head_parameters(self) -> list[nn.Parameter]:
        return list(self.convolution.parameters())


class CoarseNetwork(Network):
    @override
    def build(self, num_classes: int) -> SegmentationNet:
        torch.manual_seed(0)
        return CoarseNet(num_classes)


def test_the_loss_is_that_of_the_coarse_map(make_trainer: Callable[..., Trainer]) -> None:
    torch.manual_seed(0)
    module = MILModule(CoarseNetwork(), 3, map_stride=8)
    module.trainer = make_trainer(max_steps=1)
    module._phases = lambda: type("Phases", (), {"switch": 0})()  # type: ignore[assignment, return-value]
    valid = torch.ones(2, 12, 16, dtype=torch.bool)
    valid[0, :, 8:] = False
    batch = {"image": torch.rand(2, 3, 12, 16), "tags": torch.tensor([[1, 0, 1], [1, 1, 0]]).bool(), "valid": valid}
    logits = module.training_logits(batch)
    assert torch.equal(logits, module.net.coarse_logits(batch["image"], 8))
    cells = torch.tensor([[[True, False]] * 2, [[True, True]] * 2])
    expected = mil_loss(logits, batch["tags"], cells)
    assert torch.equal(module.loss_terms(logits, batch)["mil"], expected)


@pytest.mark.parametrize("fraction", [0.0, 0.5, 1.0])
def test_training_lowers_the_loss(
    fraction: float, tiny_data: LightningDataModule, make_trainer: Callable[..., Trainer]
) -> None:
    module = MILModule(CoarseNetwork(), 3, map_stride=4, optimizer=Optimizer(lr=0.1), pce_fraction=fraction)
    losses: list[dict[str, float]] = []

    def keep(*_: Any) -> None:
        losses.append({name: float(value) for name, value in module.trainer.callback_metrics.items()})

    module.on_train_batch_end = keep  # type: ignore[method-assign]
    trainer = make_trainer(max_epochs=10)
    trainer.fit(module, tiny_data)
    kinds = [next(name for name in ("train_pce", "train_mil") if name in loss) for loss in losses[:1]]
    assert kinds == ["train_pce" if fraction else "train_mil"]
    assert losses[-1]["train_loss"] < losses[0]["train_loss"]


def test_strides_that_the_network_has_not_are_refused() -> None:
    with pytest.raises(ValueError, match="`stride` must be a multiple of 8"):
        MILModule(LargeFOV(encoder_weights=None), 3, map_stride=12)
    assert MILModule(CoarseNetwork(), 3, map_stride=None).grid.stride == 4


def test_it_can_be_written_down() -> None:
    described = describe(MILModule(CoarseNetwork(), 3, map_stride=4))["init_args"]
    assert described["map_stride"] == 4
    assert described["num_classes"] == 3
