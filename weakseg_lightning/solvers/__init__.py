"""Latent solvers: tensors in, `SolverResult` out."""

from weakseg_lightning.solvers.alpha_expansion import AlphaExpansion
from weakseg_lightning.solvers.base import Solver, SolverResult
from weakseg_lightning.solvers.external import GCO

__all__ = ["GCO", "AlphaExpansion", "Solver", "SolverResult"]
