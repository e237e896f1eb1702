"""Losses: element-wise errors, the logistic loss on logits, cross entropy over classes.

Those on logits are fused: what they are is written in differentiable ops, which never leave the range of numbers (finite at logits
of +-1e4), and the fast path beside them is the same in fewer passes, with the reduction inside.
"""
from __future__ import annotations

from functools import partial

import numpy as np

from scratchgan.autograd import Fused
from scratchgan.backend import on_host, xp
from scratchgan.ops import reduce
from scratchgan.ops.elementwise import clamp_max, clamp_min, log, logsigmoid, sign
from scratchgan.tensor import Op

Broadcasting = partial(Op, broadcasts=True)


def reduced(loss, reduction: str):
    """`loss` itself ('none'), its sum or its mean."""
    if reduction == "none":
        return loss
    return (reduce.sum if reduction == "sum" else reduce.mean)(loss, axis=tuple(range(loss.ndim)), keepdims=False)


# Errors

@Broadcasting
def squared_error(a, b):
    """(a - b)^2."""
    return xp(a).square(a - b)


@Broadcasting
def absolute_error(a, b):
    """|a - b|."""
    return abs(a - b)


@Broadcasting
def smooth_absolute_error(a, b, *, beta: float):
    """d^2 / (2 beta) where |d| < beta, |d| - beta / 2 elsewhere, for d = a - b."""
    d = a - b
    inner = d.clip(-beta, beta)
    return inner * (d - 0.5 * inner) / beta


def _smooth_slope(a, b, beta):
    return clamp_max(clamp_min(a - b, -beta), beta) / beta


squared_error.vjp(a=lambda g, a, b: 2 * g * (a - b), b=lambda g, a, b: 2 * g * (b - a))
absolute_error.vjp(a=lambda g, a, b: g * sign(a - b), b=lambda g, a, b: g * sign(b - a))
smooth_absolute_error.vjp(a=lambda g, a, b, beta: g * _smooth_slope(a, b, beta),
                          b=lambda g, a, b, beta: g * _smooth_slope(b, a, beta))


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
    t=lambda g, x: g * (clamp_min(log(1 - x), -100) - clamp_min(log(x), -100)))

@Fused
def binary_cross_entropy_with_logits(z, t, weight, pos_weight, *, reduction: str):
    """-weight (pos_weight t log sigmoid(z) + (1 - t) log(1 - sigmoid(z))), and what `reduction` says; weights may be None.

    As log(1 - sigmoid(z)) = log sigmoid(z) - z, this is weight ((1 - t) z - (1 + (pos_weight - 1) t) log sigmoid(z)).
    """
    loss = (1 - t) * z - _log_weight(t, pos_weight) * logsigmoid(z)
    return reduced(loss if weight is None else loss * weight, reduction)


def _log_weight(t, pos_weight):
    return 1 if pos_weight is None else 1 + (pos_weight - 1) * t


def _bce_with_logits(z, t, weight, pos_weight, *, reduction):
    m = xp(z)
    softplus = m.log1p(m.exp(-abs(z))) - m.minimum(z, 0)        # -log sigmoid(z)
    loss = z - t * z + (softplus if pos_weight is None else _log_weight(t, pos_weight) * softplus)
    if weight is not None:
        loss = loss * weight
    return _reduced_array(loss, reduction), None


def _bce_with_logits_vjp(g, cache, need, z, t, weight, pos_weight, *, reduction):
    q = 0.5 + 0.5 * xp(z).tanh(0.5 * z)                         # sigmoid(z)
    dz = q - t if pos_weight is None else (1 - t) - _log_weight(t, pos_weight) * (1 - q)
    scale = g / z.size if reduction == "mean" else g
    return [dz * scale if weight is None else dz * scale * weight, None, None, None]


binary_cross_entropy_with_logits.fast(_bce_with_logits, _bce_with_logits_vjp)


def _reduced_array(loss, reduction: str):
    return loss if reduction == "none" else loss.sum() if reduction == "sum" else loss.mean()


# Classes

NARROW = 64             # classes up to which a reduction over them is faster with the batch innermost


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
    grid = [m.arange(n).reshape([-1 if i == axis else 1 for i in axes]) for axis, n in enumerate(target.shape)]
    return grid[0], target, *grid[1:]


def negative_log_likelihood(logp, *, target, counted, reduction: str):
    """-counted logp[n, target[n]] for each entry of target (N, ...), summed up, or over the sum of `counted` for 'mean'."""
    loss = choose(logp, target=target) * -counted
    return reduced(loss, "sum") / counted.sum() if reduction == "mean" else reduced(loss, reduction)


@Fused
def cross_entropy(x, *, target, counted, reduction: str):
    """Negative log likelihood of the classes `target` (N, ...) under softmax over axis 1 of the logits x (N, C, ...).

    `counted` (N, ...) is each entry's weight, 0 where it is ignored.
    """
    return negative_log_likelihood(reduce.log_softmax(x, axis=(1,)), target=target, counted=counted, reduction=reduction)


def _cross_entropy(x, *, target, counted, reduction):
    m = xp(x)
    if on_host(x) and x.shape[1] <= NARROW:
        x = m.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1)
    z = x - x.max(axis=1, keepdims=True)
    p = m.exp(z)
    total = p.sum(axis=1, keepdims=True)
    loss = (m.log(total[:, 0]) - z[_places(z, target)]) * counted
    p /= total
    return _reduced_array(loss, "sum") / counted.sum() if reduction == "mean" else _reduced_array(loss, reduction), p


def _cross_entropy_vjp(g, p, need, x, *, target, counted, reduction):
    scale = g * counted / counted.sum() if reduction == "mean" else g * counted
    dx = p * scale[:, None]
    dx[_places(dx, target)] -= scale
    return [dx]


cross_entropy.fast(_cross_entropy, _cross_entropy_vjp)
