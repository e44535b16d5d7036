"""Weakly supervised semantic segmentation with strong latent solvers, on PyTorch Lightning."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from weakseg_lightning.callbacks import GradientPanels, PanelWriter, PredictionWriter, TrimapCurve
    from weakseg_lightning.checkpoints import load_module
    from weakseg_lightning.constraints import (
        AreaBounds,
        AreaRatio,
        AreaTable,
        BoundingBoxes,
        ConstraintRule,
        SizeBuckets,
        Suppression,
        preset,
    )
    from weakseg_lightning.curves import read_trimap, trimap_figure
    from weakseg_lightning.data import ScenesDataModule, SegmentationDataModule, VOCDataModule
    from weakseg_lightning.energies import GridPotts
    from weakseg_lightning.latents import LatentStore
    from weakseg_lightning.losses import DenseCRFLoss, GatedCRFLoss, GridPottsLoss, Regularizer
    from weakseg_lightning.metrics import MeanGridEnergy, SegmentationScores, TrimapScores
    from weakseg_lightning.modules import (
        ADMModule,
        AmortizedLatentModule,
        CCNNModule,
        LatentModule,
        MILModule,
        Optimizer,
        ProposalModule,
        RegularizedLossModule,
        TrustRegionModule,
        WeakSegModule,
    )
    from weakseg_lightning.networks import FCN32s, LargeFOV, Network, SegmentationNet, SMPNetwork
    from weakseg_lightning.prediction.segmenter import Segmenter
    from weakseg_lightning.solvers import (
        AdaptiveBias,
        AlphaExpansion,
        ConstrainedLatent,
        DistributionResult,
        DistributionSolver,
        GrabCut,
        MeanField,
        PyDenseCRF,
        Refinement,
        Solver,
        SolverResult,
    )

# Imported when first asked for: `import weakseg_lightning` and `weakseg --version` load no torch.
_HOMES = {
    "callbacks": ("GradientPanels", "PanelWriter", "PredictionWriter", "TrimapCurve"),
    "checkpoints": ("load_module",),
    "constraints": (
        "AreaBounds",
        "AreaRatio",
        "AreaTable",
        "BoundingBoxes",
        "ConstraintRule",
        "SizeBuckets",
        "Suppression",
        "preset",
    ),
    "curves": ("read_trimap", "trimap_figure"),
    "data": ("ScenesDataModule", "SegmentationDataModule", "VOCDataModule"),
    "energies": ("GridPotts",),
    "latents": ("LatentStore",),
    "losses": ("DenseCRFLoss", "GatedCRFLoss", "GridPottsLoss", "Regularizer"),
    "metrics": ("MeanGridEnergy", "SegmentationScores", "TrimapScores"),
    "modules": (
        "Optimizer",
        "ADMModule",
        "AmortizedLatentModule",
        "CCNNModule",
        "LatentModule",
        "MILModule",
        "ProposalModule",
        "RegularizedLossModule",
        "TrustRegionModule",
        "WeakSegModule",
    ),
    "networks": ("FCN32s", "LargeFOV", "Network", "SMPNetwork", "SegmentationNet"),
    "prediction.segmenter": ("Segmenter",),
    "solvers": (
        "AdaptiveBias",
        "AlphaExpansion",
        "ConstrainedLatent",
        "DistributionResult",
        "DistributionSolver",
        "GrabCut",
        "MeanField",
        "PyDenseCRF",
        "Refinement",
        "Solver",
        "SolverResult",
    ),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "ADMModule",
    "AdaptiveBias",
    "AlphaExpansion",
    "AmortizedLatentModule",
    "AreaBounds",
    "AreaRatio",
    "AreaTable",
    "BoundingBoxes",
    "CCNNModule",
    "ConstrainedLatent",
    "ConstraintRule",
    "DenseCRFLoss",
    "DistributionResult",
    "DistributionSolver",
    "FCN32s",
    "GatedCRFLoss",
    "GrabCut",
    "GradientPanels",
    "GridPotts",
    "GridPottsLoss",
    "LargeFOV",
    "LatentModule",
    "LatentStore",
    "MILModule",
    "MeanField",
    "MeanGridEnergy",
    "Network",
    "Optimizer",
    "PanelWriter",
    "PredictionWriter",
    "ProposalModule",
    "PyDenseCRF",
    "Refinement",
    "RegularizedLossModule",
    "Regularizer",
    "SMPNetwork",
    "ScenesDataModule",
    "SegmentationDataModule",
    "SegmentationNet",
    "SegmentationScores",
    "Segmenter",
    "SizeBuckets",
    "Solver",
    "SolverResult",
    "Suppression",
    "TrimapCurve",
    "TrimapScores",
    "TrustRegionModule",
    "VOCDataModule",
    "WeakSegModule",
    "__version__",
    "load_module",
    "preset",
    "read_trimap",
    "trimap_figure",
]

try:
    __version__ = version("weakseg-lightning")
except PackageNotFoundError:  # the sources alone, not installed
    __version__ = "0+unknown"


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
