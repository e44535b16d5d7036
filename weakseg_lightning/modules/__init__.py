"""One LightningModule for each paper, and what they share."""

from weakseg_lightning.modules.adm import ADMModule
from weakseg_lightning.modules.base import WeakSegModule
from weakseg_lightning.modules.latent import LatentModule
from weakseg_lightning.modules.optimization import Optimizer
from weakseg_lightning.modules.regularized import RegularizedLossModule

__all__ = ["ADMModule", "LatentModule", "Optimizer", "RegularizedLossModule", "WeakSegModule"]
