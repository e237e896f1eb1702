"""Upsample by zeros, filter, downsample (Karras et al., StyleGAN, 2018-2021), on arrays.

Per axis, with a filter f of T taps, rates u and d, and p zeros in front (p < 0 crops),

    y[i] = sum over t with u | i d + t - p of  f[t] x[(i d + t - p) / u],          i = 0 ... size - 1,

zeros being read outside of x. The adjoint is the same function: u and d swap, the filter is reversed, p
becomes T - 1 - p. What an activation a f(y) makes of y (see `kernels/bias_act.py`) may be taken instead, in
the same pass over memory. Average pooling (a filter of ones, u = 1, d = stride) and nearest-neighbour
upsampling (u = factor) are special cases.

Along a row or a column of pixels a filter is a banded matrix, of which a dense product is faster than strided
slices up to some hundred pixels. So a filter f[r, s] = a[r] b[s] is two products, the one that makes x smaller
first; of one that is no such product each row is applied to the rows of pixels that it reaches. Two taps or fewer,
and longer rows, go tap by tap.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd

import numpy as np

from scratchgan.backend import kept
from scratchgan.kernels.bias_act import bias_act
from scratchgan.kernels.blocks import over
from scratchgan.kernels.dispatch import kernel
from scratchgan.kernels.resample import empty_as, product

Pair = tuple[int, int]
WIDE = 256  # pixels along an axis above which slices beat the dense product
FEW = 2  # taps up to which they always do


@kernel
def upfirdn2d(x, f, up: Pair, down: Pair, pad: Pair, size: Pair,
              activation: str = "linear", slope: float = 0.0, gain: float = 1.0):  # fmt: skip
    """x (N, C, H, W) filtered by f (R, S), rows of numbers on the host, gives y (N, C, *size) in x's memory
    order, or gain f(y) for the activation f of that name.

    The filter is applied as it is (correlation); pad counts rows at the top and columns at the left.
    """
    y = _filtered(x, f, up, down, pad, size)
    return y if (activation, gain) == ("linear", 1) else bias_act(y, None, 1, activation, slope, gain)


def _filtered(x, f, up: Pair, down: Pair, pad: Pair, size: Pair):
    if max(len(f), len(f[0])) <= FEW or max(*x.shape[2:], *size) > WIDE:
        return _tap_by_tap(x, f, up, down, pad, size)
    f, axes = tuple(map(tuple, f)), tuple(zip(up, down, pad, x.shape[2:], size))
    factors = _factors(f)
    return _as_products(x, *factors, axes, size) if factors else _row_by_row(x, f, axes, size)


def _as_products(x, a, b, axes, size: Pair):
    """The filter a[r] b[s] as a banded matrix for each axis."""
    y = empty_as(x, (*x.shape[:2], *size))
    vertical, horizontal = (kept(_banded(taps, *axis, x.dtype), x) for taps, axis in zip((a, b), axes))
    steps = [(vertical, 2), (horizontal, 3)]
    if size[0] >= x.shape[2]:
        steps.reverse()

    def work(_, images):
        (first, axis), (second, other) = steps
        y[images] = product(second, product(first, x[images], axis), other)

    over(x if x.size > y.size else y, work)
    return y


def _row_by_row(x, f, axes, size: Pair):
    """Each row of the filter as a banded matrix, applied to the rows of pixels that it reaches."""
    y = empty_as(x, (*x.shape[:2], *size))
    matrices = [kept(_banded(row, *axes[1], x.dtype), x) for row in f]
    rows = [runs(r, *axes[0]) for r in range(len(f))]

    def work(_, images):
        source, target = x[images], y[images]
        target[...] = 0
        for matrix, (to, of) in zip(matrices, rows):
            target[:, :, to] += product(matrix, source[:, :, of], 3)

    over(x if x.size > y.size else y, work)
    return y


@lru_cache(maxsize=128)
def _factors(f) -> tuple[tuple, tuple] | None:
    """(a, b) whose outer product f is, if it is one."""
    f = np.array(f, dtype=np.float64)
    r, s = np.unravel_index(abs(f).argmax(), f.shape)
    a, b = f[:, s] / (f[r, s] or 1), f[r]
    if np.allclose(np.outer(a, b), f, rtol=1e-15, atol=1e-15 * abs(f[r, s])):
        return tuple(a), tuple(b)
    return None


@lru_cache(maxsize=256)
def _banded(taps, up: int, down: int, pad: int, n: int, size: int, dtype: np.dtype) -> np.ndarray:
    """A filter along one axis as a matrix (size, n)."""
    matrix = np.zeros((size, n), dtype=dtype)
    for t, weight in enumerate(taps):
        to, of = runs(t, up, down, pad, n, size)
        matrix[np.arange(size)[to], np.arange(n)[of]] = weight
    return matrix


def _tap_by_tap(x, f, up: Pair, down: Pair, pad: Pair, size: Pair):
    y = empty_as(x, (*x.shape[:2], *size))
    rows = [runs(r, up[0], down[0], pad[0], x.shape[2], size[0]) for r in range(len(f))]
    columns = [runs(s, up[1], down[1], pad[1], x.shape[3], size[1]) for s in range(len(f[0]))]
    weights = {weight for row in f for weight in row}
    gain = weights.pop() if len(weights) == 1 else 1  # one factor for the whole sum

    def work(_, images):
        source, target = x[images], y[images]
        target[...] = 0
        for taps, (to_row, from_row) in zip(f, rows):
            for weight, (to, of) in zip(taps, columns):
                tap = source[:, :, from_row, of]
                target[:, :, to_row, to] += tap if weight == gain else tap * weight
        if gain != 1:
            target *= gain

    over(x if x.size > y.size else y, work)
    return y


def runs(t: int, up: int, down: int, pad: int, n: int, size: int) -> tuple[slice, slice]:
    """Which outputs i tap t reaches, and what each reads, (i down + t - pad) / up: slices of one length."""
    common = gcd(up, down)
    step, stride = up // common, down // common
    start = next((i for i in range(step) if (i * down + t - pad) % up == 0), None)
    if start is None:
        return slice(0, 0), slice(0, 0)
    first = (start * down + t - pad) // up
    skip = max(0, -(first // stride))
    start, first = start + skip * step, first + skip * stride
    count = max(0, min(-(-(size - start) // step), -(-(n - first) // stride)))
    return slice(start, start + count * step, step), slice(first, first + count * stride, stride)
