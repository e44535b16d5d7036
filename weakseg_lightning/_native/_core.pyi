import numpy as np
from numpy.typing import NDArray

class PottsBatch:
    """The grid Potts energies of a batch of images; the labels of all images one after the other."""

    def __init__(
        self,
        *,
        scores: NDArray[np.float32],
        zero: NDArray[np.float32],
        slope: float,
        planes: NDArray[np.int32],
        names: NDArray[np.uint8],
        num_labels: NDArray[np.int32],
        edges: NDArray[np.float32],
        seeds: NDArray[np.uint8],
        valid: NDArray[np.uint8],
        initial: NDArray[np.uint8],
    ) -> None: ...

def expand(
    batch: PottsBatch, max_sweeps: int, from_blocks: bool, num_threads: int
) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.int32]]:
    """Alpha-expansion on the images of a batch; returns labels, energies and status. Without sweeps, the start."""

def potts_weights(
    image: NDArray[np.float32],
    valid: NDArray[np.uint8],
    weight: float,
    normalize: bool,
    weights: NDArray[np.float32],
    num_threads: int,
) -> None:
    """Potts weights of all edges of a batch of images; writes `weights`, 2 or 4 planes an image."""

def split_softmax(
    scores: NDArray[np.float32],
    valid: NDArray[np.uint8],
    best: NDArray[np.float32],
    logarithms: NDArray[np.float64],
    num_threads: int,
) -> None:
    """Best score of every pixel, and for each image the sum of log(sum_k exp(score_k - best)) over its valid pixels."""

def read_labels(
    labels: NDArray[np.int64] | NDArray[np.int32] | NDArray[np.uint8],
    classes: int,
    bytes: NDArray[np.uint8],
) -> bool:
    """Write a map in bytes; tell whether it holds nothing but classes and 255."""

def find_labels(labels: NDArray[np.uint8], valid: NDArray[np.uint8], present: NDArray[np.uint8]) -> None:
    """Set `present` (B, 256) to 1 for the labels of each image's valid pixels, 255 aside."""

def box_quadratic(
    gradient: NDArray[np.float64],
    hessian: NDArray[np.float64],
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
    step: NDArray[np.float64],
) -> None:
    """Maximise ``gradient d - d hessian d / 2`` in the box for each image ``(B, C)``; writes `step`."""

def newton_direction(
    target: NDArray[np.float64],
    least: NDArray[np.float64],
    span: NDArray[np.float64],
    upper: NDArray[np.float64],
    softness: NDArray[np.float64],
    point: NDArray[np.float64],
    gradient: NDArray[np.float64],
    hessian: NDArray[np.float64],
    margin: float,
    step: NDArray[np.float64],
    slope: NDArray[np.float64],
) -> None:
    """Ascent directions of Newton's method on the duals of a batch; writes `step` ``(B, C)`` and `slope` ``(B,)``."""

def label_moments(
    odds: NDArray[np.float32], weights: NDArray[np.float64], sums: NDArray[np.float64], num_threads: int
) -> None:
    """Sums over the pixels of products of classes, and of each class; writes `sums` ``(B, K, K + 1)``."""

def build_lattices(
    features: NDArray[np.float32],
    valid: NDArray[np.uint8],
    vertices: NDArray[np.int32],
    weights: NDArray[np.float32],
    num_threads: int,
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Permutohedral lattices of a batch ``(B, D, N)``; writes `vertices` and `weights` ``(B, N, D + 1)``.

    Returns neighbours ``(V, D + 1, 2)`` and the first vertex of each image ``(B + 1,)``.
    """

def filter_lattices(
    vertices: NDArray[np.int32],
    weights: NDArray[np.float32],
    neighbors: NDArray[np.int32],
    starts: NDArray[np.int64],
    values: NDArray[np.float32],
    blur: int,
    filtered: NDArray[np.float32],
    num_threads: int,
) -> None:
    """Gaussian sums over the pixels; `blur`: 0 forward, 1 its adjoint, 2 the mean of both; writes `filtered`."""

Kernel = tuple[
    NDArray[np.int32],
    NDArray[np.float32],
    NDArray[np.int32],
    NDArray[np.int64],
    NDArray[np.float32],
    NDArray[np.float32],
]

def mean_field(
    scores: NDArray[np.float32],
    initial: NDArray[np.uint8],
    kernels: list[Kernel],
    iterations: int,
    probabilities: NDArray[np.float32],
    changed: NDArray[np.int64],
    watched: bool,
    num_threads: int,
) -> None:
    """Mean field from the classes `initial` (255: softmax); a kernel: a lattice, and factors before and after it.

    Writes `probabilities` and, where `watched`, `changed`: pixels whose best class the last iteration changed.
    """
