"""Nearest neighbours and balls around samples, by blocks of rows: never all N x M distances at once.

One matrix product in float32 gives a block of squared distances, |x - y|^2 = |x|^2 - 2 x.y + |y|^2. What they
may be off by is known (Higham, "Accuracy and Stability of Numerical Algorithms", 2002, section 3.1): an
answer stands where rounding cannot have changed it, and the few rows where it could are computed again in
float64.
"""
from __future__ import annotations

from collections.abc import Callable

import numpy as np

from scratchgan import backend
from scratchgan.metrics.checks import check_alike, check_features

ENTRIES = 1 << 20       # distances in a block: 4 MB in float32, a core's share of the caches
SPARE = 4               # neighbours looked at beyond k, so that near ties seldom need float64
FAR = 1e30              # squared distance to what is no neighbour; coordinates are scaled to 1
GROUP = 32              # columns of a group in the search for the smallest


def nearest_distances(
    x: np.ndarray, y: np.ndarray, k: int, exclude_self: bool = False, block: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Euclidean distances (N, k), float64 and ascending, from each row of x (N, D) to its k nearest rows of y
    (M, D), and which rows these are: (N, k), int64.

    exclude_self: y is x, and no row is its own neighbour; an equal row is, at distance 0.
    block: rows of x at a time, None for as many as make ENTRIES distances.
    The distances are |x - y|, not the square root of the expanded square: 0 for equal rows. Which of several
    rows at equal distance is reported is left open.
    Raises ValueError for other shapes, for NaN or infinity, and for k outside [1, M], [1, M - 1] with
    exclude_self.
    """
    x, y = _checked("nearest_distances", x, y)
    if exclude_self and len(x) != len(y):
        raise ValueError("nearest_distances: exclude_self takes y equal to x, "
                         f"found {len(x)} and {len(y)} rows")
    most = len(y) - exclude_self
    if not 1 <= k <= most:
        raise ValueError(f"nearest_distances: found k = {k}, expected 1 to {most} for {len(y)} rows of y")
    distances, indices = np.empty((len(x), k)), np.empty((len(x), k), np.int64)
    count = min(k + SPARE, most)

    def search(rows: np.ndarray, squared: np.ndarray, bound: np.ndarray, unit: float) -> np.ndarray:
        if exclude_self:
            squared[np.arange(len(rows)), rows] = FAR
        found, reached = _smallest(squared, count)
        exact = _distances(x[rows], y, found)
        order = np.argsort(exact, axis=1, kind="stable")[:, :k]
        distances[rows] = np.take_along_axis(exact, order, axis=1)
        indices[rows] = np.take_along_axis(found, order, axis=1)
        if count == most:
            return np.zeros(len(rows), bool)
        # Whatever was not found is at least as far as `reached`, but for the rounding.
        return (distances[rows, -1] / unit) ** 2 > reached - bound

    _each_block(search, x, y, np.zeros(len(y)), block)
    return distances, indices


def count_balls(x: np.ndarray, y: np.ndarray, radii: np.ndarray, block: int | None = None) -> np.ndarray:
    """In how many of the balls {z: |z - y_j| <= radii_j}, j = 1..M, each row of x lies: (N,), int64.

    x: (N, D). y: (M, D). radii: (M,), at least 0. The balls are closed; a point whose squared distance is
    within float64's rounding of the squared radius counts as inside.
    Raises ValueError for other shapes, NaN, infinity and radii below 0.
    """
    x, y = _checked("count_balls", x, y)
    radii = np.asarray(radii, np.float64)
    if radii.shape != (len(y),) or not (radii >= 0).all() or not np.isfinite(radii).all():
        raise ValueError(f"count_balls: radii of shape {radii.shape}, "
                         f"expected {len(y)} finite ones of at least 0")
    counts = np.empty(len(x), np.int64)

    def count(rows: np.ndarray, margin: np.ndarray, bound: np.ndarray, unit: float) -> np.ndarray:
        bound = bound.astype(margin.dtype)[:, None]
        counts[rows] = _count(margin <= bound)
        return counts[rows] != _count(margin < -bound)

    _each_block(count, x, y, radii, block)
    return counts


def _checked(function: str, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y = check_features(function, "x", x), check_features(function, "y", y)
    check_alike(function, x, y)
    return x, y


def _each_block(work: Callable, x: np.ndarray, y: np.ndarray, radii: np.ndarray, block: int | None) -> None:
    """Hand blocks of |x_i - y_j|^2 - radii_j^2 to `work` in float32, then the rows that it is unsure of in
    float64.

    work(rows (B,), values (B, M'), bound (B,), unit): values are in units of unit^2 and off by at most bound;
    columns from M on are FAR. It returns which rows (B,) remain unsure; the answer for float64 is not asked
    for.
    """
    rows = np.arange(len(x))
    for dtype in (np.float32, np.float64):
        rows = _pass(work, rows, _expansion(x[rows], y, radii, dtype), block)
        if len(rows) == 0:
            return


def _pass(work: Callable, rows: np.ndarray, expansion: tuple, block: int | None) -> np.ndarray:
    """Hand all blocks of an expansion to `work`; those of `rows` that it is unsure of."""
    left, right, bound, unit = expansion
    unsure = np.zeros(len(rows), bool)
    size = block or max(1, ENTRIES // right.shape[1])

    def run(part: slice) -> None:
        for i in range(part.start, part.stop, size):
            some = slice(i, min(i + size, part.stop))
            unsure[some] = work(rows[some], left[some] @ right, bound[some], unit)

    backend.parallel(len(rows), run)
    return rows[unsure]


def _expansion(x: np.ndarray, y: np.ndarray, radii: np.ndarray, dtype: type) -> tuple:
    """(left, right, bound, unit): left @ right is (|x_i - y_j|^2 - radii_j^2) / unit^2, off by at most bound
    (N,).

    left has the rows (x, |x|^2, 1), right the columns (-2y, 1, |y|^2 - radii^2), both centred, since close
    pairs far from the origin are where the expansion loses its digits, and scaled, exactly, by a power of
    two.
    """
    wide = np.result_type(x, y, dtype)
    centre = y.mean(axis=0, dtype=np.float64).astype(wide)
    x, y = np.subtract(x, centre, dtype=wide), np.subtract(y, centre, dtype=wide)
    largest = max(abs(x).max(), abs(y).max(), radii.max())
    unit = float(np.ldexp(1.0, int(np.frexp(largest)[1])))
    x, y = ((z / wide.type(unit)).astype(dtype, copy=False) for z in (x, y))
    offset = (radii / unit) ** 2
    squares, others = _squares(x), _squares(y)
    left = np.column_stack([x, squares.astype(dtype), np.ones(len(x), dtype)])
    right = np.zeros((left.shape[1], -(-len(y) // GROUP) * GROUP), dtype)
    right[-1] = FAR
    right[:, :len(y)] = np.vstack([-2 * y.T, np.ones(len(y), dtype), others - offset])
    # A product of n terms is off by n roundings of the sum of their magnitudes; the rest is the coordinates'.
    roundings = 2 * (len(right) + 8)
    bound = roundings * np.finfo(dtype).eps / 2 * (squares + (others + offset).max())
    return left, right, bound, unit


def _squares(x: np.ndarray) -> np.ndarray:
    return np.einsum("ij,ij->i", x, x, dtype=np.float64)


def _smallest(values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns (B, count) of each row's smallest values, in no order, and the largest of these values (B,).

    Columns are dealt into groups. A group that holds one of the `count` smallest is among the `count` groups
    whose minima are smallest, so only those are searched.
    """
    width = values.shape[1] // GROUP
    if width <= count:
        columns = np.argpartition(values, count - 1, axis=1)[:, :count]
    else:
        minima = values.reshape(len(values), GROUP, width).min(axis=1)
        groups = np.argpartition(minima, count - 1, axis=1)[:, :count]
        members = (groups[:, :, None] + width * np.arange(GROUP)).reshape(len(values), -1)
        among = np.argpartition(np.take_along_axis(values, members, axis=1), count - 1, axis=1)[:, :count]
        columns = np.take_along_axis(members, among, axis=1)
    return columns, np.take_along_axis(values, columns, axis=1).max(axis=1)


def _count(truth: np.ndarray) -> np.ndarray:
    """How many are true in each row, (B,): np.count_nonzero along an axis makes integers of them first."""
    return np.bitwise_count(np.packbits(truth, axis=1).view(np.uint32)).sum(axis=1, dtype=np.int64)


def _distances(x: np.ndarray, y: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """|x_i - y_j| for j in columns[i], (B, count), in float64 without expansion."""
    difference = np.subtract(x[:, None], y[columns], dtype=np.float64)
    return np.sqrt(np.einsum("ikd,ikd->ik", difference, difference))
