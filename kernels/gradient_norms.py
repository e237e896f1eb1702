"""Penalties on the norms of a discriminator's gradients by its input, and what they send back.

With g_n the gradient of D at sample n (all axes but the first), N samples, and |g_n| the Euclidean norm,

    r1_penalty          gamma / 2 mean_n |g_n|^2            dg = gamma / N g
    gradient_penalty    weight mean_n (|g_n| - 1)^2         dg_n = 2 weight / N (1 - 1 / |g_n|) g_n

R1 at real samples, R2 at fake ones: Mescheder et al. 2018 (arXiv 1801.04406), (9); WGAN-GP's penalty at
random points between both: Gulrajani et al. 2017 (1704.00028), (3). Where g_n = 0 the norm has no derivative,
and dg_n is 0.

Squares are added in float32 (float64 for float64): of numbers beyond 1e19 they are infinite there, and below
1e-23 they are 0, and so is that sample's dg. Values, dtypes and `scale` are as in `kernels/losses.py`.
"""

from __future__ import annotations

import numpy as np

from scratchgan.backend import xp
from scratchgan.kernels.dispatch import kernel
from scratchgan.kernels.means import gradient, mean, wide


@kernel
def r1_penalty(g, gamma: float, scale=None):
    """gamma / 2 mean |g_n|^2 of g (N, ...), and its gradient."""
    w = wide(g)
    return mean(_squares(w)) * (gamma / 2), gradient(w * gamma, scale, g.dtype, len(g))


@kernel
def gradient_penalty(g, weight: float, scale=None):
    """weight mean (|g_n| - 1)^2 of g (N, ...), and its gradient."""
    m, w = xp(g), wide(g)
    norm = m.sqrt(_squares(w))
    with np.errstate(divide="ignore"):
        factor = m.where(norm > 0, 2 * weight * (1 - 1 / norm), 0).astype(w.dtype, copy=False)
    dg = w * factor.reshape(-1, *[1] * (g.ndim - 1))
    return mean(m.square(norm - 1)) * weight, gradient(dg, scale, g.dtype, len(g))


def _squares(g):
    """|g_n|^2 (N,)."""
    return (g * g).sum(axis=tuple(range(1, g.ndim)))
