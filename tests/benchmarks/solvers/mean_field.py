"""Speed and accuracy of `MeanField` against pydensecrf2, on photographs of VOC's validation list.

The scores are those of a network at stride 16: the mask, averaged over blocks, with noise, enlarged. Both compute the
same refinement, the building of the lattices included; processor time on one thread, the least of interleaved repeats.
All photographs are brought to 375 x 500. Run from the project's root::

    python tests/benchmarks mean_field --root DATASETS --images 20 --repeats 3
"""

import argparse
from functools import partial
from pathlib import Path
from statistics import geometric_mean

import numpy as np
import torch
from measuring import Clock, command_line, interleaved, machine
from PIL import Image
from torch import Tensor

from weakseg_lightning.energies.lattice import Lattice, bilateral_features
from weakseg_lightning.solvers import MeanField, PyDenseCRF

CLASSES = 21
# Widths and weights: spatial, then bilateral in space, color, and its weight.
PARAMETERS = {
    "CCNN untuned": (6, 6, 50, 4, 5),
    "CCNN tuned": (19, 15, 61, 10, 35),
    "broad colors": (3, 3, 80, 13, 10),
    "fine": (1, 3, 67, 3, 4),
    "bilateral alone": (3, 0, 100, 15, 10),
}


def main() -> None:
    """Print a line for each set of parameters: seconds, ratio, largest difference of a probability."""
    parser = command_line(__doc__)
    parser.add_argument("--root", type=Path, required=True, help="folder that VOCdevkit lies in")
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--iterations", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    problems = [_problem(options.root / "VOCdevkit" / "VOC2012", name) for name in _names(options.root, options.images)]
    settings = f"{len(problems)} photographs at 375 x 500, {CLASSES} classes, {options.iterations} iterations"
    print(f"{settings}, one thread of {machine()}")
    print("parameters          vertices  pydensecrf2  MeanField  ratio: mean, worst  largest difference")
    for name, parameters in PARAMETERS.items():
        rows = [_compare(parameters, *problem, options) for problem in problems]
        theirs, ours, difference, vertices = np.array(rows).T
        ratios = theirs / ours
        print(
            f"{name:18} {vertices.mean():9.0f} {theirs.mean():10.3f} s {ours.mean():8.3f} s "
            f"{geometric_mean(ratios):11.2f}, {ratios.min():.2f} {difference.max():19.1e}",
            flush=True,
        )


def _compare(
    parameters: tuple[float, ...], logits: Tensor, image: Tensor, options: argparse.Namespace
) -> tuple[float, float, float, int]:
    theirs = PyDenseCRF(*parameters, iterations=options.iterations)
    ours = MeanField(*parameters, iterations=options.iterations, num_threads=1)
    runs = interleaved({who: partial(_timed, who, logits, image) for who in (theirs, ours)}, options.repeats)
    least = [min(seconds for seconds, _ in several) for several in runs.values()]
    first, second = (several[-1][1] for several in runs.values())
    vertices = int(Lattice.build(bilateral_features(image, parameters[3], parameters[2])).starts[-1])
    return least[0], least[1], float((first - second).abs().max()), vertices


def _timed(refinement: MeanField | PyDenseCRF, logits: Tensor, image: Tensor) -> tuple[float, Tensor]:
    with Clock() as clock:
        refined = refinement.refine(logits, image)
    return clock.cpu, refined


def _names(root: Path, count: int) -> list[str]:
    listed = root / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation" / "val.txt"
    return listed.read_text(encoding="utf-8").split()[:count]


def _problem(voc: Path, name: str) -> tuple[Tensor, Tensor]:
    """Scores ``(1, 21, 375, 500)`` and photograph ``(1, 3, 375, 500)``; upright ones are turned."""
    photograph = Image.open(voc / "JPEGImages" / f"{name}.jpg").convert("RGB")
    labels = Image.open(voc / "SegmentationClass" / f"{name}.png")
    if photograph.height > photograph.width:
        photograph, labels = (picture.transpose(Image.Transpose.ROTATE_90) for picture in (photograph, labels))
    pixels = np.array(photograph.resize((500, 375), Image.Resampling.BICUBIC))
    mask = torch.from_numpy(np.array(labels.resize((500, 375), Image.Resampling.NEAREST))).long()
    truth = torch.nn.functional.one_hot(mask.where(mask != 255, 0), CLASSES).permute(2, 0, 1).float()
    coarse = 4 * torch.nn.functional.avg_pool2d(truth, 16, 16, ceil_mode=True)
    coarse += 2 * torch.randn(coarse.shape, generator=torch.Generator().manual_seed(0))
    logits = torch.nn.functional.interpolate(coarse[None], (375, 500), mode="bilinear")
    return logits, torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


if __name__ == "__main__":
    main()
