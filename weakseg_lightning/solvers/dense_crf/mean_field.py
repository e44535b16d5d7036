"""Mean field in the dense CRF: refinement of predictions, and latent labelings."""

import time
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from weakseg_lightning._native import _core
from weakseg_lightning.devices import to_device, to_host
from weakseg_lightning.energies.lattice import Lattice
from weakseg_lightning.energies.potts import VOID
from weakseg_lightning.solvers.base import Refinement, Solver, SolverResult
from weakseg_lightning.solvers.dense_crf.parameters import DenseCRFParameters, Normalization
from weakseg_lightning.solvers.problem import Problem
from weakseg_lightning.solvers.threads import check_num_threads, default_num_threads

_NEVER = -1e30  # the score of a class that a pixel cannot take
_LARGEST_FEATURE = 1000.0  # lattices number their vertices in 16 bits


@dataclass(frozen=True)
class MeanField(DenseCRFParameters, Solver, Refinement):
    """Mean field in a fully connected conditional random field, in compiled code.

    The energy of a labeling x of an image is

        ``E(x) = - sum_p log softmax(logits_p)[x_p] + sum_{p < q} [x_p != x_q] k(p, q)``, with
        ``k(p, q) = w_s exp(-|p - q|^2 / (2 s_s^2)) + w_b exp(-|p - q|^2 / (2 s_xy^2) - |I_p - I_q|^2 / (2 s_rgb^2))``

    where p, q are positions in pixels, I colors in 0..255, and each of the two Gaussians is normalized, by default as
    ``D^-1/2 K D^-1/2`` with D the sums of its rows. Sums over all pixels are approximated on a permutohedral lattice,
    and contain the pixel itself.

    As a refinement, it replaces ``exp(-E(x))`` by a product of independent pixels and returns their distributions. As
    a solver, it returns the most probable class of each pixel: seeds keep their class in every iteration, classes
    outside of the label set have probability 0, and pixels with an initial label start in it for certain.

    What is guaranteed: the probabilities of pydensecrf to within 1e-3, whatever ``num_threads``, where the number of
    pixels is a multiple of 4. Elsewhere pydensecrf fills up its last block of 4 with black pixels at the origin. Where
    pixels of the image are near these in space and color, its probabilities are off, in some images by 0.3 and more;
    those returned here are what it has without them. Nothing is guaranteed about the energy of a labeling: all pixels
    are updated at once, so that it may even rise; `converged` says that the last iteration changed no label. There is
    no lower bound.

    The default values are those that CCNN was evaluated with; it was also tuned on 100 validation images:
    ``spatial_sigma=19, spatial_weight=15, bilateral_sigma_xy=61, bilateral_sigma_rgb=10, bilateral_weight=35``
    (``recipes/refine/ccnn_tuned.yaml``). What is good for one network need not be for another: see
    ``weakseg crf-search``. As a latent solver of ADM, it usually has ``spatial_weight=0``.

    What it costs: time linear in pixels, classes and iterations, and up with the number of different colors; see
    tests/benchmarks/README.md for figures. Images of a batch run in parallel, without the GIL, on the CPU.

    The arguments before ``num_threads`` are those of `DenseCRFParameters`.

    Args:
        num_threads: threads for the images of a batch, >= 1; None = the process's CPU cores divided by the ranks on
            this machine; in training less one for each process that loads data, down to half of them.

    Raises:
        ValueError: if an argument is out of its range.

    References:
        Krähenbühl and Koltun, Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials, NIPS 2011.
        Adams, Baek and Davis, Fast High-Dimensional Filtering Using the Permutohedral Lattice, Eurographics 2010.
        Pathak, Krähenbühl and Darrell, Constrained Convolutional Neural Networks for Weakly Supervised Segmentation,
        ICCV 2015, section 6.

    Example:
        >>> logits = torch.tensor([[[[2.0, 0.1, 2.0]], [[0.0, 0.2, 0.0]]]])
        >>> MeanField().solve(logits, torch.zeros(1, 3, 1, 3)).labels
        tensor([[[0, 0, 0]]], dtype=torch.uint8)
    """

    num_threads: int | None = None

    label_set_on_host: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the arguments."""
        super().__post_init__()
        check_num_threads(self.num_threads)

    @override
    def _refine(self, scores: Tensor, image: Tensor, valid: Tensor) -> Tensor:
        inside, everywhere = valid.cpu(), bool(valid.all())
        given = scores.cpu() if everywhere else torch.where(inside[:, None], scores.cpu(), 0.0)
        found = self._infer(given, self._kernels(image.cpu(), inside))[0].to(scores.device)  # the core normalizes them
        return found if everywhere else torch.where(valid[:, None], found, scores.softmax(1))

    @override
    def _solve(self, scores: Tensor, image: Tensor, problem: Problem) -> SolverResult:
        began = time.perf_counter()
        device, start = scores.device, () if problem.initial is None else (problem.initial,)
        scores, image, seeds, valid, *initial = to_host(
            scores.log_softmax(1), image, problem.seeds, problem.valid, *start
        )
        problem.require_known(seeds, valid)
        problem = Problem(seeds, problem.known, valid, initial[0] if initial else None, problem.known)
        fetched = time.perf_counter()
        message = self._failures(scores, image, problem.valid)
        usable = problem.valid & torch.tensor([not text for text in message])[:, None, None]
        kernels = self._kernels(image, usable)
        used = _compress(torch.where(usable[:, None], scores, 0.0), problem)
        found, changed = self._infer(used.scores, kernels, used.initial)
        places = torch.where(usable, found.argmax(1), 0)
        pairwise = sum(
            (kernel.pairwise(places, found.shape[1]) for kernel in kernels), torch.zeros(len(scores)).double()
        )
        labels = used.names.gather(1, places.flatten(1)).view_as(places)
        unary = -torch.where(usable, scores.gather(1, labels[:, None])[:, 0], 0.0).double().sum((1, 2))
        failed = torch.tensor([bool(text) for text in message])
        solved = time.perf_counter()
        moved = to_device(torch.where(usable, labels, VOID).to(torch.uint8), device)
        return SolverResult(
            labels=moved,
            unary=torch.where(failed, torch.nan, unary),
            pairwise=torch.where(failed, torch.nan, pairwise),
            sweeps=torch.full_like(changed, self.iterations).masked_fill(failed, 0),
            converged=(changed == 0) & ~failed & (self.iterations > 0),
            lower_bound=torch.full_like(unary, torch.nan),
            message=message,
            transfer_seconds=fetched - began + time.perf_counter() - solved,
        )

    def _kernels(self, image: Tensor, valid: Tensor) -> list["_Kernel"]:
        threads = self.num_threads or default_num_threads()
        return [
            _Kernel.build(Lattice.build(features, valid, threads), weight, valid, self.normalization)
            for weight, features in self.weighted_features(image, valid)
        ]

    def _infer(self, scores: Tensor, kernels: list["_Kernel"], initial: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Probabilities ``(B, K, H, W)`` and, given a start, how many pixels the last iteration changed ``(B,)``."""
        probabilities = torch.empty(scores.shape, dtype=torch.float32)
        changed = torch.zeros(len(scores), dtype=torch.int64)
        start = torch.full_like(scores[:, 0], VOID, dtype=torch.uint8) if initial is None else initial
        _core.mean_field(
            scores=scores.flatten(2).contiguous().numpy(),
            initial=start.flatten(1).contiguous().numpy(),
            kernels=[kernel.arrays() for kernel in kernels],
            iterations=self.iterations,
            probabilities=probabilities.flatten(2).numpy(),
            changed=changed.numpy(),
            watched=initial is not None,
            num_threads=self.num_threads or default_num_threads(),
        )
        return probabilities, changed

    def _failures(self, scores: Tensor, image: Tensor, valid: Tensor) -> tuple[str, ...]:
        """The reason why an image cannot be solved, empty for those that can."""
        texts = [""] * len(scores)
        for b, inside in enumerate(valid):
            if not scores[b][:, inside].isfinite().all():
                texts[b] = "`logits` hold nan or infinite values"
            elif not image[b][:, inside].isfinite().all():
                texts[b] = "`image` holds nan or infinite values"
            elif any(f.abs().amax() > _LARGEST_FEATURE for _, f in self.weighted_features(image[[b]], inside[None])):
                texts[b] = f"`image` has colors or sizes of more than {_LARGEST_FEATURE:g} sigmas: take larger ones"
        return tuple(texts)


@dataclass(frozen=True)
class _Kernel:
    """One of the Gaussians, normalized and weighted: its lattice, with a factor per pixel before and after it."""

    lattice: Lattice
    before: Tensor  # (B, H, W)
    after: Tensor

    @classmethod
    def build(cls, lattice: Lattice, weight: float, valid: Tensor, normalization: Normalization) -> "_Kernel":
        sums = lattice.filter(valid[:, None].float())[:, 0]
        inside = valid.float()
        inverse = torch.where(sums > 0, 1 / sums, 0.0) if normalization != "none" else inside
        sides = {"symmetric": (inverse.sqrt(),) * 2, "before": (inverse, inside), "after": (inside, inverse)}
        before, after = sides.get(normalization, (inside, inside))
        return cls(lattice, before, weight * after)

    def arrays(
        self,
    ) -> tuple[
        NDArray[np.int32],
        NDArray[np.float32],
        NDArray[np.int32],
        NDArray[np.int64],
        NDArray[np.float32],
        NDArray[np.float32],
    ]:
        factors = (self.before.flatten(1), self.lattice.scale * self.after.flatten(1))
        return (*self.lattice.arrays(), *(factor.contiguous().numpy() for factor in factors))

    def pairwise(self, labels: Tensor, classes: int) -> Tensor:
        """Sum over the pairs of pixels with different labels ``(B, H, W)``, float64 ``(B,)``."""
        members = torch.nn.functional.one_hot(labels, classes).permute(0, 3, 1, 2) * self.before[:, None]
        sums = self.lattice.filter(members) * self.after[:, None]
        others = sums.sum(1).double() - sums.gather(1, labels[:, None])[:, 0].double()
        return others.sum((1, 2)) / 2


@dataclass(frozen=True)
class _Used:
    """Scores of the classes that each image may use, and of nothing else.

    Args:
        scores: ``(B, L, H, W)``, L the most that an image of the batch may use.
        names: their classes, int64 ``(B, L)``.
        initial: the place among them that a pixel starts in, uint8 ``(B, H, W)``, 255 where it is not given.
    """

    scores: Tensor
    names: Tensor
    initial: Tensor


def _compress(scores: Tensor, problem: Problem) -> _Used:
    most = int(problem.allowed.sum(1).max())
    names = problem.allowed.byte().argsort(dim=1, descending=True, stable=True)[:, :most]
    used = scores.gather(1, names[:, :, None, None].expand(-1, -1, *scores.shape[2:]))
    usable = problem.allowed.gather(1, names)[:, :, None, None]
    free = (problem.seeds == VOID)[:, None] | (problem.seeds[:, None] == names[:, :, None, None])
    places = torch.full((len(names), VOID + 1), VOID, dtype=torch.uint8)
    numbers = torch.arange(most, dtype=torch.uint8).expand_as(names)
    places.scatter_(1, names, torch.where(problem.allowed.gather(1, names), numbers, VOID))
    initial = places.gather(1, torch.where(problem.seeds == VOID, problem.start(), problem.seeds).long().flatten(1))
    return _Used(torch.where(usable & free, used, _NEVER), names, initial.view_as(problem.seeds))
