"""Transposed convolution and what follows it, while the numbers are still in registers.

With conv_dx of `kernels/conv.py`, c the index of x's channel and f an activation of `kernels/bias_act.py`,

    y = f(conv_dx(g, w) + bias[c]),

a whole layer of a generator without normalisation: its last one, f = tanh, above all.
"""

from __future__ import annotations

from scratchgan.kernels.bias_act import bias_act
from scratchgan.kernels.conv import conv_dx_nhwc
from scratchgan.kernels.dispatch import kernel
from scratchgan.kernels.geometry import Geometry


@kernel(file="conv_dx")
def conv_dx_fused_nhwc(g, w, geometry: Geometry, bias, activation: str, slope: float):
    """g (N, P, Q, K), w (K, C / groups, R, S) and bias (C,) or None give y (N, H, W, C), contiguous, of g's dtype."""
    y = bias_act(conv_dx_nhwc(g, w, geometry), bias, -1, activation, slope, 1.0)
    return y.astype(g.dtype, copy=False)
