"""Data modules: images with weak labels, in batches.

To train on your own data, subclass :class:`SegmentationDataModule` and hand it two :class:`SampleSource` objects.

The names are in ``__init__.pyi``, imported when they are first used: what reads files alone loads no Lightning.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
