"""How `weakseg init` starts."""

import subprocess
import sys


def test_it_loads_nothing_that_trains():
    heavy = "lightning", "torchmetrics", "torchvision", "scipy.signal", "segmentation_models_pytorch", "timm"
    source = f"import sys, weakseg_lightning.cli.commands.init.command; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
