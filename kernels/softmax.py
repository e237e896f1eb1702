"""Softmax, its logarithm and their first-order gradients, on arrays.

With z = x - max x, the maximum and all sums over `axis`, one or several axes,

    softmax        y = e^z / sum e^z          dx = y (g - sum g y)
    log softmax    y = z - log sum e^z        dx = g - e^y sum g
    logsumexp      y = max x + log sum e^z

No exponent is above 0. Where max x is infinite, softmax is NaN, as PyTorch's is. On the host every pass writes over what the one before it left in the result's memory, block
by block along the first axis unless that is one of those summed over. With new arrays for what lies between, the same
takes three times as long on two threads.
"""

from __future__ import annotations

import math

import numpy as np

from scratchgan.backend import xp
from scratchgan.kernels.blocks import large, over

Axes = tuple[int, ...]


def logsumexp(x, axis: Axes):
    """log sum e^x, with axes of size 1 for those summed over."""

    def work(out, x):
        top = _finite_max(x, axis)
        terms = xp(x).empty_like(x)
        _exponentials(x, top, terms)
        with np.errstate(divide="ignore"):  # the log of no terms, or of terms e^-inf, is -inf
            out[...] = xp(x).log(terms.sum(axis=axis, keepdims=True)) + top

    return _in_rows(work, xp(x).empty(_kept(x, axis), x.dtype), axis, x)


def softmax(x, axis: Axes):
    """e^x / sum e^x."""

    def work(y, x):
        _exponentials(x, _max(x, axis), y)
        y *= 1 / y.sum(axis=axis, keepdims=True)

    return _in_rows(work, xp(x).empty_like(x), axis, x)


def softmax_dx(g, y, axis: Axes):
    """dx of y = softmax(x)."""

    def work(dx, g, y):
        m = xp(g)
        m.multiply(g, y, out=dx)
        m.subtract(g, dx.sum(axis=axis, keepdims=True), out=dx)
        dx *= y

    return _in_rows(work, xp(y).empty_like(y), axis, g, y)


def log_softmax(x, axis: Axes):
    """x - log sum e^x."""

    def work(y, x):
        top = _max(x, axis)
        _exponentials(x, top, y)
        logs = xp(x).log(y.sum(axis=axis, keepdims=True))
        with np.errstate(invalid="ignore"):
            xp(x).subtract(x, top, out=y)
        y -= logs

    return _in_rows(work, xp(x).empty_like(x), axis, x)


def log_softmax_dx(g, y, axis: Axes):
    """dx of y = log_softmax(x)."""

    def work(dx, g, y):
        xp(y).exp(y, out=dx)
        dx *= g.sum(axis=axis, keepdims=True)
        xp(g).subtract(g, dx, out=dx)

    return _in_rows(work, xp(y).empty_like(y), axis, g, y)


def _exponentials(x, top, out) -> None:
    """e^(x - top)."""
    with np.errstate(invalid="ignore"):  # of infinite numbers and an infinite top
        xp(x).subtract(x, top, out=out)
    xp(x).exp(out, out=out)


def _max(x, axis: Axes):
    """The largest elements along `axis`, 0 of none."""
    if math.prod(x.shape[i] for i in axis):
        return x.max(axis=axis, keepdims=True)
    return xp(x).zeros(_kept(x, axis), x.dtype)


def _kept(x, axis: Axes) -> tuple[int, ...]:
    return tuple(1 if i in axis else n for i, n in enumerate(x.shape))


def _finite_max(x, axis: Axes):
    """The same with 0 in place of infinite ones, which can't be taken out of a sum's logarithm."""
    top = _max(x, axis)
    return xp(x).where(xp(x).isfinite(top), top, 0)


def _in_rows(work, result, axis: Axes, *arrays):
    """The result, after work(result, *arrays) on all of it or on each block of rows."""
    first = arrays[0]
    if large(first) and 0 not in axis:
        over(first, lambda _, rows: work(result[rows], *(a[rows] for a in arrays)))
    else:
        work(result, *arrays)
    return result
