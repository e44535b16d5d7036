"""Weights of a tiny encoder."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Weights of timm's own network for tests, with its classifier, as timm publishes them."""
    torch.manual_seed(5)
    path: Path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file(timm.create_model("test_efficientnet").state_dict(), path)
    return str(path)
