"""A convolution and what follows it, while the numbers are still in registers.

With z the convolution of x and w, and c the index of its channel,

    z += b[c]                                                      bias
    sums[c] = sum of z,  squares[c] = sum of z^2                   over images and pixels, for batch norm
    y = gain f(z)                                                  activation, as in `bias_act`
    y += residual                                                  a skip connection
    Y[n, p r + i, q r + j, c] = y[n, p, q, c r^2 + i r + j]        pixel shuffle by r, in PyTorch's order

in this order, each step where it is asked for.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from scratchgan.backend import xp
from scratchgan.kernels.bias_act import bias_act
from scratchgan.kernels.conv import conv_nhwc
from scratchgan.kernels.dispatch import kernel
from scratchgan.kernels.geometry import Geometry
from scratchgan.kernels.pixel_shuffle import pixel_shuffle


class Epilogue(NamedTuple):
    """What follows a convolution: bias (K,), residual (N, P, Q, K), shuffle r where r^2 divides K."""

    bias: Any = None
    activation: str = "linear"
    slope: float = 0.0
    gain: float = 1.0
    residual: Any = None
    sums: bool = False
    shuffle: int = 1


@kernel(file="conv")
def conv_fused_nhwc(x, w, geometry: Geometry, epilogue: Epilogue):
    """x (N, H, W, C) and w (K, C / groups, R, S) give y (N, P, Q, K), or (y, sums, squares) of epilogue.sums.

    With a shuffle y is (N, P r, Q r, K / r^2). sums and squares (K,) are float32, or float64 for float64.
    """
    z = conv_nhwc(x, w, geometry)
    if epilogue.bias is not None:
        z = z + epilogue.bias
    y = bias_act(z, None, -1, epilogue.activation, epilogue.slope, epilogue.gain)
    if epilogue.residual is not None:
        y = y + epilogue.residual
    y = y.astype(x.dtype, copy=False)
    if epilogue.shuffle > 1:
        y = pixel_shuffle(y.transpose(0, 3, 1, 2), epilogue.shuffle).transpose(0, 2, 3, 1)
    return (y, *_sums(z)) if epilogue.sums else y


def _sums(z) -> tuple:
    m = xp(z)
    wide = m.float64 if z.dtype == m.float64 else m.float32
    return m.sum(z, axis=(0, 1, 2), dtype=wide), m.sum(m.square(z.astype(wide)), axis=(0, 1, 2))
