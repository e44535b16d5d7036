"""Scores per case: Dice and Hausdorff distance in 3-D, over the stacked slices of each case."""

import warnings
import zlib
from collections.abc import Iterable, Sequence
from math import isnan, nan
from statistics import fmean
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from scipy.ndimage import find_objects
from skimage.measure import label
from torch import Tensor, distributed
from torchmetrics import Metric
from typing_extensions import override

from weakseg_lightning.errors import UserError
from weakseg_lightning.metrics.checks import check_arguments, check_maps, check_range

__all__ = ["CaseScore", "CaseScores", "mean_over_cases", "metrics_of_monai", "volume_scores"]

T = TypeVar("T")
Spacing = tuple[float, float, float]
"""Distance of neighboring voxels, of slices, rows and columns."""

Place = tuple[str, int, Spacing]
"""Place of a slice: its case, its number in the order of the slices, and the spacing."""


class CaseScore(NamedTuple):
    """Scores of one case.

    Attributes:
        case: its name.
        slices: how many there are.
        dice: of the classes 1 to K - 1, in 0..1.
        hd95: of the same, in the unit of the spacing; nan where a volume is empty.
    """

    case: str
    slices: int
    dice: list[float]
    hd95: list[float]


def volume_scores(
    labels: Tensor,
    target: Tensor,
    num_classes: int,
    spacing: Spacing = (1.0, 1.0, 1.0),
    largest_component: bool = False,
    ignore_index: int = 255,
) -> tuple[list[float], list[float]]:
    """Compute Dice and the 95th percentile of the Hausdorff distance (HD95) of each class of a volume.

    Both are those of MONAI. HD95 is the larger one of the percentiles of the distances from surface to surface in the
    two directions, as in PyMIC; medpy, and WSL4MIS with it, pools the distances of both directions. A class that
    neither volume has gets Dice 1, as in PyMIC and MONAI; one that a single volume has gets Dice 0. In either case
    there is no distance between surfaces, and HD95 is nan, to be left out of means: an HD95 of 0, as in some scripts,
    would reward networks that find nothing.

    Args:
        labels: predicted classes ``(D, H, W)``, slices first.
        target: true classes in 0..K-1, or ``ignore_index``; same shape.
        num_classes: classes K, background included.
        spacing: distance of neighboring slices, rows and columns, as in mm.
        largest_component: score the largest connected component of each predicted class alone (26 neighbors).
        ignore_index: target value of the voxels that are left out: they belong to no volume.

    Returns:
        Dice and HD95 of the classes 1 to K - 1.

    Raises:
        ValueError: if MONAI is not installed.

    Example:
        >>> target = torch.zeros(2, 1, 6, dtype=torch.long)
        >>> target[:, :, :2] = 1
        >>> volume_scores(target.roll(2, 2), target, num_classes=3, spacing=(10.0, 1.0, 1.5))
        ([0.0, 1.0], [3.0, nan])
    """
    known = target != ignore_index
    scores = []
    for index in range(1, num_classes):
        predicted = labels == index
        if largest_component:
            predicted = _largest_component(predicted)
        scores.append(_class_scores(predicted & known, (target == index) & known, spacing))
    dice, hd95 = zip(*scores, strict=True)
    return list(dice), list(hd95)


def mean_over_cases(found: Sequence[CaseScore], names: Sequence[str]) -> dict[str, float]:
    """Average scores over cases.

    Args:
        found: scores of the cases.
        names: names of the classes 1 to K - 1.

    Returns:
        ``dice_<class>`` and ``hd95_<class>``, means over the cases; ``dice_mean`` and ``hd95_mean``, means over the
        cases of their means over the classes. What is nan counts nowhere; a mean of nothing is left out.

    Example:
        >>> mean_over_cases([CaseScore("a", 3, [0.5, 1.0], [2.0, float("nan")])], ["cat", "dog"])
        {'dice_cat': 0.5, 'dice_dog': 1.0, 'dice_mean': 0.75, 'hd95_cat': 2.0, 'hd95_mean': 2.0}
    """
    means: dict[str, float] = {}
    for score in ("dice", "hd95"):
        rows = [getattr(one, score) for one in found]
        means |= {f"{score}_{name}": _known_mean(row[index] for row in rows) for index, name in enumerate(names)}
        means[f"{score}_mean"] = _known_mean(map(_known_mean, rows))
    return {name: value for name, value in means.items() if not isnan(value)}


def _known_mean(values: Iterable[float]) -> float:
    """Mean of the values that are not nan; nan if there are none."""
    known = [value for value in values if not isnan(value)]
    return fmean(known) if known else nan


class CaseScores(Metric):
    """Dice and HD95 of each case of a data set, in 3-D over its slices, see :func:`volume_scores`.

    The slices of a case may come in any order, in several batches and on several ranks. They are kept compressed, at
    a few percent of their size. Each image counts once, however often it comes. Cases without any known voxel have no
    scores.

    Args:
        num_classes: classes K, background included.
        largest_component: score the largest connected component of each predicted class of a case alone.
        ignore_index: target value of the pixels that are left out.

    Example:
        >>> metric = CaseScores(num_classes=2)
        >>> for number, row in enumerate([[0, 1, 1], [0, 0, 1]]):
        ...     maps = torch.tensor([[row]])
        ...     metric.update(maps, maps * 0 + 1, [f"heart_{number}"], [("heart", number, (10.0, 1.0, 1.0))])
        >>> metric.compute()
        [CaseScore(case='heart', slices=2, dice=[0.6666666865348816], hd95=[1.75])]
    """

    full_state_update = False
    is_differentiable = False

    def __init__(self, num_classes: int, largest_component: bool = False, ignore_index: int = 255) -> None:
        super().__init__(sync_on_compute=False)  # `compute` exchanges bytes, which are no state of torchmetrics
        check_arguments(num_classes, ignore_index)
        self.num_classes = num_classes
        self.largest_component = largest_component
        self.ignore_index = ignore_index
        self._kept: dict[str, _Kept] = {}

    @override
    def update(self, labels: Tensor, target: Tensor, names: Sequence[str], places: Sequence[Place] | None) -> None:
        """Keep a batch.

        Args:
            labels: predicted classes ``(B, H, W)``.
            target: true classes, or ``ignore_index``; same shape.
            names: names of the B images.
            places: case, number and spacing of each; None where the images belong to no cases.
        """
        check_maps(labels, target)
        if places is None:
            return
        labels, target = labels.cpu(), target.cpu()
        known = target != self.ignore_index
        check_range("target", target[known], self.num_classes, f" or `ignore_index` = {self.ignore_index}")
        check_range("labels", labels[known], self.num_classes)
        # Predictions stay where the truth is unknown: components are connected through there.
        labels = torch.where((labels >= 0) & (labels < self.num_classes), labels, 0)
        pairs = torch.stack([labels, torch.where(known, target, 255)], 1).to(torch.uint8)
        for name, place, pair, any_known in zip(names, places, pairs, known.flatten(1).any(1).tolist(), strict=True):
            maps = zlib.compress(pair.numpy().tobytes(), level=1)
            self._kept[name] = _Kept(place, tuple(pair.shape[1:]), maps, any_known)

    @override
    def compute(self) -> list[CaseScore]:
        """Return the scores of all cases by name; each rank computes those of some, and gets all.

        Raises:
            ValueError: if the slices of a case differ in size, or MONAI is not installed.
        """
        cases = sorted(_cases(_of_all_ranks(self._kept)).items())
        if cases:
            metrics_of_monai()  # on all ranks, so that none waits for one that has no case
        rank, ranks = (distributed.get_rank(), distributed.get_world_size()) if _is_distributed() else (0, 1)
        found = [self._score(case, slices) for case, slices in cases[rank::ranks]]
        return sorted(score for part in _of_all_ranks(found) for score in part)

    @override
    def reset(self) -> None:
        """Forget all cases."""
        super().reset()
        self._kept = {}

    def _score(self, case: str, slices: Sequence["_Kept"]) -> CaseScore:
        pairs = [np.frombuffer(zlib.decompress(one.maps), np.uint8).reshape(2, *one.shape) for one in slices]
        labels, target = torch.from_numpy(np.stack(pairs, axis=1))
        spacing = slices[0].place[2]
        scores = volume_scores(labels, target, self.num_classes, spacing, self.largest_component)
        return CaseScore(case, len(slices), *scores)


class _Kept(NamedTuple):
    """A slice: predicted and true classes, uint8 ``(2, H, W)``, compressed, and if any of the true ones is known."""

    place: Place
    shape: tuple[int, ...]
    maps: bytes
    known: bool


def _cases(parts: Iterable[dict[str, _Kept]]) -> dict[str, list[_Kept]]:
    """Slices of each case in their order; the same on all ranks."""
    kept = {name: one for part in parts for name, one in part.items()}
    cases: dict[str, dict[str, _Kept]] = {}
    for name, one in sorted(kept.items(), key=lambda item: (item[1].place[1], item[0])):
        cases.setdefault(one.place[0], {})[name] = one
    for case, slices in cases.items():
        first, *others = ((name, one.shape[::-1]) for name, one in slices.items())
        if other := next((other for other in others if other[1] != first[1]), None):
            sizes = " and ".join(f"{name!r} has {width} x {height}" for name, (width, height) in (first, other))
            raise UserError(f"the slices of the case {case!r} must be of one size: {sizes} pixels")
    return {case: [*slices.values()] for case, slices in cases.items() if any(one.known for one in slices.values())}


def _class_scores(predicted: Tensor, true: Tensor, spacing: Spacing) -> tuple[float, float]:
    """Dice and HD95 of one class, bool ``(D, H, W)``."""
    (box,) = find_objects((predicted | true).to(torch.uint8).numpy(), 1)
    if box is None:
        return 1.0, nan
    monai = metrics_of_monai()
    volumes = [volume[box][None, None].float() for volume in (predicted, true)]
    dice = float(monai.compute_dice(*volumes, include_background=True, ignore_empty=False))
    if not (predicted.any() and true.any()):
        return dice, nan
    with warnings.catch_warnings():  # MONAI 1.6 calls itself by an argument that it warns of
        warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)
        hd95 = monai.compute_hausdorff_distance(*volumes, include_background=True, percentile=95, spacing=list(spacing))
    return dice, float(hd95)


def _largest_component(volume: Tensor) -> Tensor:
    components = label(volume.numpy())  # 0 is the background
    sizes = np.bincount(components.ravel())[1:]
    return torch.from_numpy(components == 1 + sizes.argmax()) if sizes.size else volume


def metrics_of_monai() -> ModuleType:
    """Import MONAI's metrics: torchmetrics has the largest distance of Hausdorff alone, no percentile of it.

    Raises:
        ValueError: if MONAI is not installed.
    """
    try:
        with warnings.catch_warnings():  # it imports all of itself, with whatever is deprecated elsewhere in it
            warnings.simplefilter("ignore")
            import monai.metrics  # takes seconds, which only scores of cases are worth
    except ImportError as error:
        raise UserError("scores per case need MONAI: pip install '.[cases]' in the checkout") from error
    module: ModuleType = monai.metrics
    return module


def _is_distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _of_all_ranks(mine: T) -> list[T]:
    """Gather on every rank what each of them has."""
    if not _is_distributed():
        return [mine]
    found: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(found, mine)
    return found
