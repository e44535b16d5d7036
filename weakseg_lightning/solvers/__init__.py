"""Latent solvers: tensors in, `SolverResult` or `DistributionResult` out."""

from weakseg_lightning.solvers.adaptive_bias import AdaptiveBias
from weakseg_lightning.solvers.alpha_expansion import AlphaExpansion
from weakseg_lightning.solvers.base import Solver, SolverResult
from weakseg_lightning.solvers.constrained import ConstrainedLatent
from weakseg_lightning.solvers.distributions import DistributionResult, DistributionSolver
from weakseg_lightning.solvers.external import GCO
from weakseg_lightning.solvers.grab_cut import GrabCut
from weakseg_lightning.solvers.lower_bound import potts_lower_bound
from weakseg_lightning.solvers.mean_field import MeanField
from weakseg_lightning.solvers.pydensecrf import PyDenseCRF
from weakseg_lightning.solvers.refinement import Refinement

__all__ = [
    "GCO",
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
    "potts_lower_bound",
]
