"""Pooling, resampling and windows: linear maps and their adjoints, which are each other's VJPs.

`upfirdn2d` and `along` are closed under themselves: the adjoint of a filter is the reversed filter with the
rates swapped, that of a matrix its transpose. `pixel_shuffle` and `pixel_unshuffle`, `unfold` and `fold`,
`pick` and `put` are adjoint pairs. Max pooling is linear in x once it is known where the maxima are.
"""

from __future__ import annotations

from scratchgan.autograd import Fused
from scratchgan.kernels import pixel_shuffle as shuffling
from scratchgan.kernels import resample
from scratchgan.kernels import upfirdn2d as fir
from scratchgan.kernels import windows as windowed
from scratchgan.kernels.windows import Windows
from scratchgan.tensor import Op, Tensor

Pair = tuple[int, int]


@Op
def upfirdn2d(x, *, f: tuple[tuple[float, ...], ...], up: Pair, down: Pair, pad: Pair, size: Pair):
    """Zeros between pixels, filter f (R, S), every down-th pixel: see `scratchgan.kernels.upfirdn2d`."""
    return fir.upfirdn2d(x, f, up, down, pad, size)


def _upfirdn2d_x(g, shape, f, up, down, pad):
    reversed_f = tuple(row[::-1] for row in f[::-1])
    behind = (len(f) - 1 - pad[0], len(f[0]) - 1 - pad[1])
    return upfirdn2d(g, f=reversed_f, up=down, down=up, pad=behind, size=tuple(shape[2:]))


upfirdn2d.vjp(x=_upfirdn2d_x)


@Op
def along(x, *, matrix, axis: int):
    """A constant matrix (P, n) applied along an axis of size n."""
    return resample.along(x, matrix, axis)


along.vjp(x=lambda g, matrix, axis: along(g, matrix=matrix.T, axis=axis))


@Op
def pixel_shuffle(x, *, r: int):
    """(..., C r^2, H, W) to (..., C, H r, W r): see `scratchgan.kernels.pixel_shuffle`."""
    return shuffling.pixel_shuffle(x, r)


@Op
def pixel_unshuffle(x, *, r: int):
    """(..., C, H r, W r) to (..., C r^2, H, W)."""
    return shuffling.pixel_unshuffle(x, r)


pixel_shuffle.vjp(x=lambda g, r: pixel_unshuffle(g, r=r))
pixel_unshuffle.vjp(x=lambda g, r: pixel_shuffle(g, r=r))


@Op
def unfold(x, *, windows: Windows):
    """Columns (N, C, *kernel, *size): what each tap of the windows reads of x (N, C, H, W)."""
    return windowed.unfold(x, windows)


@Op
def fold(columns, *, windows: Windows):
    """Columns added up where `unfold` read them."""
    return windowed.fold(columns, windows)


unfold.vjp(x=lambda g, windows: fold(g, windows=windows))
fold.vjp(columns=lambda g, windows: unfold(g, windows=windows))


@Op
def pick(x, *, masks, windows: Windows):
    """One element of each window: the one whose tap is marked in `masks`."""
    return windowed.pick(x, masks, windows)


@Op
def put(g, *, masks, windows: Windows):
    """Elements put back where `pick` took them."""
    return windowed.put(g, masks, windows)


pick.vjp(x=lambda g, masks, windows: put(g, masks=masks, windows=windows))
put.vjp(g=lambda h, masks, windows: pick(h, masks=masks, windows=windows))


@Fused
def max_pool2d(x, *, windows: Windows):
    """The largest element of each window; among equals the first has the gradient, as in PyTorch."""
    array = x._array if isinstance(x, Tensor) else x
    masks = windowed.first_maxima(array, windowed.maxima(array, windows), windows)
    return pick(x, masks=masks, windows=windows)


def _max_pool2d(x, *, windows):
    y = windowed.maxima(x, windows)
    return y, y


def _max_pool2d_vjp(g, y, need, x, *, windows):
    return [windowed.put(g, windowed.first_maxima(x, y, windows), windows)]


max_pool2d.fast(_max_pool2d, _max_pool2d_vjp)
