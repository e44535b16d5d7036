"""A plain alpha-expansion with PyMaxflow's grid graphs, as one would write it in an afternoon."""

import maxflow
import numpy as np
from numpy.typing import NDArray

from weakseg_lightning.energies import neighbor_offsets


def expansion(data: NDArray[np.int64], edges: NDArray[np.int64], sweeps: int) -> NDArray[np.int64]:
    """Minimize a grid Potts energy from the cheapest labels.

    Args:
        data: costs of the labels, ``(L, H, W)``.
        edges: weights of the forward edges, ``(E, H, W)``, 0 where there is none.
        sweeps: at most so many passes over the labels.

    Returns:
        Labels ``(H, W)``.
    """
    labels = data.argmin(0)
    idle = 0
    for alpha in list(range(len(data))) * sweeps:
        took = _move(labels, alpha, data, edges)
        labels = np.where(took, alpha, labels)
        idle = 0 if took.any() else idle + 1
        if idle == len(data):
            break
    return labels


def _move(
    labels: NDArray[np.int64], alpha: int, data: NDArray[np.int64], edges: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Which pixels take alpha in the best move.

    An edge costs A where both ends keep their labels, B where the second takes alpha, C where the first does, nothing
    where both do. That is A + (C - A) x_p - C x_q + (B + C - A) (1 - x_p) x_q.
    """
    keep = np.take_along_axis(data, labels[None], 0)[0]
    take = data[alpha].copy()
    graph = maxflow.Graph[int](labels.size, labels.size * len(edges))
    nodes = graph.add_grid_nodes(labels.shape)
    for weights, (dy, dx) in zip(edges, neighbor_offsets(8 if len(edges) == 4 else 4), strict=True):
        other = np.roll(labels, (-dy, -dx), (0, 1))
        both = weights * (labels != other)
        first, second = weights * (other != alpha), weights * (labels != alpha)  # C: p takes alpha, B: q does
        take += first - both
        take -= np.roll(first, (dy, dx), (0, 1))
        structure = np.zeros((3, 3), dtype=np.int64)
        structure[1 + dy, 1 + dx] = 1
        graph.add_grid_edges(nodes, first + second - both, structure=structure, symmetric=False)
    graph.add_grid_tedges(nodes, np.maximum(take - keep, 0), np.maximum(keep - take, 0))
    graph.maxflow()
    taken: NDArray[np.bool_] = graph.get_grid_segments(nodes) & (labels != alpha)
    return taken
