"""k-means by Lloyd's algorithm from a k-means++ start.

Lloyd 1982, "Least squares quantization in PCM"; Arthur and Vassilvitskii 2007, "k-means++: The advantages of
careful seeding".
"""
from __future__ import annotations

import numpy as np

from scratchgan.data.seeds import generator
from scratchgan.metrics.checks import check_features
from scratchgan.metrics.nearest import nearest_distances


def kmeans(x: np.ndarray, k: int, seed: int = 0, starts: int = 3, iterations: int = 100) -> np.ndarray:
    """Centres (k, D), float64, of x (N, D): a local minimum of the inertia sum_i min_j |x_i - c_j|^2, the
    best of several starts.

    A cell that runs empty takes the point that is farthest from its centre. No cell is empty at the end as
    long as x has k distinct rows; with fewer, centres coincide. Raises ValueError unless 1 <= k <= N.
    """
    x = check_features("kmeans", "x", x).astype(np.float64)
    if not 1 <= k <= len(x):
        raise ValueError(f"kmeans: found k = {k}, expected 1 to {len(x)}, the number of rows")
    random = generator(seed, "kmeans")
    found = [_lloyd(x, _plus_plus(x, k, random), iterations) for _ in range(starts)]
    return min(found, key=lambda centres: inertia(x, centres))


def cells(x: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Index (N,) of the centre nearest to each row of x (N, D)."""
    return nearest_distances(x, centres, 1)[1][:, 0]


def inertia(x: np.ndarray, centres: np.ndarray) -> float:
    """sum_i min_j |x_i - c_j|^2."""
    return float(np.sum(nearest_distances(x, centres, 1)[0] ** 2))


def _plus_plus(x: np.ndarray, k: int, random: np.random.Generator) -> np.ndarray:
    """Rows of x, each drawn with a probability in proportion to its squared distance to those before."""
    centres = x[random.integers(len(x))][None]
    squared = np.full(len(x), np.inf)
    while len(centres) < k:
        squared = np.minimum(squared, ((x - centres[-1]) ** 2).sum(axis=1))
        total = squared.sum()
        row = random.choice(len(x), p=squared / total) if total > 0 else random.integers(len(x))
        centres = np.vstack([centres, x[row]])
    return centres


def _lloyd(x: np.ndarray, centres: np.ndarray, iterations: int) -> np.ndarray:
    before = None
    for _ in range(iterations):
        distances, members = (a[:, 0] for a in nearest_distances(x, centres, 1))
        if before is not None and (members == before).all():
            break
        before = members
        centres = _means(x, members, distances, centres)
    return centres


def _means(x: np.ndarray, members: np.ndarray, distances: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Each cell's mean; what is farthest from its centre for an empty one."""
    counts = np.bincount(members, minlength=len(centres))
    sums = np.stack([np.bincount(members, column, minlength=len(centres)) for column in x.T], axis=1)
    empty = np.flatnonzero(counts == 0)
    moved = sums / np.maximum(counts, 1)[:, None]
    moved[empty] = x[np.argsort(-distances, kind="stable")[:len(empty)]]
    return moved
