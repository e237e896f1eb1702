"""Normalisation over any set of axes, which batch, layer, instance and group norm share, and the affine map
of evaluation.

`normalize`'s mathematics is its spec, a few differentiable ops; on arrays `scratchgan.kernels.norm` does the
same in two passes.
"""

from __future__ import annotations

import math
from functools import partial

from scratchgan.autograd import Fused
from scratchgan.kernels import norm as kernel
from scratchgan.ops.elementwise import rsqrt
from scratchgan.tensor import Op, sum_to


@Fused
def normalize(x, weight, bias, *, axes: tuple[int, ...], eps: float, moments=None):
    """y = (x - mean) (variance + eps)^(-1/2) weight + bias, mean and biased variance over `axes`.

    weight and bias have x's number of axes (size 1 where they are broadcast) and one shape; both or the bias
    may be None. Who has computed (mean, variance) of x already hands them over as `moments`, which saves a
    pass and changes no derivative.
    """
    kept = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    per_count = 1 / max(1, math.prod(x.shape[i] for i in axes))
    centred = x - sum_to(x, shape=kept) * per_count
    variance = sum_to(centred * centred, shape=kept) * per_count
    y = centred * rsqrt(variance + eps)
    if weight is not None:
        y = y * weight
    return y if bias is None else y + bias


def _normalize(x, weight, bias, *, axes, eps, moments=None):
    mean, variance = moments or kernel.moments(x, axes)
    rstd = (variance + eps) ** -0.5
    return kernel.normalize(x, mean, rstd, weight, bias), (mean, rstd)


def _normalize_vjp(g, cache, need, x, weight, bias, *, axes, eps, moments=None):
    mean, rstd = cache
    dx, dbias, dweight = kernel.normalize_vjp(g, x, mean, rstd, weight, axes)
    return [d if wanted else None for d, wanted in zip((dx, dweight, dbias), need)]


normalize.fast(_normalize, _normalize_vjp)


@partial(Op, broadcasts=True)
def scale_shift(x, scale, shift):
    """x scale + shift, for a scale and a shift that broadcast to x's shape."""
    return kernel.scale_shift(x, scale, shift)


scale_shift.vjp(x=lambda g, scale: g * scale, scale=lambda g, x: g * x, shift=lambda g: g)
