"""Compiled core of weakseg_lightning."""

from collections.abc import Sequence
from typing import Annotated, overload

import numpy
from numpy.typing import NDArray


class PottsBatch:
    """
    The grid Potts energies of a batch of B images of H x W pixels.

    Label k of an image costs a pixel `slope * (its plane of scores - zero)`. `planes` and `names`
    list the planes of `scores` (P, H, W) and the classes of all labels, those of the first image
    first; `num_labels` (B,) of them belong to each image. `seeds` and `initial` (B, H, W) hold
    classes, or 255; `valid` (B, H, W) is 0 on padding; `edges` are (B, 2 or 4, H, W).

    Volumes have slices of `slice` rows, which lie below one another in H. One more plane of edges joins each
    pixel to the one below it by `slice` rows; those between the last row of a slice and the next are 0.
    """

    def __init__(self, *, scores: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], zero: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], slope: float, planes: Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', device='cpu', writable=False)], names: Annotated[NDArray[numpy.uint8], dict(shape=(None,), order='C', device='cpu', writable=False)], num_labels: Annotated[NDArray[numpy.int32], dict(shape=(None,), order='C', device='cpu', writable=False)], edges: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None, None), order='C', device='cpu', writable=False)], seeds: Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], valid: Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], initial: Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], slice: int = 0) -> None: ...

def expand(batch: PottsBatch, max_sweeps: int, from_blocks: bool, num_threads: int) -> tuple[Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None))], Annotated[NDArray[numpy.float64], dict(shape=(None, None))], Annotated[NDArray[numpy.int32], dict(shape=(None, None))]]:
    """
    Run alpha-expansion on each image of a batch.

    Returns labels (B, H, W), 255 on padding and in images that failed; energies (B, 3): unary, pairwise, lower
    bound or nan; status (B, 3): sweeps, converged, failure (0 none, 1 scores, 2 edges not finite). With
    `max_sweeps` 0 the labels are those to start from.
    """

def soft_potts(batch: PottsBatch, link: int, relaxation: int, eta: float, tolerance: float, max_sweeps: int, probabilities: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None, None), order='C', device='cpu')], num_threads: int) -> tuple[Annotated[NDArray[numpy.float64], dict(shape=(None, None))], Annotated[NDArray[numpy.int32], dict(shape=(None, None))]]:
    """
    Find the soft labeling of each image of a batch for a link (0 collision, 1 cross-entropy, 2 reverse) and a
    relaxation (0 quadratic, 1 normalized, 2 log_quadratic, 3 bilinear, 4 collision, 5 collision_divergence).

    Writes to `probabilities` (B, K, H, W), of the images that succeed. Returns energies (B, 3): link,
    pairwise, gap; status (B, 3): sweeps, converged, failure as of `expand`.
    """

def potts_weights(image: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None, None), order='C', device='cpu', writable=False)], valid: Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], weight: float, normalize: bool, weights: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None, None), order='C', device='cpu')], num_threads: int) -> None:
    """
    Write to `weights` those of all edges of a batch, as `GridPotts.edge_weights` defines them.
    """

def split_softmax(scores: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None, None), order='C', device='cpu', writable=False)], valid: Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], best: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None), order='C', device='cpu')], logarithms: Annotated[NDArray[numpy.float64], dict(shape=(None,), order='C', device='cpu')], num_threads: int) -> None:
    """
    Write the best score of each pixel to `best`, and for each image the sum over its valid pixels of
    log(sum_k exp(score_k - best)) to `logarithms`.
    """

@overload
def read_labels(labels: Annotated[NDArray[numpy.int64], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], classes: int, bytes: Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None), order='C', device='cpu')]) -> bool: ...

@overload
def read_labels(labels: Annotated[NDArray[numpy.int32], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], classes: int, bytes: Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None), order='C', device='cpu')]) -> bool: ...

@overload
def read_labels(labels: Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], classes: int, bytes: Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None), order='C', device='cpu')]) -> bool:
    """
    Convert a label map to bytes; return whether it holds nothing but classes and 255.
    """

def find_labels(labels: Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], valid: Annotated[NDArray[numpy.uint8], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], present: Annotated[NDArray[numpy.uint8], dict(shape=(None, None), order='C', device='cpu')]) -> None:
    """
    Set `present` (B, 256) to 1 for the labels of the valid pixels of each image, except 255.
    """

def build_lattices(features: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], valid: Annotated[NDArray[numpy.uint8], dict(shape=(None, None), order='C', device='cpu', writable=False)], vertices: Annotated[NDArray[numpy.int32], dict(shape=(None, None, None), order='C', device='cpu')], weights: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None), order='C', device='cpu')], num_threads: int) -> tuple[Annotated[NDArray[numpy.int32], dict(shape=(None, None, None))], Annotated[NDArray[numpy.int64], dict(shape=(None,))]]:
    """
    Build the permutohedral lattices of a batch; write `vertices` and `weights` (B, N, D + 1).

    Returns the neighbors of each vertex (V, D + 1, 2) and the first vertex of each image (B + 1,).
    """

def filter_lattices(vertices: Annotated[NDArray[numpy.int32], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], weights: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], neighbors: Annotated[NDArray[numpy.int32], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], starts: Annotated[NDArray[numpy.int64], dict(shape=(None,), order='C', device='cpu', writable=False)], values: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], blur: int, filtered: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None), order='C', device='cpu')], num_threads: int) -> None:
    """
    Write to `filtered` the sums of `values` (B, C, N) over all pixels, weighted by the Gaussian of a lattice.

    `blur`: 0 forward, 1 adjoint, 2 the mean of both.
    """

def mean_field(scores: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], initial: Annotated[NDArray[numpy.uint8], dict(shape=(None, None), order='C', device='cpu', writable=False)], kernels: Sequence[tuple[Annotated[NDArray[numpy.int32], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], Annotated[NDArray[numpy.float32], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], Annotated[NDArray[numpy.int32], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], Annotated[NDArray[numpy.int64], dict(shape=(None,), order='C', device='cpu', writable=False)], Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)], Annotated[NDArray[numpy.float32], dict(shape=(None, None), order='C', device='cpu', writable=False)]]], iterations: int, probabilities: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None), order='C', device='cpu')], changed: Annotated[NDArray[numpy.int64], dict(shape=(None,), order='C', device='cpu')], watched: bool, num_threads: int) -> None:
    """
    Run mean field in a dense CRF; write `probabilities` (B, K, N).

    Each kernel holds vertices, weights, neighbors and starts of its lattices, and factors (B, N) of the
    messages before and after it. Pixels start in their class `initial`, or where that is 255 in the softmax of
    their scores. If `watched`, `changed` (B,) counts the pixels whose best class the last iteration changed.
    """

def box_quadratic(gradient: Annotated[NDArray[numpy.float64], dict(shape=(None, None), order='C', device='cpu', writable=False)], hessian: Annotated[NDArray[numpy.float64], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], lower: Annotated[NDArray[numpy.float64], dict(shape=(None, None), order='C', device='cpu', writable=False)], upper: Annotated[NDArray[numpy.float64], dict(shape=(None, None), order='C', device='cpu', writable=False)], step: Annotated[NDArray[numpy.float64], dict(shape=(None, None), order='C', device='cpu')]) -> None:
    """
    Maximise `gradient d - d hessian d / 2` in the box for each image of a batch; write `step` (B, C).
    """

def newton_direction(target: Annotated[NDArray[numpy.float64], dict(shape=(None, None), order='C', device='cpu', writable=False)], least: Annotated[NDArray[numpy.float64], dict(shape=(None, None), order='C', device='cpu', writable=False)], span: Annotated[NDArray[numpy.float64], dict(shape=(None, None), order='C', device='cpu', writable=False)], upper: Annotated[NDArray[numpy.float64], dict(shape=(None, None), order='C', device='cpu', writable=False)], softness: Annotated[NDArray[numpy.float64], dict(shape=(None,), order='C', device='cpu', writable=False)], point: Annotated[NDArray[numpy.float64], dict(shape=(None, None), order='C', device='cpu', writable=False)], gradient: Annotated[NDArray[numpy.float64], dict(shape=(None, None), order='C', device='cpu', writable=False)], hessian: Annotated[NDArray[numpy.float64], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], margin: float, step: Annotated[NDArray[numpy.float64], dict(shape=(None, None), order='C', device='cpu')], slope: Annotated[NDArray[numpy.float64], dict(shape=(None,), order='C', device='cpu')]) -> None:
    """
    Find ascent directions of Newton's method for the duals (`Dual`) of a batch; write `step` (B, C), and to
    `slope` (B,) the slopes along it.
    """

def label_moments(odds: Annotated[NDArray[numpy.float32], dict(shape=(None, None, None), order='C', device='cpu', writable=False)], weights: Annotated[NDArray[numpy.float64], dict(shape=(None, None), order='C', device='cpu', writable=False)], sums: Annotated[NDArray[numpy.float64], dict(shape=(None, None, None), order='C', device='cpu')], num_threads: int) -> None:
    """
    Sum over the pixels of the distributions `odds * weights / their sum` the products of all classes and, in
    the last column, each class; write `sums` (B, K, K + 1).
    """
