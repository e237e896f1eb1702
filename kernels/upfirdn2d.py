"""Upsample by zeros, filter, downsample (Karras et al., StyleGAN, 2018-2021), on arrays.

Per axis, with a filter f of T taps, rates u and d, and p zeros in front (p < 0 crops),

    y[i] = sum over t with u | i d + t - p of  f[t] x[(i d + t - p) / u],          i = 0 ... size - 1,

zeros being read outside of x. The adjoint is the same function: u and d swap, the filter is reversed, p
becomes T - 1 - p. What an activation a f(y) makes of y (see `kernels/bias_act.py`) may be taken instead, in
the same pass over memory. Average pooling (a filter of ones, u = 1, d = stride) and nearest-neighbour
upsampling (u = factor) are special cases.

Each row r of the filter adds one image, filtered along the rows by f[r], to some rows of y. Along a row, one
or two taps are that many strided slices; more of them are a banded matrix, which a dense product applies
faster up to some hundred pixels (a 4 x 4 filter on 16 x 64 x 32 x 32, up 2, forward and backward: 42 ms on
one thread, against 87 for sixteen strided slices).
"""

from __future__ import annotations

from math import gcd

import numpy as np

from scratchgan.backend import kept
from scratchgan.kernels.bias_act import bias_act
from scratchgan.kernels.blocks import over
from scratchgan.kernels.dispatch import kernel
from scratchgan.kernels.resample import empty_as, product

Pair = tuple[int, int]
WIDE = 256  # pixels in a row from which on slices beat the dense product


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
    y = empty_as(x, (*x.shape[:2], *size))
    height, width = x.shape[2:]
    rows = [runs(r, up[0], down[0], pad[0], height, size[0]) for r in range(len(f))]
    columns = [runs(s, up[1], down[1], pad[1], width, size[1]) for s in range(len(f[0]))]
    dense = len(columns) > 2 and width <= WIDE
    weights = {weight for row in f for weight in row}
    gain = weights.pop() if len(weights) == 1 and not dense else 1  # one factor for the whole sum
    if dense:
        matrices = [kept(_banded(row, columns, width, size[1]), x) for row in f]

    def work(_, images):
        source, target = x[images], y[images]
        target[...] = 0
        for r, (to_row, from_row) in enumerate(rows):
            image = source[:, :, from_row]
            if dense:
                target[:, :, to_row] += product(matrices[r], image, 3)
                continue
            for weight, (to, of) in zip(f[r], columns):
                tap = image[..., of]
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


def _banded(weights, columns: list[tuple[slice, slice]], n: int, size: int) -> np.ndarray:
    """One row of the filter as a matrix (size, n) on a row of pixels."""
    matrix = np.zeros((size, n))
    for weight, (to, of) in zip(weights, columns):
        matrix[np.arange(size)[to], np.arange(n)[of]] = weight
    return matrix
