"""Losses: one function each, with its formula, symbols and shapes."""

from weakseg_lightning.losses.area_priors import ActivationAreas, AreaPrior, EqualAreas, FileAreas
from weakseg_lightning.losses.constrained import kl_loss
from weakseg_lightning.losses.cross_entropy import dice_loss, latent_cross_entropy, partial_cross_entropy
from weakseg_lightning.losses.decomposition import (
    absence_loss,
    imagelet_loss,
    mask_loss,
    recompose,
    reconstruction_loss,
)
from weakseg_lightning.losses.dense_crf import DenseCRFLoss, dense_crf_energy, dense_crf_lattice, dense_crf_loss
from weakseg_lightning.losses.distributed import (
    mean_over,
    mean_over_images,
    ranks_together,
    sum_over_ranks,
    total_of_ranks,
)
from weakseg_lightning.losses.gated_crf import GatedCRFLoss, GaussianKernel, gated_crf_loss
from weakseg_lightning.losses.mil import mil_loss
from weakseg_lightning.losses.noise_levels import EpsUnit, convert_eps
from weakseg_lightning.losses.potts import GridPottsLoss, potts_loss, relaxed_potts_energy
from weakseg_lightning.losses.regularizer import Regularizer
from weakseg_lightning.losses.robust import (
    NoiseMatrixCrossEntropy,
    RobustCrossEntropy,
    noise_matrix_cross_entropy,
    robust_cross_entropy,
    uniform_noise,
)
from weakseg_lightning.losses.soft_labels import CollisionCrossEntropy, collision_cross_entropy, link_loss
from weakseg_lightning.losses.variational import (
    EntropyLoss,
    MumfordShahLoss,
    TotalVariationLoss,
    entropy_loss,
    mumford_shah_loss,
    total_variation_loss,
)

__all__ = [
    "ActivationAreas",
    "AreaPrior",
    "CollisionCrossEntropy",
    "DenseCRFLoss",
    "EntropyLoss",
    "EpsUnit",
    "EqualAreas",
    "FileAreas",
    "GatedCRFLoss",
    "GaussianKernel",
    "GridPottsLoss",
    "MumfordShahLoss",
    "NoiseMatrixCrossEntropy",
    "Regularizer",
    "RobustCrossEntropy",
    "TotalVariationLoss",
    "absence_loss",
    "collision_cross_entropy",
    "convert_eps",
    "dense_crf_energy",
    "dense_crf_lattice",
    "dense_crf_loss",
    "dice_loss",
    "entropy_loss",
    "gated_crf_loss",
    "imagelet_loss",
    "kl_loss",
    "latent_cross_entropy",
    "link_loss",
    "mask_loss",
    "mean_over",
    "mean_over_images",
    "mil_loss",
    "mumford_shah_loss",
    "noise_matrix_cross_entropy",
    "partial_cross_entropy",
    "potts_loss",
    "ranks_together",
    "recompose",
    "reconstruction_loss",
    "relaxed_potts_energy",
    "robust_cross_entropy",
    "sum_over_ranks",
    "total_of_ranks",
    "total_variation_loss",
    "uniform_noise",
]
