"""Adaptive instance normalisation (Huang & Belongie 2017, arXiv 1703.06868, equation 8), with the styles of
StyleGAN.

With the mean m and the variance v of the pixels of channel c of image n, r = (v + eps)^(-1/2), h = (x - m) r,
and a style of one scale s and one bias b for each n and c,

    y = s h + b
    dx = r s (g - mean(g) - h mean(g h)),    ds = sum of g h,    db = sum of g,

means and sums over pixels. StyleGAN (1812.04948, equation 1) has eps = 1e-8. This is `kernels/norm.py` with
axes (2, 3) and a weight of its own for each image; here statistics and result come from one call, so that a
map that fits into a processor's registers is read once.
"""

from __future__ import annotations

from scratchgan.kernels.dispatch import kernel
from scratchgan.kernels.norm import moments, normalize, normalize_vjp

PIXELS = (2, 3)


@kernel
def adain(x, scale, bias, eps: float):
    """(y, mean, rstd) of x (N, C, H, W) and styles (N, C); mean and rstd (N, C) are for `adain_vjp`."""
    mean, variance = moments(x, PIXELS)
    rstd = (variance + eps) ** -0.5
    return normalize(x, mean, rstd, maps(scale), maps(bias)), mean[:, :, 0, 0], rstd[:, :, 0, 0]


@kernel
def adain_vjp(g, x, mean, rstd, scale):
    """(dx, d scale, d bias) from g, the gradient by y."""
    dx, dbias, dscale = normalize_vjp(g, x, maps(mean), maps(rstd), maps(scale), PIXELS)
    return dx, dscale[:, :, 0, 0], dbias[:, :, 0, 0]


def maps(a):
    """(N, C) as it broadcasts against maps (N, C, H, W)."""
    return a[:, :, None, None]
