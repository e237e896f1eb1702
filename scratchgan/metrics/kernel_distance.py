"""Kernel distance of features, KID when they are Inception's.

Binkowski, Sutherland, Arbel and Gretton, "Demystifying MMD GANs" (arXiv 1801.01401, section 4); the unbiased
estimator: Gretton et al., "A kernel two-sample test" (JMLR 2012, eq. 3).
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from scratchgan.data.seeds import generator
from scratchgan.metrics.checks import check_alike, check_features
from scratchgan.metrics.collected import FeatureMetric
from scratchgan.metrics.metric import Setting

SIZE, SUBSETS = 1000, 10    # the paper's size of a subset; the least number of them that tells their spread
BLOCK = 256                 # rows of the kernel matrix at a time


def squared_mmd(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased estimate of the squared maximum mean discrepancy, for the kernel k(x, y) = (x.y / D + 1)^3:

        1/(m(m-1)) sum_{i != j} k(x_i, x_j) + 1/(n(n-1)) sum_{i != j} k(y_i, y_j) - 2/(mn) sum_{ij} k(x_i,
        y_j)

    x: (m, D). y: (n, D). Below 0 about every other time where the distributions are equal.
    Raises ValueError for other shapes, NaN, infinity, and m or n below 2.
    """
    x, y = _checked("squared_mmd", x, y, 2)
    m, n = len(x), len(y)
    cross = sum(block.sum() for block in _kernel(x, y))
    return float(_sum_of_pairs(x) / (m * (m - 1)) + _sum_of_pairs(y) / (n * (n - 1)) - 2 * cross / (m * n))


def kernel_distance(
    x: np.ndarray, y: np.ndarray, size: int | None = None, seed: int = 0
) -> tuple[float, float]:
    """(KID, its standard error): mean of `squared_mmd` over subsets, and their standard deviation /
    sqrt(count).

    x: (N, D). y: (M, D). size: of a subset; None takes the paper's 1,000, less where there would be fewer
    than 10 subsets. Unbiased whatever the size and the count.
    The subsets are disjoint, drawn by the seed, as many as the smaller side fills: independent, which is what
    makes the standard error one. (The paper draws 100 that overlap: the same mean, but a spread that tells
    nothing of how it would differ for other samples.)
    Raises ValueError for other shapes, NaN, infinity, a size below 2, and samples for fewer than two subsets.
    """
    x, y = _checked("kernel_distance", x, y, 4)
    few = min(len(x), len(y))
    if size is None:
        size = max(2, min(SIZE, few // SUBSETS))
    if not 2 <= size <= few // 2:
        raise ValueError(f"kernel_distance: subsets of size {size}, "
                         f"expected 2 to {few // 2} for {few} samples")
    random = generator(seed, "kid")
    parts = zip(_subsets(x, size, random), _subsets(y, size, random))
    values = [squared_mmd(a, b) for a, b in parts]
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))


def _subsets(x: np.ndarray, size: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    order = random.permutation(len(x))
    return (x[order[i:i + size]] for i in range(0, len(x) - size + 1, size))


def _sum_of_pairs(x: np.ndarray) -> float:
    """Sum of k(x_i, x_j) over i != j. The kernel is symmetric: blocks above the diagonal count twice."""
    total = 0.0
    for i in range(0, len(x), BLOCK):
        block = next(_kernel(x[i:i + BLOCK], x[i:]))
        own = block[:, :len(block)]
        total += 2 * block.sum() - own.sum() - np.trace(own)
    return total


def _kernel(x: np.ndarray, y: np.ndarray) -> Iterator[np.ndarray]:
    """Rows of the kernel matrix, a block at a time, in float64: the differences are small beside the
    values."""
    scaled = y.astype(np.float64).T / x.shape[1]
    for i in range(0, len(x), BLOCK):
        base = x[i:i + BLOCK].astype(np.float64) @ scaled
        base += 1
        cube = base * base
        cube *= base
        yield cube


def _checked(function: str, x: np.ndarray, y: np.ndarray, least: int) -> tuple[np.ndarray, np.ndarray]:
    x, y = check_features(function, "x", x), check_features(function, "y", y)
    check_alike(function, x, y)
    if min(len(x), len(y)) < least:
        raise ValueError(f"{function}: {len(x)} rows of x and {len(y)} of y, "
                         f"expected at least {least} of each")
    return x, y


class KernelDistance(FeatureMetric):
    """KID of features: `kid`, whose expectation is 0 for equal distributions, and `kid_se`, its standard
    error.

    Not biased in the number of samples; needs four of each side.
    """

    name = "kid"
    figures: ClassVar = {"kid": "lower", "kid_se": ""}

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.seed = seed

    @classmethod
    def create(cls, setting: Setting) -> KernelDistance:
        return cls(setting.seed)

    def compute(self) -> dict[str, float]:
        distance, error = kernel_distance(self.rows("real", 4), self.rows("fake", 4), seed=self.seed)
        return {"kid": distance, "kid_se": error}
