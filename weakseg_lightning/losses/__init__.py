"""Losses: one function each, with its formula, symbols and shapes."""

from weakseg_lightning.losses.cross_entropy import latent_cross_entropy, partial_cross_entropy
from weakseg_lightning.losses.potts import potts_loss, relaxed_potts_energy

__all__ = ["latent_cross_entropy", "partial_cross_entropy", "potts_loss", "relaxed_potts_energy"]
