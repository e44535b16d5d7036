"""Weakly supervised semantic segmentation with strong latent solvers, on PyTorch Lightning."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from weakseg_lightning.callbacks import (
        GradientPanels,
        ImageletPanels,
        NetworkSpeed,
        PanelWriter,
        PredictionWriter,
        TrimapCurve,
    )
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
    from weakseg_lightning.data import (
        FolderDataModule,
        ImageNetDogDataModule,
        ScenesDataModule,
        SegmentationDataModule,
        VOCDataModule,
    )
    from weakseg_lightning.energies import GridPotts
    from weakseg_lightning.losses import (
        ActivationAreas,
        AreaPrior,
        DenseCRFLoss,
        EqualAreas,
        FileAreas,
        GatedCRFLoss,
        GridPottsLoss,
        Regularizer,
    )
    from weakseg_lightning.metrics import MeanGridEnergy, SegmentationScores, TagScores, TrimapScores
    from weakseg_lightning.modules import (
        AbsencePenalty,
        ADMModule,
        AmortizedLatentModule,
        CCNNModule,
        DecomposeReconstructModule,
        LatentModule,
        MILModule,
        Optimizer,
        ProposalModule,
        RegularizedLossModule,
        TagClassifierModule,
        TrustRegionModule,
        WeakSegModule,
    )
    from weakseg_lightning.modules.core.latent_store import LatentStore
    from weakseg_lightning.networks import (
        DecompositionNetwork,
        FCN32s,
        LargeFOV,
        Network,
        SegmentationNet,
        SMPDecomposition,
        SMPNetwork,
        TagNetwork,
        UNet,
    )
    from weakseg_lightning.prediction.loading import load_module
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
    from weakseg_lightning.visualization.trimap import read_trimap, trimap_figure

# Imported when first asked for: `import weakseg_lightning` and `weakseg --version` load no torch.
_HOMES = {
    "callbacks": (
        "GradientPanels",
        "ImageletPanels",
        "NetworkSpeed",
        "PanelWriter",
        "PredictionWriter",
        "TrimapCurve",
    ),
    "prediction.loading": ("load_module",),
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
    "visualization.trimap": ("read_trimap", "trimap_figure"),
    "data": (
        "FolderDataModule",
        "ImageNetDogDataModule",
        "ScenesDataModule",
        "SegmentationDataModule",
        "VOCDataModule",
    ),
    "energies": ("GridPotts",),
    "modules.core.latent_store": ("LatentStore",),
    "losses": (
        "ActivationAreas",
        "AreaPrior",
        "DenseCRFLoss",
        "EqualAreas",
        "FileAreas",
        "GatedCRFLoss",
        "GridPottsLoss",
        "Regularizer",
    ),
    "metrics": ("MeanGridEnergy", "SegmentationScores", "TagScores", "TrimapScores"),
    "modules": (
        "Optimizer",
        "ADMModule",
        "AbsencePenalty",
        "AmortizedLatentModule",
        "CCNNModule",
        "DecomposeReconstructModule",
        "LatentModule",
        "MILModule",
        "ProposalModule",
        "RegularizedLossModule",
        "TagClassifierModule",
        "TrustRegionModule",
        "WeakSegModule",
    ),
    "networks": (
        "DecompositionNetwork",
        "FCN32s",
        "LargeFOV",
        "Network",
        "SMPDecomposition",
        "SMPNetwork",
        "SegmentationNet",
        "TagNetwork",
        "UNet",
    ),
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
    "AbsencePenalty",
    "ActivationAreas",
    "AdaptiveBias",
    "AlphaExpansion",
    "AmortizedLatentModule",
    "AreaBounds",
    "AreaPrior",
    "AreaRatio",
    "AreaTable",
    "BoundingBoxes",
    "CCNNModule",
    "ConstrainedLatent",
    "ConstraintRule",
    "DecomposeReconstructModule",
    "DecompositionNetwork",
    "DenseCRFLoss",
    "DistributionResult",
    "DistributionSolver",
    "EqualAreas",
    "FCN32s",
    "FileAreas",
    "FolderDataModule",
    "GatedCRFLoss",
    "GrabCut",
    "GradientPanels",
    "GridPotts",
    "GridPottsLoss",
    "ImageNetDogDataModule",
    "ImageletPanels",
    "LargeFOV",
    "LatentModule",
    "LatentStore",
    "MILModule",
    "MeanField",
    "MeanGridEnergy",
    "Network",
    "NetworkSpeed",
    "Optimizer",
    "PanelWriter",
    "PredictionWriter",
    "ProposalModule",
    "PyDenseCRF",
    "Refinement",
    "RegularizedLossModule",
    "Regularizer",
    "SMPDecomposition",
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
    "TagClassifierModule",
    "TagNetwork",
    "TagScores",
    "TrimapCurve",
    "TrimapScores",
    "TrustRegionModule",
    "UNet",
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
