"""Latent solvers: tensors in, `SolverResult` out."""

from weakseg_lightning.solvers.alpha_expansion import AlphaExpansion
from weakseg_lightning.solvers.base import Solver, SolverResult
from weakseg_lightning.solvers.external import GCO
from weakseg_lightning.solvers.lower_bound import potts_lower_bound

__all__ = ["GCO", "AlphaExpansion", "Solver", "SolverResult", "potts_lower_bound"]
