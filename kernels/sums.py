"""Sums of arrays over any axes; those of large host arrays by BLAS.

A sum is a product with ones. OpenBLAS's matrix-vector products read memory at 0.1 ns a number, NumPy's `sum` at
0.15 to 2 ns, depending on the axes. Rows of at most PIECE numbers are added in float32 or float64, as the array
has them, and these sums in float64, so that rounding stays within a few units in the last place of the sum of
absolute values.

    x in memory order, R an axis that is summed over, K one that is kept:
    K R  and  R    rows of numbers:   x 1
    R K            rows of vectors:   1^T x, PIECE rows at a time
    R K R          both, one after the other

Where the memory is cut does not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

import numpy as np

from scratchgan.backend import on_host, parallel
from scratchgan.kernels.dispatch import kernel

LARGE = 1 << 17  # numbers from which on this is faster than NumPy's sum
SHARED = 1 << 22  # and those from which on it pays to wake other threads: at 0.06 ns a number, 35 us are 500,000
PIECE = 1 << 10
BY_BLAS = (np.float32, np.float64)


@kernel
def total(x, axis: tuple[int, ...], keepdims: bool = False):
    """x.sum(axis=axis, keepdims=keepdims)."""
    if on_host(x) and x.size >= LARGE and x.dtype.type in BY_BLAS and axis:
        found = _by_blas(x, axis)
        if found is not None:
            kept = tuple(1 if i in axis else n for i, n in enumerate(x.shape))
            found = found.reshape(kept)
            return found if keepdims else found.squeeze(axis)
    return x.sum(axis=axis, keepdims=keepdims)


def _by_blas(x: np.ndarray, axis: tuple[int, ...]) -> np.ndarray | None:
    """The sums, in the order of those axes of x that are kept; None for memory that is no run, or alternates
    more often."""
    order = sorted(range(x.ndim), key=lambda i: (-abs(x.strides[i]), i))
    a = x.transpose(order)
    if not a.flags.c_contiguous:
        return None
    groups = [(summed, list(run)) for summed, run in groupby(order, lambda i: i in axis)]
    pattern = "".join("R" if summed else "K" for summed, _ in groups)
    if pattern not in ("R", "KR", "RK", "RKR"):
        return None
    kept = [i for summed, run in groups for i in run if not summed]
    if pattern == "R":
        cut = a.size - a.size % PIECE
        pieces, rest = np.split(a.reshape(-1), [cut])
        return (_of_rows(pieces.reshape(-1, PIECE)).sum(dtype=np.float64) + rest.sum()).astype(x.dtype)
    sizes = [int(np.prod([x.shape[i] for i in run])) for _, run in groups]
    sums = a.reshape(sizes)
    if pattern != "RK":
        sums = _of_rows(sums.reshape(-1, sizes[-1])).reshape(sizes[:-1])
    if pattern != "KR":
        sums = _of_columns(sums)
    return sums.reshape([x.shape[i] for i in kept]).transpose(np.argsort(kept))


def _of_rows(a: np.ndarray) -> np.ndarray:
    """The sum of each row of a (M, N)."""
    ones, out = np.ones(a.shape[1], a.dtype), np.empty(len(a), a.dtype)

    def work(part: slice) -> None:
        np.matmul(a[part], ones, out=out[part])

    _shared(a, len(a), work)
    return out


def _of_columns(a: np.ndarray) -> np.ndarray:
    """The sum of each column of a (M, N)."""
    pieces, rest = divmod(len(a), PIECE)
    parts = np.empty((pieces + (rest > 0), a.shape[1]), a.dtype)
    ones = np.ones(PIECE, a.dtype)

    def work(part: slice) -> None:
        for i in range(part.start, part.stop):
            rows = a[i * PIECE:(i + 1) * PIECE]
            np.matmul(ones[:len(rows)], rows, out=parts[i])

    _shared(a, len(parts), work)
    return parts.sum(axis=0, dtype=np.float64).astype(a.dtype)


def _shared(a: np.ndarray, n: int, work: Callable[[slice], None]) -> None:
    """`work` on slices that cover range(n), on all threads where a is large."""
    if a.size >= SHARED:
        parallel(n, work)
    else:
        work(slice(0, n))
