"""Losses: one function each, with its formula, symbols and shapes."""

from weakseg_lightning.losses.constrained import kl_loss
from weakseg_lightning.losses.cross_entropy import latent_cross_entropy, partial_cross_entropy
from weakseg_lightning.losses.mil import mil_loss
from weakseg_lightning.losses.potts import potts_loss, relaxed_potts_energy
from weakseg_lightning.losses.robust import (
    NoiseMatrixCrossEntropy,
    RobustCrossEntropy,
    noise_matrix_cross_entropy,
    robust_cross_entropy,
    uniform_noise,
)

__all__ = [
    "NoiseMatrixCrossEntropy",
    "RobustCrossEntropy",
    "kl_loss",
    "latent_cross_entropy",
    "mil_loss",
    "noise_matrix_cross_entropy",
    "partial_cross_entropy",
    "potts_loss",
    "relaxed_potts_energy",
    "robust_cross_entropy",
    "uniform_noise",
]
