"""Activations of a tile in registers, for the epilogues of all kernels; names as in `kernels/bias_act.py`."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def activate(u, slope, ACTIVATION: tl.constexpr):
    """f(u) for the activation named "linear", "relu", "leaky_relu" (slope < 1) or "tanh"."""
    if ACTIVATION == "relu":
        u = tl.maximum(u, 0.0)
    elif ACTIVATION == "leaky_relu":
        u = tl.where(u > 0, u, u * slope)
    elif ACTIVATION == "tanh":
        u = tanh(u)
    return u


@triton.jit
def derivative(v, slope, ACTIVATION: tl.constexpr):
    """f'(u) from v = f(u)."""
    one = tl.full(v.shape, 1, v.dtype)
    if ACTIVATION == "relu":
        one = tl.where(v > 0, one, 0.0)
    elif ACTIVATION == "leaky_relu":
        one = tl.where(v > 0, one, one * slope)
    elif ACTIVATION == "tanh":
        one = 1 - v * v
    return one


@triton.jit
def tanh(u):
    """sign(u) (1 - e) / (1 + e) with e = exp(-2 |u|), which never overflows.

    1 - e loses the digits of a small u: in float32 its Taylor series stands in for |u| < 0.2 (error 1e-9 of u).
    """
    e = tl.exp(-2 * tl.abs(u))
    large = tl.where(u < 0, e - 1, 1 - e) / (1 + e)
    if u.dtype == tl.float32:
        w = u * u
        small = u * (1 + w * (-1 / 3 + w * (2 / 15 + w * (-17 / 315 + w * (62 / 2835)))))
        large = tl.where(w < 0.04, small, large)
    return large
