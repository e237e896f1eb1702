"""Matrix products. A vector, and a batch of matrices times one matrix, are brought into these forms by
`functional.linalg`.
"""

from __future__ import annotations

from functools import partial

from numpy import ndarray

from scratchgan.kernels.product import product
from scratchgan.ops.reduce import sum
from scratchgan.ops.shape import swap
from scratchgan.tensor import Op


@partial(Op, broadcasts=True)
def matmul(a, b):
    """The products of the matrices in the last two axes; the axes before broadcast."""
    return product(a, b)


@Op
def affine(x, w, b):
    """x w^T + b for x of shape (n, k), w (m, k) and b (m,)."""
    out = product(x, w.T)
    out += b
    return out


def _product_with(g):
    """The op, or in a first-order sweep, where the cotangent g is an array, what it does to arrays."""
    return product if type(g) is ndarray else matmul


matmul.vjp(
    a=lambda g, b: _product_with(g)(g, swap(b)),
    b=lambda g, a: _product_with(g)(swap(a), g),
)
affine.vjp(
    x=lambda g, w: _product_with(g)(g, w),
    w=lambda g, x: _product_with(g)(swap(g), x),
    b=lambda g: sum(g, axis=(0,), keepdims=False),
)
