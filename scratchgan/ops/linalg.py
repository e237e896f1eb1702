"""Matrix products. A vector, and a batch of matrices times one matrix, are brought into these forms by
`functional.linalg`.
"""

from __future__ import annotations

from functools import partial

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


matmul.vjp(a=lambda g, b: matmul(g, swap(b)), b=lambda g, a: matmul(swap(a), g))
affine.vjp(
    x=lambda g, w: matmul(g, w),
    w=lambda g, x: matmul(swap(g), x),
    b=lambda g: sum(g, axis=(0,), keepdims=False),
)
