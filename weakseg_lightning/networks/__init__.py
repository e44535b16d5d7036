"""Segmentation networks: descriptions that stand in YAML, and the modules they build."""

from weakseg_lightning.networks.base import Network, SegmentationNet
from weakseg_lightning.networks.coarse_grid import CoarseGrid
from weakseg_lightning.networks.decomposition import (
    DecompositionNet,
    DecompositionNetwork,
    SMPDecomposition,
)
from weakseg_lightning.networks.dual_branch import (
    DualBranchNet,
    DualBranchNetwork,
    SMPDualBranch,
    UNet2DDualBranch,
)
from weakseg_lightning.networks.fcn import FCN32s, FCN32sNet
from weakseg_lightning.networks.frozen.cache import FeatureCache
from weakseg_lightning.networks.frozen.features import FrozenFeatures, FrozenNet
from weakseg_lightning.networks.large_fov import LargeFOV, LargeFOVNet
from weakseg_lightning.networks.smp import SMPNet, SMPNetwork
from weakseg_lightning.networks.tags import TagNet, TagNetwork
from weakseg_lightning.networks.unet import UNet, UNetNet
from weakseg_lightning.networks.unet2d import UNet2D, UNet2DNet

__all__ = [
    "CoarseGrid",
    "DecompositionNet",
    "DecompositionNetwork",
    "DualBranchNet",
    "DualBranchNetwork",
    "FCN32s",
    "FCN32sNet",
    "FeatureCache",
    "FrozenFeatures",
    "FrozenNet",
    "LargeFOV",
    "LargeFOVNet",
    "Network",
    "SMPDecomposition",
    "SMPDualBranch",
    "SMPNet",
    "SMPNetwork",
    "SegmentationNet",
    "TagNet",
    "TagNetwork",
    "UNet",
    "UNet2D",
    "UNet2DDualBranch",
    "UNet2DNet",
    "UNetNet",
]
