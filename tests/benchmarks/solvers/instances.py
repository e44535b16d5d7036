"""Energies to minimize, made from photographs with masks: scores as a half-trained network's, edges from the picture.

The folder of the photographs is ``../shared`` from the project's root, or what ``WEAKSEG_SHARED`` says; below it, a
VOC 2012 tree with scribbles, ``data/VOCdevkit/VOC2012``.

Scores. The one-hot mask is bent by a smooth displacement of some pixels, averaged over cells of 16 x 16 pixels (a
network's output stride), disturbed by noise with correlations over 16 and over 64 pixels, multiplied by the confidence
and interpolated to full size. At pixels far from borders the true class leads by the confidence on average.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

VOID = 255
STRIDE = 16
CONFIDENCES = (3.0, 6.0, 12.0)
SIZES = ((321, 321), (375, 500), (513, 513))
# Where an image shows fewer classes than there are planes: person, dog, cat, horse, cow, sheep.
FILL = (15, 12, 8, 13, 10, 17)


@dataclass(frozen=True)
class Case:
    """One cell of the matrix, and which photograph to make it from."""

    classes: int
    size: tuple[int, int]
    weight: float
    confidence: float
    photograph: int
    seeded: bool

    @property
    def name(self) -> str:
        """Short and unique."""
        height, width = self.size
        seeds = "seeds" if self.seeded else "free"
        return f"K{self.classes} {height}x{width} w{self.weight:g} c{self.confidence:g} {seeds} #{self.photograph}"


@dataclass(frozen=True)
class Instance:
    """What a solver gets: a batch of one image."""

    case: Case
    logits: Tensor  # float32 (1, K, H, W)
    image: Tensor  # float32 (1, 3, H, W)
    seeds: Tensor | None  # int64 (1, H, W)
    errors: float  # fraction of the pixels whose best score is not the true class


def matrix(
    classes: Sequence[int],
    sizes: Sequence[tuple[int, int]] = SIZES,
    weights: Sequence[float] = (10.0, 80.0),
    confidences: Sequence[float] = CONFIDENCES,
    photographs: int = 1,
) -> list[Case]:
    """All combinations, each with photographs of its own, about one half with seeds.

    What a cell gets depends on the cell alone, so that parts of the matrix can be run one by one.
    """
    cases = []
    for k, size, weight, confidence, number in product(classes, sizes, weights, confidences, range(photographs)):
        drawn = hashlib.sha256(f"{k} {size} {weight:g} {confidence:g} {number}".encode()).digest()
        photograph = int.from_bytes(drawn[:2], "big")
        cases.append(Case(k, size, weight, confidence, photograph, seeded=drawn[2] % 2 == 1))
    return cases


def make(case: Case) -> Instance:
    """Load the photograph and disturb its mask."""
    generator = torch.Generator().manual_seed(case.photograph)
    image, truth, scribble = _load(case)
    scores = _scores(truth, case, generator)
    known = truth != VOID
    errors = float((scores.argmax(0) != truth)[known].float().mean())
    seeds = scribble[None] if case.seeded else None
    return Instance(case, scores[None], image[None], seeds, errors)


@cache
def folder() -> Path:
    """The VOC tree of the photographs."""
    shared = Path(os.environ.get("WEAKSEG_SHARED", Path(__file__).resolve().parents[4] / "shared"))
    voc = shared / "data" / "VOCdevkit" / "VOC2012"
    if not voc.is_dir():
        raise SystemExit(f"no photographs in {voc}: set WEAKSEG_SHARED to the folder above `data`")
    return voc


@cache
def _photographs() -> list[str]:
    """Training images, in an order of their own that does not sort them by year."""
    names = (folder() / "ImageSets" / "SegmentationAug" / "train.txt").read_text().split()
    return [names[i] for i in np.random.default_rng(0).permutation(len(names))]


def _load(case: Case) -> tuple[Tensor, Tensor, Tensor]:
    """Image (3, H, W), mask and scribble (H, W) with the case's classes, cut to its size."""
    name = _photographs()[case.photograph % len(_photographs())]
    smooth, nearest = Image.Resampling.BILINEAR, Image.Resampling.NEAREST
    image = cut(Image.open(folder() / "JPEGImages" / f"{name}.jpg").convert("RGB"), case.size, smooth)
    truth = cut(_mask(name), case.size, nearest)
    scribble = cut(Image.open(folder() / "pascal_2012_scribble" / f"{name}.png"), case.size, nearest)
    plane = _planes(truth, case.classes)
    return image.permute(2, 0, 1).float() / 255, plane[truth.long()], plane[scribble.long()]


def _mask(name: str) -> Image.Image:
    paths = (folder() / kind / f"{name}.png" for kind in ("SegmentationClass", "SegmentationClassAug"))
    return Image.open(next(path for path in paths if path.exists()))


def cut(picture: Image.Image, size: tuple[int, int], resampling: Image.Resampling) -> Tensor:
    """Enlarge the picture if it does not cover the size, and take its middle."""
    height, width = size
    scale = max(1.0, height / picture.height, width / picture.width)
    if scale > 1:
        whole = (max(width, round(picture.width * scale)), max(height, round(picture.height * scale)))
        picture = picture.resize(whole, resampling)
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return torch.from_numpy(np.array(picture.crop((left, top, left + width, top + height))))


def _planes(truth: Tensor, classes: int) -> Tensor:
    """Table from VOC's classes to the planes: background, then the most frequent; the others become background."""
    table = torch.zeros(256, dtype=torch.int64)
    table[VOID] = VOID
    if classes == 21:
        table[:21] = torch.arange(21)
        return table
    counts = torch.bincount(truth.flatten().long(), minlength=256)[1:21]
    present = [int(c) + 1 for c in counts.argsort(descending=True) if counts[c] > 0]
    chosen = list(dict.fromkeys([*present, *FILL]))[: classes - 1]
    table[torch.tensor(chosen)] = torch.arange(1, classes)
    return table


def _scores(truth: Tensor, case: Case, generator: torch.Generator) -> Tensor:
    """Scores ``(K, H, W)`` with the errors of a network's."""
    height, width = case.size
    one_hot = functional.one_hot(truth.clamp(max=case.classes), case.classes + 1)[..., : case.classes]
    evidence = _bend(one_hot.permute(2, 0, 1)[None].float(), generator)
    cells = (height // STRIDE + 1, width // STRIDE + 1)
    coarse = functional.interpolate(evidence, size=cells, mode="area")
    coarse += 0.3 * _noise(coarse.shape, 1, generator) + 0.3 * _noise(coarse.shape, 4, generator)
    full = functional.interpolate(coarse, size=case.size, mode="bilinear", align_corners=False)
    return full[0] * case.confidence


def _bend(planes: Tensor, generator: torch.Generator, pixels: float = 8.0) -> Tensor:
    """Displace each place by some pixels, smoothly over about 64."""
    height, width = planes.shape[2:]
    step = _noise((1, 2, height, width), 64, generator) * pixels * 2 / torch.tensor([width, height]).view(1, 2, 1, 1)
    identity = functional.affine_grid(torch.eye(2, 3)[None], [1, 1, height, width], align_corners=False)
    where = identity + step.permute(0, 2, 3, 1)
    return functional.grid_sample(planes, where, padding_mode="border", align_corners=False)


def _noise(shape: Sequence[int], correlation: int, generator: torch.Generator) -> Tensor:
    """Standard normal at nodes so far apart, interpolated between them."""
    *lead, height, width = shape
    nodes = torch.randn(*lead, height // correlation + 2, width // correlation + 2, generator=generator)
    if correlation == 1:
        return nodes[..., :height, :width]
    return functional.interpolate(nodes, size=(height, width), mode="bilinear", align_corners=True)
