"""Small classification sets, held in memory."""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets import FashionMNIST, ImageFolder
from torchvision.transforms.v2 import functional

from weakseg_lightning.checks import one_of
from weakseg_lightning.errors import MissingFileError, UserError

SetName = Literal["digits", "fashion_mnist", "folder"]
TEST_SHARE = 1 / 3


@dataclass(frozen=True)
class ClassificationSet:
    """Images and classes for training and for testing.

    Attributes:
        train_images: float ``(N, C, H, W)`` in 0..1.
        train_labels: classes, int64 ``(N,)``.
        test_images: float ``(M, C, H, W)`` in 0..1.
        test_labels: classes, int64 ``(M,)``.
        num_classes: K.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    num_classes: int


def load_set(name: SetName, root: Path, *, download: bool = False, image_size: int = 32) -> ClassificationSet:
    """Load a classification set into memory.

    Args:
        name: ``digits``: the 1,797 digits of 8 x 8 pixels that come with scikit-learn. ``fashion_mnist``: 28 x 28, from
            ``root``. ``folder``: the images below ``root``, a folder per class.
        root: folder of the data; not used by ``digits``.
        download: whether Fashion-MNIST is downloaded if it is not there.
        image_size: side to which the images of a folder are resized.

    Returns:
        The set. Where no test images are set apart (digits; a folder without ``train`` and ``test``), a third of each
        class is, always the same one.

    Raises:
        ValueError: if ``name`` is unknown, or there is less than two classes.
        OSError: if the files are not found or cannot be downloaded.
    """
    one_of("dataset", name, get_args(SetName))
    if name == "digits":
        return _digits()
    if name == "fashion_mnist":
        return _fashion_mnist(root, download)
    return _folder(root, image_size)


def _digits() -> ClassificationSet:
    digits = _of_sklearn("datasets").load_digits()
    images = torch.from_numpy(digits.images).float()[:, None] / 16  # counts of 0 to 16
    return _split(images, torch.from_numpy(digits.target).long(), 10)


def _split(images: Tensor, labels: Tensor, num_classes: int) -> ClassificationSet:
    indices, choose = np.arange(len(labels)), _of_sklearn("model_selection").train_test_split
    train, test = choose(indices, test_size=TEST_SHARE, stratify=labels.numpy(), random_state=0)
    return ClassificationSet(images[train], labels[train], images[test], labels[test], num_classes)


def _of_sklearn(module: str) -> Any:
    try:
        return import_module(f"sklearn.{module}")
    except ImportError as error:
        remedy = "pip install '.[experiments]' in the checkout"
        raise ImportError(f"this `dataset` needs scikit-learn, not installed here: {remedy}") from error


def _fashion_mnist(root: Path, download: bool) -> ClassificationSet:
    try:
        parts = [FashionMNIST(root, train=train, download=download) for train in (True, False)]
    except (RuntimeError, OSError) as error:
        where = Path(root) / "FashionMNIST" / "raw"
        advice = "is there a connection?" if download else "put its four files there, or add --download true"
        raise MissingFileError(f"no Fashion-MNIST in {where}: {advice} ({error})") from error
    images, test_images = (part.data[:, None] / 255 for part in parts)
    labels, test_labels = (part.targets.long() for part in parts)
    return ClassificationSet(images, labels, test_images, test_labels, 10)


def _folder(root: Path, image_size: int) -> ClassificationSet:
    if not Path(root).is_dir():
        raise MissingFileError(
            f"no folder `{root}`: `root` holds a folder of images per class, or `train` and `test` so"
        )
    if not (Path(root) / "train").is_dir() or not (Path(root) / "test").is_dir():
        images, labels, classes = _read_images(Path(root), image_size)
        return _split(images, labels, len(classes))
    images, labels, classes = _read_images(Path(root) / "train", image_size)
    test_images, test_labels, test_classes = _read_images(Path(root) / "test", image_size)
    if classes != test_classes:
        raise UserError(f"{root}: `train` has the classes {classes}, `test` {test_classes}: make them equal")
    return ClassificationSet(images, labels, test_images, test_labels, len(classes))


def _read_images(folder: Path, image_size: int) -> tuple[Tensor, Tensor, list[str]]:
    found = ImageFolder(folder)  # raises FileNotFoundError that names the folder
    if len(found.classes) < 2:
        raise UserError(f"{folder} has the class {found.classes[0]} alone: at least two are needed")
    size = [image_size, image_size]
    images = [functional.resize(functional.to_image(image), size, antialias=True) for image, _ in found]
    return torch.stack(images).float() / 255, torch.tensor(found.targets), list(found.classes)
