"""Scores and images that the tests of several solvers share."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional


def batch(size=(20, 24), classes=4, images=3, seed=0, sharpness=2.0) -> tuple[Tensor, Tensor]:
    """Blobs of scores under noise ``(B, K, H, W)``, and random images."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(images, classes, 5, 6, generator=generator) * sharpness
    logits = functional.interpolate(coarse, size=size, mode="bilinear")
    logits += torch.randn(images, classes, *size, generator=generator)
    return logits, torch.rand(images, 3, *size, generator=generator)


def stripes(seed: int, height: int = 11, width: int = 13, classes: int = 4) -> tuple[Tensor, Tensor]:
    """Noisy scores of vertical stripes ``(1, K, H, W)``, and an image of the stripes' colors."""
    generator = torch.Generator().manual_seed(seed)
    truth = (torch.arange(width) * classes // width).expand(height, width)
    colors = torch.rand(classes, 3, generator=generator)[truth].permute(2, 0, 1)
    image = (colors + 0.02 * torch.randn(3, height, width, generator=generator)).clamp(0, 1)
    scores = 2 * functional.one_hot(truth, classes).permute(2, 0, 1)
    return (scores + 1.5 * torch.randn(classes, height, width, generator=generator))[None], image[None]


def several(*seeds: int) -> tuple[Tensor, Tensor]:
    """A batch of stripes."""
    logits, images = zip(*(stripes(seed) for seed in seeds), strict=True)
    return torch.cat(logits), torch.cat(images)


def photograph(shared: Path, index: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Coarse, noisy scores of a mask, as of a network at stride 16, the photograph, and the mask."""
    voc = shared / "data" / "VOCdevkit" / "VOC2012"
    name = (voc / "ImageSets" / "Segmentation" / "val.txt").read_text().split()[index]
    image = torch.from_numpy(np.array(Image.open(voc / "JPEGImages" / f"{name}.jpg").convert("RGB")))
    mask = torch.from_numpy(np.array(Image.open(voc / "SegmentationClass" / f"{name}.png"))).long()
    truth = functional.one_hot(mask.where(mask != 255, 0), 21).permute(2, 0, 1).float()
    coarse = 4 * functional.avg_pool2d(truth, 16, 16, ceil_mode=True)
    coarse += 2 * torch.randn(coarse.shape, generator=torch.Generator().manual_seed(0))
    logits = functional.interpolate(coarse[None], mask.shape, mode="bilinear")
    return logits, image.permute(2, 0, 1)[None].float() / 255, mask[None]
