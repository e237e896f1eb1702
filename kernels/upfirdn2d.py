"""Upsample by zeros, filter, downsample (Karras et al., StyleGAN, 2018-2021), on arrays.

Per axis, with a filter f of T taps, rates u and d, and p zeros in front (p < 0 crops),

    y[i] = sum over t with u | i d + t - p of  f[t] x[(i d + t - p) / u],          i = 0 ... size - 1,

zeros being read outside of x. The adjoint is the same function: u and d swap, the filter is reversed, p becomes T - 1 - p.
Average pooling (a filter of ones, u = 1, d = stride) and nearest-neighbour upsampling (u = factor) are special cases.

Each tap is one strided slice of x added to one strided slice of y, so that zeros are neither stored nor multiplied.
"""
from __future__ import annotations

from math import gcd

from scratchgan.backend import xp
from scratchgan.kernels.blocks import over

Pair = tuple[int, int]


def upfirdn2d(x, f, up: Pair, down: Pair, pad: Pair, size: Pair):
    """x (N, C, H, W) filtered by f (R, S), rows of numbers on the host, gives y (N, C, *size) in x's memory order.

    The filter is applied as it is (correlation); pad counts rows at the top and columns at the left.
    """
    y = empty_as(x, (*x.shape[:2], *size))
    weights = {weight for row in f for weight in row} - {0}
    gain = weights.pop() if len(weights) == 1 else None         # one factor for the whole sum
    taps = [(f[r][s], down_runs, right_runs)
            for r, down_runs in enumerate(_runs(len(f), up[0], down[0], pad[0], x.shape[2], size[0]))
            for s, right_runs in enumerate(_runs(len(f[0]), up[1], down[1], pad[1], x.shape[3], size[1]))
            if f[r][s] != 0]

    def work(_, images):
        source, target = x[images], y[images]
        target[...] = 0
        for weight, (to_row, from_row), (to_column, from_column) in taps:
            tap = source[:, :, from_row, from_column]
            target[:, :, to_row, to_column] += tap if gain is not None else tap * weight
        if gain not in (None, 1):
            target *= gain

    over(max(x, y, key=_size), work)
    return y


def runs(t: int, up: int, down: int, pad: int, n: int, size: int) -> tuple[slice, slice]:
    """The outputs i that tap t reaches, and what each reads, (i down + t - pad) / up within range(n): two slices of one length."""
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


def empty_as(x, shape: tuple[int, ...]):
    """A new array of x's dtype and memory order with another shape."""
    return xp(x).empty_like(x, shape=shape)


def _runs(count: int, up: int, down: int, pad: int, n: int, size: int) -> list[tuple[slice, slice]]:
    return [runs(t, up, down, pad, n, size) for t in range(count)]


def _size(a) -> int:
    return a.size
