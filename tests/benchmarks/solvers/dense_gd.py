"""Time that Dense-GD adds to partial cross-entropy: lattices built in the step, in loader's workers, or image by image.

All contestants compute cross-entropy on 3 % of the pixels and the dense CRF at half resolution, forward and backward,
for one batch of crops of photographs; they run in turn, and medians are compared. Run from the project's root::

    python tests/benchmarks dense_gd --root DATASETS/VOCdevkit/VOC2012/JPEGImages --threads 2

- ``step``: as ``build_in: step``, lattices of all images and one filtering of all classes.
- ``workers``: as ``build_in: workers``, the lattices are there; what a worker needs to build them is told apart.
- ``rebuild``: in the manner of the authors' layer, with our lattice: image by image, in as many threads, each with a
  lattice of its own that is applied to one class after the other, on the host. (Their layer keeps what it filtered for
  the gradient, as ours does; if it did not, it would take the time of ``rebuild`` twice.)
- ``pydensecrf``: the same with pydensecrf, whose lattice is that of the authors' layer: the energy of one image after
  the other, and one step of mean field, which filters all classes once. It holds Python's lock: always one thread.

``--network`` adds a training step of DeepLabV3+ on MobileNetV2 with pCE alone, to compare the additions with.
"""

import argparse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from instances import cut
from measuring import Clock, command_line, interleaved, machine
from PIL import Image
from torch import Tensor
from torch.nn import functional

from weakseg_lightning.energies.lattice import Lattice, bilateral_features
from weakseg_lightning.losses import dense_crf_lattice, dense_crf_loss, partial_cross_entropy
from weakseg_lightning.networks import SMPNetwork

WEIGHT, SIGMA_RGB, SIGMA_XY, SCALE = 2e-9, 15.0, 100.0, 0.5


class Problem:
    """A batch, and the contestants: each computes loss and gradient once."""

    def __init__(self, options: argparse.Namespace) -> None:
        torch.manual_seed(0)
        self.options = options
        self.image = torch.stack([crop(path, options.crop) for path in photographs(options.root, options.batch)])
        coarse = 4 * torch.randn(options.batch, options.classes, options.crop // 16, options.crop // 16)
        self.logits = functional.interpolate(coarse, size=self.image.shape[2:], mode="bicubic").to(options.device)
        labels = self.logits.argmax(1)
        self.seeds = torch.where(torch.rand(labels.shape, device=labels.device) < 0.03, labels, 255)
        self.image = self.image.to(options.device)
        self.lattice = self.build()
        self.pool = ThreadPoolExecutor(options.threads)
        self.net = SMPNetwork("deeplabv3plus", "mobilenet_v2", None, 16).build(options.classes).to(options.device)

    def build(self) -> Lattice:
        return dense_crf_lattice(self.image, SIGMA_RGB, SIGMA_XY, SCALE)

    def worker_build(self) -> Lattice:
        """What one worker does for a batch."""
        small = functional.interpolate(self.image.cpu(), scale_factor=SCALE)
        return Lattice.build(bilateral_features(small, SIGMA_RGB, SIGMA_XY * SCALE), num_threads=1)

    def _minimize(self, dense: Callable[[Tensor], Tensor] | None) -> None:
        logits = self.logits.requires_grad_()
        loss = partial_cross_entropy(logits, self.seeds)
        if dense is not None:
            loss = loss + dense(logits)
        torch.autograd.grad(loss, logits)

    def pce(self) -> None:
        self._minimize(None)

    def step(self) -> None:
        self._minimize(lambda logits: dense_crf_loss(logits, self.image, WEIGHT, SIGMA_RGB, SIGMA_XY, SCALE))

    def workers(self) -> None:
        lattice = self.lattice
        self._minimize(lambda logits: dense_crf_loss(logits, self.image, WEIGHT, lattice=lattice))

    def rebuild(self) -> None:
        self._minimize(lambda logits: Rebuilt.apply(self._halved(logits), self._filter_one, self))

    def pydensecrf(self) -> None:
        self._minimize(lambda logits: Rebuilt.apply(self._halved(logits), self._pydensecrf_one, self))

    def network(self) -> None:
        loss = partial_cross_entropy(self.net(self.image), self.seeds)
        loss.backward()

    def _halved(self, logits: Tensor) -> Tensor:
        return functional.interpolate(logits.softmax(1), scale_factor=SCALE, mode="bilinear")

    def _filter_one(self, image: Tensor, probabilities: Tensor) -> Tensor:
        lattice = Lattice.build(bilateral_features(image[None], SIGMA_RGB, SIGMA_XY * SCALE), num_threads=1)
        return torch.cat([lattice.filter(plane[None, None])[0] for plane in probabilities])

    def _pydensecrf_one(self, image: Tensor, probabilities: Tensor) -> Tensor:
        from pydensecrf import densecrf

        classes, height, width = probabilities.shape
        field = densecrf.DenseCRF2D(width, height, classes)
        field.setUnaryEnergy(np.ascontiguousarray(-probabilities.log().flatten(1).numpy()))
        rgb = np.ascontiguousarray((image * 255).byte().permute(1, 2, 0).numpy())
        half = SIGMA_XY * SCALE
        field.addPairwiseBilateral(half, SIGMA_RGB, rgb, 1.0, normalization=densecrf.NO_NORMALIZATION)
        field.inference(1)
        return probabilities  # what it computes goes through a softmax: the time alone counts


class Rebuilt(torch.autograd.Function):
    """The layer that is compared with: to the host and back, image by image."""

    @staticmethod
    def forward(ctx, probabilities, filter_one, problem):
        host = probabilities.cpu()
        small = functional.interpolate(problem.image.cpu(), scale_factor=SCALE)
        threaded = filter_one == problem._filter_one
        mapped = problem.pool.map(filter_one, small, host) if threaded else map(filter_one, small, host)
        filtered = torch.stack(list(mapped)).to(probabilities.device)
        ctx.save_for_backward(filtered)
        return -WEIGHT / len(host) * (probabilities * filtered).sum()

    @staticmethod
    def backward(ctx, gradient):
        (filtered,) = ctx.saved_tensors
        return -2 * WEIGHT / len(filtered) * gradient * filtered, None, None


def photographs(root: Path, count: int) -> list[Path]:
    """Photographs evenly spread over a folder."""
    found = sorted([*root.glob("*.jpg"), *root.glob("*/*.JPEG")])
    if len(found) < count:
        raise FileNotFoundError(f"{root} holds {len(found)} photographs, {count} are needed")
    return found[:: len(found) // count][:count]


def crop(path: Path, size: int) -> Tensor:
    """The middle of a photograph, enlarged as far as it has to be, float ``(3, size, size)``."""
    pixels = cut(Image.open(path).convert("RGB"), (size, size), Image.Resampling.BICUBIC)
    return pixels.permute(2, 0, 1).float() / 255


def measure(run: Callable[[], object], device: str) -> float:
    """Milliseconds of one call."""
    with Clock() as clock:
        run()
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
    return 1000 * clock.wall


def main() -> None:
    """Run all in turn and print medians, and what each adds to pCE."""
    parser = command_line(__doc__)
    parser.add_argument("--root", type=Path, required=True, help="folder of photographs")
    parser.add_argument("--crop", type=int, default=513)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--classes", type=int, default=21)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pydensecrf", action="store_true", help="another opponent; the package is needed")
    parser.add_argument("--network", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    problem = Problem(options)
    names = ["pce", "step", "workers", "rebuild", "worker_build"]
    names += [name for name in ("pydensecrf", "network") if getattr(options, name)]
    runs = {name: partial(measure, getattr(problem, name), options.device) for name in names}
    medians = {name: median(spent) for name, spent in interleaved(runs, options.repeats, warm_up=1).items()}
    print(f"{options.batch} crops of {options.crop}, {options.classes} classes, {options.threads} threads, ", end="")
    print(f"{options.device}, {machine()}, medians of {options.repeats} in turn, ms per batch")
    for name, value in medians.items():
        added = "" if name in ("pce", "worker_build", "network") else f"  adds {value - medians['pce']:8.0f}"
        print(f"{name:14s}{value:8.0f}{added}")


if __name__ == "__main__":
    main()
