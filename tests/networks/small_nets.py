"""Small networks with random weights, the same ones each time."""

import torch

from weakseg_lightning.networks import SegmentationNet, SMPNetwork

LITE0 = "timm-tf_efficientnet_lite0"


def smp_net(architecture: str = "deeplabv3plus", encoder: str = "resnet18", **arguments: object) -> SegmentationNet:
    torch.manual_seed(0)
    return SMPNetwork(architecture, encoder, encoder_weights=None, **arguments).build(4)
