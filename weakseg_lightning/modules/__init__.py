"""One LightningModule for each paper, and their foundations."""

from weakseg_lightning.modules.adm import ADMModule
from weakseg_lightning.modules.ccnn import CCNNModule
from weakseg_lightning.modules.classifier import TagClassifierModule
from weakseg_lightning.modules.core.amortized import AmortizedLatentModule
from weakseg_lightning.modules.core.base import WeakSegModule
from weakseg_lightning.modules.core.latent import LatentModule
from weakseg_lightning.modules.core.optimization import Optimizer
from weakseg_lightning.modules.decompose import AbsencePenalty, DecomposeReconstructModule
from weakseg_lightning.modules.dmpls import DMPLSModule
from weakseg_lightning.modules.mil import MILModule
from weakseg_lightning.modules.proposals import ProposalModule
from weakseg_lightning.modules.regularized import RegularizedLossModule
from weakseg_lightning.modules.soft_labels import SoftLabelModule
from weakseg_lightning.modules.tagged import TaggedModule
from weakseg_lightning.modules.trust_region import TrustRegionModule

__all__ = [
    "ADMModule",
    "AbsencePenalty",
    "AmortizedLatentModule",
    "CCNNModule",
    "DMPLSModule",
    "DecomposeReconstructModule",
    "LatentModule",
    "MILModule",
    "Optimizer",
    "ProposalModule",
    "RegularizedLossModule",
    "SoftLabelModule",
    "TagClassifierModule",
    "TaggedModule",
    "TrustRegionModule",
    "WeakSegModule",
]
