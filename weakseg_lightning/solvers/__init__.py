"""Latent solvers: tensors in, `SolverResult` or `DistributionResult` out."""

from weakseg_lightning.solvers.base import (
    DistributionResult,
    DistributionSolver,
    Refinement,
    Solver,
    SolverResult,
)
from weakseg_lightning.solvers.constrained.adaptive_bias import AdaptiveBias
from weakseg_lightning.solvers.constrained.solver import ConstrainedLatent
from weakseg_lightning.solvers.dense_crf.mean_field import MeanField
from weakseg_lightning.solvers.dense_crf.pydensecrf import PyDenseCRF
from weakseg_lightning.solvers.potts.alpha_expansion import AlphaExpansion
from weakseg_lightning.solvers.potts.gco import GCO
from weakseg_lightning.solvers.potts.grab_cut import GrabCut
from weakseg_lightning.solvers.potts.lower_bound import potts_lower_bound
from weakseg_lightning.solvers.potts.soft_potts import SoftPotts, SoftPottsResult
from weakseg_lightning.solvers.potts.volume_expansion import VolumeExpansion
from weakseg_lightning.solvers.problem import Problem

__all__ = [
    "GCO",
    "AdaptiveBias",
    "AlphaExpansion",
    "ConstrainedLatent",
    "DistributionResult",
    "DistributionSolver",
    "GrabCut",
    "MeanField",
    "Problem",
    "PyDenseCRF",
    "Refinement",
    "SoftPotts",
    "SoftPottsResult",
    "Solver",
    "SolverResult",
    "VolumeExpansion",
    "potts_lower_bound",
]
