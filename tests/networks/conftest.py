import pytest
import torch
from torch import nn


@pytest.fixture(scope="session")
def vgg16() -> nn.Module:
    """Torchvision's network as it is drawn before training, in which signals keep their size."""
    from torchvision.models import vgg16

    torch.manual_seed(3)
    return vgg16().eval()
