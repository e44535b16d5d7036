"""Accuracy under label noise, against the noise level that the robust loss assumes (figure 3 of the paper)."""

import csv
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import mean, stdev
from typing import Literal

import torch
import yaml
from lightning.pytorch import LightningModule, Trainer
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler, TensorDataset
from typing_extensions import override

from weakseg_lightning.checks import at_least, between
from weakseg_lightning.cli.commands.experiment.classification_sets import ClassificationSet, SetName, load_set
from weakseg_lightning.cli.runs import new_folder
from weakseg_lightning.errors import UserError
from weakseg_lightning.losses import RobustCrossEntropy

RESULTS = "label_noise.csv"
LEVELS = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
SEEDS = [0, 1, 2]
Batch = tuple[Tensor, Tensor]
Accuracies = dict[float, list[float]]  # of each seed, by assumed level


def label_noise(
    dataset: SetName = "digits",
    root: Path = Path("datasets"),
    noise: float = 0.5,
    eps: list[float] = LEVELS,
    seeds: list[int] = SEEDS,
    epochs: int = 60,
    batch_size: int = 128,
    lr: float = 0.05,
    image_size: int = 32,
    download: bool = False,
    accelerator: Literal["auto", "cpu", "gpu"] = "auto",
    out: Path | None = None,
) -> Path:
    """Train a small classifier on wrong labels, with the robust loss at several assumed noise levels.

    A training label is wrong with probability `noise`: it is then one of the K - 1 other classes, each alike, so that
    `noise` is the true eps of the paper's equation 20. (If the wrong label were drawn from all K classes, the true eps
    would be noise (K-1)/K.) Printed, and written as label_noise.csv and label_noise.png: the accuracy on test images
    with clean labels at the end of training, for each assumed eps. For a seed, all eps have the same wrong labels,
    first weights and order of images; on the CPU the results are the same each time.

    Source: Marin and Boykov, Robust Trust Region for Weakly Supervised Segmentation, ICCV 2021, figure 3.

    Args:
        dataset: `digits` (comes with scikit-learn), `fashion_mnist` or `folder` (below `root`, a folder per class).
        root: folder of the data, for `fashion_mnist` and `folder`.
        noise: probability that a training label is wrong.
        eps: the noise levels that the loss assumes; 0 is the cross-entropy.
        seeds: one training of each eps for each seed.
        epochs: passes over the training images.
        batch_size: images per step.
        lr: learning rate of SGD with momentum 0.9.
        image_size: side to which the images of a folder are resized.
        download: whether Fashion-MNIST may be downloaded.
        accelerator: what to train on.
        out: folder for the results; by default runs/label_noise/version_<n>, the next that is free.

    Returns:
        The folder of the results.

    Raises:
        ValueError: if an argument is out of its range.
        OSError: if the data is not found.
    """
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in locals().items()}
    _check(noise, eps, seeds, epochs, batch_size)
    data = load_set(dataset, root, download=download, image_size=image_size)
    losses = [RobustCrossEntropy(level, num_classes=data.num_classes) for level in eps]  # raises for a level too high
    folder = _results_folder(out, settings)
    print(f"{dataset}: {len(data.train_labels)} training images, {noise:.0%} with a wrong label; accuracy in percent")
    print("  eps   mean    std  seeds", *seeds)
    accuracies: Accuracies = {}
    for loss in losses:
        accuracies[loss.eps] = [
            _accuracy_after_training(data, loss, noise, seed, epochs, batch_size, lr, accelerator) for seed in seeds
        ]
        print(_row(loss.eps, accuracies[loss.eps]), flush=True)
        _write_csv(folder / RESULTS, accuracies, seeds)  # not in the end alone, after hours maybe
    _write_plot(folder / "label_noise.png", accuracies, noise, dataset)
    print(f"written: {folder}/{RESULTS}, label_noise.png, config.yaml")
    return folder


def corrupt_labels(labels: Tensor, num_classes: int, noise: float, generator: torch.Generator) -> Tensor:
    """Replace labels at random, each with probability ``noise`` by one of the other classes.

    Args:
        labels: classes, int ``(N,)``.
        num_classes: K.
        noise: probability that a label is replaced, the eps of eq. 20.
        generator: the source of chance.

    Returns:
        The observed labels, int ``(N,)``.

    Example:
        >>> corrupt_labels(torch.tensor([0, 1, 1]), 2, 1.0, torch.Generator())
        tensor([1, 0, 0])
    """
    wrong = torch.rand(labels.shape, generator=generator) < noise
    shift = torch.randint(1, num_classes, labels.shape, generator=generator)
    return torch.where(wrong, (labels + shift) % num_classes, labels)


# ---- training -----------------------------------------------------------------------------------------------


class _Classifier(LightningModule):
    """Two convolutional and two fully connected layers, as in the paper's experiment."""

    def __init__(self, channels: int, image_size: tuple[int, int], loss: RobustCrossEntropy, lr: float) -> None:
        super().__init__()
        features = 32 * (image_size[0] // 4) * (image_size[1] // 4)
        self.network = nn.Sequential(
            *(nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
            *(nn.Linear(features, 128), nn.ReLU(), nn.Linear(128, loss.num_classes or 0)),
        )
        self.loss = loss
        self.lr = lr

    @override
    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, labels = batch
        loss: Tensor = self.loss(self.network(images), labels)
        return loss

    @override
    def test_step(self, batch: Batch, batch_idx: int) -> None:
        images, labels = batch
        right = self.network(images).argmax(1) == labels
        self.log("accuracy", 100 * right.float().mean(), batch_size=len(labels))

    @override
    def configure_optimizers(self) -> torch.optim.Optimizer:
        # Not Adam, which evens out how steep a loss is: that a high eps slows learning down is part of the figure.
        return torch.optim.SGD(self.parameters(), self.lr, momentum=0.9)


def _accuracy_after_training(
    data: ClassificationSet,
    loss: RobustCrossEntropy,
    noise: float,
    seed: int,
    epochs: int,
    batch_size: int,
    lr: float,
    accelerator: str,
) -> float:
    """Percentage of the test images that are classified rightly."""
    generator = torch.Generator().manual_seed(seed)
    observed = corrupt_labels(data.train_labels, data.num_classes, noise, generator)
    _, channels, height, width = data.train_images.shape
    with torch.random.fork_rng(devices=[]), _quiet():
        torch.manual_seed(seed)
        module = _Classifier(channels, (height, width), loss, lr)
        trainer = Trainer(
            max_epochs=epochs,
            accelerator=accelerator,
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, _loader(data.train_images, observed, batch_size, generator))
        (metrics,) = trainer.test(module, _loader(data.test_images, data.test_labels, 1000), verbose=False)
    return metrics["accuracy"]


def _loader(
    images: Tensor, labels: Tensor, batch_size: int, generator: torch.Generator | None = None
) -> DataLoader[tuple[Tensor, ...]]:
    """Batches cut from tensors at once, which for small images takes far less time than one by one."""
    tensors = TensorDataset(images, labels)
    order = SequentialSampler(tensors) if generator is None else RandomSampler(tensors, generator=generator)
    return DataLoader(tensors, batch_size=None, sampler=BatchSampler(order, batch_size, drop_last=False))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning from describing each of the many trainings."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*does not have many workers")
            warnings.filterwarnings("ignore", "GPU available but not used")
            warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)  # of Lightning's own code with a newer torch
            yield
    finally:
        logger.setLevel(level)


# ---- arguments and results ----------------------------------------------------------------------------------


def _check(noise: float, eps: list[float], seeds: list[int], epochs: int, batch_size: int) -> None:
    between("noise", noise, 0, 1)
    for name, values in (("eps", eps), ("seeds", seeds)):
        if not values or len(set(values)) < len(values):
            raise UserError(f"`{name}` must hold at least one value and none twice, got {values}")
    at_least("epochs", epochs, 1)
    at_least("batch_size", batch_size, 1)


def _results_folder(out: Path | None, settings: dict[str, object]) -> Path:
    folder = new_folder(Path("runs/label_noise"), "version", numbered=True) if out is None else Path(out)
    if (folder / RESULTS).exists():
        raise UserError(f"`out`: {folder} has the {RESULTS} of another experiment: choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    chosen = {**settings, "out": None}  # so that the file repeats the experiment without writing over it
    (folder / "config.yaml").write_text(yaml.safe_dump(chosen, sort_keys=False), encoding="utf-8")
    return folder


def _row(eps: float, accuracies: list[float]) -> str:
    each = " ".join(f"{accuracy:.1f}" for accuracy in accuracies)
    return f"{eps:5.2f}  {mean(accuracies):5.1f}  {_spread(accuracies):5.1f}  {each}"


def _spread(values: list[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


def _write_csv(path: Path, accuracies: Accuracies, seeds: list[int]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["eps", "seed", "accuracy"])
        for eps, values in accuracies.items():
            writer.writerows([eps, seed, f"{value:.4f}"] for seed, value in zip(seeds, values, strict=True))


def _write_plot(path: Path, accuracies: Accuracies, noise: float, dataset: str) -> None:
    """Draw mean and standard deviation of the accuracies against eps, and the true noise level."""
    levels = sorted(accuracies)
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.errorbar(
        levels,
        [mean(accuracies[level]) for level in levels],
        [_spread(accuracies[level]) for level in levels],
        marker="o",
        capsize=3,
        label="mean and standard deviation over seeds",
    )
    axes.axvline(noise, color="gray", linestyle="--", label=f"true noise level {noise:g}")
    axes.set_xlabel("assumed outlier probability eps")
    axes.set_ylabel("accuracy on clean test labels, %")
    axes.set_title(f"Robust loss under label noise: {dataset}")
    axes.legend()
    figure.savefig(path, dpi=150)
