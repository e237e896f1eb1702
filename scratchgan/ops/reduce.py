"""Reductions and the functions that divide by one.

Every `axis` here is a tuple of axes, none of them negative. The VJP of a reduction repeats the cotangent
along the axes that are gone and weighs it there.
"""

from __future__ import annotations

import math

from scratchgan.backend import on_host, xp
from scratchgan.kernels import softmax as kernel
from scratchgan.kernels.norm import moments
from scratchgan.kernels.sums import total
from scratchgan.ops.blocks import LARGE, in_blocks, in_rows
from scratchgan.ops.dtypes import floating
from scratchgan.ops.elementwise import absolute, exp, power_of, sign, where
from scratchgan.ops.shape import reshape
from scratchgan.tensor import Op, cast, expand_to


def _count(shape: tuple[int, ...], axis: tuple[int, ...]) -> int:
    """How many elements one element of the result is made of."""
    return math.prod(shape[i] for i in axis)


def _repeated(g, shape: tuple[int, ...], axis: tuple[int, ...], keepdims: bool):
    """A reduction's result, or the cotangent of it, at every element that went into it."""
    if not keepdims:
        g = reshape(g, shape=tuple(1 if i in axis else n for i, n in enumerate(shape)))
    return expand_to(g, shape=shape)


@Op
def sum(x, *, axis, keepdims):
    """The sum over the axes."""
    return total(x, axis, keepdims)


@Op
def mean(x, *, axis, keepdims):
    """Not a number where there is nothing to average."""
    x, n = floating(x), _count(x.shape, axis)
    return sum(x, axis=axis, keepdims=keepdims) * (1 / n if n else math.nan)


@Op
def var(x, *, axis, keepdims, correction):
    """sum (x - mean)^2 / (n - correction)."""
    if on_host(x) and x.size >= LARGE and x.dtype.kind == "f":
        biased = moments(x, axis)[1] * (_count(x.shape, axis) * _var_weight(x.shape, axis, correction))
        biased = biased.astype(x.dtype, copy=False)  # those of float16 are float32
        return biased if keepdims else biased.squeeze(axis)
    centred = x - x.mean(axis=axis, keepdims=True)
    return (centred * centred).sum(axis=axis, keepdims=keepdims) * _var_weight(x.shape, axis, correction)


def _var_weight(shape: tuple[int, ...], axis: tuple[int, ...], correction: float) -> float:
    n = max(0, _count(shape, axis) - correction)
    return 1 / n if n else math.nan


def _var_x(g, x, shape, axis, keepdims, correction):
    weight = 2 * _var_weight(shape, axis, correction)
    g = _repeated(g * weight, shape, axis, keepdims)
    return _times_deviation(g, x, mean(x, axis=axis, keepdims=True))


@in_blocks
def _times_deviation(g, x, mean):
    return g * (x - mean)


@Op
def std(x, *, axis, keepdims, correction):
    """The square root of `var`; its gradient is 0 where it is 0."""
    return xp(x).sqrt(var(x, axis=axis, keepdims=keepdims, correction=correction))


def _std_x(g, x, out, shape, axis, keepdims, correction):
    g = where(out == 0, 0, g / (2 * where(out == 0, 1, out)))
    return _var_x(g, x, shape, axis, keepdims, correction)


sum.vjp(x=_repeated)
mean.vjp(
    x=lambda g, shape, axis, keepdims: _repeated(g * (1 / max(1, _count(shape, axis))), shape, axis, keepdims)
)
var.vjp(x=_var_x)
std.vjp(x=_std_x)


# Extremes


@Op
@in_rows
def amax(x, *, axis, keepdims):
    """The largest elements; a cotangent goes to all that are equally large, in equal parts."""
    return x.max(axis=axis, keepdims=keepdims)


@Op
@in_rows
def amin(x, *, axis, keepdims):
    """The smallest elements; a cotangent goes to all that are equally small, in equal parts."""
    return x.min(axis=axis, keepdims=keepdims)


def _to_extreme(g, x, out, shape, axis, keepdims):
    """The cotangent in equal parts to the elements that equal the result."""
    chosen = cast(x == _repeated(out, shape, axis, keepdims), dtype=g.dtype)
    shares = chosen / sum(chosen, axis=axis, keepdims=True)
    return _repeated(g, shape, axis, keepdims) * shares


amax.vjp(x=_to_extreme)
amin.vjp(x=_to_extreme)


@Op
def argmax(x, *, axis, keepdims):
    """The place of the first largest element along one axis; over the flattened x where axis is None."""
    return x.argmax(axis=axis, keepdims=keepdims)


@Op
def argmin(x, *, axis, keepdims):
    """The place of the first smallest element, as `argmax`."""
    return x.argmin(axis=axis, keepdims=keepdims)


@Op
def all(x, *, axis, keepdims):
    """Whether all elements differ from 0."""
    return (x != 0).all(axis=axis, keepdims=keepdims)


@Op
def any(x, *, axis, keepdims):
    """Whether any element differs from 0."""
    return (x != 0).any(axis=axis, keepdims=keepdims)


# Exponentials


@Op
def logsumexp(x, *, axis, keepdims):
    """log sum e^x."""
    out = kernel.logsumexp(floating(x), axis)
    return out if keepdims else out.squeeze(axis)


@Op
def softmax(x, *, axis):
    """e^x / sum e^x."""
    return kernel.softmax(floating(x), axis)


@Op
def softmax_dx(dy, y, *, axis):
    """y (dy - sum dy y), for y = softmax(x); symmetric as a map of dy."""
    return kernel.softmax_dx(dy, y, axis)


@Op
def log_softmax(x, *, axis):
    """x - log sum e^x."""
    return kernel.log_softmax(floating(x), axis)


@Op
def log_softmax_dx(dy, y, *, axis):
    """dy - e^y sum dy, for y = log_softmax(x)."""
    return kernel.log_softmax_dx(dy, y, axis)


@in_blocks
def _shared(g, x, out):
    return g * exp(x - out)


def _softmax_dx_y(g, dy, y, axis):
    """The derivative of <g, softmax_dx(dy, y)> by y."""
    return g * (dy - sum(dy * y, axis=axis, keepdims=True)) - dy * sum(g * y, axis=axis, keepdims=True)


logsumexp.vjp(
    x=lambda g, x, out, shape, axis, keepdims: _shared(
        _repeated(g, shape, axis, keepdims), x, _repeated(out, shape, axis, keepdims)
    )
)
softmax.vjp(x=lambda g, out, axis: softmax_dx(g, out, axis=axis))
softmax_dx.vjp(dy=lambda g, y, axis: softmax_dx(g, y, axis=axis), y=_softmax_dx_y)
log_softmax.vjp(x=lambda g, out, axis: log_softmax_dx(g, out, axis=axis))
log_softmax_dx.vjp(
    dy=lambda g, y, axis: g - sum(g * exp(y), axis=axis, keepdims=True),
    y=lambda g, dy, y, axis: -(g * exp(y)) * sum(dy, axis=axis, keepdims=True),
)


# Norms


@Op
def norm2(x, *, axis, keepdims):
    """sqrt(sum x^2); its gradient x / norm is 0 where the norm is 0."""
    x = floating(x)
    return xp(x).sqrt((x * x).sum(axis=axis, keepdims=keepdims))


def _norm2_x(g, x, out, shape, axis, keepdims):
    g = where(out == 0, 0, g / where(out == 0, 1, out))
    return _repeated(g, shape, axis, keepdims) * x


@Op
def norm_p(x, *, p, axis, keepdims):
    """(sum |x|^p)^(1/p) for a finite p other than 0."""
    return (abs(floating(x)) ** p).sum(axis=axis, keepdims=keepdims) ** (1 / p)


def _norm_p_x(g, x, out, shape, p, axis, keepdims):
    """g sign(x) (|x| / norm)^(p-1), and 0 where x = 0."""
    g = g * power_of(where(out == 0, 1, out), p=1 - p)
    size = where(x == 0, 1, absolute(x))
    return _repeated(g, shape, axis, keepdims) * (sign(x) * power_of(size, p=p - 1))


norm2.vjp(x=_norm2_x)
norm_p.vjp(x=_norm_p_x)
