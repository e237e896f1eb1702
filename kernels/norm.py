"""Normalisation of arrays over any set of axes: batch, layer, instance and group norm are one function.

With the mean m and the variance v of x over `axes`, r = (v + eps)^(-1/2) and an affine weight w and bias b,

    h = (x - m) r                       y = w h + b
    dw = sum of g h,   db = sum of g    dx = r (g w - mean(g w) - h mean(g w h)),

means over `axes`, sums over the axes along which w and b are broadcast. x is read twice forward (statistics,
then y = p x + q) and g and x twice backward (sums, then dx = p g + q x + s), with p, q and s much smaller
than x. In layer norm, where they are not, they are outer products. Statistics and sums of float16 and
bfloat16 are float32, and so is everything on the way.

On the host every pass goes block by block along the first axis, so that a block stays in the cache between
ufuncs, and over threads; the blocks' sums are added in float64, in order. `np.einsum` does the sums, since it
is fast whatever the memory order (0.15-0.4 ns an element; `sum` 0.3-2.5). One pass for the sums of x and x^2
loses digits where the mean is far larger than the deviation; such data is centred first (`FAR`).
"""

from __future__ import annotations

import math

import numpy as np

from scratchgan.backend import on_host, xp
from scratchgan.kernels.blocks import blocks, over, written_out
from scratchgan.kernels.dispatch import kernel
from scratchgan.kernels.means import wide

SMALL = 1 << 13  # numbers below which the formulas as they stand take less time than blocks
FAR = 10.0  # |mean| / deviation from which sums of x are taken after centring


@kernel
def moments(x, axes: tuple[int, ...]):
    """Mean and (biased) variance of x over `axes`, kept as axes of size 1."""
    x = wide(x)
    if not _by_blocks(x):
        mean = _mean(x, axes)
        return mean, _mean(xp(x).square(x - mean), axes)
    kept = [i for i in range(x.ndim) if i not in axes]
    count = max(1, math.prod(x.shape[i] for i in axes))
    sums, squares = _sums([(x,), (x, x)], kept)
    mean = sums / count
    variance = squares / count - mean * mean
    if (abs(mean) > FAR * np.sqrt(np.maximum(variance, 0))).any():
        centred = x - mean.astype(x.dtype)
        sums, squares = _sums([(centred,), (centred, centred)], kept)
        mean = mean.astype(x.dtype) + sums / count
        variance = squares / count - (sums / count) ** 2
    return mean.astype(x.dtype), variance.astype(x.dtype)


@kernel
def moments_from_sums(sums, squares, count: int):
    """Mean and (biased) variance of `count` numbers from the sums of them and of their squares.

    Such sums, arrays of one shape, come with a convolution (`conv_fused_nhwc`) without reading its result
    again. Where the mean is k times the deviation, the variance has lost the digits of k^2.
    """
    m, count = xp(sums), max(1, count)
    mean = sums.astype(m.float64) / count
    variance = m.maximum(squares.astype(m.float64) / count - mean * mean, 0)
    return mean.astype(sums.dtype), variance.astype(sums.dtype)


@kernel
def normalize(x, mean, rstd, weight, bias):
    """(x - mean) rstd weight + bias; weight and bias broadcast against x and may be None."""
    if _half(x):
        return normalize.reference(wide(x), mean, rstd, weight, bias).astype(x.dtype)
    if not _by_blocks(x):
        return _normalize(x, mean, rstd, weight, bias)
    if _by_rows(x, weight, mean):
        return _normalize_rows(x, mean, rstd, weight, bias)
    scale = _times(rstd, weight)
    x, mean = _centred(x, mean, rstd)
    shift = -mean * scale
    return scale_shift(x, scale, shift if bias is None else shift + bias)


@kernel
def normalize_vjp(g, x, mean, rstd, weight, axes: tuple[int, ...]):
    """(dx, sum of g, sum of g h), the sums to the shape of `weight`, and None where there is none."""
    if _half(x):
        dx, *sums = normalize_vjp.reference(wide(g), wide(x), mean, rstd, weight, axes)
        return dx.astype(x.dtype), *(s if weight is None else s.astype(weight.dtype) for s in sums)
    if not _by_blocks(x):
        return _vjp(g, x, mean, rstd, weight, axes)
    x, mean = _centred(x, mean, rstd)
    if _by_rows(x, weight, mean):
        return _vjp_rows(g, x, mean, rstd, weight)
    fine = [i for i in range(x.ndim) if i not in axes or (weight is not None and weight.shape[i] != 1)]
    count = math.prod(x.shape[i] for i in axes)
    sum_g, sum_gx = (s.astype(x.dtype) for s in _sums([(g,), (g, x)], fine))
    sum_gh = (sum_gx - mean * sum_g) * rstd
    mean_gw, mean_gwh = (_sum_to(_times(s, weight), mean.shape) / count for s in (sum_g, sum_gh))
    of_x = -rstd * rstd * mean_gwh
    dx = _combine([(g, _times(rstd, weight)), (x, of_x)], -rstd * mean_gw - mean * of_x)
    return dx, *(None if weight is None else _sum_to(s, weight.shape) for s in (sum_g, sum_gh))


@kernel
def scale_shift(x, scale, shift):
    """x scale + shift for a scale and shift that broadcast against x."""
    if _half(x):
        return (wide(x) * wide(scale) + wide(shift)).astype(x.dtype)
    return _combine([(x, scale)], shift) if _by_blocks(x) else x * scale + shift


def _half(x) -> bool:
    return x.dtype.name in ("float16", "bfloat16")


def _by_blocks(x) -> bool:
    return on_host(x) and x.size >= SMALL


def _mean(x, axes: tuple[int, ...]):
    return x.sum(axis=axes, keepdims=True) * (1 / max(1, math.prod(x.shape[i] for i in axes)))


def _normalize(x, mean, rstd, weight, bias):
    y = _times((x - mean) * rstd, weight)
    return y if bias is None else y + bias


def _vjp(g, x, mean, rstd, weight, axes):
    h = (x - mean) * rstd
    gw, gh = _times(g, weight), g * h
    gwh = _times(gh, weight)
    dx = rstd * (gw - _mean(gw, axes) - h * _mean(gwh, axes))
    return dx, *(None if weight is None else _sum_to(s, weight.shape) for s in (g, gh))


def _times(a, weight):
    return a if weight is None else a * weight


def _sum_to(a, shape):
    if a.shape == shape:
        return a
    return a.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True)


def _centred(x, mean, rstd):
    """x and its mean, shifted by the mean where it is so large that products with x would lose digits."""
    return (x - mean, mean * 0) if (abs(mean) * rstd > FAR).any() else (x, mean)


# The host, block by block


def _at(rows: slice, coefficient):
    """The rows of an array that may be broadcast along the first axis."""
    return coefficient if coefficient.shape[0] == 1 else coefficient[rows]


def _sums(products: list[tuple], kept: list[int]) -> list[np.ndarray]:
    """Each product of arrays, summed in float64 over all but the `kept` axes, which stay as size 1."""
    x = products[0][0]
    every = list(range(x.ndim))
    parts = [[None] * len(blocks(x)) for _ in products]

    def work(i, rows):
        for part, product in zip(parts, products):
            part[i] = np.einsum(*(o for a in product for o in (a[rows], every)), kept)

    over(x, work)
    shape = tuple(n if i in kept else 1 for i, n in enumerate(x.shape))
    return [_joined(part, 0 in kept).reshape(shape) for part in parts]


def _joined(parts: list[np.ndarray], one_after_another: bool) -> np.ndarray:
    """The blocks' parts in float64, added up or one after another."""
    if len(parts) == 1:
        return parts[0].astype(np.float64)
    if one_after_another:
        return np.concatenate(parts).astype(np.float64)
    return np.sum(parts, axis=0, dtype=np.float64)


def _combine(terms: list[tuple], constant) -> np.ndarray:
    """The sum of array * coefficient over the terms, plus the constant, in the first array's memory order."""
    (first, p), *others = [(array, written_out(coefficient, array)) for array, coefficient in terms]
    out, constant = np.empty_like(first), written_out(constant, first)

    def work(_, rows):
        y = out[rows]
        np.multiply(first[rows], _at(rows, p), out=y)
        for array, q in others:
            y += array[rows] * _at(rows, q)
        y += _at(rows, constant)

    over(first, work)
    return out


# Layer norm, where the weight varies along every axis that the statistics run over: x is a matrix of rows,
# each with a mean and a deviation of its own, and products with the rows' and columns' coefficients are
# BLAS's.


def _by_rows(x, weight, mean) -> bool:
    return (
        weight is not None
        and x.size > 0
        and all({m, w} == {1, n} for n, m, w in zip(x.shape, mean.shape, weight.shape))
    )


def _rows(x, mean):
    """x with one row per entry of `mean`."""
    return x.reshape(mean.size, -1)


def _normalize_rows(x, mean, rstd, weight, bias) -> np.ndarray:
    x, mean = _centred(x, mean, rstd)
    rows, y = _rows(x, mean), np.empty(x.shape, x.dtype)
    out, r, shift = _rows(y, mean), rstd.reshape(-1, 1), (-mean * rstd).reshape(-1, 1)

    def work(_, part):
        one = out[part]
        np.multiply(rows[part], r[part], out=one)
        one += shift[part]
        one *= weight.reshape(-1)
        if bias is not None:
            one += bias.reshape(-1)

    over(rows, work)
    return y


def _vjp_rows(g, x, mean, rstd, weight) -> tuple:
    rows, gs, dx = _rows(x, mean), _rows(g, mean), np.empty(x.shape, x.dtype)
    out, m, r, w = _rows(dx, mean), mean.reshape(-1), rstd.reshape(-1), weight.reshape(-1)
    parts = [None] * len(blocks(rows))

    def work(i, part):
        x, g, m_, r_ = rows[part], gs[part], m[part], r[part]
        gx = g * x
        mean_gw = g @ w / w.size
        mean_gwh = (gx @ w / w.size - m_ * mean_gw) * r_
        of_x = -r_ * r_ * mean_gwh
        y = out[part]
        np.multiply(x, of_x[:, None], out=y)
        y += (-r_ * mean_gw - m_ * of_x)[:, None]
        y += g * np.outer(r_, w)
        parts[i] = np.ones_like(r_) @ g, r_ @ gx - (m_ * r_) @ g

    over(rows, work)
    sum_g, sum_gh = (np.sum(p, axis=0).reshape(weight.shape) for p in zip(*parts))
    return dx, sum_g, sum_gh
