"""Channels into pixels and back, as a subpixel convolution ends (Shi et al. 2016, arXiv:1609.05158, equation 4):

    y[c, h r + i, w r + j] = x[c r^2 + i r + j, h, w].

Both keep the memory order of what they are given, so that channels-last stays channels-last.
"""

from __future__ import annotations

from scratchgan.kernels.blocks import fill
from scratchgan.kernels.resample import empty_as


def pixel_shuffle(x, r: int):
    """(..., C r^2, H, W) to (..., C, H r, W r)."""
    *lead, channels, h, w = x.shape
    y = empty_as(x, (*lead, channels // (r * r), h * r, w * r))
    fill(_taken_apart(y, r), x.reshape(*lead, channels // (r * r), r, r, h, w))
    return y


def pixel_unshuffle(y, r: int):
    """(..., C, H r, W r) to (..., C r^2, H, W)."""
    *lead, channels, h, w = y.shape
    x = empty_as(y, (*lead, channels * r * r, h // r, w // r))
    fill(x.reshape(*lead, channels, r, r, h // r, w // r), _taken_apart(y, r))
    return x


def _taken_apart(y, r: int):
    """(..., H r, W r) seen as (..., r, r, H, W)."""
    *lead, h, w = y.shape
    n = len(lead)
    return y.reshape(*lead, h // r, r, w // r, r).transpose(*range(n), n + 1, n + 3, n, n + 2)
