"""Matrix products of arrays, shared out among threads.

BLAS itself runs one thread (see `backend.parallel`): its own threads, once woken, spin for some milliseconds after a
product, and take the processors from the threads that go on with the next op.
"""

from __future__ import annotations

import numpy as np

from scratchgan import blas
from scratchgan.backend import on_gpu, on_host, parallel
from scratchgan.kernels.conv import conv_nhwc
from scratchgan.kernels.dispatch import must_be_capturable
from scratchgan.kernels.geometry import Geometry

WORTH = 1 << 24  # multiplications from which on handing over pays; with 2^22 GAN on points takes 1.6 times as long
UNIT = 16  # rows or columns of the result that are not cut: those of BLAS's own tiles


def product(a, b):
    """a @ b for arrays of at least two axes; the axes before the last two broadcast."""
    if a.size * b.size < WORTH:  # no fewer than the multiplications
        return matmul(a, b)
    m, k, n = *a.shape[-2:], b.shape[-1]
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    many = m * k * n * (batch[0] if batch else 1) >= WORTH
    if not (on_host(a) and on_host(b) and many and len(batch) <= 1 and a.dtype == b.dtype and a.dtype.kind == "f"):
        return matmul(a, b)
    out = np.empty((*batch, m, n), dtype=a.dtype)
    if batch:
        a, b = (np.broadcast_to(x, (*batch, *x.shape[-2:])) for x in (a, b))
        parallel(batch[0], lambda part: blas.matmul(a[part], b[part], out=out[part]))
    elif m >= n:
        _by_units(m, lambda rows: blas.matmul(a[rows], b, out=out[rows]))
    else:
        _by_units(n, lambda columns: blas.matmul(a, b[:, columns], out=out[:, columns]))
    return out


def matmul(a, b):
    """a @ b in this thread by the array's own library, or by convolution where that would refuse, as CuPy refuses to
    call cuBLAS while a CUDA graph is captured: then the rows of a are pixels, the columns of b kernels of 1 x 1. That
    serves matrices, and (m, k) times (batch, k, n).

    The product is of the factors' dtype if they share one: of bfloat16 NumPy makes float32.
    """
    by_ours = must_be_capturable() and on_gpu(a)
    if by_ours and a.ndim == b.ndim == 2:
        return _by_convolution(a[None], b)[0]
    if by_ours and (a.ndim, b.ndim) == (2, 3):      # the transposed product: rows of b's transposes are pixels
        return _by_convolution(b.transpose(0, 2, 1), a.T).transpose(0, 2, 1)
    out = blas.matmul(a, b) if on_host(a) and on_host(b) else a @ b
    if out.dtype is not a.dtype and a.dtype == b.dtype:
        return out.astype(a.dtype, copy=False)
    return out


def _by_convolution(a, b):
    """a (batch, m, k) times b (k, n)."""
    size = (1, a.shape[1])
    geometry = Geometry(size, (1, 1), size, (1, 1), (0, 0), (1, 1), groups=1)
    return conv_nhwc(a[:, None], b.T[:, :, None, None], geometry)[:, 0]


def _by_units(count: int, work) -> None:
    """work(slice) on slices of range(count) that begin at multiples of UNIT."""
    parallel(-(-count // UNIT), lambda part: work(slice(part.start * UNIT, min(part.stop * UNIT, count))))
