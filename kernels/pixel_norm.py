"""Pixel norm (Karras et al. 2018, arXiv 1710.10196, section 4.2) and its gradient, on arrays.

Each pixel's vector of C channels is brought to the sphere of radius sqrt(C):

    y = r x,    r = (mean over c of x^2 + epsilon)^(-1/2)                           (pixel_norm)

and as dr = -r^3 mean(x dx), from the gradient g by y

    dx = r g - r^3 x mean over c of (x g).                                          (pixel_norm_dx)

x is (N, C, ...): images, or latents (N, C).
"""

from __future__ import annotations

from scratchgan.backend import xp
from scratchgan.kernels.dispatch import kernel
from scratchgan.kernels.means import wide


@kernel
def pixel_norm(x, eps: float = 1e-8):
    """y of x's shape and dtype."""
    return (wide(x) * _factor(x, eps)).astype(x.dtype, copy=False)


@kernel
def pixel_norm_dx(g, x, eps: float = 1e-8):
    """dx from the gradient g by y, and x."""
    r, v, u = _factor(x, eps), wide(x), wide(g)
    return (r * u - r**3 * v * (v * u).mean(axis=1, keepdims=True)).astype(x.dtype, copy=False)


def _factor(x, eps: float):
    return (xp(x).square(wide(x)).mean(axis=1, keepdims=True) + eps) ** -0.5
