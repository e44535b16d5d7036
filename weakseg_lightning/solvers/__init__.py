"""Latent solvers: tensors in, `SolverResult` out."""

from weakseg_lightning.solvers.alpha_expansion import AlphaExpansion
from weakseg_lightning.solvers.base import Solver, SolverResult

__all__ = ["AlphaExpansion", "Solver", "SolverResult"]
