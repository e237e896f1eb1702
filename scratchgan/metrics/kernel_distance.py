"""Kernel distance of features, KID when they are Inception's.

Binkowski, Sutherland, Arbel and Gretton, "Demystifying MMD GANs" (arXiv 1801.01401, section 4); the unbiased
estimator: Gretton et al., "A kernel two-sample test" (JMLR 2012, eq. 3).
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from scratchgan import backend
from scratchgan.data.seeds import generator
from scratchgan.metrics.checks import check_alike, check_features
from scratchgan.metrics.collected import FeatureMetric
from scratchgan.metrics.metric import Setting

SIZE, SUBSETS = 1000, 10    # the paper's size of a subset; the least number of them that tells their spread
BLOCK, COLUMNS = 200, 1000  # of the kernel matrix at a time: 800 kB
ROWS = 512                  # turned into factors at a time, in the cache


def squared_mmd(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased estimate of the squared maximum mean discrepancy, for the kernel k(x, y) = (x.y / D + 1)^3:

        mean of k(x_i, x_j) over i != j  +  mean of k(y_i, y_j) over i != j  -  2 mean of k(x_i, y_j)

    x: (m, D). y: (n, D). Below 0 about every other time where the distributions are equal. Values of the
    kernel are rounded to float32, without bias, and summed in float64: off by less than 1e-6 of the mean
    kernel, by some 1e-8 of it from 1,000 rows on.
    Raises ValueError for other shapes, NaN, infinity, and m or n below 2.
    """
    x, y = _checked("squared_mmd", x, y, 2)
    return _squared_mmd(*_sides(x, y))


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
    orders = [random.permutation(len(z)) for z in (x, y)]
    sides = _sides(x, y)
    values = np.empty(few // size)

    def run(part: slice) -> None:
        for i in range(part.start, part.stop):
            subset = slice(i * size, (i + 1) * size)
            values[i] = _squared_mmd(*(side.take(order[subset]) for side, order in zip(sides, orders)))

    backend.parallel(len(values), run)
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


@dataclass(frozen=True)
class _Side:
    """Rows x_i of one set as factors in float32: left_i.right_j = x_i.y_j / D + 1, for both sets in one
    frame.

    With x_i = c + z_i, x_i.y_j = z_i.w_j + (z_i.c + |c|^2 / 2) + (w_j.c + |c|^2 / 2). The brackets are as
    large as the means are, and each is kept as two float32 numbers, so that no bias comes in before the sum
    is rounded. own: k(x_i, x_i).
    """

    left: np.ndarray
    right: np.ndarray
    own: np.ndarray

    def take(self, rows: np.ndarray) -> _Side:
        return _Side(self.left[rows], self.right[rows], self.own[rows])


def _sides(x: np.ndarray, y: np.ndarray) -> tuple[_Side, _Side]:
    centre = y.mean(axis=0, dtype=np.float64).astype(np.result_type(x, y))
    return _side(x, centre), _side(y, centre)


def _side(x: np.ndarray, centre: np.ndarray) -> _Side:
    n, dimensions, mean = len(x), len(centre), centre.astype(np.float64)
    left, right = (np.ones((n, dimensions + 4), np.float32) for _ in range(2))
    own = np.empty(n)

    def fill(part: slice) -> None:
        for start in range(part.start, part.stop, ROWS):
            rows = slice(start, min(start + ROWS, part.stop))
            centred = x[rows] - centre
            bracket = (centred.astype(np.float64) @ mean + mean @ mean / 2) / dimensions + 0.5
            high = bracket.astype(np.float32)
            right[rows, :dimensions] = centred
            left[rows, :dimensions] = right[rows, :dimensions] / np.float32(dimensions)
            left[rows, dimensions] = right[rows, dimensions + 2] = high
            left[rows, dimensions + 1] = right[rows, dimensions + 3] = bracket - high
            own[rows] = (np.vecdot(x[rows], x[rows]).astype(np.float64) / dimensions + 1) ** 3

    backend.parallel(n, fill)
    return _Side(left, right, own)


def _squared_mmd(x: _Side, y: _Side) -> float:
    m, n = len(x.own), len(y.own)
    cross = _sum_of_blocks(m, lambda rows: _sum_of_kernel(x.left[rows], y.right))
    return _sum_of_pairs(x) / (m * (m - 1)) + _sum_of_pairs(y) / (n * (n - 1)) - 2 * cross / (m * n)


def _sum_of_pairs(x: _Side) -> float:
    """Sum of k(x_i, x_j) over i != j. The kernel is symmetric: what lies right of the diagonal counts
    twice."""
    def block(rows: slice) -> float:
        left = x.left[rows]
        return _sum_of_kernel(left, x.right[rows]) + 2 * _sum_of_kernel(left, x.right[rows.stop:])

    return _sum_of_blocks(len(x.own), block) - float(x.own.sum())


def _sum_of_blocks(n: int, block: Callable[[slice], float]) -> float:
    """Sum of block(rows) over range(n), blocks from both ends in turn, which shares a triangle out evenly."""
    starts = list(range(0, n, BLOCK))
    starts = [starts[i // 2 if i % 2 == 0 else -1 - i // 2] for i in range(len(starts))]
    sums = np.empty(len(starts))

    def run(part: slice) -> None:
        for i in range(part.start, part.stop):
            sums[i] = block(slice(starts[i], min(starts[i] + BLOCK, n)))

    backend.parallel(len(starts), run)
    return float(sums.sum())


def _sum_of_kernel(left: np.ndarray, right: np.ndarray) -> float:
    """Sum of (left_i.right_j)^3 over all i and j."""
    total = 0.0
    for j in range(0, len(right), COLUMNS):
        base = left @ right[j:j + COLUMNS].T
        total += float(np.vecdot(base * base, base).sum(dtype=np.float64))
    return total


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
