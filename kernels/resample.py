"""A small matrix applied along one axis of an array: interpolation and averages over uneven windows.

y[..., i, ...] = sum over j of  matrix[i, j] x[..., j, ...]. The adjoint applies the transposed matrix. The matrices are mostly
zeros, but up to a few hundred pixels a dense product at BLAS speed costs less than gathering the few that count.
"""
from __future__ import annotations

import math

from scratchgan.backend import on_host, parallel, xp


def along(x, matrix, axis: int):
    """`matrix` (P, n), an array on the host, applied along an axis of n elements, which becomes P; keeps x's memory order."""
    order = sorted(range(x.ndim), key=lambda i: -abs(x.strides[i]))
    place = order.index(axis)
    sizes = [x.shape[i] for i in order]
    outer, inner = math.prod(sizes[:place]), math.prod(sizes[place + 1:])
    rows = x.transpose(order).reshape(outer, sizes[place], inner)
    y = _product(xp(x).asarray(matrix, dtype=x.dtype), rows)
    sizes[place] = matrix.shape[0]
    return y.reshape(sizes).transpose([order.index(i) for i in range(x.ndim)])


def _product(matrix, rows):
    """matrix (P, n) times each of rows (outer, n, inner)."""
    m = xp(rows)
    outer, n, inner = rows.shape
    if inner == 1:
        return m.matmul(rows[:, :, 0], matrix.T)[:, :, None]
    if not on_host(rows):
        return m.matmul(matrix, rows)
    y = m.empty((outer, matrix.shape[0], inner), dtype=rows.dtype)

    def work(part: slice) -> None:
        m.matmul(matrix, rows[part], out=y[part])

    parallel(outer, work)
    return y
