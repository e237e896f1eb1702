"""Losses: element-wise errors, the logistic loss on logits, cross entropy over classes.

Those on logits are fused: what they are is written in differentiable ops, which never leave the range of
numbers (finite at logits of +-1e4), and the fast path beside them is the same in fewer passes, with the
reduction inside.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from scratchgan.autograd import Fused
from scratchgan.backend import on_host, xp
from scratchgan.ops import reduce
from scratchgan.ops.blocks import in_blocks
from scratchgan.ops.elementwise import clamp_max, clamp_min, log, logsigmoid, neg, sign
from scratchgan.tensor import Op

Broadcasting = partial(Op, broadcasts=True)


def reduced(loss, reduction: str):
    """`loss` itself ('none'), its sum or its mean."""
    if reduction == "none":
        return loss
    function = reduce.sum if reduction == "sum" else reduce.mean
    return function(loss, axis=tuple(range(loss.ndim)), keepdims=False)


def _scale(g, size: int, reduction: str):
    """The factor of each element's slope: a number, which blocks can share, if the host reduced the loss."""
    if reduction == "none":
        return g
    g = float(g) if on_host(g) else g
    return g / size if reduction == "mean" else g


# Errors, functions of d = a - b


@Broadcasting
@in_blocks
def squared_error(a, b):
    """d^2."""
    return xp(a).square(a - b)


@Broadcasting
@in_blocks
def absolute_error(a, b):
    """|d|."""
    return abs(a - b)


@Broadcasting
@in_blocks
def smooth_absolute_error(a, b, *, beta: float):
    """d^2 / (2 beta) where |d| < beta, |d| - beta / 2 elsewhere."""
    d = abs(a - b)
    inner = xp(d).minimum(d, beta)
    loss = inner * (d - 0.5 * inner)
    return loss if beta == 1 else loss * (1 / beta)


# Their derivatives in a times g; the sign turns for b.


@in_blocks
def _squared_slope(a, b, g):
    return (a - b) * (2 * g)


@in_blocks
def _absolute_slope(a, b, g):
    return sign(a - b) * g


@in_blocks
def _smooth_slope(a, b, g, beta):
    return clamp_max(clamp_min(a - b, -beta), beta) * (g * (1 / beta))


squared_error.vjp(a=lambda g, a, b: _squared_slope(a, b, g), b=lambda g, a, b: _squared_slope(b, a, g))
absolute_error.vjp(a=lambda g, a, b: _absolute_slope(a, b, g), b=lambda g, a, b: _absolute_slope(b, a, g))
smooth_absolute_error.vjp(
    a=lambda g, a, b, beta: _smooth_slope(a, b, g, beta=beta),
    b=lambda g, a, b, beta: _smooth_slope(b, a, g, beta=beta),
)


@Fused
def mse_loss(a, b, *, reduction: str):
    """(a - b)^2, reduced."""
    return reduced(squared_error(a, b), reduction)


@Fused
def l1_loss(a, b, *, reduction: str):
    """|a - b|, reduced."""
    return reduced(absolute_error(a, b), reduction)


@Fused
def smooth_l1_loss(a, b, *, reduction: str, beta: float):
    """`smooth_absolute_error`, reduced."""
    return reduced(smooth_absolute_error(a, b, beta=beta), reduction)


def _reduce_inside(op: Fused, error: Op, slope) -> None:
    """Give `op` a fast path for a and b of one shape: the cotangent of the mean stays a number."""

    def forward(a, b, *, reduction, **settings):
        return reduced(error(a, b, **settings), reduction), None

    def vjp(g, cache, need, a, b, *, reduction, **settings):
        da = slope(a, b, _scale(g, a.size, reduction), **settings)
        return [da if need[0] else None, neg(da) if need[1] else None]

    op.fast(forward, vjp)


_reduce_inside(mse_loss, squared_error, _squared_slope)
_reduce_inside(l1_loss, absolute_error, _absolute_slope)
_reduce_inside(smooth_l1_loss, smooth_absolute_error, _smooth_slope)


# Binary cross entropy


@Op
def binary_cross_entropy(x, t):
    """-(t log x + (1 - t) log(1 - x)), the logarithms no less than -100."""
    m = xp(x)
    with np.errstate(divide="ignore"):
        return -(t * m.log(x).clip(-100) + (1 - t) * m.log1p(-x).clip(-100))


# PyTorch's derivatives at the ends: that in x divides by no less than 1e-12, that in t keeps the clamp.
binary_cross_entropy.vjp(
    x=lambda g, x, t: g * (x - t) / clamp_min(x * (1 - x), 1e-12),
    t=lambda g, x: g * (clamp_min(log(1 - x), -100) - clamp_min(log(x), -100)),
)


@Fused
def binary_cross_entropy_with_logits(z, t, weight, pos_weight, *, reduction: str):
    """-weight (pos_weight t log sigmoid(z) + (1 - t) log(1 - sigmoid(z))), and what `reduction` says; weights
    may be None.

    As log(1 - sigmoid(z)) = log sigmoid(z) - z, this is weight ((1 - t) z - (1 + (pos_weight - 1) t) log
    sigmoid(z)).
    """
    loss = (1 - t) * z - _log_weight(t, pos_weight) * logsigmoid(z)
    return reduced(loss if weight is None else loss * weight, reduction)


def _log_weight(t, pos_weight):
    return 1 if pos_weight is None else 1 + (pos_weight - 1) * t


def _bce_with_logits(z, t, weight, pos_weight, *, reduction):
    return reduced(_logistic_loss(z, t, *_given(weight, pos_weight)), reduction), None


def _bce_with_logits_vjp(g, cache, need, z, t, weight, pos_weight, *, reduction):
    return [
        _logistic_slope(z, t, _scale(g, z.size, reduction), *_given(weight, pos_weight)),
        None,
        None,
        None,
    ]


def _given(weight, pos_weight) -> tuple:
    return () if weight is None and pos_weight is None else (weight, pos_weight)


@in_blocks
def _logistic_loss(z, t, weight=None, pos_weight=None):
    m = xp(z)
    softplus = m.log1p(m.exp(-abs(z))) - m.minimum(z, 0)  # -log sigmoid(z)
    loss = z - t * z + (softplus if pos_weight is None else _log_weight(t, pos_weight) * softplus)
    return loss if weight is None else loss * weight


@in_blocks
def _logistic_slope(z, t, g, weight=None, pos_weight=None):
    q = 0.5 + 0.5 * xp(z).tanh(0.5 * z)  # sigmoid(z)
    slope = q - t if pos_weight is None else (1 - t) - _log_weight(t, pos_weight) * (1 - q)
    return slope * g if weight is None else slope * g * weight


binary_cross_entropy_with_logits.fast(_bce_with_logits, _bce_with_logits_vjp)


# Classes

NARROW = 64  # classes up to which a reduction over them is faster with the batch innermost


@Op
def choose(x, *, target):
    """x[n, target[n, ...], ...] of x (N, C, ...): one class for each n and place."""
    return x[_places(x, target)]


@Op
def spread(g, *, target, classes: int):
    """The adjoint of `choose`: g at the classes of `target`, zero elsewhere."""
    out = xp(g).zeros((g.shape[0], classes, *g.shape[1:]), dtype=g.dtype)
    out[_places(out, target)] = g
    return out


choose.vjp(x=lambda g, shape, target: spread(g, target=target, classes=shape[1]))
spread.vjp(g=lambda h, target: choose(h, target=target))


def _places(x, target) -> tuple:
    """The index of one element per entry of target (N, ...) in x (N, C, ...)."""
    m, axes = xp(x), range(target.ndim)
    grid = [
        m.arange(n).reshape([-1 if i == axis else 1 for i in axes]) for axis, n in enumerate(target.shape)
    ]
    return grid[0], target, *grid[1:]


def negative_log_likelihood(logp, *, target, counted, reduction: str):
    """-counted logp[n, target[n]] for each n and place; the mean is over the sum of `counted`."""
    loss = choose(logp, target=target) * -counted
    return reduced(loss, "sum") / counted.sum() if reduction == "mean" else reduced(loss, reduction)


@Fused
def cross_entropy(x, *, target, counted, reduction: str):
    """Negative log likelihood of the classes `target` (N, ...) under softmax over axis 1 of the logits x (N,
    C, ...).

    `counted` (N, ...) is each entry's weight, 0 where it is ignored.
    """
    return negative_log_likelihood(
        reduce.log_softmax(x, axis=(1,)), target=target, counted=counted, reduction=reduction
    )


def _cross_entropy(x, *, target, counted, reduction):
    m = xp(x)
    if on_host(x) and x.shape[1] <= NARROW:
        x = m.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1)
    z = x - x.max(axis=1, keepdims=True)
    p = m.exp(z)
    total = p.sum(axis=1, keepdims=True)
    loss = (m.log(total[:, 0]) - z[_places(z, target)]) * counted
    p /= total
    return reduced(loss, "sum") / counted.sum() if reduction == "mean" else reduced(loss, reduction), p


def _cross_entropy_vjp(g, p, need, x, *, target, counted, reduction):
    scale = g * counted / counted.sum() if reduction == "mean" else g * counted
    dx = p * scale[:, None]
    dx[_places(dx, target)] -= scale
    return [dx]


cross_entropy.fast(_cross_entropy, _cross_entropy_vjp)
