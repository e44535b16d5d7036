# The public names, each where it is from: read by type checkers, and by lazy_loader when a name is first used.
from .callbacks import (
    AveragedWeights as AveragedWeights,
)
from .callbacks import (
    CaseWriter as CaseWriter,
)
from .callbacks import (
    GradientPanels as GradientPanels,
)
from .callbacks import (
    ImageletPanels as ImageletPanels,
)
from .callbacks import (
    NetworkSpeed as NetworkSpeed,
)
from .callbacks import (
    PanelWriter as PanelWriter,
)
from .callbacks import (
    PredictionWriter as PredictionWriter,
)
from .callbacks import (
    TrimapCurve as TrimapCurve,
)
from .constraints import (
    AreaBounds as AreaBounds,
)
from .constraints import (
    AreaRatio as AreaRatio,
)
from .constraints import (
    AreaTable as AreaTable,
)
from .constraints import (
    BoundingBoxes as BoundingBoxes,
)
from .constraints import (
    ConstraintRule as ConstraintRule,
)
from .constraints import (
    SizeBuckets as SizeBuckets,
)
from .constraints import (
    Suppression as Suppression,
)
from .constraints import (
    preset as preset,
)
from .data import (
    FolderDataModule as FolderDataModule,
)
from .data import (
    ImageNetDogDataModule as ImageNetDogDataModule,
)
from .data import (
    MapDataModule as MapDataModule,
)
from .data import (
    ScenesDataModule as ScenesDataModule,
)
from .data import (
    SegmentationDataModule as SegmentationDataModule,
)
from .data import (
    VOCDataModule as VOCDataModule,
)
from .energies import GridPotts as GridPotts
from .losses import (
    ActivationAreas as ActivationAreas,
)
from .losses import (
    AreaPrior as AreaPrior,
)
from .losses import (
    DenseCRFLoss as DenseCRFLoss,
)
from .losses import (
    EntropyLoss as EntropyLoss,
)
from .losses import (
    EqualAreas as EqualAreas,
)
from .losses import (
    FileAreas as FileAreas,
)
from .losses import (
    GatedCRFLoss as GatedCRFLoss,
)
from .losses import (
    GridPottsLoss as GridPottsLoss,
)
from .losses import (
    MumfordShahLoss as MumfordShahLoss,
)
from .losses import (
    Regularizer as Regularizer,
)
from .losses import (
    TotalVariationLoss as TotalVariationLoss,
)
from .metrics import (
    CaseScores as CaseScores,
)
from .metrics import (
    MeanGridEnergy as MeanGridEnergy,
)
from .metrics import (
    SegmentationScores as SegmentationScores,
)
from .metrics import (
    TagScores as TagScores,
)
from .metrics import (
    TrimapScores as TrimapScores,
)
from .modules import (
    AbsencePenalty as AbsencePenalty,
)
from .modules import (
    ADMModule as ADMModule,
)
from .modules import (
    AmortizedLatentModule as AmortizedLatentModule,
)
from .modules import (
    CCNNModule as CCNNModule,
)
from .modules import (
    DecomposeReconstructModule as DecomposeReconstructModule,
)
from .modules import (
    DMPLSModule as DMPLSModule,
)
from .modules import (
    LatentModule as LatentModule,
)
from .modules import (
    MILModule as MILModule,
)
from .modules import (
    Optimizer as Optimizer,
)
from .modules import (
    ProposalModule as ProposalModule,
)
from .modules import (
    RegularizedLossModule as RegularizedLossModule,
)
from .modules import (
    SoftLabelModule as SoftLabelModule,
)
from .modules import (
    TagClassifierModule as TagClassifierModule,
)
from .modules import (
    TrustRegionModule as TrustRegionModule,
)
from .modules import (
    WeakSegModule as WeakSegModule,
)
from .modules.core.latent_store import LatentStore as LatentStore
from .networks import (
    DecompositionNetwork as DecompositionNetwork,
)
from .networks import (
    DualBranchNetwork as DualBranchNetwork,
)
from .networks import (
    FCN32s as FCN32s,
)
from .networks import (
    FeatureCache as FeatureCache,
)
from .networks import (
    FrozenFeatures as FrozenFeatures,
)
from .networks import (
    LargeFOV as LargeFOV,
)
from .networks import (
    Network as Network,
)
from .networks import (
    SegmentationNet as SegmentationNet,
)
from .networks import (
    SMPDecomposition as SMPDecomposition,
)
from .networks import (
    SMPDualBranch as SMPDualBranch,
)
from .networks import (
    SMPNetwork as SMPNetwork,
)
from .networks import (
    TagNetwork as TagNetwork,
)
from .networks import (
    UNet as UNet,
)
from .networks import (
    UNet2D as UNet2D,
)
from .networks import (
    UNet2DDualBranch as UNet2DDualBranch,
)
from .prediction.loading import load_module as load_module
from .prediction.segmenter import Segmenter as Segmenter
from .solvers import (
    AdaptiveBias as AdaptiveBias,
)
from .solvers import (
    AlphaExpansion as AlphaExpansion,
)
from .solvers import (
    ConstrainedLatent as ConstrainedLatent,
)
from .solvers import (
    DistributionResult as DistributionResult,
)
from .solvers import (
    DistributionSolver as DistributionSolver,
)
from .solvers import (
    GrabCut as GrabCut,
)
from .solvers import (
    MeanField as MeanField,
)
from .solvers import (
    PyDenseCRF as PyDenseCRF,
)
from .solvers import (
    Refinement as Refinement,
)
from .solvers import (
    SoftPotts as SoftPotts,
)
from .solvers import (
    SoftPottsResult as SoftPottsResult,
)
from .solvers import (
    Solver as Solver,
)
from .solvers import (
    SolverResult as SolverResult,
)
from .visualization.trimap import (
    read_trimap as read_trimap,
)
from .visualization.trimap import (
    trimap_figure as trimap_figure,
)

__version__: str
