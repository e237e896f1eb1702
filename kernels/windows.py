"""Sliding windows over the last two axes of arrays: maxima, columns (unfold) and their adjoints.

Window (i, j) reads x at (s i + d r - p, s j + d q - p) for the taps (r, q) of the kernel, per axis with its
own stride s, dilation d and padding p; what lies outside of x does not exist (max) or is zero (unfold). Every
function goes tap by tap: one strided slice of x against one slice of the output.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from scratchgan.backend import xp
from scratchgan.kernels.blocks import over
from scratchgan.kernels.resample import empty_as
from scratchgan.kernels.upfirdn2d import runs

Pair = tuple[int, int]


class Windows(NamedTuple):
    """Where the windows of x (N, C, H, W) are."""

    x_size: Pair
    size: Pair  # windows down and right
    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair

    def along(self, axis: int) -> list[tuple[slice, slice]]:
        """For each tap along one axis the windows that have it and what they read."""
        stride, padding, dilation = self.stride[axis], self.padding[axis], self.dilation[axis]
        return [
            runs(t * dilation, 1, stride, padding, self.x_size[axis], self.size[axis])
            for t in range(self.kernel[axis])
        ]

    def taps(self) -> Iterator[tuple[int, int, tuple, tuple]]:
        """(r, q, index of the windows that have tap (r, q), index of what it reads) in (..., H, W)."""
        for r, (down, rows) in enumerate(self.along(0)):
            for q, (right, columns) in enumerate(self.along(1)):
                yield r, q, (..., down, right), (..., rows, columns)


def maxima(x, windows: Windows):
    """The largest element of each window, NaN where there is one: (N, C, *size).

    The maximum over columns of the maxima over rows: R + Q slices instead of R Q.
    """
    y = empty_as(x, (*x.shape[:2], *windows.size))
    m, rows, columns = xp(x), windows.along(0), windows.along(1)

    def work(_, images):
        source, target = x[images], y[images]
        tall = empty_as(source, (*source.shape[:2], windows.size[0], x.shape[3]))
        tall[...] = target[...] = -float("inf")
        for to, of in rows:
            tall[:, :, to] = m.maximum(tall[:, :, to], source[:, :, of])
        for to, of in columns:
            target[..., to] = m.maximum(target[..., to], tall[..., of])

    over(x, work)
    return y


def first_maxima(x, y, windows: Windows):
    """masks[r, q] (N, C, *size): whether tap (r, q) is the first of its window that equals the maximum y."""
    masks = xp(x).zeros((*windows.kernel, *y.shape), dtype=bool)

    def work(_, images):
        source, target = x[images], y[images]
        free = xp(x).ones(target.shape, dtype=bool)
        for r, q, to, of in windows.taps():
            mask = masks[r, q, images]
            mask[to] = source[of] == target[to]
            mask &= free
            free ^= mask

    over(x, work)
    return masks


def places(masks, windows: Windows):
    """For each window the number r W + c of the pixel that `masks` marks, among the H W of x."""
    m, (down, right) = xp(masks), windows.size
    rows = m.arange(down)[:, None] * windows.stride[0] - windows.padding[0]
    columns = m.arange(right) * windows.stride[1] - windows.padding[1]
    found = m.zeros(masks.shape[2:], dtype=m.int64)
    for r, q, _, _ in windows.taps():
        pixel = (rows + r * windows.dilation[0]) * windows.x_size[1] + columns + q * windows.dilation[1]
        found += masks[r, q] * pixel
    return found


def pick(x, masks, windows: Windows):
    """The sum over the taps of x where their masks are true: (N, C, *size)."""
    y = xp(x).zeros((*x.shape[:2], *windows.size), dtype=x.dtype)
    for r, q, to, of in windows.taps():
        y[to] += x[of] * masks[r, q][to]
    return y


def put(g, masks, windows: Windows):
    """The adjoint of `pick`: add g to where its taps read, where their masks are true."""
    x = empty_as(g, (*g.shape[:2], *windows.x_size))
    taps = list(windows.taps())

    def work(_, images):
        source, target = g[images], x[images]
        target[...] = 0
        for r, q, to, of in taps:
            target[of] += source[to] * masks[r, q, images][to]

    over(x, work)
    return x


def unfold(x, windows: Windows):
    """The columns (N, C, *kernel, *size): what each tap reads, zero outside of x."""
    columns = xp(x).zeros((*x.shape[:2], *windows.kernel, *windows.size), dtype=x.dtype)

    def work(_, images):
        for r, q, to, of in windows.taps():
            columns[images, :, r, q][to] = x[images][of]

    over(columns, work)
    return columns


def fold(columns, windows: Windows):
    """The adjoint of `unfold`: the columns added up where they were read, (N, C, *x_size)."""
    x = xp(columns).zeros((*columns.shape[:2], *windows.x_size), dtype=columns.dtype)

    def work(_, images):
        for r, q, to, of in windows.taps():
            x[images][of] += columns[images, :, r, q][to]

    over(columns, work)
    return x
