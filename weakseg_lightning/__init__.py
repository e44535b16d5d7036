"""Weakly supervised semantic segmentation with strong latent solvers, on PyTorch Lightning.

The public names are in ``__init__.pyi``, imported when they are first used: ``weakseg --version`` loads no torch.
"""

from importlib.metadata import PackageNotFoundError, version

import lazy_loader

try:
    __version__ = version("weakseg-lightning")
except PackageNotFoundError:  # the sources alone, not installed
    __version__ = "0+unknown"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]
