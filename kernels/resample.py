"""A small matrix applied along one axis of an array: interpolation and averages over uneven windows.

y[..., i, ...] = sum over j of  matrix[i, j] x[..., j, ...]. The adjoint applies the transposed matrix. The
matrices are mostly zeros, but up to a few hundred pixels a dense product at BLAS speed costs less than
gathering the few that count.
"""

from __future__ import annotations

import math

from scratchgan.backend import kept, xp
from scratchgan.kernels.blocks import over
from scratchgan.kernels.product import matmul


def along(x, matrix, axis: int):
    """`matrix` (P, n), an array on the host, applied along an axis of n elements, which becomes P; keeps x's
    memory order.

    The first axis is the batch, and not the one to be changed.
    """
    y = empty_as(x, (*x.shape[:axis], matrix.shape[0], *x.shape[axis + 1 :]))
    matrix = kept(matrix, x)

    def work(_, images):
        y[images] = product(matrix, x[images], axis)

    over(x if x.size > y.size else y, work)
    return y


def product(matrix, x, axis: int):
    """`matrix` (P, n) times x along an axis: matrix products of the longest runs of memory there are."""
    order = sorted(range(x.ndim), key=lambda i: -abs(x.strides[i]))
    place = order.index(axis)
    sizes = [x.shape[i] for i in order]
    inner = math.prod(sizes[place + 1 :])
    x = x.transpose(order)
    if inner == 1:
        y = matmul(x.reshape(-1, sizes[place]), matrix.T)
    else:
        y = matmul(matrix, x.reshape(-1, sizes[place], inner))
    sizes[place] = matrix.shape[0]
    return y.reshape(sizes).transpose([order.index(i) for i in range(len(sizes))])


def empty_as(x, shape: tuple[int, ...]):
    """A new array of x's dtype and memory order with another shape."""
    return xp(x).empty_like(x, shape=shape)
