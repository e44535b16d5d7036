"""Every method on scenes of a few pixels and a network of a few weights."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from tempfile import TemporaryDirectory
from typing import Any

import torch
from discs import TinyDecomposition, TinyTags
from lightning.pytorch import LightningModule
from small_runs import quiet_trainer
from torch import Tensor, nn
from torch.nn import functional

from weakseg_lightning.constraints import Suppression, preset
from weakseg_lightning.data import ScenesDataModule
from weakseg_lightning.energies import GridPotts
from weakseg_lightning.losses import (
    DenseCRFLoss,
    EntropyLoss,
    GatedCRFLoss,
    GridPottsLoss,
    MumfordShahLoss,
    TotalVariationLoss,
)
from weakseg_lightning.modules import (
    ADMModule,
    CCNNModule,
    DecomposeReconstructModule,
    DMPLSModule,
    MILModule,
    ProposalModule,
    RegularizedLossModule,
    SoftLabelModule,
    TagClassifierModule,
    TrustRegionModule,
)
from weakseg_lightning.networks import Network, SegmentationNet, UNet2DDualBranch
from weakseg_lightning.solvers import AdaptiveBias, AlphaExpansion, GrabCut, MeanField, SoftPotts


class SmallNet(SegmentationNet):
    """Batch norm and dropout on a map of a fourth of the size, upsampled."""

    def __init__(self, num_classes: int) -> None:
        super().__init__((0.5,) * 3, (0.25,) * 3, stride=4, map_stride=4)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout2d(0.25))
        self.head = nn.Conv2d(8, num_classes, 1)

    def compute_map(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))

    def compute_logits(self, x: Tensor) -> Tensor:
        return functional.interpolate(self.compute_map(x), scale_factor=4, mode="bilinear")

    def head_parameters(self) -> list[nn.Parameter]:
        return list(self.head.parameters())


class SmallNetwork(Network):
    def build(self, num_classes: int) -> SmallNet:
        torch.manual_seed(0)
        return SmallNet(num_classes)


@dataclass(frozen=True)
class Method:
    """A method's module for a number of classes, and what its scenes show."""

    make: Callable[[int], LightningModule]
    data: dict[str, Any] = field(default_factory=dict)
    rounds: bool = False  # the CPU has kernels of its own for it, which add in another order

    def module(self, drops: bool = True) -> LightningModule:
        """The module; without dropout where that would draw other numbers."""
        module = self.make(self.scenes().num_classes)
        for part in module.modules():
            if isinstance(part, nn.Dropout2d) and not drops:
                part.p = 0.0
        return module

    def scenes(self, **options: Any) -> ScenesDataModule:
        small = {"num_train": 8, "num_val": 2, "size": 40, "crop_size": 32, "batch_size": 2, "num_workers": 0}
        return ScenesDataModule(**small | self.data | options)


_WHOLE = {"crop_size": 40, "supervision": "tags"}
_GRID = AlphaExpansion(GridPotts(weight=20.0))


def _with_grid(cls: Any, **options: Any) -> Callable[[int], LightningModule]:
    return lambda classes: cls(SmallNetwork(), classes, **options)


@cache
def _classifier(classes: int) -> TemporaryDirectory[str]:
    """A folder with the checkpoint of a classifier that was trained for a step."""
    folder = TemporaryDirectory()
    trainer = quiet_trainer(folder.name, max_steps=1)
    trainer.fit(TagClassifierModule(TinyTags("tiny", None), classes), METHODS["classifier"].scenes())
    trainer.save_checkpoint(f"{folder.name}/last.ckpt")
    return folder


def _decomposition(classes: int) -> LightningModule:
    checkpoint = f"{_classifier(classes).name}/last.ckpt"
    return DecomposeReconstructModule(TinyDecomposition(), classes, TinyTags("tiny", None), checkpoint)


def _two_decoders(classes: int) -> LightningModule:
    torch.manual_seed(0)
    return DMPLSModule(UNet2DDualBranch(3, widths=(4, 8), dropout=(0.0, 0.0)), classes)


METHODS = {
    "pce": Method(_with_grid(RegularizedLossModule)),
    "full": Method(_with_grid(RegularizedLossModule, supervision="mask")),
    "grid_gd": Method(_with_grid(RegularizedLossModule, regularizer=GridPottsLoss(), pce_fraction=0.5), rounds=True),
    "dense_gd": Method(_with_grid(RegularizedLossModule, regularizer=DenseCRFLoss())),
    "gated_crf": Method(_with_grid(RegularizedLossModule, regularizer=GatedCRFLoss(downscale=2))),
    "entropy": Method(_with_grid(RegularizedLossModule, regularizer=EntropyLoss())),
    "total_variation": Method(_with_grid(RegularizedLossModule, regularizer=TotalVariationLoss())),
    "mumford_shah": Method(_with_grid(RegularizedLossModule, regularizer=MumfordShahLoss())),
    "dmpls": Method(_two_decoders),
    "adm": Method(_with_grid(ADMModule, solver=_GRID, pce_fraction=0.25)),
    "adm_map": Method(_with_grid(ADMModule, solver=_GRID, latent_grid="map", pce_fraction=0.0)),
    "adm_lag": Method(_with_grid(ADMModule, solver=_GRID, latent_lag=1, pce_fraction=0.0)),
    "dense_adm": Method(_with_grid(ADMModule, solver=MeanField(), pce_fraction=0.0)),
    "soft_labels": Method(_with_grid(SoftLabelModule, solver=SoftPotts(max_sweeps=5), pce_fraction=0.0), rounds=True),
    "trust_region": Method(_with_grid(TrustRegionModule, solver=_GRID, pce_fraction=0.0, epochs_per_cycle=1)),
    "learnt_eps": Method(_with_grid(TrustRegionModule, solver=_GRID, pce_fraction=0.25, learn_eps=True)),
    "proposals": Method(_with_grid(ProposalModule, solver=GrabCut(_GRID, max_rounds=2))),
    "ccnn": Method(_with_grid(CCNNModule, constraints=preset("tags"), map_stride=4), _WHOLE, rounds=True),
    "ccnn_boxes": Method(
        _with_grid(CCNNModule, constraints=preset("boxes"), map_stride=4), {**_WHOLE, "supervision": "box"}, rounds=True
    ),
    "ccnn_semi": Method(
        _with_grid(CCNNModule, constraints=preset("tags"), map_stride=4), {**_WHOLE, "full_fraction": 0.5}, rounds=True
    ),
    "em_adapt": Method(
        _with_grid(CCNNModule, constraints=[Suppression()], solver=AdaptiveBias(), map_stride=4), _WHOLE
    ),
    "mil": Method(_with_grid(MILModule, map_stride=4), _WHOLE),
    "classifier": Method(
        lambda classes: TagClassifierModule(TinyTags("tiny", None), classes, parts_weight=0.0), _WHOLE
    ),
    "decompose": Method(_decomposition, _WHOLE),
}
